"""
Score predicted peak memory against measured peaks, through the product's own path.

    python -m trainfare_research.runners.memory --truth memory_reference.csv [--json OUT] [--rows OUT.csv]
        [--truth ...] --cache DIR
        [--leave-one-source-out] [--one-measured-step]

A prediction is compared in the quantity that was measured: the counters of torch's allocator leave out the CUDA context
and the buffers of the collective library, and "allocated" leaves out fragmentation; `nvidia-smi` and authors' notes
include everything. Totals over several devices are divided by their number.

--leave-one-source-out: the shipped fit (trainfare_research.fitting.memory) was made on these rows, so each is
scored by a fit on the other sources of all tables. Rows of sources that are not in the shipped fit need no flag.

--one-measured-step: the first measured row of each job (source, model, method, precision, optimizer and software), in
the order of the file, is taken as a measured step: a calibrated power of measured over predicted corrects the
predictions of its other batches, lengths and devices. The first row is not scored, and neither is a job's only row.

A row is called fitting where the upper end of the 80 % interval of what the device holds is within the card, and
refused where already its prediction is above; between them it "may not fit". A `max_batch` row counts as out of memory
with one sample more.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.number_format import percent
from trainfare_core.prediction.memory.calibrated import MemoryFit, memory_fit
from trainfare_research.fitting.memory import leave_one_source_out
from trainfare_research.fitting.memory_rows import (
    MemoryRow,
    Predicted,
    after_step_gib,
    card_gib,
    describe_rows,
    describe_run,
    devices_summed,
    memory_rows,
    parse_measured_gib,
    predict_gib,
    spread_of,
    steps_before,
)
from trainfare_research.scoring import Scored, print_table, score, summary
from trainfare_research.truth_table import (
    answer_columns,
    or_reason,
    read_rows,
    truth_parser,
    truths_of,
    write_json,
    write_rows,
)
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.memory_runs import build_traced_job

DOUBTFUL = "SUSPECT"
"""Mark, in the notes of a row, of a label that the table itself doubts."""
WITHIN = 0.12
"""Relative error whose share of rows is printed: the error that memory predictions should stay under."""


def fit_counts(
    lines: list[dict[str, str]], described: list[Predicted | str], traces: DecoderTraces, cache: ProfileCache,
    fits: dict[str, MemoryFit] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """
    Return how often each verdict was right, over rows that name their card.

    Args:
        lines: of the table.
        described: described run of each line, or why it has none.
        traces: of language models, to predict a `max_batch` row with one sample more.
        cache: traces of other models, for the same.
        fits: by source, the fit that scores its rows; None, and for other sources: the shipped fit.
    """

    def verdict(described_run: Predicted, source: str, usable_gib: float) -> str:
        fit = (fits or {}).get(source, memory_fit())
        device_gib = described_run.gib(fit.corrections, "device")
        if device_gib * math.exp(fit.device[described_run.name].half_80) <= usable_gib:
            return "fits"
        return "may not fit" if device_gib <= usable_gib else "does not fit"

    outcomes = Counter[tuple[str, bool]]()  # the verdict on a row, and whether it ran
    for line, described_run in zip(lines, described, strict=True):
        usable_gib = card_gib(line["gpu"])
        if usable_gib is None:
            continue
        if line["status"] == "max_batch":
            above = describe_run(line, traces, cache, more=1)
            if not isinstance(above, str):
                outcomes[verdict(above, line["source_id"], usable_gib), False] += 1
        if not isinstance(described_run, str) and line["micro_batch"] != "0":
            outcomes[verdict(described_run, line["source_id"], usable_gib), line["status"] != "OOM"] += 1
    called = outcomes["fits", True] + outcomes["fits", False]
    ran = sum(count for (_, it_ran), count in outcomes.items() if it_ran)
    return {
        "rows": outcomes.total(),
        "called_fitting": called,
        "false_fits": outcomes["fits", False],
        "ran": ran,
        "ran_but_refused": outcomes["does not fit", True],
        "ran_and_may_not_fit": outcomes["may not fit", True],
        "ran_out": outcomes.total() - ran,
        "ran_out_and_may_not_fit": outcomes["may not fit", False],
        "false_fits_of_called": outcomes["fits", False] / called if called else None,
        "refused_of_ran": outcomes["does not fit", True] / ran if ran else None,
    }


def count_undoubted(lines: list[dict[str, str]], described: list[Predicted | str]) -> dict[str, int]:
    """Return the number of rows with a figure that the table does not doubt, and of those that are described."""
    rows = [
        described_run
        for line, described_run in zip(lines, described, strict=True)
        if parse_measured_gib(line) is not None and DOUBTFUL not in line["other_flags"]
    ]
    return {"rows": len(rows), "described": sum(not isinstance(row, str) for row in rows)}


def score_rows(
    lines: list[dict[str, str]], described: list[Predicted | str], *, one_step: bool,
    fits: dict[str, MemoryFit] | None = None,
) -> tuple[list[Scored], list[Scored], Counter[str]]:  # fmt: skip
    """
    Return all scored rows, those of them where nothing was assumed, and the number of skipped rows by reason.

    Args:
        lines: of the table; prediction, interval and reason are written into them.
        described: described run of each line, or why it has none.
        one_step: whether a measured step of each row's group is used.
        fits: by source, the fit that scores its rows; None, and for other sources: the shipped fit.
    """
    scored, stated, skipped = [], [], Counter[str]()
    rows = memory_rows(lines, described)
    for line, described_run, row, step in zip(lines, described, rows, steps_before(rows), strict=True):
        line.update(predicted="", low_80="", high_80="", skip_reason="")
        if isinstance(described_run, str) or row is None or (one_step and isinstance(step, str)):
            reason = (
                described_run
                if isinstance(described_run, str)
                else f"no number: {line['status']} (counted under fits)"
            )
            line["skip_reason"] = reason if row is None else str(step)
            skipped[line["skip_reason"]] += 1
            continue
        fit = (fits or {}).get(row.source, memory_fit())
        after = step if one_step and isinstance(step, MemoryRow) else None
        scored.append(_score_row(line, row, after, fit))
        if not described_run.assumed:
            stated.append(scored[-1])
    return scored, stated, skipped


def _score_row(line: dict[str, str], row: MemoryRow, step: MemoryRow | None, fit: MemoryFit) -> Scored:
    peak = predict_gib(row, fit) if step is None else after_step_gib(step, row, fit)
    spread = spread_of(row, step, fit)
    line.update(answer_columns(peak, math.exp(spread.half_80), scale=devices_summed(line)))
    return Scored(
        math.log(peak / row.measured_gib), spread.half_80, line["gpu"] or "not stated",
        f"{line['domain']} {line['method']}", row.source, "single" if int(line["n_gpus"] or 1) == 1 else "multi",
        (spread.half_50, spread.half_80, spread.half_90),
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Score the tables, print the scores and write the files that were asked for."""
    cache = ProfileCache(arguments.cache, only_held=arguments.traced_only)
    truths = truths_of(arguments)
    if arguments.trace_backwards:
        trace_backwards([line for truth in truths for line in read_rows(truth.path)], cache)
        return
    traces = DecoderTraces(arguments.cache)
    tables = [read_rows(truth.path) for truth in truths]
    described = [describe_rows(lines, traces, cache) for lines in tables]
    known = [
        row
        for lines, described_rows_of in zip(tables, described, strict=True)
        for row in memory_rows(lines, described_rows_of)
        if row is not None
    ]
    if arguments.leave_one_source_out and len({row.source for row in known}) < 2:
        sys.exit("--leave-one-source-out needs measured rows of at least two sources")
    fits = leave_one_source_out(known) if arguments.leave_one_source_out else None
    for truth, lines, described_rows_of in zip(truths, tables, described, strict=True):
        scored, stated, skipped = score_rows(
            lines, described_rows_of, one_step=arguments.one_measured_step, fits=fits
        )
        if not scored:
            sys.exit(f"no row can be scored: {dict(skipped)}")
        document = summary(scored, skipped)
        document["fitted_on"] = [] if fits else sorted(memory_fit().fitted_on)
        document["fits"] = fit_counts(lines, described_rows_of, traces, cache, fits)
        document["undoubted"] = count_undoubted(lines, described_rows_of)
        document["stated_alone"] = score(stated) if stated else None
        _print(document, scored, skipped)
        write_json(truth.json, document)
        write_rows(truth.rows, lines)


def trace_backwards(lines: list[dict[str, str]], cache: ProfileCache) -> None:
    """Trace the rows that are no language models from the last to the first, but for those that the cache has."""
    jobs = [or_reason(build_traced_job, line) for line in lines]
    cache.trace_backwards(job for job in jobs if not isinstance(job, str))


def _print(document: dict[str, Any], scored: list[Scored], skipped: Counter[str]) -> None:
    print_table(document, ("by_scope", "by_family", "by_source", "by_device"))
    errors = np.array([s.log_error for s in scored])
    print(f"within {percent(WITHIN)}: {percent(float((np.abs(np.exp(errors) - 1) <= WITHIN).mean()))}")
    print(f"rows where nothing is assumed: {document['stated_alone']}")
    print(f"fits: {document['fits']}")
    print(f"rows with a figure that the table does not doubt: {document['undoubted']}")
    for reason, count in skipped.most_common():
        print(f"{count:6d} {reason}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = truth_parser(__doc__, several=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--leave-one-source-out", action="store_true")
    parser.add_argument("--one-measured-step", action="store_true")
    parser.add_argument("--traced-only", action="store_true", help="trace no classifiers and detectors anew")
    parser.add_argument(
        "--trace-backwards",
        action="store_true",
        help="only trace what the cache lacks, from the last row to the first: beside a run from the first to the last",
    )
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
