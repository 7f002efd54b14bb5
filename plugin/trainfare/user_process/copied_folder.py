"""Run the user's code in another copy of its repository, and in no module of the first one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from trainfare_core.errors import TargetError


@dataclass(frozen=True, slots=True)
class CopiedFolder:
    """
    A copy of a folder, such as a checkout of another commit.

    Attributes:
        original: the folder, resolved.
        copy: its copy, resolved.
        directory: the working directory of the code, within the copy.
    """

    original: Path
    copy: Path
    directory: Path

    def search_path(self, entries: Iterable[str]) -> list[str]:
        """
        Return a `sys.path` whose entries within the original are those of the copy.

        So a package that is installed in editable mode comes from the copy. The environment, which may lie within the
        original as `.venv`, and trainfare itself stay.
        """
        return [self._move_entry(entry) for entry in entries]

    def _move_entry(self, entry: str) -> str:
        path = Path(entry).resolve()
        if not entry or not path.is_relative_to(self.original) or _stays(path):
            return entry
        return str(self.copy / path.relative_to(self.original))


def refuse_modules_of(folder: str) -> None:
    """
    Check that no imported module of the user comes from a folder.

    Raises:
        TargetError: one does, as where an editable install maps names to files.
    """
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and Path(file).is_relative_to(folder) and not _stays(Path(file)):
            raise TargetError(
                f"its module {name} was imported from {file}, the other commit, where the environment has it installed "
                "in editable mode"
            )


def _stays(path: Path) -> bool:
    """Whether a path belongs to the environment or to trainfare's own packages."""
    specs = [find_spec(name) for name in ("trainfare", "trainfare_core", "trainfare_providers")]
    places = [location for spec in specs if spec for location in spec.submodule_search_locations or ()]
    ours = [Path(location).resolve() for location in places]
    folders_kept = [*ours, *(Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix))]
    return any(path.is_relative_to(folder) for folder in folders_kept) or any(
        path == folder.parent for folder in ours
    )
