"""Which tests reach a line: a run of each test file under coverage.py, kept until the file or a source changes."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mutants.mutant import TOP
from mutants.trial import Copy, fork_pytest

_LEFT_OUT: Final = ("test_chromium.py", "test_moto.py")
"""A browser, and a server that stands for a whole cloud: minutes for what other tests reach too."""
_NEAREST: Final = 3
_CPU_LIMIT_S: Final = 900.0
_SHARED: Final = ("tests/builders", "tests/conftest.py", "tests/faults/server.py", "tests/faults/table.py")


@dataclass
class Reach:
    """
    What the tests reach.

    Attributes:
        seconds: of every test that passes, by name without parameters.
        tests_of_line: tests by file and line.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    tests_of_line: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def tests(self, file: str, lines: Iterable[int] | None, *, most_s: float) -> list[str]:
        """
        Return tests that reach some lines of a file, or any line of it, the quickest first.

        Args:
            file: below the top.
            lines: None for all.
            most_s: tests are added while they take less together; always at least one.
        """
        of_file = self.tests_of_line.get(file, {})
        tests = {test for line in (of_file if lines is None else lines) for test in of_file.get(line, ())}
        chosen: list[str] = []
        total_s = 0.0
        for test in sorted(tests, key=lambda test: (self.seconds.get(test, 0.0), test)):
            total_s += self.seconds.get(test, 0.0)
            if chosen and total_s > most_s:
                break
            chosen.append(test)
        return chosen


def tests_of_module(file: str, tests: Iterable[str]) -> list[str]:
    """
    Return the test files that are named after a module or import it, without a run.

    Args:
        file: of the module, below the top.
        tests: files and folders to look in.
    """
    parts = Path(file).with_suffix("").parts[1:]
    module = ".".join(part for part in parts if part != "__init__")
    imports = re.compile(rf"(?:from|import) {re.escape(module)}\b(?!\.)")
    file_name = f"test_{parts[-1]}.py"
    candidates = [
        (test.name != file_name, len(text), test.relative_to(TOP).as_posix())
        for test in _test_files(tests)
        for text in [test.read_text(encoding="utf-8")]
        if test.name == file_name or imports.search(text)
    ]
    return [name for *_, name in sorted(candidates)[:_NEAREST]]


def _test_files(tests: Iterable[str]) -> list[Path]:
    return sorted(
        file
        for name in tests
        for file in ([TOP / name] if name.endswith(".py") else (TOP / name).rglob("test_*.py"))
        if file.name not in _LEFT_OUT
    )


def reach_of(copy: Copy, cache: Path, tests: Iterable[str]) -> Reach:
    """
    Return what every test file reaches, from the cache where nothing has changed.

    Args:
        copy: of the sources, unbroken.
        cache: folder of the answers.
        tests: files and folders.
    """
    cache.mkdir(parents=True, exist_ok=True)
    shared = _digest([TOP / name for name in _SHARED])
    reach = Reach()
    for file in _test_files(tests):
        ours = shared + _digest([file])
        cached_file = (
            cache / f"{hashlib.sha256(file.relative_to(TOP).as_posix().encode()).hexdigest()[:16]}.json"
        )
        reach_facts = json.loads(cached_file.read_text(encoding="utf-8")) if cached_file.is_file() else {}
        if (
            not reach_facts
            or reach_facts["tests_are"] != ours
            or reach_facts["sources_are"] != _digests(reach_facts["lines"])
        ):
            reach_facts = _measure_tests(copy, file)
            reach_facts |= {"tests_are": ours, "sources_are": _digests(reach_facts["lines"])}
            cached_file.write_text(json.dumps(reach_facts), encoding="utf-8")
        reach.seconds.update(reach_facts["seconds"])
        for source, lines in reach_facts["lines"].items():
            of_file = reach.tests_of_line.setdefault(source, {})
            for line, tests in lines.items():
                of_file.setdefault(int(line), set()).update(tests)
    return reach


def _measure_tests(copy: Copy, file: Path) -> dict[str, Any]:
    """Return the seconds of the tests of a file that pass, and what they reach."""
    name = file.relative_to(TOP).as_posix()
    sys.stderr.write(f"what {name} reaches: ")
    sys.stderr.flush()
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "lines.json"
        outcome = fork_pytest(
            copy,
            [name, "-m", "not sources"],
            cpu_limit_s=_CPU_LIMIT_S,
            around=lambda: _record_coverage(copy, answer),
        )
        lines = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    failed = {without_parameters(test) for test in outcome.failed}
    seconds: dict[str, float] = {}
    for test, took_s in outcome.seconds.items():
        plain = without_parameters(test)
        if plain not in failed:
            seconds[plain] = round(seconds.get(plain, 0.0) + took_s, 4)
    sys.stderr.write(f"{len(seconds)} tests, {outcome.cpu_s:.0f} s\n")
    if outcome.code not in (0, 5):
        sys.stderr.write(f"{outcome.output}\n{sorted(failed)} left out\n")
    return {
        "seconds": seconds,
        "lines": {
            source: {line: [test for test in tests if test in seconds] for line, tests in by_line.items()}
            for source, by_line in lines.items()
        },
    }


@contextmanager
def _record_coverage(copy: Copy, answer: Path) -> Generator[Callable[[str], None]]:
    """Write which tests reach which lines; in the child that runs the tests."""
    import coverage

    measuring = coverage.Coverage(data_file=None, source=copy.roots, config_file=False, messages=False)
    measuring.start()
    try:
        yield lambda test: measuring.switch_context(without_parameters(test))
    finally:
        measuring.stop()
    data = measuring.get_data()
    lines = {
        Path(file).relative_to(copy.folder).as_posix(): {
            line: [test for test in tests if test] for line, tests in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    answer.write_text(json.dumps(lines), encoding="utf-8")


def without_parameters(test: str) -> str:
    """Return the name of a test without the part in brackets."""
    return test.partition("[")[0]


def _digests(files: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of source files, "" of one that is gone."""
    return {file: _digest([TOP / file]) if (TOP / file).is_file() else "" for file in files}


def _digest(places: Iterable[Path]) -> str:
    """Return the SHA-256 of files and of all files in folders."""
    total = hashlib.sha256()
    for path in places:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(file.relative_to(TOP).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()
