"""The installed packages that training scripts import, by their source; none of it runs."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Final

from trainfare.script.find_scripts import MAX_BYTES, list_imports
from trainfare_providers.disk.files import FileRefusedError, read_own_file

_BROUGHT: Final = frozenset(("lightning", "pytorch-lightning", "torch", "trainfare"))
"""Distributions that a workflow installs anyway."""


def list_requirements(scripts: Iterable[str]) -> list[str]:
    """
    Return the distributions that scripts and their own modules import, from the versions that are installed here.

    A package that is not installed is left out, as are torch and Lightning, which every workflow has.

    Args:
        scripts: paths in the working folder, from which and beside which modules are imported.

    Returns:
        Lines of a requirements file, such as transformers>=5.0.1.
    """
    distributions, found = packages_distributions(), set[str]()
    for script in scripts:
        for name in _list_packages(Path(script)):
            found |= {each for each in distributions.get(name, [])[:1] if each.lower() not in _BROUGHT}
    return [f"{name}>={version(name).partition('+')[0]}" for name in sorted(found, key=str.lower)]


def _list_packages(script: Path) -> set[str]:
    """Return the top names that a script imports, and those that its own modules import."""
    names, files, seen = set[str](), [script], set[Path]()
    for file in files:
        if file in seen:
            continue
        seen.add(file)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of the user's code, such as an escape in a text that is none
                nodes = [*ast.walk(ast.parse(read_own_file(file, MAX_BYTES)))]
        except (FileRefusedError, OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # what cannot be read is not imported either
        for name in list_imports(nodes):
            top, own = name.partition(".")[0], name.replace(".", "/")
            places = [
                place / end
                for place in (script.parent, Path())
                for end in (f"{own}.py", f"{own}/__init__.py")
            ]
            local = [place for place in places if place.is_file()]
            files += local
            is_own = local or any((place / top).is_dir() for place in (script.parent, Path()))
            if not is_own and top not in sys.stdlib_module_names:
                names.add(top)
    return names
