"""
Score predicted peak memory against measured peaks, through the product's own path.

    python benchmarks/memory.py --truth memory_reference.csv [--cache DIR] [--one-measured-step]
        [--json OUT] [--rows OUT.csv]

A prediction is compared in the unit that was measured: torch's allocator sees neither the CUDA context nor buffers of
the collective library, and "allocated" leaves out fragmentation; what `nvidia-smi` or an author's note says holds all.
Totals over devices are divided by them. No coefficient was fitted on these rows.

--one-measured-step: the first measured row of a source, model and method, in the order of the file, is a step that
was run; its measured over its predicted peak multiplies the predictions of the group's other rows. That row is not
scored, nor are rows alone in their group.

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
from typing import Any

import numpy as np

from trainfare_core.accelerators import accelerator
from trainfare_core.errors import TrainfareError, UnknownNameError
from trainfare_core.prediction.calibration import calibration
from trainfare_core.prediction.memory import (
    COLLECTIVE_BYTES,
    CONTEXT_BYTES,
    FRAGMENTATION_SHARE,
    usable_memory_bytes,
)
from trainfare_core.prediction.uncertainty import Z80

sys.path.insert(0, str(Path(__file__).resolve().parent))
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
    """A row's peak in GiB: in the measured unit, and all that the card must hold."""

    comparable_gib: float
    device_gib: float
    assumed: tuple[str, ...]


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
    return Predicted(_comparable_gib(run, line["mem_kind"]), _total_gib(run), run.assumed)


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


def corrections(lines: list[dict[str, str]], found: list[Predicted | str]) -> list[float | str]:
    """Return the factor of each row from the first measured row of its group, or why it is not scored."""
    factors: dict[tuple[str, ...], float] = {}
    answers: list[float | str] = []
    groups = Counter(
        _group(line)
        for line, one in zip(lines, found, strict=True)
        if not isinstance(one, str) and measured_gib(line)
    )
    for line, one in zip(lines, found, strict=True):
        measured = measured_gib(line)
        if isinstance(one, str) or measured is None:
            answers.append(one if isinstance(one, str) else "no measured number")
        elif groups[_group(line)] == 1:
            answers.append("no other measured row of its source, model and method")
        elif _group(line) in factors:
            answers.append(factors[_group(line)])
        else:
            factors[_group(line)] = measured / one.comparable_gib
            answers.append("the measured step of its group")
    return answers


def _group(line: dict[str, str]) -> tuple[str, ...]:
    return (line["source_id"], line["model"], line["method"])


def verdicts(
    lines: list[dict[str, str]], found: list[Predicted | str], traces: DecoderTraces, cache: ProfileCache
) -> dict[str, Any]:
    """Return how often "fits" and "does not fit" were right, over rows that name their card."""
    margin = math.exp(Z80 * calibration().sigma.memory)
    counts: Counter[str] = Counter()
    for line, one in zip(lines, found, strict=True):
        usable = card_gib(line["gpu"])
        if usable is None:
            continue
        if line["status"] == "max_batch":
            above = predicted_of(line, traces, cache, more=1)
            if not isinstance(above, str):
                _judge(counts, above.device_gib * margin <= usable, ran=False)
        if not isinstance(one, str) and line["micro_batch"] != "0":
            _judge(counts, one.device_gib * margin <= usable, ran=line["status"] != "OOM")
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
    lines: list[dict[str, str]], found: list[Predicted | str], *, one_step: bool
) -> tuple[list[Scored], list[Scored], Counter[str]]:
    """Return all scored rows, those of them where nothing was assumed, and the reasons of the others."""
    sigma = calibration().sigma
    as_scored = sigma.memory * Z80 / sigma.quantiles["80"]  # the product's own 80 % interval of memory
    scored, stated, skipped = [], [], Counter[str]()
    factors = corrections(lines, found) if one_step else [1.0] * len(lines)
    for line, one, factor in zip(lines, found, factors, strict=True):
        line.update(predicted="", low_80="", high_80="", skip_reason="")
        measured = measured_gib(line)
        reason = _reason(one, measured, line, factor)
        if reason or isinstance(one, str) or isinstance(factor, str) or measured is None:
            line["skip_reason"] = reason
            skipped[reason] += 1
            continue
        peak, spread = one.comparable_gib * factor, math.exp(Z80 * sigma.memory)
        devices = int(line["n_gpus"] or 1) if line["scope"] == "total_over_gpus" else 1
        for name, value in (("predicted", peak), ("low_80", peak / spread), ("high_80", peak * spread)):
            line[name] = f"{value * devices:.6g}"
        scope = "single" if int(line["n_gpus"] or 1) == 1 else "multi"
        row = Scored(
            math.log(peak / measured), as_scored, line["gpu"] or "not stated",
            f"{line['domain']} {line['method']}", line["source_id"], scope,
        )  # fmt: skip
        scored.append(row)
        if not one.assumed:
            stated.append(row)
    return scored, stated, skipped


def _reason(one: Predicted | str, measured: float | None, line: dict[str, str], factor: float | str) -> str:
    if isinstance(one, str):
        return one
    if measured is None:
        return f"no number: {line['status']} (judged by the card)"
    return factor if isinstance(factor, str) else ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of traces; without it they are thrown away")
    parser.add_argument("--one-measured-step", action="store_true")
    return parser.parse_args()


def run(arguments: argparse.Namespace, cache: Path) -> None:
    with arguments.truth.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    traces, others = DecoderTraces(cache), ProfileCache(cache)
    found = [predicted_of(line, traces, others) for line in lines]
    scored, stated, skipped = scored_rows(lines, found, one_step=arguments.one_measured_step)
    if not scored:
        sys.exit(f"no row can be scored: {dict(skipped)}")
    document = summary(scored, skipped)
    document["fitted_on"] = []
    document["fits"] = verdicts(lines, found, traces, others)
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
