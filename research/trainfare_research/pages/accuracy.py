"""
Write docs/accuracy.md, and the tables behind it, from what the runners of the truth tables wrote.

    python -m trainfare_research.pages.accuracy --results DIR [--note TEXT] [--out docs/accuracy.md] [--tables
        research/results]

DIR holds NAME.json, and NAME.csv of `--rows`, of each runner that was run, and residuals.csv, the held-out errors of
`trainfare_research.runners.fit_calibration`: `make accuracy` fills one. What has no file has no figures, and
the page says so. Other scores of rows left out of a fit are those that the fit ships.

The page has one line for each table of measurements. `scores.csv` has every group of its rows, `extremes.csv` the best
and worst rows, and `unanswered.csv` the reasons why rows have no answer.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from trainfare_core import number_format as figures
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.fits import distance_record, language_model_record, memory_record, one_device_record
from trainfare_research.pages import one_device
from trainfare_research.pages.markdown import plain, render
from trainfare_research.scoring import LEVELS
from trainfare_research.truth_table import ROW_OF_RESIDUAL, read_held_out_errors, read_rows


@dataclass(frozen=True)
class Truth:
    """
    A table of measurements.

    Attributes:
        runner: name of the files that its runner wrote.
        title: what was measured.
        seen: how much of it the fits have seen.
        measured: column of the measured value, where the best and worst rows are named; "" where they are not.
    """

    runner: str
    title: str
    seen: str
    measured: str = ""


@dataclass(frozen=True)
class Covered:
    """
    A group of rows that must lie in the intervals as often as these say.

    Attributes:
        title: of the group.
        left_out: of the fit and of what its intervals are made of.
        shares: inside the central 50, 80 and 90 %; none where the group was not scored.
    """

    title: str
    left_out: str
    shares: Sequence[float]

    @property
    def cells(self) -> str:
        """The shares in the cells of a table."""
        return " | ".join(figures.percent(share) for share in self.shares) or " | ".join("-" for _ in LEVELS)

    @property
    def verdict(self) -> str:
        """Whether every share is within `WITHIN` of its level."""
        if not self.shares:
            return "not scored"
        apart = [abs(share - int(level) / 100) for share, level in zip(self.shares, LEVELS, strict=True)]
        return "met" if max(apart) <= WITHIN else "**missed**"


WITHIN: Final = 0.05
"""How far a share may be from its level: five points, the bar of the specification."""
_FITTED, _LEFT_OUT = "rows of the fit", "source left out"
_BENCHMARK_LEFT_OUT: Final = "benchmark left out"
TRUTHS: Final = (
    Truth("step_time", "time of a step, first table", _FITTED, "step_time_ms"),
    Truth("step_time_2", "time of a step, second table", _FITTED, "step_time_ms"),
    Truth("time_to_train", "MLPerf time to train, v0.5 to v3.1", _BENCHMARK_LEFT_OUT, "time_to_train_min"),
    Truth("time_to_train_2", "MLPerf time to train, v2.0 to v5.1", _BENCHMARK_LEFT_OUT, "time_to_train_min"),
    Truth("memory", "peak memory without a run, first table", _LEFT_OUT, "peak_gib"),
    Truth("memory_2", "peak memory without a run, second table", _LEFT_OUT, "peak_gib"),
    Truth("kernels", "kernels timed alone", _FITTED),
    Truth("decline_hindcast", "later cost of a technology", "years before the origin"),
)
SEVERAL: Final = {"step_time_apart": "first table", "step_time_apart_2": "second table"}
"""Runs of `step_time --leave-out device`: their rows on several devices that are no language models."""
OTHERS: Final = (*SEVERAL, "pick_cheapest", "strategy")
"""Runs with figures of their own kind."""
_BEST, _WORST = 5, 8
"""Rows of a table that are named: a few of the best, and enough of the worst to see what they have in common."""
_ERRORS: Final = {
    "mean": "mape",
    "median": "median_ape",
    "p90": "p90_ape",
    "worst": "worst_ape",
    "bias": "bias",
}
_PLACE: Final = re.compile(r" at \S+:\d+ in \w+(, called from \S+ in \w+)?")
"""Where an error was raised: a path that depends on the machine and on the folder that the command ran in."""
_DIGITS: Final = 4
"""Decimals of an error in the tables: hundredths of a percent."""


def _read_measured_rows(path: Path, column: str) -> list[tuple[float, str]]:
    """Return predicted over measured minus one, and a name, of every row that states its measured value."""
    errors = []
    for line in read_rows(path) if path.exists() else []:
        if line.get("predicted") and line.get(column):
            parts = [line.get(k, "") for k in ("source", "system_name", "model", "benchmark", "precision")]
            count = line.get("accelerators_total") or line.get("devices") or "1"
            parts.append(f"{count} x {line.get('accelerator') or line.get('gpu', '')}")
            name = plain(", ".join(part for part in parts if part))
            errors.append((float(line["predicted"]) / float(line[column]) - 1, name))
    return sorted(errors, key=lambda pair: abs(pair[0]))


def _results(folder: Path) -> dict[str, Any]:
    files = {name: folder / f"{name}.json" for name in (*(truth.runner for truth in TRUTHS), *OTHERS)}
    return {
        name: json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        for name, path in files.items()
    }


def document(results: Path, note: str = "") -> str:
    """Return the page, from the runners' files in `results`."""
    results_read, lines = _results(results), _residuals(results)
    recent = [line for line in lines if one_device.is_recent(line)]
    return render(
        "accuracy", note=note, date=calibration().fitted_at, truths=TRUTHS, results=results_read,
        fitted_on={"one": sorted(calibration().fitted_on), "many": sorted(decoder_calibration().fitted_on)},
        scores={
            "one": one_device_record().scores, "many": language_model_record().scores, "memory": memory_record().scores,
            "recent": {
                name: one_device.score(recent, name) if recent else None
                for name in ("workload", "chip_and_workload")
            },
        },
        covered=_group_covered(results_read, lines), several=_several(results_read), beside=_beside_one(results, lines),
        distance=distance_record(),
    )  # fmt: skip


def _several(results: dict[str, Any]) -> dict[str, Any]:
    """Return the score of rows on several devices with their chip left out, by table; None where it was not run."""
    scores = {}
    for name, title in SEVERAL.items():
        result = results[name]
        scores[title] = result["by_scope"].get("multi") if result else None
        if result and "multi_not_suspect" in result:
            scores[f"{title}, without readings marked as suspect"] = result["multi_not_suspect"]
    return scores


def _together(results: dict[str, Any]) -> list[float]:
    """Return the shares inside of both tables on several devices, suspect rows left out; none where one was not run."""
    scores = [result.get("multi_not_suspect") for name in SEVERAL if (result := results[name])]
    known = [score for score in scores if score]
    if len(known) < len(SEVERAL):
        return []
    rows = sum(score["n"] for score in known)
    return [sum(score["n"] * score["coverage"][level] for score in known) / rows for level in LEVELS]


@dataclass(frozen=True)
class BesideOne:
    """
    Runs on several devices beside the same runs on one, the chip left out of the fit of both; mean errors as fractions.

    Attributes:
        rows: runs that were measured on both.
        several, alone: mean error of either.
        between: mean error of the ratio of both: what exchange is wrong by.
    """

    rows: int
    several: float
    alone: float
    between: float


def _beside_one(results: Path, lines: Sequence[dict[str, str]]) -> BesideOne | None:
    """Return how the first table's errors on several devices come about; None where no run was measured on one too."""
    path = results / f"{next(iter(SEVERAL))}.csv"
    alone = read_held_out_errors(lines, "chip_left_out")
    known = [
        (math.log(float(line["predicted"]) / float(line["measured_ms"])), error)
        for line in (read_rows(path) if path.exists() else [])
        if line["predicted"]
        and (error := alone.get(tuple(line[name] for name in ROW_OF_RESIDUAL))) is not None
    ]
    if not known:
        return None
    columns = ([a for a, _ in known], [b for _, b in known], [a - b for a, b in known])
    return BesideOne(len(known), *(fmean(abs(math.expm1(error)) for error in column) for column in columns))


def _residuals(results: Path) -> list[dict[str, str]]:
    path = results / "residuals.csv"
    return read_rows(path) if path.exists() else []


def _group_covered(results: dict[str, Any], lines: list[dict[str, str]]) -> list[Covered]:
    """Return the groups of the specification, by results of the runners and held-out errors of one device."""
    coverage = (
        {timed: shares for timed, name, _, shares in one_device.coverage(lines) if name == "the source"}
        if lines
        else {}
    )
    many = language_model_record().scores["coverage, source left out"]
    memory = memory_record().scores["source_left_out"]
    return [
        *(
            Covered(f"one device, {timed}", "source", coverage.get(timed, ()))
            for timed in ("a trainer's loop", "bare steps")
        ),
        *(
            Covered(
                f"several devices, {title}",
                "chip",
                [score["coverage"][level] for level in LEVELS] if score else (),
            )
            for title, score in _several(results).items()
        ),
        Covered(
            "several devices, both tables, without readings marked as suspect", "chip", _together(results)
        ),
        Covered("language models", "source", [many[level] for level in LEVELS]),
        *(
            Covered(
                truth.title,
                "benchmark",
                [result["overall"]["coverage"][level] for level in LEVELS] if result else (),
            )
            for truth in TRUTHS
            if truth.seen == _BENCHMARK_LEFT_OUT
            for result in [results[truth.runner]]
        ),
        Covered("peak memory without a run", "source", [memory[f"coverage_{level}"] for level in LEVELS]),
        Covered(
            "peak memory without a run, each source counted the same",
            "source",
            [memory[f"coverage_{level}_by_source"] for level in LEVELS],
        ),
    ]


def write_tables(results: Path, folder: Path) -> None:
    """
    Write scores.csv, extremes.csv and unanswered.csv.

    Args:
        results: with the runners' files.
        folder: created where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results_by_truth = [(truth, result) for truth in TRUTHS if (result := _results(results)[truth.runner])]
    scores = [
        [truth.runner, group, name, score["n"], *_format_figures(score)]
        for truth, result in results_by_truth
        for group, name, score in _groups(result)
    ]
    _write(
        folder / "scores.csv",
        ["table", "group", "name", "rows", *_ERRORS, *(f"inside_{level}" for level in LEVELS)],
        scores,
    )
    extremes = [
        [truth.runner, f"{error:.{_DIGITS}f}", name]
        for truth, _ in results_by_truth
        if truth.measured
        for rows in [_read_measured_rows(results / f"{truth.runner}.csv", truth.measured)]
        for error, name in [*rows[:_BEST], *rows[_BEST:][-_WORST:]]
    ]
    _write(folder / "extremes.csv", ["table", "error", "row"], extremes)
    reasons = [
        [truth.runner, count, _PLACE.sub("", plain(reason))]
        for truth, result in results_by_truth
        for reason, count in sorted(result.get("skipped", {}).items(), key=lambda item: (-item[1], item[0]))
    ]
    _write(folder / "unanswered.csv", ["table", "rows", "reason"], reasons)


def _groups(result: dict[str, Any]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    yield "all", "", result["overall"]
    for key in ("not_suspect", "multi_not_suspect"):
        if key in result:
            yield "scope", key.replace("_", " "), result[key]
    for group in ("scope", "family", "source", "device"):
        for name, score in result.get(f"by_{group}", {}).items():
            yield group, plain(name), score


def _format_figures(score: dict[str, Any]) -> list[str]:
    """Return the cells of a score: errors as fractions, then the shares inside the intervals where there are any."""
    inside = score.get("coverage", {})
    return [
        *(f"{score[key]:.{_DIGITS}f}" for key in _ERRORS.values()),
        *(f"{inside[level]:.{_DIGITS}f}" if level in inside else "" for level in LEVELS),
    ]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument(
        "--note", default="", help="what the page must say about this run, as a subset of rows"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy.md"))
    parser.add_argument(
        "--tables", type=Path, default=Path("research/results"), help="folder of the CSV files"
    )
    arguments = parser.parse_args(argv)
    arguments.out.write_text(document(arguments.results, arguments.note), encoding="utf-8")
    write_tables(arguments.results, arguments.tables)


if __name__ == "__main__":
    main()
