"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

__all__ = ["OddFileError", "read_plain", "replace_whole"]


class OddFileError(Exception):
    """Why a file is not read: it is none, or not this user's."""


def read_plain(path: Path, max_bytes: int) -> bytes:
    """
    Return a plain file of this user; a link is not followed, a pipe not waited for.

    Raises:
        OddFileError: it is something else, somebody else's, or larger.
        OSError: it cannot be read.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):  # not every system has all
        flags |= getattr(os, name, 0)
    handle = os.open(path, flags)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise OddFileError("it is no plain file")
        if hasattr(os, "geteuid") and facts.st_uid not in (os.geteuid(), 0):
            raise OddFileError("it belongs to somebody else")
        if facts.st_size > max_bytes:
            raise OddFileError("it is larger than the cache may be")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def replace_whole(path: Path, content: bytes, sync: Callable[[int], None]) -> None:
    """
    Put a file in place so that a reader sees the old one or the new one, also after a crash or a power cut.

    First the content reaches the disk, then its name, then the folder that holds the name. A process that is
    killed leaves at most a file `.NAME...tmp`.

    Args:
        path: the file; its folder must be there.
        content: all of it.
        sync: makes what a descriptor stands for last: `os.fsync`.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            sync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # not every system can open a folder
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            sync(handle)
        finally:
            os.close(handle)
