"""
Fit the intervals of predicted MLPerf submissions from a scored table, and write submission_spread.json.

    python -m trainfare_research.fitting.submissions --rows time_to_train.csv --date 2026-01-31 [--out FILE]

ROWS are the files that `time_to_train.py --rows` wrote, one a release of rows. The predictions are not changed: an
offset by kind of accelerator was tried and left out (it made predictions worse on TPUs for a benchmark that was not in
the fit). Fitted are the half-widths in ln(measured / predicted) that cover 50, 80 and 90 % of the rows, by kind of
accelerator and by one or several machines, once without each benchmark, so that the interval of a row comes from the
errors of other work. A group with too few benchmarks takes the half-widths
of its kind of accelerator, and a kind with too few those of all. Run it again after every fit of the step-time model.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.hardware.accelerators import accelerator
from trainfare_research.fitting.command_line import digest
from trainfare_research.scoring import half_width
from trainfare_research.truth_table import read_rows, write_json

_FEWEST = 4
"""Benchmarks that a group needs for half-widths of its own: fewer say little of the next one. A chosen value."""
_RECENT = 2022
"""Release year of Hopper and Ada: submissions on older GPUs are of software that fuses less."""
_LEVELS = (0.5, 0.8, 0.9)


def group_of(line: dict[str, str]) -> tuple[str, str]:
    """
    Return the kind of accelerator, and "one" or "several" machines; more than 8 TPU chips are "several".

    GPUs from `_RECENT` on are a kind of their own: mostly their rows made the shares that vendors' kernels leave.
    """
    device = accelerator(line["accelerator"])
    several = int(line["accelerators_total"]) > 8 if device.kind == "tpu" else int(line["nodes"] or 1) > 1
    recent = device.kind == "gpu" and device.release_year >= _RECENT
    return f"{device.kind} since {_RECENT}" if recent else device.kind, "several" if several else "one"


def spreads(lines: list[dict[str, str]]) -> dict[str, dict[str, list[float]]]:
    """
    Return half-widths at 50, 80 and 90 % by group ("gpu, one"), of all rows ("all") and without one ("without bert").

    Args:
        lines: rows of time_to_train.py with and without predictions.
    """
    known = [line for line in lines if line["predicted"]]
    errors = np.array(
        [math.log(float(line["predicted"]) / float(line["time_to_train_min"])) for line in known]
    )
    work = np.array([line["benchmark"] for line in known])
    groups = [group_of(line) for line in known]
    kinds = np.array([kind for kind, _ in groups])
    places = np.array([group_name for _, group_name in groups])
    groups_by_name: dict[str, dict[str, list[float]]] = {}
    for kind, group_name in sorted(set(groups)):
        own_groups = {}
        for left_out in ("", *sorted(set(work))):
            is_used = work != left_out
            wider = (is_used & (kinds == kind) & (places == group_name), is_used & (kinds == kind), is_used)
            chosen = next((width for width in wider if len(set(work[width])) >= _FEWEST), is_used)
            name = f"without {left_out}" if left_out else "all"
            if chosen.any():
                own_groups[name] = [round(half_width(errors[chosen], level), 4) for level in _LEVELS]
        groups_by_name[f"{kind}, {group_name}"] = own_groups
    return groups_by_name


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, nargs="+")
    parser.add_argument("--date", required=True, help="written into the file")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "runners" / "submission_spread.json"
    )
    arguments = parser.parse_args()
    lines = [line for path in arguments.rows for line in read_rows(path)]
    document: dict[str, Any] = {
        "fitted_at": arguments.date,
        "rows_sha256": digest(arguments.rows),
        "fitted_on": sum(bool(line["predicted"]) for line in lines),
        "log_reach": spreads(lines),
    }
    write_json(arguments.out, document, sort_keys=True)
    for name, own_reach in document["log_reach"].items():
        print(f"{name:20s}", own_reach)


if __name__ == "__main__":
    main()
