"""Rows of memory_reference.csv as numbers: measured GiB beside the predicted sum of parts, in the measured quantity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
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
    "devices_summed",
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
"""Catalogue names of cards as the table spells them; where it states no form factor any will do, memory is the same."""
_LEAST_SHARE = 0.25
"""Of the sum of parts: a measured step far below its prediction never brings another prediction under this share. A
chosen value that only keeps predictions positive."""
_REASON_LENGTH = 120
"""Characters kept of the first line of an error, so that a table of reasons stays readable."""


@dataclass(frozen=True)
class Predicted:
    """
    Sum of parts of a row, GiB.

    Attributes:
        comparable_gib: only the parts that the row's way of measuring includes.
        device_gib: all parts, as they fill the card.
        assumed: what the row does not state and was assumed.
        name: class of job, which selects the factor and the interval.
    """

    comparable_gib: float
    device_gib: float
    assumed: tuple[str, ...]
    name: MemoryClass = "one_device"


def predicted_of(
    line: dict[str, str], traces: DecoderTraces, cache: ProfileCache, *, more: int = 0
) -> Predicted | str:
    """Return the sum of parts of a row, with `more` samples than it states, or why it has none."""
    if more:
        line = {**line, "micro_batch": str(int(line["micro_batch"]) + more)}
    try:
        run = memory_run(line, traces, cache)
    except (TrainfareError, RuntimeError, ValueError) as error:
        return f"cannot be traced: {error}".splitlines()[0][:_REASON_LENGTH]
    if isinstance(run, str):
        return run
    name = memory_classes(run.profile, np.array([float(run.world)]), run.parallel)[0]
    total_gib = float(run.parts().total_bytes[0]) / GIB
    return Predicted(
        _comparable_gib(run, line["mem_kind"]), total_gib, run.assumed, cast("MemoryClass", str(name))
    )


def described_rows(lines: list[dict[str, str]], cache: Path) -> list[Predicted | str]:
    """Return the sum of parts of each row, or why it has none; traces are kept in `cache`."""
    traces, others = DecoderTraces(cache), ProfileCache(cache)
    return [predicted_of(line, traces, others) for line in lines]


def memory_rows(lines: list[dict[str, str]], found: list[Predicted | str]) -> list[MemoryRow | None]:
    """Return the rows that can be fitted or scored; None where the measured number or the sum of parts is missing."""

    def of(line: dict[str, str], one: Predicted | str) -> MemoryRow | None:
        measured = measured_gib(line)
        if isinstance(one, str) or measured is None:
            return None
        group = (line["source_id"], line["model"], line["method"])
        return MemoryRow(line["source_id"], one.name, group, one.comparable_gib, measured)

    return [of(line, one) for line, one in zip(lines, found, strict=True)]


def _comparable_gib(run: MemoryRun, kind: str) -> float:
    """Return the peak without the parts that the row's way of measuring leaves out."""
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
    return float(line["peak_gib"]) / devices_summed(line)


def devices_summed(line: dict[str, str]) -> int:
    """Return the number of devices whose peaks the row's number sums up."""
    return int(line["n_gpus"] or 1) if line["scope"] == "total_over_gpus" else 1


def card_gib(name: str) -> float | None:
    """Return the memory that a training process can allocate on a card; None for a card not in the catalogue."""
    try:
        return usable_memory_bytes(accelerator(_CARDS.get(name, name))) / GIB
    except UnknownNameError:
        return None


def steps_before(rows: Sequence[MemoryRow | None]) -> list[MemoryRow | str]:
    """Return for each row the measured step of its group (the group's first row), or why the row has none."""
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


@dataclass(frozen=True)
class MemoryRow:
    """
    A measured peak beside the predicted sum of its parts.

    Attributes:
        source: of the measurement.
        name: class of job.
        group: source, model and method; one step of a group corrects the predictions of the others.
        summed_gib: predicted sum of the parts that were measured, GiB.
        measured_gib: peak of one device, GiB.
    """

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
    """Return the predicted peak of a row, GiB: its sum of parts times the factor of its class."""
    return row.summed_gib * math.exp(fit.classes[row.name].location)


def after_step_gib(first: MemoryRow, row: MemoryRow, fit: MemoryFit) -> float:
    """Return the predicted peak of a row, GiB, corrected by the measured step `first` of its group."""
    there, here = predicted_gib(first, fit), np.array([predicted_gib(row, fit)])
    found = float(corrected_peak_bytes(here, first.measured_gib, there, fit)[0])
    return max(found, _LEAST_SHARE * row.summed_gib)


def spread_of(row: MemoryRow, first: MemoryRow | None, fit: MemoryFit) -> SpreadFit:
    """Return the interval of a row: that of corrected predictions only where the measured step is of the same class."""
    return fit.classes["corrected" if first is not None and first.name == row.name else row.name]
