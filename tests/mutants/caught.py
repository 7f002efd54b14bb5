"""Which mutants a test has caught, so that a second run takes only what has changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from mutants.mutant import TOP, Mutant

STOPPED: Final = "stopped"
"""Stands for the test where a mutant ran without end or crashed."""


class Caught:
    """
    The mutants caught in earlier runs.

    Args:
        file: where they are kept.
        use: False: say of none that it was caught.
    """

    def __init__(self, file: Path, *, use: bool) -> None:
        self._file, self._use = file, use
        self._tests = self._read()

    def by(self, mutant: Mutant, source: str) -> str:
        """Return the test that caught a mutant, "" where none has or its file or the test's file is another now."""
        test = self._tests.get(_make_key(mutant, source), "") if self._use else ""
        digest, _, name = test.partition(" ")
        return name if digest == _digest_of_test(name) else ""

    def add(self, mutant: Mutant, source: str, test: str) -> None:
        """Keep what a run has found; "" that no test caught the mutant."""
        self._tests = self._read()  # another run may have added to it
        self._tests.pop(_make_key(mutant, source), None)
        if test:
            self._tests[_make_key(mutant, source)] = f"{_digest_of_test(test)} {test}"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        whole = self._file.with_suffix(".new")
        whole.write_text(json.dumps(self._tests, indent=0), encoding="utf-8")
        whole.replace(self._file)

    def _read(self) -> dict[str, str]:
        caught: dict[str, str] = (
            json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        )
        return caught


def _make_key(mutant: Mutant, source: str) -> str:
    text = f"{mutant.name}\0{mutant.tests}\0{mutant.apply(source)}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest_of_test(name: str) -> str:
    file = TOP / name.partition("::")[0]
    return hashlib.sha256(file.read_bytes() if file.is_file() else b"").hexdigest()[:16]
