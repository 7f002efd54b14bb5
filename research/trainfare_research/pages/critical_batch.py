"""
Write research/docs/critical-batch.md: what a larger batch costs in samples, fitted, left out and judged.

    python -m trainfare_research.pages.critical_batch [--data DIR]

The fit is the one that ships. Workloads of `published_points.csv` are scored by fits to the others, those of
`judged_points.csv` by the fit that ships, which has seen none of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from trainfare_core.batch_scaling import load_critical_batch_fit, predict_critical_batch
from trainfare_research.data.build_batch_points import BATCH_TABLES
from trainfare_research.fitting.critical_batch import (
    Curve,
    RatioScore,
    find_moves,
    fit_hyperbola,
    miss_largest,
    predict_hyperbola,
    predict_power_law,
    read_curves,
    score_curve,
    score_left_out,
    summarize,
)
from trainfare_research.pages.markdown import percent, render
from trainfare_research.truth_table import read_rows

PAGE: Final = Path(__file__).resolve().parents[3] / "research/docs/critical-batch.md"
LEAST_INSIDE: Final = 0.75
MOST_MEDIAN_ERROR: Final = 0.20
MOST_WIDTH: Final = 2.0
"""Bars of the ratios at 2, 4, 8 and 16 times the least batch, set before the judged workloads were scored."""


def write_page(data: Path) -> str:
    """Return the text of the page."""
    fit = load_critical_batch_fit()
    curves, judged = (read_curves(data / f"{name}_points.csv") for name in ("published", "judged"))
    optimizers = {row["workload"]: row["optimizer"] for row in read_rows(data / "published_points.csv")}
    left_out = score_left_out(curves)
    outside = [score for score in left_out if not score.is_inside]
    of_judged = [score for curve in judged for score in score_curve(curve, fit)]
    asked = summarize([score for score in of_judged if score.is_judged()])
    hyperbola, power = (miss_largest(curves, predict) for predict in (predict_hyperbola, predict_power_law))
    moves = np.exp(sorted(find_moves(curves)))
    usual = predict_critical_batch(1e6, 256, fit).samples_ratio(256, 256 * np.array([2.0, 4.0, 8.0, 16.0]))
    return render(
        "critical_batch",
        fit=fit,
        workloads=[_describe(curve, optimizers[curve.workload]) for curve in curves],
        usual=list(zip((2, 4, 8, 16), usual.median, usual.low, usual.high, strict=True)),
        summaries=[
            ("14 fitted, each left out", *_summarize_both(left_out)),
            ("the same, samples of the run not known", *_summarize_both(score_left_out(curves, by_samples=False))),
            ("6 judged", *_summarize_both(of_judged)),
        ],
        bars=[
            ("ratios inside the 80 % interval", f"{100 * asked.inside:.0f} %", ">= 75 %", asked.inside >= LEAST_INSIDE),
            ("median error", percent(asked.median_error), "<= 20 %", asked.median_error <= MOST_MEDIAN_ERROR),
            ("median width at 4 times", f"{asked.width_at_4:.2f}", "<= 2.0", asked.width_at_4 <= MOST_WIDTH),
        ],
        judged=of_judged,
        outside=len(outside),
        below=sum(score.measured < score.low for score in outside),
        least=median(hyperbola.values()),
        power=median(power.values()),
        worse=sum(power[name] > hyperbola[name] for name in power),
        compared=len(power),
        moved_less=int((moves <= 1.5).sum()),
        moved=len(moves),
        most_moved=float(moves[-1]),
    )  # fmt: skip


def _describe(curve: Curve, optimizer: str) -> dict[str, Any]:
    fitted = fit_hyperbola(curve)
    return {
        "name": curve.workload, "optimizer": optimizer, "points": len(curve.batches), "base": curve.base_batch,
        "largest": float(curve.batches[-1]), "samples": curve.run_samples, "critical": fitted.critical_batch,
        "rms": fitted.rms,
    }  # fmt: skip


def _summarize_both(scores: Sequence[RatioScore]) -> tuple[object, object]:
    return summarize([score for score in scores if score.is_judged()]), summarize(scores)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=BATCH_TABLES, help="folder of the points; else our own")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args(argv)
    arguments.out.write_text(write_page(arguments.data), encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
