"""
Add the first-sight scores of new tables of measurements to research/docs/accuracy-first-sight.md.

    python -m trainfare_research.pages.first_sight --release NAME --date 2026-01-31 \
        --table "step time" STEPS.json --table "time to train" TIMES.json --table "peak memory" MEMORY.json

The JSON files are of step_time.py, time_to_train.py and memory.py on rows that no fit and no description has seen: the
shipped coefficients are scored before anything else is done with the rows. A release that the page has already is
refused, so that its scores cannot be made again after the rows were looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from trainfare_core import number_format as figures
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.pages.markdown import percent, plain, render

OUT = Path(__file__).resolve().parents[2] / "docs" / "accuracy-first-sight.md"
FEWEST = 5
"""Rows from which a group has a line of its own: fewer say little about a chip or a model."""
MOST_REASONS = 12
"""Reasons for unanswered rows that are listed, the most frequent first."""


def section(release: str, day: str, tables: list[tuple[str, dict[str, Any]]]) -> str:
    """
    Return the section of a release.

    Args:
        release: its name.
        day: of the scoring.
        tables: what was predicted, and the scores as a runner wrote them.
    """
    shown = [(name, _list_lines(scores), _count_reasons(scores), scores) for name, scores in tables]
    return render("first_sight", release=release, day=day, fitted=calibration().fitted_at, tables=shown)


def _list_lines(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and cells: all rows, then by number of devices, source, device and family."""
    groups = [("**all**", scores["overall"])]
    for kind in ("scope", "source", "device", "family"):
        ranked = sorted(scores[f"by_{kind}"].items(), key=lambda item: -item[1]["n"])
        groups += [(f"{kind}: {name}", score) for name, score in ranked if score["n"] >= FEWEST]
    return [(plain(name), _format_cells(score)) for name, score in groups]


def _format_cells(score: dict[str, Any]) -> str:
    errors = [percent(score[key]) for key in ("mape", "median_ape", "bias")]
    inside = [figures.percent(score["coverage"][level]) for level in ("50", "80", "90")]
    return " | ".join([f"{score['n']:.0f}", *errors, *inside])


def _count_reasons(scores: dict[str, Any]) -> list[tuple[str, int]]:
    ranked = sorted(scores["skipped"].items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[MOST_REASONS:])
    more = [(f"{len(ranked) - MOST_REASONS} other reasons", rest)] if rest else []
    return [(plain(reason), count) for reason, count in ranked[:MOST_REASONS]] + more


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--release", required=True, help="name of the release of rows")
    parser.add_argument("--date", required=True, help="day of the scoring")
    parser.add_argument("--table", nargs=2, action="append", required=True, metavar=("NAME", "JSON"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    page = arguments.out.read_text(encoding="utf-8") if arguments.out.exists() else render("first_sight_head")
    if f"## {arguments.release}\n" in page:
        sys.exit(f"{arguments.out.name} has scores of {arguments.release}: they are not made twice")
    tables = [(name, json.loads(Path(path).read_text(encoding="utf-8"))) for name, path in arguments.table]
    arguments.out.write_text(page + section(arguments.release, arguments.date, tables), encoding="utf-8")
    print(f"added {arguments.release} to {arguments.out.name}")


if __name__ == "__main__":
    main()
