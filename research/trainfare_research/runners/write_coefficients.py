"""
Fit everything that the predictions of the product are made of, and write `core/trainfare_core/data`.

    python -m trainfare_research.runners.write_coefficients --cache DIR --date 2026-01-31 [--data DIR] [--only NAME ...]
        [--dry-run]

Each fit is its own command in a process of its own, in this order, since a fit reads the coefficients of those before
it as they ship: links (link_calibration.json), one device (calibration.json), language models
(decoder_calibration.json), distance from measured runs (distance.json, measured_groups.csv), memory
(memory_calibration.json), the rows of other vendors' software that these were fitted on (measured_software.csv) and
what predictions on it miss by (vendor_errors.csv),
comparisons and learning curves of fine-tuning methods (strategy_evidence.csv, strategy_drops.csv), critical batches
(critical_batch.json) and the age of prices (price_age.json). What of an error a change of a job keeps
(change_errors.json) is fitted by `runners.change_errors` from the rows that `runners.step_time --leave-out source
--rows` writes. Each fit writes the scores of rows left out, with the day given, into `trainfare_research/fits`. The
first run makes all traces, which takes most of an hour of two processors; a run with all traces takes as long as its
fits, of which one device takes minutes.

Afterwards score again (`make accuracy`), and fit the intervals of submissions to the new errors
(`trainfare_research.fitting.submissions`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainfare_research.data import TABLES
from trainfare_research.truth_table import MEMORY_TABLES, find_table


@dataclass(frozen=True, slots=True)
class Fit:
    """
    A command that writes coefficients.

    Attributes:
        name: what `--only` calls it.
        module: of `trainfare_research`.
        arguments: of its command line, with {data}, {cache} and {date}; a table's name is found as CSV or Parquet.
    """

    name: str
    module: str
    arguments: tuple[str, ...]


_TIMED: Final = ("--data", "{data}/calibration", "--cache", "{cache}", "--date", "{date}")
FITS: Final = (
    Fit("links", "fitting.links", _TIMED),
    Fit("one_device", "runners.fit_calibration", _TIMED),
    Fit("language_models", "fitting.language_models", _TIMED),
    Fit("distance", "runners.fit_distance", _TIMED),
    Fit(
        "memory", "fitting.memory",
        (
            *(part for table in MEMORY_TABLES for part in ("--truth", f"{{data}}/strategy/{table}")),
            "--cache", "{cache}", "--date", "{date}", "--write",
        ),
    ),
    Fit(
        "measured_software", "runners.measured_software",
        (
            "--data", "{data}/calibration", "--cache", "{cache}",
            "--out", "core/trainfare_core/data/measured_software.csv",
        ),
    ),
    Fit(
        "vendor_errors", "runners.vendor_errors",
        (
            "--data", "{data}/calibration", "--cache", "{cache}",
            "--out", "core/trainfare_core/data/vendor_errors.csv",
        ),
    ),
    Fit("methods", "fitting.strategy", ("{data}/strategy/transfer_results.csv",)),
    Fit("learning_curves", "fitting.strategy_curves", ("{data}/strategy/learning_curves.csv",)),
    Fit("critical_batch", "runners.fit_critical_batch", ("--data", "{data}/batch", "--date", "{date}")),
    Fit("price_age", "runners.price_age", ("--data", "{data}/prices", "--write")),
)  # fmt: skip
"""In the order in which they depend on each other."""


def command_of(fit: Fit, data: Path, cache: Path, date: str) -> list[str]:
    """
    Return the command line of a fit.

    Args:
        fit: which.
        data: folder of all tables.
        cache: folder of traces.
        date: written into the files.

    >>> command_of(FITS[-1], Path("tables"), Path("traces"), "2026-01-31")[1:]
    ['-m', 'trainfare_research.runners.price_age', '--data', 'tables/prices', '--write']
    """
    filled = [part.format(data=data, cache=cache, date=date) for part in fit.arguments]
    parts = [str(find_table(Path(part))) if part.endswith(".csv") else part for part in filled]
    return [sys.executable, "-m", f"trainfare_research.{fit.module}", *parts]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=TABLES, help="folder of all tables; else our own")
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--date", required=True, help="written into the files; no fit reads a clock")
    parser.add_argument(
        "--only", nargs="+", choices=[fit.name for fit in FITS], default=[fit.name for fit in FITS]
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    arguments = parser.parse_args(argv)
    for fit in FITS:
        if fit.name in arguments.only:
            command = command_of(fit, arguments.data, arguments.cache, arguments.date)
            print(" ".join(command[1:]), flush=True)
            if not arguments.dry_run:
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
