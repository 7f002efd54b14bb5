"""Folders by name, so that what a trace read has the same name in another checkout, environment or machine."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from trainfare_core.documents import Record

PROJECT: Final = "project"
"""The repository, or the folder, of the TARGET."""
OURS: Final = "trainfare"
"""The packages of trainfare, of which another digest is taken."""
INSTALLED: Final = "installed"
"""Begins the names of the folders of Python and of installed packages."""
_SITE_NAMES: Final = ("site-packages", "dist-packages")
"""What pip and Debian call a folder of installed packages."""


class Place(Record):
    """A path: relative to a folder with a name, or absolute where the name is empty."""

    folder: str
    path: str


class Places(Record):
    """The folders that have names, longest path first, so that a folder within another is found first."""

    folders: tuple[Place, ...]

    def place(self, path: str) -> Place:
        """Return the place of an absolute path."""
        for folder in self.folders:
            if path == folder.path:
                return Place.model_construct(folder=folder.folder, path=".")
            if path.startswith(folder.path + os.sep):
                inner = path[len(folder.path) + 1 :].replace(os.sep, "/")
                return Place.model_construct(folder=folder.folder, path=inner)
        return Place.model_construct(folder="", path=path)

    def path(self, place: Place) -> str | None:
        """Return the absolute path of a place; None where no folder has its name here."""
        if not place.folder:
            return place.path
        for folder in self.folders:
            if folder.folder == place.folder:
                return folder.path if place.path == "." else os.path.join(folder.path, place.path)  # noqa: PTH118 - speed
        return None

    def list_installed_folders(self) -> tuple[str, ...]:
        """Return the folders of installed packages, in the order of their names."""
        folders = [folder for folder in self.folders if folder.folder.startswith(INSTALLED)]
        return tuple(folder.path for folder in sorted(folders, key=lambda folder: folder.folder))


def places_of(search_path: Iterable[str], project: Path) -> Places:
    """
    Return the folders that have names in a process.

    Args:
        search_path: its `sys.path`.
        project: the folder of the user's code, resolved.
    """
    path_by_folder: dict[str, str] = {}
    for name in ("stdlib", "platstdlib"):
        path_by_folder.setdefault(sysconfig.get_path(name), f"{INSTALLED}-{name}")
    sites = (os.path.abspath(entry) for entry in search_path if Path(entry).name in _SITE_NAMES)  # noqa: PTH100
    for number, site in enumerate(dict.fromkeys(sites)):
        path_by_folder.setdefault(site, f"{INSTALLED}-{number}")
    for package in ("trainfare", "trainfare_core", "trainfare_providers"):
        spec = find_spec(package)
        for number, folder in enumerate((spec and spec.submodule_search_locations) or ()):
            path_by_folder[str(Path(folder).resolve())] = f"{OURS}-{package}-{number}"
    path_by_folder[str(project)] = PROJECT
    places = [Place(folder=name, path=path) for path, name in path_by_folder.items()]
    return Places(folders=tuple(sorted(places, key=lambda folder: -len(folder.path))))
