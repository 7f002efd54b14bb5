"""
Learning curves: fit the remaining drop of the loss after part of a schedule, and score pilots on runs left out.

    python -m trainfare_research.fitting.strategy_curves learning_curves.csv [--check]   # fit: writes
        data/strategy_drops.csv
    python -m trainfare_research.runners.strategy --truth learning_curves.csv --json curves.json      # score

Fitting uses all runs; scoring answers each run from the drops of the others.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from trainfare_core.methods.pilot_ends import Drop, drop_at
from trainfare_core.methods.pilots import value_at
from trainfare_research.fitting.strategy import ship
from trainfare_research.truth_table import read_rows

TABLE = Path(__file__).parents[3] / "core/trainfare_core/data/strategy_drops.csv"
SEEN = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
SCORED = (0.2, 0.3, 0.5, 0.7)
"""Parts of the schedule: those fitted, and those scored in docs/strategy.md."""
LOSS = "train_loss_window250"
Runs = dict[str, list[tuple[int, float]]]


def read_runs(path: Path) -> Runs:
    """Return (step, loss) of every run, by step; runs with fewer than three points are left out."""
    runs: Runs = defaultdict(list)
    for line in read_rows(path):
        runs[line["run"]].append((int(line["step"]), float(line[LOSS])))
    return {name: sorted(points) for name, points in sorted(runs.items()) if len(points) >= 3}


def remaining(points: list[tuple[int, float]], seen: float) -> float | None:
    """Return ln(final / value after part of the schedule); None where the run has no point so early."""
    value = value_at(points, math.floor(seen * points[-1][0]))
    return None if value is None else math.log(points[-1][1] / value)


def fit(runs: Runs) -> list[Drop]:
    """Return the mean and the central 80 % of the remaining drops."""
    table = []
    for seen in SEEN:
        logs = [log for points in runs.values() if (log := remaining(points, seen)) is not None]
        if logs:
            low, high = np.quantile(logs, (0.1, 0.9))
            table.append(Drop(seen, float(np.mean(logs)), float(low), float(high)))
    return table


def table_text(table: list[Drop]) -> str:
    """Return the shipped table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["seen", "mean_log", "low_log", "high_log", "source"])
    source = (
        "huggingface/peft method_comparison MetaMathQA (2026-08-21), 45 runs, one task, cosine 5000 steps"
    )
    for row in table:
        logs = [f"{value:.4f}" for value in (row.mean_log, row.low_log, row.high_log)]
        writer.writerow([f"{row.seen:g}", *logs, source])
    return out.getvalue()


def score(runs: Runs) -> dict[str, Any]:
    """Return, for each part of the schedule, the accuracy of the predicted order and final value."""
    out: dict[str, Any] = {"n": len(runs), "left_out": "the scored run", "by_seen": {}}
    for seen in SCORED:
        rows = []
        for name, points in runs.items():
            value = value_at(points, math.floor(seen * points[-1][0]))
            if value is None:
                continue
            others = {other: curve for other, curve in runs.items() if other != name}
            rows.append((value, points[-1][1], drop_at(seen, fit(others))))
        out["by_seen"][f"{100 * seen:.0f}"] = _summarize_rows(rows)
    return out


def _summarize_rows(rows: list[tuple[float, float, Drop]]) -> dict[str, Any]:
    last, final = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    predicted = np.array([value * math.exp(drop.mean_log) for value, _, drop in rows])
    inside = [
        value * math.exp(drop.low_log) <= end <= value * math.exp(drop.high_log) for value, end, drop in rows
    ]
    pairs = [
        (last[i] < last[j]) == (final[i] < final[j])
        for i, j in itertools.combinations(range(len(rows)), 2)
        if abs(final[i] - final[j]) > 0.01 * final[i]
    ]
    return {
        "n": len(rows),
        "spearman": float(stats.spearmanr(last, final).statistic),
        "pairs_in_order": float(np.mean(pairs)),
        "mae_last_value": float(np.abs(last - final).mean()),
        "mae_usual_drop": float(np.abs(predicted - final).mean()),
        "coverage": {"80": float(np.mean(inside))},
    }


def show(out: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{out['n']} runs, each answered from the others")
    for seen, entry in out["by_seen"].items():
        print(
            f"seen {seen:>3} %: Spearman {entry['spearman']:.3f}, pairs in order {entry['pairs_in_order']:.3f}, "
            f"MAE last {entry['mae_last_value']:.3f}, usual drop {entry['mae_usual_drop']:.3f}, "
            f"80 % hold {entry['coverage']['80']:.3f}"
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    ship(TABLE, table_text(fit(read_runs(arguments.runs))), arguments.runs, check=arguments.check)


if __name__ == "__main__":
    main()
