"""
The cache of fetched prices: one file a cloud, replaced atomically. It stores bytes; `cached_book` knows what they say.

An error of the disk is never an error of the caller: a file that is not ours or cannot be read counts as absent, with
one warning, and is renamed to `.bad`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trainfare_core.errors import InputError
from trainfare_providers.disk.files import FileRefusedError, read_own_file, replace_file
from trainfare_providers.disk.folder import PRICE_FILE_ENDING, default_folder, price_file

MAX_CACHE_BYTES: Final = 512 * 2**20
"""Of all price files together; a chosen limit, which also bounds what one read takes of the memory."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}", re.ASCII)
_LEFT_OVER_S: Final = 3600.0
"""A temporary file of this age belongs to no running refresh: the longest takes half an hour."""

_LOCK_WAIT_S: Final = 5.0
"""A refresh waits so long for another of the same cloud; then both run, and the later one is kept."""

_log = logging.getLogger("trainfare")


class BookCache:
    """
    The price files of this user.

    Args:
        folder: None takes `default_folder()`.
        max_bytes: of all files together; the least recently used are deleted beyond it.
        clock: seconds since 1970, to find temporary files of killed processes.
        sync: flushes the file or folder of a descriptor to the disk.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        max_bytes: int = MAX_CACHE_BYTES,
        clock: Callable[[], float] = time.time,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.folder = default_folder() if folder is None else folder
        self._max_bytes, self._clock, self._sync = max_bytes, clock, sync

    def read(self, name: str) -> bytes | None:
        """
        Return what is kept under a name, or None where there is nothing usable.

        Raises:
            InputError: the name cannot be that of a file.
        """
        path = self._path(name)
        try:
            content = read_own_file(path, self._max_bytes)
        except FileNotFoundError:
            return None
        except (OSError, FileRefusedError) as error:
            self.set_aside(name, _why(error))
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # marks the file as used; the age of its prices is stored inside it
        return content

    def write(self, name: str, content: bytes) -> bool:
        """
        Store a file under a name, replacing what is there.

        Returns:
            whether it is stored; if not, what was there before still is.

        Raises:
            InputError: the name is none for a file.
        """
        path = self._path(name)
        if len(content) > self._max_bytes:
            _log.warning("%s: %d bytes of prices are more than the cache may hold", path, len(content))
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, content, self._sync)
        except OSError as error:
            _log.warning("%s: prices could not be stored (%s); they are used this once", path, _why(error))
            return False
        self._make_room(path)
        return True

    def set_aside(self, name: str, why: str) -> None:
        """Warn, and rename the file to `.bad` where that is possible."""
        path, done = self._path(name), ""
        with contextlib.suppress(OSError):
            path.replace(path.with_name(path.name + ".bad"))
            done = "; set aside as .bad"
        _log.warning("%s: not used, %s%s; `trainfare prices update` fetches again", path, why, done)

    def discard(self, name: str) -> None:
        """Delete what is stored under a name, if anything is."""
        with contextlib.suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str) -> Generator[None]:
        """Keep other refreshes of a name waiting; go on without the lock where it cannot be taken."""
        import filelock

        path = self._path(name).with_suffix(".lock")
        file_lock: filelock.BaseFileLock | None = None
        # A folder that cannot be written, a lock held for too long, or a file system without locks (filelock raises
        # NotImplementedError): two refreshes at once are harmless, since a file is replaced by one rename.
        with contextlib.suppress(OSError, filelock.Timeout, NotImplementedError):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(path, timeout=_LOCK_WAIT_S)
            lock.acquire()
            file_lock = lock
        try:
            yield
        finally:
            if file_lock is not None:
                file_lock.release()

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InputError(f"price file {name!r}: a name is lower-case letters, digits, - and _")
        return price_file(name, self.folder)

    def _make_room(self, keep: Path) -> None:
        """Delete temporary files of killed processes, then the least recently used files, until the rest fits."""
        with contextlib.suppress(OSError):
            sizes: list[tuple[bool, float, int, Path]] = []
            for path in self.folder.iterdir():
                facts = path.lstat()
                if path.name.endswith(".tmp") and self._clock() - facts.st_mtime > _LEFT_OVER_S:
                    path.unlink(missing_ok=True)
                elif path != keep and stat.S_ISREG(facts.st_mode) and PRICE_FILE_ENDING in path.suffixes:
                    sizes.append((path.suffix == PRICE_FILE_ENDING, facts.st_mtime, facts.st_size, path))
            room = self._max_bytes - keep.stat().st_size - sum(size for *_, size, _ in sizes)
            for _, _, size, path in sorted(sizes):
                if room >= 0:
                    return
                path.unlink(missing_ok=True)
                room += size


def _why(error: OSError | FileRefusedError) -> str:
    if isinstance(error, FileRefusedError):
        return str(error)
    return "it is a link" if error.errno == errno.ELOOP else (error.strerror or type(error).__name__).lower()
