"""
Score predicted peak memory against measured peaks, through the product's own path.

    python benchmarks/memory.py --truth memory_reference.csv [--cache DIR] [--leave-one-source-out]
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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from trainfare_core.accelerators import accelerator
from trainfare_core.errors import TrainfareError, UnknownNameError
from trainfare_core.prediction.memory import (
    COLLECTIVE_BYTES,
    CONTEXT_BYTES,
    FRAGMENTATION_SHARE,
    usable_memory_bytes,
)
from trainfare_core.prediction.memory_fit import MemoryClass, MemoryFit, memory_classes, memory_fit

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fit_memory import MemoryRow, after_step_gib, leave_one_source_out, predicted_gib, spread_of
from scoring import Scored, print_table, score, summary
from workloads import ProfileCache
from workloads.decoder_profile import DecoderTraces
from workloads.memory_rows import MemoryRun, memory_run

GIB = 2**30
_CARDS = {
    "A100-40GB": "A100-SXM-40GB", "A100-80GB": "A100-SXM-80GB", "H100-80GB": "H100-SXM-80GB",
    "H100-96GB": "H100-SXM-96GB", "V100-16GB": "V100-SXM2-16GB", "V100-32GB": "V100-SXM2-32GB",
    "V100": "V100-SXM2-16GB", "A6000": "RTX-A6000-48GB", "Titan X 12GB": "TitanXp-12GB",
}  # fmt: skip
"""Cards as the table spells them; the form factor does not change the memory."""


@dataclass(frozen=True)
class Predicted:
    """A row's sum of parts in GiB, in the measured unit and on the whole card, and what is known of its job."""

    comparable_gib: float
    device_gib: float
    assumed: tuple[str, ...]
    name: MemoryClass = "one_device"


def predicted_of(
    line: dict[str, str], traces: DecoderTraces, cache: ProfileCache, *, more: int = 0
) -> Predicted | str:
    """Return the prediction of a row, at `more` samples than it states, or why it has none."""
    if more:
        line = {**line, "micro_batch": str(int(line["micro_batch"]) + more)}
    try:
        run = memory_run(line, traces, cache)
    except (TrainfareError, RuntimeError, ValueError) as error:
        return f"cannot be traced: {error}".splitlines()[0][:120]
    if isinstance(run, str):
        return run
    name = memory_classes(run.profile, np.array([float(run.world)]), run.parallel)[0]
    return Predicted(
        _comparable_gib(run, line["mem_kind"]), _total_gib(run), run.assumed, cast("MemoryClass", str(name))
    )


def described_rows(lines: list[dict[str, str]], cache: Path) -> list[Predicted | str]:
    """Return the sum of parts of each row, or why it has none; traces are kept in `cache`."""
    traces, others = DecoderTraces(cache), ProfileCache(cache)
    return [predicted_of(line, traces, others) for line in lines]


def memory_rows(lines: list[dict[str, str]], found: list[Predicted | str]) -> list[MemoryRow | None]:
    """Return what can be fitted or scored: a measured number beside a sum; None where either is missing."""

    def of(line: dict[str, str], one: Predicted | str) -> MemoryRow | None:
        measured = measured_gib(line)
        if isinstance(one, str) or measured is None:
            return None
        return MemoryRow(line["source_id"], one.name, _group(line), one.comparable_gib, measured)

    return [of(line, one) for line, one in zip(lines, found, strict=True)]


def _total_gib(run: MemoryRun) -> float:
    return float(run.parts().total_bytes[0]) / GIB


def _comparable_gib(run: MemoryRun, kind: str) -> float:
    """Return the peak without what the row's way of measuring does not see."""
    parts = run.parts()
    if kind.startswith(("nvidia", "observed", "author", "fits", "max_batch")):
        return float(parts.total_bytes[0]) / GIB
    collective = COLLECTIVE_BYTES if run.world > 1 or run.parallel is not None else 0.0
    unseen = CONTEXT_BYTES + collective
    if "reserved" not in kind:
        held = parts.activations_bytes + parts.temporary_bytes + parts.gradients_bytes
        unseen += FRAGMENTATION_SHARE * float(held[0])
    return (float(parts.total_bytes[0]) - unseen) / GIB


def measured_gib(line: dict[str, str]) -> float | None:
    """Return the measured peak of one device; None where the row has no number."""
    if line["status"] != "ok" or not line["peak_gib"]:
        return None
    devices = int(line["n_gpus"] or 1) if line["scope"] == "total_over_gpus" else 1
    return float(line["peak_gib"]) / devices


def card_gib(name: str) -> float | None:
    """Return what a training process can allocate on a card; None where the row names none."""
    try:
        return usable_memory_bytes(accelerator(_CARDS.get(name, name))) / GIB
    except UnknownNameError:
        return None


def steps_before(rows: list[MemoryRow | None]) -> list[MemoryRow | str]:
    """Return the measured step of each row's group, the first of it; or why the row is not scored after one."""
    first: dict[tuple[str, ...], MemoryRow] = {}
    groups = Counter(row.group for row in rows if row is not None)
    answers: list[MemoryRow | str] = []
    for row in rows:
        if row is None:
            answers.append("")
        elif groups[row.group] == 1:
            answers.append("no other measured row of its source, model and method")
        elif row.group in first:
            answers.append(first[row.group])
        else:
            first[row.group] = row
            answers.append("the measured step of its group")
    return answers


def _group(line: dict[str, str]) -> tuple[str, ...]:
    return (line["source_id"], line["model"], line["method"])


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
