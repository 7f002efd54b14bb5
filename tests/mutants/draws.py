"""Mutants drawn at random: in slices, each with the result that it had when it was drawn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from mutants.mutant import BESIDE, TOP, Mutant
from mutants.results import Result, equivalents

DRAWS: Final = TOP / "tests" / "evidence" / "drawn_mutants.json"
RECORDED: Final = "tests/recorded/"
"""Tests that say that an answer has changed, and not which of the two is right: what they alone catch is counted."""
SLICE: Final = 60
"""Mutants of one run: it ends within half an hour of one processor."""


@dataclass(frozen=True)
class DrawnResult:
    """
    What became of one drawn mutant.

    Attributes:
        seed: of the draw.
        date: on which it was tried, YYYY-MM-DD.
        commit: of the sources then.
        result: stays as it was, whatever tests come later.
        caught_since: the test that fails for it by now, "" while it survives or where it was caught at once.
    """

    seed: int
    date: str
    commit: str
    result: Result
    caught_since: str = ""

    @property
    def key(self) -> tuple[int, str]:
        """What no other drawn mutant has."""
        return self.seed, self.result.name


def read_draws(file: Path = DRAWS) -> list[DrawnResult]:
    """Return the results of all draws; the reasons of equivalent mutants are those of today."""
    if not file.is_file():
        return []
    reasons, heads = equivalents(), ("seed", "date", "commit", "caught_since")
    drawn = []
    for row in json.loads(file.read_text(encoding="utf-8"))["mutants"]:
        result = Result(**{name: value for name, value in row.items() if name not in heads})
        reason = None if result.caught else reasons.get((result.file, result.was, result.now))
        drawn.append(
            DrawnResult(**{name: row[name] for name in heads}, result=replace(result, equivalent=reason))
        )
    return drawn


def next_slice(
    order: Iterable[Mutant], seed: int, known: Iterable[DrawnResult], most: int = SLICE
) -> list[Mutant]:
    """
    Return the mutants of a draw that a run tries: the rest of the slice that was begun, else the next one.

    Args:
        order: of the draw.
        seed: of the draw.
        known: the results of all draws; those tried with the nearest tests alone are tried again.
        most: new ones, where fewer than the rest of the slice are wanted.
    """
    tried = {drawn.result.name: drawn.result for drawn in known if drawn.seed == seed}
    left = SLICE - len(tried) % SLICE
    if any(result.nearest_only for result in tried.values()):
        left %= SLICE
    mutants = list(order)
    again = [mutant for mutant in mutants if mutant.name in tried and tried[mutant.name].nearest_only]
    return again + [mutant for mutant in mutants if mutant.name not in tried][: min(left, most)]


def survivors(order: Iterable[Mutant], seed: int, known: Iterable[DrawnResult]) -> list[Mutant]:
    """Return the mutants of a draw that survived and that no test is known to catch since."""
    names = {
        drawn.result.name
        for drawn in known
        if drawn.seed == seed and not (drawn.result.caught or drawn.result.equivalent or drawn.caught_since)
    }
    return [mutant for mutant in order if mutant.name in names]


def add_result(known: list[DrawnResult], seed: int, result: Result) -> list[DrawnResult]:
    """Return the results with one more; of a mutant that was tried to the end only `caught_since` changes."""
    now = datetime.now(timezone.utc).date().isoformat()
    new = DrawnResult(seed, now, _read_commit(), result)
    before = next((drawn for drawn in known if drawn.key == new.key), None)
    if before is None:
        return [*known, new]
    if not before.result.nearest_only:
        new = replace(before, caught_since=result.by if not before.result.caught else "")
    return [new if drawn is before else drawn for drawn in known]


def write_draws(draws: list[DrawnResult], file: Path = DRAWS) -> None:
    """Write the results of all draws, each with its score, as one whole document."""
    seeds = sorted({drawn.seed for drawn in draws})
    rows: list[dict[str, Any]] = [
        {
            "seed": drawn.seed, "date": drawn.date, "commit": drawn.commit,
            **asdict(drawn.result), "caught_since": drawn.caught_since,
        }
        for seed in seeds for drawn in draws if drawn.seed == seed
    ]  # fmt: skip
    heads = [json.dumps(_score_draw([drawn for drawn in draws if drawn.seed == seed])) for seed in seeds]
    tables = {"draws": heads, "mutants": [json.dumps(row, ensure_ascii=False) for row in rows]}
    text = ",\n".join(
        f' "{name}": [\n' + ",\n".join(f"  {line}" for line in lines) + "\n ]"
        for name, lines in tables.items()
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(f'{{\n "schema_version": 1,\n{text}\n}}\n', encoding="utf-8")
    new.replace(file)


def _score_draw(draw: list[DrawnResult]) -> dict[str, Any]:
    counted = [drawn for drawn in draw if drawn.result.equivalent is None]
    caught = sum(drawn.result.caught for drawn in counted)
    return {
        "seed": draw[0].seed,
        "date": max(drawn.date for drawn in draw),
        "commit": draw[-1].commit,
        "drawn": len(draw),
        "equivalent": len(draw) - len(counted),
        "caught": caught,
        "by_recorded_answers": sum(drawn.result.by.startswith(RECORDED) for drawn in counted),
        "score": round(caught / len(counted), 4) if counted else 1.0,
        "caught_since": sum(bool(drawn.caught_since) for drawn in counted),
        "nearest_only": sum(drawn.result.nearest_only for drawn in counted),
    }


def mirror_of(file: str) -> tuple[str, ...]:
    """
    Return the tests of the part of the sources that a file is in, with those of the commands that lead to it.

    Args:
        file: below the top.
    """
    root, _, *folders = Path(file).parent.parts
    folder = Path("tests", root, *folders[:1])
    beside = next((tests for start, tests in BESIDE.items() if file.startswith(f"{start}/")), ())
    if not folders or not (TOP / folder).is_dir():
        alone = sorted((TOP / "tests" / root).glob("test_*.py"))
        return beside or tuple(path.relative_to(TOP).as_posix() for path in alone)
    return beside if any(test.startswith(f"{folder}/") for test in beside) else (folder.as_posix(), *beside)


def _read_commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=TOP, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
