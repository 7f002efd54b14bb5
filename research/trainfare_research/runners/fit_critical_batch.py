"""
Fit the critical batch of a run of which nothing was measured, from published workloads.

    python -m trainfare_research.runners.fit_critical_batch --date 2026-01-31 [--data DIR] [--out FILE]

Reads `published_points.csv` of the folder alone: the six workloads of `judged_points.csv` judge the fit, on the page
that `trainfare_research.pages.critical_batch` writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainfare_research.data.build_batch_points import BATCH_TABLES
from trainfare_research.fitting.command_line import digest
from trainfare_research.fitting.critical_batch import (
    fit_critical_batches,
    fit_hyperbola,
    observe_critical_batch,
    read_curves,
)
from trainfare_research.truth_table import write_json

OUT: Final = Path(__file__).resolve().parents[3] / "core/trainfare_core/data/critical_batch.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=BATCH_TABLES, help="folder of the points; else our own")
    parser.add_argument("--date", required=True, help="written into the file; the fit itself reads no clock")
    parser.add_argument("--out", type=Path, default=OUT, help="the constants")
    arguments = parser.parse_args(argv)
    table = arguments.data / "published_points.csv"
    curves = read_curves(table)
    fit = fit_critical_batches(
        [observe_critical_batch(curve) for curve in curves], arguments.date, digest([table])
    )
    for curve in curves:
        fitted = fit_hyperbola(curve)
        print(f"{curve.workload:>14}  Bc {fitted.critical_batch:9,.0f}  rms {fitted.rms:.1%}")
    print(fit.with_samples, fit.without_samples, sep="\n")
    write_json(arguments.out, fit.model_dump())
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
