"""
Fit how sure predictions of MLPerf submissions are, from a scored table, and write submission_spread.json.

    python -m benchmarks.fitting.submissions --rows time_to_train.csv --date 2026-01-31 [--out FILE]

ROWS is what `time_to_train.py --rows` wrote. Predictions themselves are not touched: an offset by kind of accelerator
was tried and left out (of a benchmark that the fit did not see it made TPUs worse). What is fitted is the size of
ln(measured / predicted) that holds 50, 80 and 90 % of the rows, by kind of accelerator and by one or several machines,
once without each round: a row is always judged by other rounds' errors. A group with too few rows has the spread of its
kind. Run it again after every fit of the predictions.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.hardware.accelerators import accelerator

__all__ = ["group_of", "spreads"]

_FEWEST = 20
_LEVELS = (0.5, 0.8, 0.9)


def group_of(line: dict[str, str]) -> tuple[str, str]:
    """Return the kind of accelerator, and "one" or "several" machines; more than 8 chips of a TPU are several."""
    kind = accelerator(line["accelerator"]).kind
    several = int(line["accelerators_total"]) > 8 if kind == "tpu" else int(line["nodes"] or 1) > 1
    return kind, "several" if several else "one"


def spreads(lines: list[dict[str, str]]) -> dict[str, dict[str, list[float]]]:
    """
    Return what holds 50, 80 and 90 % of errors by group ("gpu, one"), of all rows and without a round ("without v1.1").

    Args:
        lines: rows of time_to_train.py with and without predictions.
    """
    known = [line for line in lines if line["predicted"]]
    sizes = [abs(math.log(float(line["predicted"]) / float(line["time_to_train_min"]))) for line in known]
    groups = [group_of(line) for line in known]
    rounds = sorted({line["round"] for line in known})
    found: dict[str, dict[str, list[float]]] = {}
    for kind, machines in sorted(set(groups)):
        own = {}
        for left_out in ("", *rounds):
            kept = [i for i, line in enumerate(known) if line["round"] != left_out and groups[i][0] == kind]
            same = [i for i in kept if groups[i][1] == machines]
            chosen = same if len(same) >= _FEWEST else kept
            name = f"without {left_out}" if left_out else "all"
            if chosen:
                own[name] = [round(float(v), 4) for v in np.quantile([sizes[i] for i in chosen], _LEVELS)]
        found[f"{kind}, {machines}"] = own
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--date", required=True, help="written into the file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "submission_spread.json")
    arguments = parser.parse_args()
    with arguments.rows.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    document: dict[str, Any] = {
        "fitted_at": arguments.date,
        "rows_sha256": hashlib.sha256(arguments.rows.read_bytes()).hexdigest(),
        "fitted_on": sum(bool(line["predicted"]) for line in lines),
        "log_reach": spreads(lines),
    }
    arguments.out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, own in document["log_reach"].items():
        print(f"{name:20s}", own)


if __name__ == "__main__":
    main()
