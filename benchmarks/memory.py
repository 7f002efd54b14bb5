"""
Score predicted peak memory against measured peaks, through the product's own path.

    python -m benchmarks.memory --truth memory_reference.csv --cache DIR [--leave-one-source-out]
        [--one-measured-step] [--json OUT] [--rows OUT.csv]

A prediction is compared in the quantity that was measured: the counters of torch's allocator leave out the CUDA context
and the buffers of the collective library, and "allocated" leaves out fragmentation; `nvidia-smi` and authors' notes
include everything. Totals over several devices are divided by their number.

--leave-one-source-out: the shipped fit (benchmarks.fitting.memory) was made on memory_reference.csv, so each row is
scored by a fit on the other sources of the file. Rows of sources that are not in the shipped fit need no flag.

--one-measured-step: the first measured row of each source, model and method, in the order of the file, is taken as a
measured step: the calibrated share of its error in bytes is added to the predictions of the other rows of its group.
The first row is not scored, and neither is a row that is alone in its group.

A false "fits" is a row that is predicted to fit, by the upper end of its interval, and that ran out of memory. A
`max_batch` row counts as out of memory with one sample more.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fitting.memory import leave_one_source_out
from benchmarks.fitting.memory_rows import (
    MemoryRow,
    Predicted,
    after_step_gib,
    card_gib,
    described_rows,
    devices_summed,
    memory_rows,
    predicted_gib,
    predicted_of,
    spread_of,
    steps_before,
)
from benchmarks.scoring import Scored, print_table, score, summary
from benchmarks.truth_table import answer_columns, read_rows, truth_parser, write_json, write_rows
from benchmarks.workloads import ProfileCache
from benchmarks.workloads.decoder_profile import DecoderTraces
from trainfare_core.prediction.memory.calibrated import MemoryFit, memory_fit

WITHIN = 0.12
"""Relative error whose share of rows is printed: the error that memory predictions should stay under."""


def fit_counts(
    lines: list[dict[str, str]], found: list[Predicted | str], traces: DecoderTraces, cache: ProfileCache,
    fits: dict[str, MemoryFit] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """
    Return how often "fits" and "does not fit" were right, over rows that name their card.

    Args:
        lines: of the table.
        found: sum of parts of each line, or why it has none.
        traces: of language models, to predict a `max_batch` row with one sample more.
        cache: traces of other models, for the same.
        fits: by source, the fit that scores its rows; None, and for other sources: the shipped fit.
    """

    def upper_gib(one: Predicted, source: str) -> float:
        spread = (fits or {}).get(source, memory_fit()).classes[one.name]
        return one.device_gib * math.exp(spread.location + spread.half_80)

    outcomes: list[tuple[bool, bool]] = []  # whether a row is called fitting, and whether it ran
    for line, one in zip(lines, found, strict=True):
        usable = card_gib(line["gpu"])
        if usable is None:
            continue
        if line["status"] == "max_batch":
            above = predicted_of(line, traces, cache, more=1)
            if not isinstance(above, str):
                outcomes.append((upper_gib(above, line["source_id"]) <= usable, False))
        if not isinstance(one, str) and line["micro_batch"] != "0":
            outcomes.append((upper_gib(one, line["source_id"]) <= usable, line["status"] != "OOM"))
    called, ran_out = sum(called for called, _ in outcomes), sum(not ran for _, ran in outcomes)
    false_fits = outcomes.count((True, False))
    return {
        "rows": len(outcomes),
        "called_fitting": called,
        "false_fits": false_fits,
        "ran_but_refused": outcomes.count((False, True)),
        "ran_out": ran_out,
        "false_fits_of_called": false_fits / called if called else None,
        "false_fits_of_ran_out": false_fits / ran_out if ran_out else None,
    }


def scored_rows(
    lines: list[dict[str, str]], found: list[Predicted | str], *, one_step: bool,
    fits: dict[str, MemoryFit] | None = None,
) -> tuple[list[Scored], list[Scored], Counter[str]]:  # fmt: skip
    """
    Return all scored rows, those of them where nothing was assumed, and the number of skipped rows by reason.

    Args:
        lines: of the table; prediction, interval and reason are written into them.
        found: sum of parts of each line, or why it has none.
        one_step: whether a measured step of each row's group is used.
        fits: by source, the fit that scores its rows; None, and for other sources: the shipped fit.
    """
    scored, stated, skipped = [], [], Counter[str]()
    rows = memory_rows(lines, found)
    for line, one, row, step in zip(lines, found, rows, steps_before(rows), strict=True):
        line.update(predicted="", low_80="", high_80="", skip_reason="")
        if isinstance(one, str) or row is None or (one_step and isinstance(step, str)):
            reason = one if isinstance(one, str) else f"no number: {line['status']} (counted under fits)"
            line["skip_reason"] = reason if row is None else str(step)
            skipped[line["skip_reason"]] += 1
            continue
        fit = (fits or {}).get(row.source, memory_fit())
        after = step if one_step and isinstance(step, MemoryRow) else None
        scored.append(_scored(line, row, after, fit))
        if not one.assumed:
            stated.append(scored[-1])
    return scored, stated, skipped


def _scored(line: dict[str, str], row: MemoryRow, step: MemoryRow | None, fit: MemoryFit) -> Scored:
    peak = predicted_gib(row, fit) if step is None else after_step_gib(step, row, fit)
    spread = spread_of(row, step, fit)
    line.update(answer_columns(peak, math.exp(spread.half_80), scale=devices_summed(line)))
    return Scored(
        math.log(peak / row.measured_gib), spread.half_80, line["gpu"] or "not stated",
        f"{line['domain']} {line['method']}", row.source, "single" if int(line["n_gpus"] or 1) == 1 else "multi",
        (spread.half_50, spread.half_80, spread.half_90),
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Score the table, print the scores and write the files that were asked for."""
    lines, cache = read_rows(arguments.truth), arguments.cache
    found = described_rows(lines, cache)
    known = [row for row in memory_rows(lines, found) if row is not None]
    if arguments.leave_one_source_out and len({row.source for row in known}) < 2:
        sys.exit("--leave-one-source-out needs measured rows of at least two sources")
    fits = leave_one_source_out(known) if arguments.leave_one_source_out else None
    scored, stated, skipped = scored_rows(lines, found, one_step=arguments.one_measured_step, fits=fits)
    if not scored:
        sys.exit(f"no row can be scored: {dict(skipped)}")
    document = summary(scored, skipped)
    document["fitted_on"] = [] if fits else sorted(memory_fit().fitted_on)
    document["fits"] = fit_counts(lines, found, DecoderTraces(cache), ProfileCache(cache), fits)
    document["stated_alone"] = score(stated) if stated else None
    print_table(document, ("by_scope", "by_family", "by_source", "by_device"))
    errors = np.array([s.log_error for s in scored])
    print(f"within {WITHIN:.0%}: {float((np.abs(np.exp(errors) - 1) <= WITHIN).mean()):.0%}")
    print(f"rows where nothing is assumed: {document['stated_alone']}")
    print(f"fits: {document['fits']}")
    for reason, count in skipped.most_common():
        print(f"{count:6d} {reason}")
    write_json(arguments.json, document)
    write_rows(arguments.rows, lines)


def main() -> None:
    """Run the command line."""
    parser = truth_parser(__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--leave-one-source-out", action="store_true")
    parser.add_argument("--one-measured-step", action="store_true")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
