"""The workflow that checks training costs, for the CI systems of a repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

_FOLDER: Final = Path(__file__).with_name("ci")


class System(NamedTuple):
    """
    A CI system, as `ci/systems.json` has it.

    Attributes:
        name: as people know it.
        template: file in `ci/`, the one that docs/ci.md has.
        path: where the system reads it.
        beside: where it goes where `path` has something else, to be included from there; "" where it never has.
        marks: files or folders that a repository has for this system.
        host: in the address of the repository's remote.
    """

    name: str
    template: str
    path: str
    beside: str
    marks: list[str]
    host: str


REQUIREMENTS: Final = "requirements.txt"
OWN_REQUIREMENTS: Final = "trainfare-requirements.txt"
"""Of the scripts, where a repository has no requirements."""


def find_systems(folder: Path) -> list[System]:
    """Return the CI systems that the files of a repository are for; without any, that of its remote."""
    known = [
        System(**entry) for entry in json.loads(_FOLDER.joinpath("systems.json").read_text(encoding="utf-8"))
    ]
    systems = [system for system in known if any((folder / mark).exists() for mark in system.marks)]
    try:
        remotes = (folder / ".git" / "config").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no repository, or a worktree of one
        remotes = ""
    return systems or [system for system in known if system.host in remotes]


def write_workflow(system: System, folder: Path, *, own_requirements: bool = False) -> tuple[str, str]:
    """
    Return where the workflow of a system goes in a repository, and its text.

    Args:
        system: of CI.
        folder: of the repository.
        own_requirements: it gets `OWN_REQUIREMENTS`.
    """
    text = _FOLDER.joinpath(system.template).read_text(encoding="utf-8")
    if own_requirements:
        text = text.replace(REQUIREMENTS, OWN_REQUIREMENTS)
    elif not (folder / REQUIREMENTS).is_file():  # of GitHub's the last two lines
        text = text.partition(f"    with:\n      requirements: {REQUIREMENTS}")[0]
    path = folder / system.path
    own = not system.beside or not path.exists() or path.read_text(encoding="utf-8", errors="replace") == text
    return system.path if own else system.beside, text
