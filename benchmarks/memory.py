"""
Score predicted peak memory against measured peaks, through the product's own path.

    python -m benchmarks.memory --truth memory_reference.csv [--cache DIR] [--leave-one-source-out]
        [--one-measured-step] [--json OUT] [--rows OUT.csv]

A prediction is compared in the unit that was measured: torch's allocator sees neither the CUDA context nor buffers of
the collective library, and "allocated" leaves out fragmentation; what `nvidia-smi` or an author's note says holds all.
Totals over devices are divided by them.

--leave-one-source-out: what the package ships (`fit_memory.py`) was fitted on memory_reference.csv; each row is scored
by a fit on the file's other sources instead. Rows of sources that the shipped fit has not seen need no flag.

--one-measured-step: the first measured row of a source, model and method, in the order of the file, is a step that
was run; the product's share of the bytes by which it was off is added to the predictions of the group's other rows.
That row is not scored, nor are rows alone in their group.

A false "fits" is a row that the product calls fitting, by the upper end of its interval, and that ran out of memory;
`max_batch` rows count as out of memory at one sample more.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fitting.memory import leave_one_source_out
from benchmarks.fitting.memory_rows import (
    MemoryRow,
    Predicted,
    after_step_gib,
    card_gib,
    described_rows,
    memory_rows,
    predicted_gib,
    predicted_of,
    spread_of,
    steps_before,
)
from benchmarks.scoring import Scored, print_table, score, summary
from benchmarks.workloads import ProfileCache
from benchmarks.workloads.decoder_profile import DecoderTraces
from trainfare_core.prediction.memory.calibrated import MemoryFit, memory_fit


def verdicts(
    lines: list[dict[str, str]], found: list[Predicted | str], traces: DecoderTraces, cache: ProfileCache,
    fits: dict[str, MemoryFit] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return how often "fits" and "does not fit" were right, over rows that name their card."""

    def upper_gib(one: Predicted, source: str) -> float:
        spread = (fits or {}).get(source, memory_fit()).spread(one.name)
        return one.device_gib * math.exp(spread.location + spread.half_80)

    counts: Counter[str] = Counter()
    for line, one in zip(lines, found, strict=True):
        usable = card_gib(line["gpu"])
        if usable is None:
            continue
        if line["status"] == "max_batch":
            above = predicted_of(line, traces, cache, more=1)
            if not isinstance(above, str):
                _judge(counts, upper_gib(above, line["source_id"]) <= usable, ran=False)
        if not isinstance(one, str) and line["micro_batch"] != "0":
            _judge(counts, upper_gib(one, line["source_id"]) <= usable, ran=line["status"] != "OOM")
    called = counts["called_fitting"]
    return {
        **{k: counts[k] for k in ("rows", "called_fitting", "false_fits", "ran_but_refused", "ran_out")},
        "false_fits_of_called": counts["false_fits"] / called if called else None,
        "false_fits_of_ran_out": counts["false_fits"] / counts["ran_out"] if counts["ran_out"] else None,
    }


def _judge(counts: Counter[str], fits: bool, *, ran: bool) -> None:  # noqa: FBT001 - a verdict
    counts["rows"] += 1
    counts["called_fitting"] += fits
    counts["ran_out"] += not ran
    counts["false_fits"] += fits and not ran
    counts["ran_but_refused"] += ran and not fits


def scored_rows(
    lines: list[dict[str, str]], found: list[Predicted | str], *, one_step: bool,
    fits: dict[str, MemoryFit] | None = None,
) -> tuple[list[Scored], list[Scored], Counter[str]]:  # fmt: skip
    """
    Return all scored rows, those of them where nothing was assumed, and the reasons of the others.

    Args:
        lines: of the table; prediction, interval and reason are written into them.
        found: sums of parts.
        one_step: whether a measured step of each row's group is known.
        fits: by source, the fit that scores its rows; None, and for other sources: what ships.
    """
    scored, stated, skipped = [], [], Counter[str]()
    rows = memory_rows(lines, found)
    for line, one, row, step in zip(lines, found, rows, steps_before(rows), strict=True):
        line.update(predicted="", low_80="", high_80="", skip_reason="")
        if isinstance(one, str) or row is None or (one_step and isinstance(step, str)):
            reason = one if isinstance(one, str) else f"no number: {line['status']} (judged by the card)"
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
    devices = int(line["n_gpus"] or 1) if line["scope"] == "total_over_gpus" else 1
    reach = math.exp(spread.half_80)
    for name, value in (("predicted", peak), ("low_80", peak / reach), ("high_80", peak * reach)):
        line[name] = f"{value * devices:.6g}"
    return Scored(
        math.log(peak / row.measured_gib), spread.half_80, line["gpu"] or "not stated",
        f"{line['domain']} {line['method']}", row.source, "single" if int(line["n_gpus"] or 1) == 1 else "multi",
        (spread.half_50, spread.half_80, spread.half_90),
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of traces; without it they are thrown away")
    parser.add_argument("--leave-one-source-out", action="store_true")
    parser.add_argument("--one-measured-step", action="store_true")
    return parser.parse_args()


def run(arguments: argparse.Namespace, cache: Path) -> None:
    with arguments.truth.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    found = described_rows(lines, cache)
    known = [row for row in memory_rows(lines, found) if row is not None]
    if arguments.leave_one_source_out and len({row.source for row in known}) < 2:
        sys.exit("leaving a source out needs rows of two sources at least")
    fits = leave_one_source_out(known) if arguments.leave_one_source_out else None
    scored, stated, skipped = scored_rows(lines, found, one_step=arguments.one_measured_step, fits=fits)
    if not scored:
        sys.exit(f"no row can be scored: {dict(skipped)}")
    document = summary(scored, skipped)
    document["fitted_on"] = [] if fits else sorted(memory_fit().fitted_on)
    document["fits"] = verdicts(lines, found, DecoderTraces(cache), ProfileCache(cache), fits)
    document["stated_alone"] = score(stated) if stated else None
    print_table(document, ("by_scope", "by_family", "by_source", "by_device"))
    errors = np.array([s.log_error for s in scored])
    print(f"within 12 %: {float((np.abs(np.exp(errors) - 1) <= 0.12).mean()):.0%}")
    print(f"rows where nothing is assumed: {document['stated_alone']}")
    print(f"fits: {document['fits']}")
    for reason, count in skipped.most_common():
        print(f"{count:6d} {reason}")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.rows:
        with arguments.rows.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


def main() -> None:
    arguments = _arguments()
    if arguments.cache:
        run(arguments, arguments.cache)
        return
    with TemporaryDirectory() as folder:
        run(arguments, Path(folder))


if __name__ == "__main__":
    main()
