"""Files: bounded reads, and writes after which a file holds all of the new content or all of the old."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO, Final

from trainfare_core.errors import InputError, TrainfareError

_DESCRIPTORS: Final = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Names of what this process has open already, such as the output of a command."""


class FileRefusedError(Exception):
    """Why a file is not read: not a regular file, owned by another user, or too large."""


def read_input(
    path: Path,
    max_bytes: int,
    *,
    kind: str,
    label: str = "",
    hint: str = "",
    error: type[TrainfareError] = InputError,
) -> bytes:
    """
    Return the content of a file that the user named.

    Args:
        path: the file.
        max_bytes: a larger file is refused before it fills the memory.
        kind: what the file should be, for the message: "a job profile".
        label: what the message calls the file before its path: "price lock ".
        hint: ends the message where the file cannot be read.
        error: what is raised.

    Raises:
        TrainfareError: of the given class: the file cannot be read, is larger than `max_bytes`, or is a named pipe or a
            device, which might never end; what a shell puts in their place (`<(command)`) is read.
    """
    try:
        with _open_input(path) as stream:
            if stream is None:
                raise error(f"{label}{path}: a pipe or a device, not {kind}{hint}")
            return read_at_most(stream, max_bytes, name=f"{label}{path}", kind=kind, error=error)
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
        raise error(f"{label}{path}: cannot be read: {reason}{hint}") from fault


@contextlib.contextmanager
def _open_input(path: Path) -> Generator[BinaryIO | None, None, None]:
    """Open a file without waiting for a pipe; None for one, and for a device."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        stream = os.fdopen(handle, "rb")
    except OSError:  # a folder
        os.close(handle)
        raise
    with stream:
        mode = os.fstat(handle).st_mode
        is_given = stat.S_ISFIFO(mode) and str(path).startswith(_DESCRIPTORS)
        if is_given:
            os.set_blocking(handle, True)
        yield stream if is_given or stat.S_ISREG(mode) else None


def read_at_most(
    stream: BinaryIO, max_bytes: int, *, name: str, kind: str, error: type[TrainfareError] = InputError
) -> bytes:
    """
    Return all that a stream holds; arguments as for `read_input`.

    Raises:
        TrainfareError: of the given class: it holds more than `max_bytes`.
    """
    content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise error(f"{name}: larger than {max_bytes >> 20} MiB: not {kind}")
    return content


def read_own_file(path: Path, max_bytes: int) -> bytes:
    """
    Return a regular file that belongs to this user or to root, without following a link or waiting for a pipe.

    Raises:
        FileRefusedError: it is something else, another user's, or larger.
        OSError: it cannot be read.
    """
    with open_own_file(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise FileRefusedError("it is larger than the cache may be")
        return file.read()


def open_own_file(path: Path, *, write: bool = False) -> BinaryIO:
    """
    Open a regular file that belongs to this user or to root, without following a link or waiting for a pipe.

    Args:
        path: the file.
        write: for reading and writing; else for reading only.

    Raises:
        FileRefusedError: it is something else, or another user's.
        OSError: it cannot be opened.
    """
    flags = os.O_RDWR if write else os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):  # not every system has all of them
        flags |= getattr(os, name, 0)
    handle = os.open(path, flags)
    facts = os.fstat(handle)
    regular = stat.S_ISREG(facts.st_mode)
    if regular and (not hasattr(os, "geteuid") or facts.st_uid in (os.geteuid(), 0)):
        return os.fdopen(handle, "r+b" if write else "rb")
    os.close(handle)
    raise FileRefusedError("it belongs to another user" if regular else "it is not a regular file")


def replace_file(
    path: Path, content: bytes, sync: Callable[[int], None] = os.fsync, mode: int | None = None
) -> None:
    """
    Write a file so that a reader sees the old content or the new one, also after a crash or a power cut.

    First the content reaches the disk, then its name, then the folder that holds the name. A process that is
    killed leaves at most a file `.NAME...tmp`.

    Args:
        path: the file; its folder must exist.
        content: all of it.
        sync: flushes the file or folder of a descriptor to the disk.
        mode: who may read and write it; None: as the process makes files.

    Raises:
        OSError: it cannot be written; the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=None if mode is None else _open_private) as file:
            if mode is not None:
                temporary.chmod(mode)
            file.write(content)
            file.flush()
            sync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # not every system can open a folder
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            sync(handle)
        finally:
            os.close(handle)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_text(path: Path, text: str) -> None:
    """
    Write text as UTF-8, line ends as they are, by `replace_file`.

    Raises:
        InputError: it cannot be written; the old content is still there.
    """
    try:
        replace_file(path, text.encode("utf-8"))
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error}); choose another folder"
        raise InputError(msg) from error


def make_folder(directory: Path) -> None:
    """
    Make a folder and its parents where they are missing.

    Raises:
        InputError: it cannot be made, or is a file.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{directory}: is no folder and cannot be made one ({error.strerror or error}); name another"
        raise InputError(msg) from error
