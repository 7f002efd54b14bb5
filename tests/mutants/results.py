"""What became of the mutants: a table for people, and JSON for `docs/reliability.md`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from mutants.mutant import PACKAGES, TOP, Mutant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RESULTS: Final = TOP / "tests" / "evidence" / "mutants.json"
EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True)
class Result:
    """
    What became of one mutant.

    Attributes:
        name: of the mutant.
        package: as in `PACKAGES`, or a folder.
        file: that was broken.
        line: where, from 1.
        was: the lines before.
        now: the lines after.
        written: by a person; else by rule.
        promise: number in `docs/reliability.md`, where one is named.
        caught: a test failed.
        by: the test that failed, "stopped" where the mutant ran without end or crashed.
        equivalent: why no test can tell it from the original; such mutants are not counted.
        nearest_only: the nearest tests did not catch it, and those that reach its lines were not tried yet.
    """

    name: str
    package: str
    file: str
    line: int
    was: str
    now: str
    written: bool
    promise: int | None
    caught: bool
    by: str
    equivalent: str | None
    nearest_only: bool = False


@dataclass(frozen=True)
class Score:
    """Mutants of one package that were made and not equivalent, and those caught."""

    package: str
    files: int
    made: int
    caught: int
    equivalent: int

    @property
    def share(self) -> float:
        """Part that was caught; 1 where there was none."""
        return self.caught / self.made if self.made else 1.0


def equivalents() -> dict[tuple[str, str, str], str]:
    """Return the reasons of equivalent mutants by file and lines before and after."""
    rows = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]
    return {(row["file"], row["was"].strip(), row["now"].strip()): row["reason"] for row in rows}


def result_of(
    mutant: Mutant, source: str, *, caught: bool, by: str, reasons: dict[tuple[str, str, str], str],
    nearest_only: bool = False,
) -> Result:  # fmt: skip
    """Return the result of a mutant of `source`; `reasons` are `equivalents()`."""
    was, now = mutant.lines_before_and_after(source)
    return Result(
        mutant.name,
        mutant.package,
        mutant.file,
        mutant.lines(source)[0],
        was,
        now,
        not mutant.operator,
        mutant.promise,
        caught,
        by,
        None if caught else reasons.get((mutant.file, was, now)),
        nearest_only,
    )


def scores(results: list[Result]) -> list[Score]:
    """Return the score of each package, then of all."""
    names = sorted({result.package for result in results}, key=lambda name: (name not in PACKAGES, name))
    return [_score(name, [result for result in results if result.package == name]) for name in names] + [
        _score("all", results)
    ]


def _score(package: str, results: list[Result]) -> Score:
    counted = [result for result in results if result.equivalent is None]
    return Score(
        package,
        len({result.file for result in results}),
        len(counted),
        sum(result.caught for result in counted),
        len(results) - len(counted),
    )


def scores_table(results: list[Result]) -> str:
    """Return the scores as a table of 80 columns."""
    lines = [f"{'package':20} {'files':>6} {'mutants':>8} {'caught':>7} {'score':>7} {'equivalent':>11}"]
    lines += [
        f"{score.package:20} {score.files:6} {score.made:8} {score.caught:7} {score.share:7.1%} {score.equivalent:11}"
        for score in scores(results)
    ]
    return "\n".join(lines) + "\n"


def read_results(file: Path = RESULTS) -> list[Result]:
    """Return the results of earlier runs that a file holds."""
    if not file.is_file():
        return []
    return [Result(**row) for row in json.loads(file.read_text(encoding="utf-8"))["mutants"]]


def merge_tables(now: list[Result], before: list[Result], names: list[str]) -> list[Result]:
    """Return the results of a run, and of earlier ones those of other mutants in `names`, in the order of `names`."""
    results_by_name = {result.name: result for result in (*before, *now)}
    return [results_by_name[name] for name in names if name in results_by_name]


def results_text(results: list[Result], *, command: str, not_run: int) -> str:
    """
    Return the JSON document, one score or mutant a line.

    Args:
        results: of the mutants that were run.
        command: makes the document again.
        not_run: mutants of the whole list that were not run yet.
    """
    # Not by our `format_records`: a module of ours in the process that forks would hide the mutants from the tests.
    scored = [{**asdict(score), "score": round(score.share, 4)} for score in scores(results)]
    rows = {"scores": scored, "mutants": [asdict(result) for result in results]}
    lines = {
        name: ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in several)
        for name, several in rows.items()
    }
    head = f'{{\n "schema_version": 1,\n "command": {json.dumps(command)},\n "not_run": {not_run}'
    tables = (f',\n "{name}": [\n{text}\n ]' for name, text in lines.items())
    return "".join((head, *tables, "\n}\n"))


def write_results(now: list[Result], names: list[str], file: Path = RESULTS) -> None:
    """
    Put results into a file, in the place of earlier results of the same mutants.

    Args:
        now: of the mutants that were run.
        names: of all mutants, in their order.
        file: is replaced whole, so that a run that is stopped leaves a document.
    """
    whole = merge_tables(now, read_results(file), names)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    text = results_text(whole, command="make mutants", not_run=len(names) - len(whole))
    new.write_text(text, encoding="utf-8")
    new.replace(file)
