"""Processes that lack what a sandbox is built from: the rights of root, system calls, versions of Landlock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from builders.processes import HANG_S

_AS_ANOTHER_USER = """
import ctypes, os, sys
for right in (0, 1, 2, 3, 21):  # to change owners, to write and read everything, to change what others own, to mount
    ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
"""
"""Root without what makes it root: bounding the rights of the program that it becomes."""
_WITHOUT_CALLS = "from trainfare.sandbox.kernel import refuse_calls\nrefuse_calls({names!r})\n"
_BECOME = "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])\n"

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="overlays and Landlock are of Linux")


def run_without(
    code: str, *arguments: str, rights: bool = True, refused: Sequence[str] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run Python code in a process of its own that lacks something, and return how it ended.

    Args:
        code: a program.
        arguments: of it.
        rights: False takes those of root, so that the process is as one of another user.
        refused: system calls that fail, as seccomp lets them in a container.
        cwd: its working folder.
    """
    taken = "" if rights or os.geteuid() else _AS_ANOTHER_USER
    first = taken + (_WITHOUT_CALLS.format(names=[*refused]) if refused else "") + _BECOME
    return subprocess.run(
        [sys.executable, "-c", first, code, *arguments],
        capture_output=True,
        check=False,
        text=True,
        cwd=cwd,
        timeout=HANG_S,
    )


def list_contents(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in a folder, with what changes when it is written: content, time and mode."""
    contents: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        text = path.read_bytes() if path.is_file() else b""
        contents[str(path.relative_to(folder))] = (
            text,
            state.st_mode,
            None if path.is_dir() else state.st_mtime_ns,
        )
    return contents
