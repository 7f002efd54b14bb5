"""Files that say which packages a job needs, and whether they differ between two commits."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Final

from trainfare.base_commit.repository import Commit, Repository

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAMES: Final = tuple(
    row["pattern"]
    for row in csv.DictReader(
        Path(__file__).with_name("dependency_files.csv").read_text(encoding="utf-8").splitlines()
    )
)
"""Files of pip, setuptools, pipenv, Poetry, PDM, uv, pixi and conda that pin or list packages."""

_REQUIREMENTS: Final = "requirements"
"""Folder of requirement files: every .txt and .in in it counts."""

_PROJECT: Final = ("dependencies", "optional-dependencies", "requires-python", "dynamic")
_TOOLS: Final = ("poetry", "pdm", "uv", "pixi", "hatch", "setuptools")
"""Tools whose tables in pyproject.toml can name packages."""


def list_changed_dependencies(
    repository: Repository, commit: Commit, folders: Iterable[PurePosixPath]
) -> tuple[str, ...]:
    """
    Return the dependency files that differ between a commit and the working tree.

    Those count that lie in one of the folders or above it: what a job in `jobs/vision` needs is not said in
    `jobs/text`. Of a pyproject.toml, the tables that name packages count, not the settings of other tools.

    Args:
        repository: the repository.
        commit: the other commit.
        folders: of the target and of the working directory, relative to the root.

    Returns:
        paths relative to the root, sorted.
    """
    places = {parent for folder in folders for parent in (folder, *folder.parents)}
    return tuple(
        sorted(
            name
            for name in repository.list_changed_files(commit)
            if _is_counted(PurePosixPath(name), places) and _differs(repository, commit, name)
        )
    )


def _is_counted(path: PurePosixPath, places: set[PurePosixPath]) -> bool:
    if path.parent in places:
        return path.name == "pyproject.toml" or any(fnmatch(path.name, pattern) for pattern in _NAMES)
    listed = path.suffix in (".txt", ".in") and path.parent.name == _REQUIREMENTS
    return listed and path.parent.parent in places


def _differs(repository: Repository, commit: Commit, name: str) -> bool:
    if PurePosixPath(name).name != "pyproject.toml":
        return True
    before, file = repository.file_at(commit, name), repository.root / name
    after = file.read_bytes() if file.is_file() else None
    try:
        return _packages(before) != _packages(after)
    except (ValueError, RecursionError, AttributeError):  # not TOML, not UTF-8, or `project` is no table
        return True


def _packages(content: bytes | None) -> tuple[Any, ...]:
    """Return the tables of a pyproject.toml that can name packages; without a file there are none."""
    table: dict[str, Any] = {} if content is None else tomllib.loads(content.decode())
    project, tools = table.get("project", {}), table.get("tool", {})
    return (
        [project.get(key) for key in _PROJECT],
        table.get("dependency-groups"),
        table.get("build-system"),
        [tools.get(tool) for tool in _TOOLS],
    )
