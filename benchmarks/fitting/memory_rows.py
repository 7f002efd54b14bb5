"""Rows of the memory table: described runs, measured and predicted GiB."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from benchmarks.workloads import ProfileCache
from benchmarks.workloads.decoder_profile import DecoderTraces
from benchmarks.workloads.memory_rows import MemoryRun, memory_run
from trainfare_core.errors import TrainfareError, UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.memory.calibrated import (
    MemoryClass,
    MemoryFit,
    SpreadFit,
    corrected_peak_bytes,
    memory_classes,
)
from trainfare_core.prediction.memory.peak import (
    COLLECTIVE_BYTES,
    CONTEXT_BYTES,
    FRAGMENTATION_SHARE,
    usable_memory_bytes,
)

__all__ = [
    "GIB",
    "MemoryRow",
    "Predicted",
    "after_step_gib",
    "card_gib",
    "described_rows",
    "measured_gib",
    "memory_rows",
    "predicted_gib",
    "predicted_of",
    "spread_of",
    "steps_before",
]

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


@dataclass(frozen=True)
class MemoryRow:
    """A measured peak beside the sum of its parts, in the measured unit; `group`: source, model and method."""

    source: str
    name: MemoryClass
    group: tuple[str, ...]
    summed_gib: float
    measured_gib: float

    @property
    def residual(self) -> float:
        """ln(measured / summed)."""
        return math.log(self.measured_gib / self.summed_gib)


def predicted_gib(row: MemoryRow, fit: MemoryFit) -> float:
    """Return the prediction of a row."""
    return row.summed_gib * math.exp(fit.spread(row.name).location)


def after_step_gib(first: MemoryRow, row: MemoryRow, fit: MemoryFit) -> float:
    """Return the prediction of a row once the first of its group was measured."""
    there, here = predicted_gib(first, fit), np.array([predicted_gib(row, fit)])
    found = float(corrected_peak_bytes(here, first.measured_gib, there, fit)[0])
    return max(found, 0.25 * row.summed_gib)


def spread_of(row: MemoryRow, first: MemoryRow | None, fit: MemoryFit) -> SpreadFit:
    """Return the reach of a row: a measured step narrows it for its own class, and no other."""
    return fit.spread("corrected" if first is not None and first.name == row.name else row.name)
