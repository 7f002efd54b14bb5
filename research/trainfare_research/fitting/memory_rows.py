"""Rows of the tables of measured peaks: measured GiB beside the predicted parts, in the measured quantity."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.memory.calibrated import (
    Corrections,
    MemoryClass,
    MemoryFit,
    SpreadFit,
    correct_parts,
    correct_peak_bytes,
    has_convolutions,
    memory_classes,
)
from trainfare_core.prediction.memory.peak import MemoryParts, usable_memory_bytes
from trainfare_research.truth_table import or_reason
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.memory_runs import MemoryRun, memory_run

GIB = 2**30
Quantity = Literal["allocated", "reserved", "device"]
"""What was measured: the allocator's peak, that with its cached blocks, or what the process uses of its device."""

_CARDS = {
    "A100-40GB": "A100-SXM-40GB", "A100-80GB": "A100-SXM-80GB", "H100-80GB": "H100-SXM-80GB",
    "H100-96GB": "H100-SXM-96GB", "V100-16GB": "V100-SXM2-16GB", "V100-32GB": "V100-SXM2-32GB",
    "V100": "V100-SXM2-16GB", "A6000": "RTX-A6000-48GB", "Titan X 12GB": "TitanXp-12GB",
}  # fmt: skip
"""Catalogue names of cards as the table spells them; where it states no form factor any will do, memory is the same."""
_JOB = (
    "source_id", "model", "method", "method_detail", "precision", "optimizer", "act_ckpt", "other_flags"
)  # fmt: skip
"""Columns whose values rows of one job share: they differ by batch, length of samples, devices and sharding."""


@dataclass(frozen=True)
class Predicted:
    """
    The described run of a row.

    Attributes:
        parts: of one device, without corrections; arrays of shape (1,).
        name: class of job, which selects the interval.
        sharded: whether weights are sharded over the devices.
        several: whether the run has several devices.
        quantity: that the row states.
        assumed: what the row does not state and was assumed.
        convolutions: whether a step has convolutions.
    """

    parts: MemoryParts
    name: MemoryClass = "one_device"
    sharded: bool = False
    several: bool = False
    quantity: Quantity = "device"
    assumed: tuple[str, ...] = ()
    convolutions: bool = False

    def gib(self, corrections: Corrections, quantity: Quantity | None = None) -> float:
        """Return the predicted figure, GiB; of another quantity than the row states where it is given."""
        corrected = correct_parts(
            self.parts, np.array([self.name]), corrections, convolutions=self.convolutions
        )
        allocated = float(corrected.allocated_bytes[0]) / GIB
        quantity = quantity or self.quantity
        if quantity == "allocated":
            return allocated
        if quantity == "reserved":
            return allocated * (1 + corrections.cached_share)
        return float(corrected.total_bytes[0]) / GIB


def describe_run(
    line: dict[str, str], traces: DecoderTraces, cache: ProfileCache, *, more: int = 0
) -> Predicted | str:
    """Return the described run of a row, with `more` samples than it states, or why it has none."""
    if more:
        line = {**line, "micro_batch": str(int(line["micro_batch"]) + more)}
    run = or_reason(memory_run, line, traces, cache)
    return run if isinstance(run, str) else _build_predicted(run, line["mem_kind"])


def _build_predicted(run: MemoryRun, kind: str) -> Predicted:
    name = str(memory_classes(run.profile, np.array([float(run.world)]), run.parallel)[0])
    several = run.world > 1 or run.parallel is not None
    return Predicted(
        run.parts(), cast("MemoryClass", name), run.sharded, several, quantity_of(kind), run.assumed,
        has_convolutions(run.profile),
    )  # fmt: skip


def quantity_of(kind: str) -> Quantity:
    """Return the quantity that a row's way of measuring (`mem_kind`) gives."""
    if kind.startswith(("nvidia", "observed", "author", "fits", "max_batch")):
        return "device"
    return "reserved" if "reserved" in kind else "allocated"


def describe_rows(
    lines: list[dict[str, str]], traces: DecoderTraces, cache: ProfileCache
) -> list[Predicted | str]:
    """Return the described run of each row of a table, or why it has none."""
    alone = {_same_figure(line) for line in lines if line["n_gpus"] == "1" and line["peak_value"]}

    def describe_row(line: dict[str, str]) -> Predicted | str:
        described_run = describe_run(line, traces, cache)
        if not isinstance(described_run, str) and described_run.sharded and _same_figure(line) in alone:
            return "the figure of one device, stated again for several that share the weights"
        return described_run

    return [describe_row(line) for line in lines]


def _same_figure(line: dict[str, str]) -> tuple[str, ...]:
    names = ("source_id", "model", "method_detail", "micro_batch", "seq_len_or_res", "peak_value")
    return tuple(line[name] for name in names)


def memory_rows(lines: list[dict[str, str]], described: list[Predicted | str]) -> list[MemoryRow | None]:
    """Return the rows that can be fitted or scored; None where the measured number or the description is missing."""

    def of(line: dict[str, str], described_run: Predicted | str) -> MemoryRow | None:
        measured = parse_measured_gib(line)
        if isinstance(described_run, str) or measured is None:
            return None
        kind = "allocated" if described_run.quantity == "allocated" else "device"
        group = (*(line[name] for name in _JOB), kind)
        return MemoryRow(line["source_id"], _family(line["model"]), group, described_run, measured)

    return [of(line, described_run) for line, described_run in zip(lines, described, strict=True)]


def _family(model: str) -> str:
    """Return the family of a model: the letters that its name begins with."""
    match = re.match(r"[a-z]+", model.lower().removeprefix("d2/").removeprefix("torchvision "))
    return match[0] if match else model


def parse_measured_gib(line: dict[str, str]) -> float | None:
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
            answers.append("no other measured row of its job")
        elif row.group in first:
            answers.append(first[row.group])
        else:
            first[row.group] = row
            answers.append("the measured step of its group")
    return answers


@dataclass(frozen=True)
class MemoryRow:
    """
    A measured peak beside its description.

    Attributes:
        source: of the measurement.
        family: of models.
        group: the job (`_JOB`) and kind of quantity; one step of a group corrects the predictions of the others.
        run: what was measured, described.
        measured_gib: peak of one device, GiB.
    """

    source: str
    family: str
    group: tuple[str, ...]
    run: Predicted
    measured_gib: float

    @property
    def name(self) -> MemoryClass:
        """Class of job."""
        return self.run.name

    def residual(self, corrections: Corrections) -> float:
        """Return ln(measured / predicted)."""
        return math.log(self.measured_gib / self.run.gib(corrections))


def predict_gib(row: MemoryRow, fit: MemoryFit) -> float:
    """Return the predicted peak of a row, GiB, in the quantity that it measured."""
    return row.run.gib(fit.corrections)


def after_step_gib(first: MemoryRow, row: MemoryRow, fit: MemoryFit) -> float:
    """Return the predicted peak of a row, GiB, corrected by the measured step `first` of its group."""
    predicted = np.array([predict_gib(row, fit)])
    return float(correct_peak_bytes(predicted, first.measured_gib, predict_gib(first, fit), fit)[0])


def spread_of(row: MemoryRow, first: MemoryRow | None, fit: MemoryFit) -> SpreadFit:
    """Return the interval of a row: that of corrected predictions only where the measured step is of the same class."""
    if first is not None and first.name == row.name:
        return fit.corrected
    return (fit.allocated if row.run.quantity == "allocated" else fit.device)[row.name]
