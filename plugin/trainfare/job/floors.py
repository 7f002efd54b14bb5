"""The lowest version of each package that trainfare works with, as the metadata of its extras have them."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Final

from trainfare.job.on_import import on_import
from trainfare_core.errors import InputError

FRAMEWORKS: Final = {
    "torch": "torch",
    "lightning": "pytorch-lightning",  # one release under two names
    "pytorch_lightning": "pytorch-lightning",
    "transformers": "transformers",
    "accelerate": "accelerate",
}
"""Modules that train, and the package whose floor is theirs."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A package that an extra needs, and its lowest version, "" where any will do."""

    extra: str
    package: str
    lowest: str


def list_floors(requirements: Iterable[str]) -> Generator[Floor, None, None]:
    """Yield the floors of requirements as metadata state them: `boto3>=1.34; extra == 'aws'`."""
    for requirement in requirements:
        parts = re.match(r"([\w.-]+)[^>;]*(?:>=([\d.]+))?.*extra == ['\"](\w+)['\"]", requirement)
        if parts is not None:
            yield Floor(parts[3], parts[1], parts[2] or "")


def is_older(version: str, lowest: str) -> bool:
    """Return whether a version lies below a floor."""
    return _split_version(version) < _split_version(lowest or "0")


def _split_version(version: str) -> list[int]:
    """Return the numbers of a release: `2.8rc1` and `2.8.0+cpu` count as 2.8."""
    release = re.split(r"(?:\.0)*(?:[^\d.]|$)", version)[0]
    return [int(number) for number in release.split(".") if number]


def check_version(module: str, version: str, requirements: Iterable[str] | None = None) -> None:
    """
    Check the version of an imported framework against its floor.

    Args:
        module: one of `FRAMEWORKS`.
        version: its own.
        requirements: of trainfare; None reads its metadata.

    Raises:
        InputError: it is older.
    """
    package = FRAMEWORKS[module]
    floors = list_floors(_read_requirements() if requirements is None else requirements)
    lowest = next((floor.lowest for floor in floors if floor.package == package), "")
    if is_older(version, lowest):
        name = module.replace("_", "-")
        wanted = f"trainfare works with {lowest} or newer: pip install '{name}>={lowest}'"
        raise InputError(f"{name} {version} is installed here, and {wanted}")


def _read_requirements() -> Sequence[str]:
    try:
        return metadata.requires("trainfare") or ()
    except metadata.PackageNotFoundError:  # run from its sources
        return ()


def _check(module: str) -> None:
    check_version(module, str(getattr(sys.modules[module], "__version__", "9")))


@contextlib.contextmanager
def checking_versions(check: Callable[[str], None] = _check) -> Generator[None, None, None]:
    """Check each framework of a script once it is imported, before anything of it is replaced."""
    with contextlib.ExitStack() as stack:
        for module in FRAMEWORKS:
            stack.enter_context(on_import(module, partial(check, module)))
        yield
