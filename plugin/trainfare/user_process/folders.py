"""Folders of the command for what the user's code writes, made before its process and removed after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, final

from trainfare.sandbox import list_caches

_PREFIX: Final = "trainfare-"


@final
class ProcessFolders:
    """
    Folders for what need not stay, and the caches that are not there yet.

    Args:
        caches: make the folders of caches, so that what is downloaded is kept.
    """

    def __init__(self, *, caches: bool) -> None:
        self.scratch = tempfile.mkdtemp(prefix=_PREFIX)
        self.spare = self._make_spare()
        """Another one, not in the same folder of the top, which holds what is written beside the first."""
        self._caches = [folder for folder in list_caches(os.environ) if _make_cache(folder)] if caches else []

    def remove(self) -> None:
        """Remove them, but caches into which something came."""
        for tree in (self.scratch, self.spare):
            if tree is not None:
                shutil.rmtree(tree, onerror=_unlock)
                shutil.rmtree(tree, ignore_errors=True)
        for folder in reversed(self._caches):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _make_spare(self) -> str | None:
        top = Path(self.scratch).resolve().parts[:2]
        for home in ("/var/tmp", "/tmp"):  # noqa: S108 - `mkdtemp` makes one of its own
            if Path(home).parts[:2] != top:
                with contextlib.suppress(OSError):
                    return tempfile.mkdtemp(prefix=_PREFIX, dir=home)
        return None


def _make_cache(folder: Path) -> bool:
    """Make a folder where only that one is missing; return whether it was made."""
    try:
        folder.mkdir()
    except OSError:
        return False
    return True


def _unlock(_: object, path: str, __: object) -> None:
    """Remove a folder in which an overlay has worked, whose work folder cannot be read until its mode is changed."""
    with contextlib.suppress(OSError):
        Path(path).chmod(0o700)
        Path(path).rmdir()
