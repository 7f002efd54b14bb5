"""A mutant: one place of one source file changed, and the tests that must notice."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP: Final = Path(__file__).resolve().parents[2]
WRITTEN: Final = Path(__file__).with_name("written")


@dataclass(frozen=True)
class Package:
    """
    A package of which every file is mutated.

    Attributes:
        files: files and folders of it.
        tests: of which those that reach a mutant made by rule are run; the folders that mirror it, and what else
            is quick and reaches it.
        first: are run first for a module that no test is named after and none imports.
    """

    files: tuple[str, ...]
    tests: tuple[str, ...]
    first: tuple[str, ...]


_TABLE: Final = tomllib.loads(Path(__file__).with_name("packages.toml").read_text(encoding="utf-8"))
LIBRARIES: Final = tuple(map(str, _TABLE["libraries"]))
"""Modules of others that the tests import."""
PACKAGES: Final = {
    name: Package(**{part: tuple(names) for part, names in row.items()})
    for name, row in _TABLE["package"].items()
}
DRAWN: Final = Package(**{part: tuple(names) for part, names in _TABLE["draw"].items()})
"""The sources of a draw, the tests in which those nearest to a module are looked for, and which come first."""

BESIDE: Final[dict[str, tuple[str, ...]]] = {
    folder: tuple(tests) for folder, tests in _TABLE["beside"].items()
}
"""Tests of commands, by the folder of the sources that they are a way to."""


@dataclass(frozen=True)
class Mutant:
    """
    A change of one file.

    Attributes:
        name: what is broken, unique.
        file: below `TOP`.
        start: place of the change in the file's text, in characters.
        old: what stands there.
        new: what is put there.
        tests: arguments for pytest; "" takes the tests that reach the place.
        promise: number of the promise in `docs/reliability.md` that it breaks.
        operator: the kind of change of a generated mutant; "" where a person wrote it.
        seed: of the draw that it belongs to; 0: it is of the list that every run has.
    """

    name: str
    file: str
    start: int
    old: str
    new: str
    tests: str = ""
    promise: int | None = None
    operator: str = ""
    seed: int = 0

    @property
    def package(self) -> str:
        """The package of `PACKAGES` that holds the file, or its folder."""
        return package_of(self.file)

    def apply(self, source: str) -> str:
        """
        Return the changed text of the file.

        Raises:
            ValueError: the source is another by now.
        """
        end = self.start + len(self.old)
        if source[self.start : end] != self.old:
            raise ValueError(f"{self.name}: {self.file} has changed")
        return source[: self.start] + self.new + source[end:]

    def lines(self, source: str) -> range:
        """Lines of the file that the change touches, from 1."""
        first = source.count("\n", 0, self.start) + 1
        return range(first, first + self.old.count("\n") + 1)

    def lines_before_and_after(self, source: str) -> tuple[str, str]:
        """The lines that the change touches, before and after it, without indentation."""
        begin = source.rfind("\n", 0, self.start) + 1
        end = source.find("\n", self.start + len(self.old))
        after = self.apply(source)
        tail = len(source) - (end if end >= 0 else len(source))
        return source[begin : len(source) - tail].strip(), after[begin : len(after) - tail].strip()


def package_of(file: str) -> str:
    """Return the package of `PACKAGES` that holds a file, or else its folder."""
    for package, parts in PACKAGES.items():
        if any(file == path or file.startswith(f"{path}/") for path in parts.files):
            return package
    return Path(file).parent.name


def files_of(package: Package) -> list[str]:
    """Return every source file of a package."""
    return sorted(
        file.relative_to(TOP).as_posix()
        for path in package.files
        for file in ([TOP / path] if path.endswith(".py") else (TOP / path).rglob("*.py"))
    )


def read_written_mutants() -> list[Mutant]:
    """
    Return the mutants that people wrote.

    Raises:
        ValueError: the text to replace does not occur once in its file.
    """
    mutants: list[Mutant] = []
    for table in sorted(WRITTEN.glob("*.toml")):
        for fields in tomllib.loads(table.read_text(encoding="utf-8"))["mutant"]:
            source = (TOP / fields["file"]).read_text(encoding="utf-8")
            if source.count(fields["old"]) != 1:
                raise ValueError(f"{table.name}: {fields['name']}: `old` must occur once in {fields['file']}")
            mutants.append(Mutant(start=source.index(fields["old"]), **fields))
    return mutants
