"""The files of a folder at a moment, to tell later what a script that runs for real has written."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from trainfare.sandbox.copies import OF_TOOLS
from trainfare.sandbox.written import only_outer

_MOST_FILES: Final = 50_000
"""Chosen: looked at in about half a second; what is beyond is not compared."""


@final
class FolderState:
    """
    The files in a folder, but those of environments, repositories and caches of bytecode.

    Args:
        folder: absolute.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._before = folder, dict(_list_states(folder))

    def list_changed(self) -> list[str]:
        """Return what is new, changed or gone by now, from the folder; of a new folder it alone."""
        now = dict(_list_states(self._folder))
        names = {name for name in now.keys() | self._before if now.get(name) != self._before.get(name)}
        return only_outer(sorted(names))


def _list_states(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    waiting, count = deque([folder]), 0
    while waiting and count < _MOST_FILES:
        try:
            with os.scandir(waiting.popleft()) as entries:
                found = [(entry, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError:  # it is gone, or of somebody else
            continue
        if any(entry.name == "pyvenv.cfg" for entry, _ in found):
            continue
        for entry, state in found:
            if entry.name in OF_TOOLS:
                continue
            count += 1
            is_folder = entry.is_dir(follow_symlinks=False)
            yield (
                entry.path.removeprefix(f"{folder}/"),
                (0, 0) if is_folder else (state.st_mtime_ns, state.st_size),
            )
            if is_folder:
                waiting.append(Path(entry.path))
