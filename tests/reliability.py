"""
Write docs/reliability.md: each promise with its tests, the mutants they caught, the fuzz targets and the last run.

    python tests/reliability.py            # writes the page
    python tests/reliability.py --check    # exits with 1 where the committed page is out of date

The promises and their tests stand in tests/evidence/promises.toml. Beside it lie the outcomes: `tests.json` from
`tests/repeat_under_load.py --record`, `mutants.json` from `make mutants`, `drawn_mutants.json` from
`make mutants SEED=N`, `fuzz.json` from `make fuzz`.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final
from xml.etree import ElementTree as ET

from pydantic import BaseModel, ConfigDict, Field

from trainfare_core.number_format import percent

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = TOP / "tests" / "evidence"
PAGE: Final = TOP / "docs" / "reliability.md"
INTRODUCTION: Final = """\
Each promise has tests that fail without it. Mutants are deliberate faults in the sources (`make mutants`): one counts
for a promise where a test of that promise failed for it. Runs are those that
`python tests/repeat_under_load.py --record` has noted: in random order, beside processes that keep the processors
busy. What the tests count they recorded in that run, each number beside what is promised."""
DRAWS: Final = """\
Most mutants above were written with the test that catches them, or survived once and got one: their score says that
known faults stay caught. How many unknown ones would be, a draw says: changes of any line of the core, of the providers
and of what decides in the plugin, drawn by a seed (`make mutants SEED=N`), each tried with the tests nearest to its
file, then with the recorded answers (`tests/recorded`), then with the quickest tests that reach its line. Recorded
answers say that a number or a sentence has changed, not which one is right: how many mutants the nearest tests missed
and they caught is a column. A draw keeps its score: a survivor that got a test later counts as not caught, and is
counted in the last column."""
WIDTH: Final = 140
"""Characters of a line of prose."""
NAMED_MUTANTS: Final = 4
"""Mutants named with a promise; the rest are counted, so that a promise stays on one screen."""
CASES: Final = "{} cases passed"
"""What is counted for a test that a promise names by its function; files have their count anyway."""
KEPT_REPEATS: Final = 20
"""Repeats under load that tests.json keeps: two nights of ten."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Promise(_Entry):
    """A promise and what shows it; `tests` are files or FILE::FUNCTION."""

    number: Annotated[int, Field(ge=1)]
    group: str
    title: str
    says: str
    tests: Annotated[tuple[str, ...], Field(min_length=1)]
    fuzz: tuple[str, ...] = ()
    measured: str = ""
    missing: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files of its tests, each once."""
        return tuple(dict.fromkeys(name.partition("::")[0] for name in self.tests))

    def has(self, test: str) -> bool:
        """Whether a test, by its node id, is one of this promise."""
        where = test.partition("[")[0]
        return where in self.tests or where.partition("::")[0] in self.tests


class NotPromised(_Entry):
    """What is not promised."""

    says: str


class Promises(_Entry):
    """The table of promises.toml."""

    promise: tuple[Promise, ...]
    not_promised: tuple[NotPromised, ...]


@dataclass(frozen=True)
class Figure:
    """
    A number that a test has recorded with pytest's `record_property`.

    Attributes:
        test: its node id without parameters.
        says: what the number is, with {} in its place.
        value: the largest of the test's cases where `says` begins with "at most", the smallest where it begins with
            "at least", else their sum.
    """

    test: str
    says: str
    value: float

    def __str__(self) -> str:
        number = round(self.value, 2)
        return self.says.format(f"{int(number) if number == int(number) else number:,}")

    def with_value(self, other: float) -> Figure:
        """Return it for one more case or test."""
        both = (self.value, other)
        joined = {"at most": max, "at least": min}.get(" ".join(self.says.split()[:2]), sum)
        return replace(self, value=joined(both))


@dataclass(frozen=True)
class FileOutcome:
    """What became of the tests of one file; `failed` has node ids."""

    passed: int
    skipped: int
    failed: tuple[str, ...]
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Repeat:
    """One run in random order beside busy processes."""

    seed: int
    passed: int
    skipped: int
    failed: tuple[str, ...]
    minutes: float
    load_min: float
    load_max: float


def promises() -> Promises:
    """Read tests/evidence/promises.toml."""
    return Promises.model_validate(
        tomllib.loads((FOLDER / "promises.toml").read_text(encoding="utf-8")), strict=False
    )


def file_outcomes(xml: str) -> dict[str, FileOutcome]:
    """Return the outcomes by test file, from the JUnit XML of pytest."""
    passed: dict[str, int] = {}
    skipped: dict[str, int] = {}
    failed: dict[str, list[str]] = {}
    figures: dict[str, dict[tuple[str, str], Figure]] = {}
    tests = {test for promise in promises().promise for test in promise.tests}
    for case in ET.fromstring(xml).iter("testcase"):
        file = case.get("classname", "").replace(".", "/") + ".py"
        passed.setdefault(file, 0)
        if case.find("failure") is not None or case.find("error") is not None:
            failed.setdefault(file, []).append(f"{file}::{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped[file] = skipped.get(file, 0) + 1
        else:
            passed[file] += 1
            test = f"{file}::{case.get('name', '').partition('[')[0]}"
            properties = [(entry.get("name", ""), entry.get("value", "")) for entry in case.iter("property")]
            properties += [(CASES, "1")] if test in tests else []
            for says, value in properties:
                if "{}" in says:
                    _add(figures.setdefault(file, {}), Figure(test, says, float(value)))
    return {
        file: FileOutcome(
            count, skipped.get(file, 0), tuple(failed.get(file, ())), tuple(figures.get(file, {}).values())
        )
        for file, count in passed.items()
    }


def _add(known: dict[tuple[str, str], Figure], figure: Figure) -> None:
    key = figure.test, figure.says
    known[key] = known[key].with_value(figure.value) if key in known else figure


def record(outcomes: dict[str, FileOutcome], repeat: Repeat, *, what: str, busy: int) -> None:
    """Note a run in tests.json: each file's outcome in place of its last, and the repeat beside the earlier ones."""
    known = _outcomes("tests") or {"files": {}, "repeats": []}
    run = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=TOP, capture_output=True, text=True, check=True,
        ).stdout.strip(),
        "python": platform.python_version(),
    }  # fmt: skip
    files = {**known["files"], **{f: {**run, **_as_row(outcome)} for f, outcome in outcomes.items()}}
    files = {name: files[name] for name in sorted(files) if (TOP / name).is_file()}
    more = {**run, "torch": version("torch"), "what": what, "busy": busy, **asdict(repeat)}
    repeats = [*known["repeats"], more][-KEPT_REPEATS:]
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(outcome)}" for name, outcome in files.items())
    rows = ",\n".join(f"  {json.dumps(repeat)}" for repeat in repeats)
    text = f'{{\n "files": {{\n{lines}\n }},\n "repeats": [\n{rows}\n ]\n}}\n'
    (FOLDER / "tests.json").write_text(text, encoding="utf-8")


def _as_row(outcome: FileOutcome) -> dict[str, Any]:
    row = asdict(outcome)
    return row if outcome.figures else {name: value for name, value in row.items() if name != "figures"}


def page() -> str:
    """Return the text of docs/reliability.md."""
    table = promises()
    parts = [
        "# Reliability: what is promised, and what shows it",
        "",
        "<!-- python tests/reliability.py -->",
        "",
        INTRODUCTION,
        "",
        "| | promise | mutants caught | last recorded run |",
        "|---|---|---|---|",
        *(
            f"| [{promise.number}](#{_anchor(promise)}) | {promise.title} | {len(mutants_of(promise)) or '-'} | "
            f"{_last_run(promise)} |"
            for promise in table.promise
        ),
        "",
    ]
    group = ""
    for promise in table.promise:
        if promise.group != group:
            group = promise.group
            parts += [f"## {group}", ""]
        parts += [*map(_wrap, _write_section(promise)), ""]
    parts += [
        "## Mutants and fuzzing",
        "",
        *_mutants(),
        _wrap(DRAWS),
        "",
        *_draw_table(),
        "",
        *_fuzzing(),
        "",
    ]
    parts += ["## Repeats under load", "", *_repeats(), ""]
    parts += ["## Not promised", "", *(_wrap(f"- {gap.says}") for gap in table.not_promised), ""]
    return "\n".join(parts)


def _wrap(text: str) -> str:
    """Return a paragraph or an entry of a list in lines."""
    inner = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, WIDTH, subsequent_indent=inner, break_long_words=False, break_on_hyphens=False)


def _write_section(promise: Promise) -> Iterable[str]:
    yield f"### {promise.number}. {promise.title}"
    yield ""
    yield promise.says
    yield ""
    yield "- Tests: " + ", ".join(f"`{name.removeprefix('tests/')}`" for name in promise.tests) + "."
    if names := mutants_of(promise):
        rest = f", and {len(names) - NAMED_MUTANTS} more" if len(names) > NAMED_MUTANTS else ""
        yield "- Mutants caught: " + "; ".join(names[:NAMED_MUTANTS]) + rest + "."
    if promise.fuzz:
        yield f"- Fuzzed: {', '.join(promise.fuzz)}."
    if promise.measured:
        yield f"- Measured: {promise.measured}"
    cases, figures = _collect_figures(promise)
    if figures:
        yield f"- Counted by the tests: {'; '.join(map(str, figures))}."
    yield f"- Last recorded run: {_last_run(promise)}{f', {cases:,} cases passed' if cases else ''}."
    if promise.missing:
        yield f"- Not shown: {promise.missing}"


def _collect_figures(promise: Promise) -> tuple[int, list[Figure]]:
    """Return the cases of a promise that passed, 0 where a file of it was not recorded, and what its tests counted."""
    files = (_outcomes("tests") or {"files": {}})["files"]
    joined: dict[str, Figure] = {}
    cases = [files[name]["passed"] if name in files else 0 for name in promise.tests if "::" not in name]
    for file in promise.files:
        for row in files.get(file, {}).get("figures", ()):
            figure = Figure(**row)
            if figure.says == CASES and figure.test in promise.tests:
                cases.append(int(figure.value))
            elif figure.says != CASES and promise.has(figure.test):
                same = joined.get(figure.says)
                joined[figure.says] = same.with_value(figure.value) if same else figure
    known = len(cases) == len(promise.tests) and 0 not in cases
    return sum(cases) if known else 0, list(joined.values())


def mutants_of(promise: Promise) -> list[str]:
    """Return the mutants that a test of a promise caught, those that people wrote first."""
    outcome = _outcomes("mutants")
    mutants = outcome["mutants"] if outcome else []
    mine = [m for m in mutants if m["caught"] and (m["promise"] == promise.number or promise.has(m["by"]))]
    return [m["name"].replace("|", "/") for m in sorted(mine, key=lambda m: not m["written"])]


def _mutants() -> list[str]:
    outcome = _outcomes("mutants")
    if outcome is None:
        return ["Mutants: no run is recorded yet (`make mutants`)."]
    whole = next(score for score in outcome["scores"] if score["package"] == "all")
    counted = f"{whole['caught']} of {whole['made']} caught ({percent(whole['score'], 1)})"
    uncounted = f"{whole['equivalent']} that no test can tell apart are not counted"
    not_run = f"; {outcome['not_run']} more were not run yet" if outcome["not_run"] else ""
    early = sum(row["nearest_only"] and not row["equivalent"] for row in outcome["mutants"])
    missed = whole["made"] - whole["caught"]
    sentence = f" Of the {missed} not caught, {early} were tried with their nearest tests alone, so far."
    kept = " A result is kept until its mutant is run again, also where its code has moved or been renamed since."
    return [
        f"Mutants: {counted}; {uncounted}{not_run}; `{outcome['command']}`.{sentence if early else ''}{kept}",
        "",
        "| package | files | mutants | caught | score |",
        "|---|---|---|---|---|",
        *(
            f"| {row['package']} | {row['files']} | {row['made']} | {row['caught']} | {percent(row['score'], 1)} |"
            for row in outcome["scores"]
        ),
        "",
    ]


def _draw_table() -> list[str]:
    outcome = _outcomes("drawn_mutants")
    if outcome is None:
        return ["No draw is recorded yet."]
    return [
        "| seed | last run | commit | drawn | no test can tell | caught | by recorded answers | score | caught since |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {draw['seed']} | {draw['date']} | {draw['commit']} | {draw['drawn']} | {draw['equivalent']} | "
            f"{draw['caught']} | {draw.get('by_recorded_answers', 0)} | {percent(draw['score'], 1)} | "
            f"{draw['caught_since']} |"
            for draw in outcome["draws"]
        ),
    ]


def _fuzzing() -> list[str]:
    runs = _outcomes("fuzz")
    if not runs:
        return ["Fuzzing: no run is recorded yet (`make fuzz`)."]
    return [
        "| fuzz target | seconds | inputs | findings | last run |",
        "|---|---|---|---|---|",
        *(
            f"| `{run['target']}` | {run['seconds']} | {run['executions']:,} | {len(run['findings'])} | {run['date']} |"
            for run in runs
        ),
    ]


def _repeats() -> list[str]:
    outcome = _outcomes("tests")
    if outcome is None:
        return ["No run is recorded yet."]
    rows = []
    for row in outcome["repeats"]:
        failed = ", ".join(f"`{name}`" for name in row["failed"]) or "0"
        cells = (
            row["date"], row["commit"], row["python"], row.get("torch", ""), row["what"], row["busy"],
            f"{row['load_min']} to {row['load_max']}", row["seed"], row["passed"], failed, row["skipped"],
            row["minutes"],
        )  # fmt: skip
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return [
        "| date | commit | Python | torch | tests | busy | load | seed | passed | failed | skipped | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _last_run(promise: Promise) -> str:
    outcome = _outcomes("tests")
    files = [outcome["files"].get(name) for name in promise.files] if outcome else []
    known = [outcome for outcome in files if outcome]
    if len(known) < len(promise.files):
        return f"{len(known)} of {len(promise.files)} files recorded" if known else "not recorded"
    failed = sum(promise.has(name) for outcome in known for name in outcome["failed"])
    return f"{min(outcome['date'] for outcome in known)}, {failed} failed" + (" **!**" if failed else "")


def _anchor(promise: Promise) -> str:
    """Return the anchor that a heading has on GitHub."""
    text = f"{promise.number}. {promise.title}".lower()
    return "".join(c for c in text if c.isalnum() or c in " -").replace(" ", "-")


def _outcomes(name: str) -> Any:
    """Return the JSON of outcomes beside the promises, or None where there is none yet."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit with 1 where it would change"
    )
    options = parser.parse_args()
    text = page()
    if options.check:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.relative_to(TOP)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
