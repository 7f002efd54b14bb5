"""Measurements of one device as rows of the fit: operations with the terms of their efficiencies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import REDUCTION_KINDS, JobProfile
from trainfare_core.prediction.distance import describe_work as describe_plan
from trainfare_core.prediction.distance import name_work
from trainfare_core.prediction.porting import describe_work
from trainfare_core.prediction.roofline.features import (
    BRIEF,
    COMPILED_LOOP,
    WAVES,
    Path,
    Terms,
    compute_terms,
    device_compute_terms,
    device_memory_terms,
    log2_tiles,
    measure_unfilled_waves,
    memory_terms,
)
from trainfare_core.prediction.roofline.operations import (
    Operations,
    Roofline,
    bytes_share,
    compiles_graphs,
    mark_compiled_loops,
)
from trainfare_core.prediction.roofline.times import (
    WINOGRAD_LEAST,
    compute_cached_share,
    log2_brevity,
    with_cache_as_memory,
)
from trainfare_research.fitting.table_lines import SUBMISSION, Line, chip_of, is_trainer_time

Array = NDArray[np.float64]
Indexed = list[tuple[int, float]]
"""(coefficient, value) of the terms of one operation."""


@dataclass
class Index:
    """Which coefficient is which: names with prior mean and standard deviation, in the order rows need them."""

    prior: Callable[[str], tuple[float, float]]
    of: dict[str, int] = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    sd: list[float] = field(default_factory=list)

    def add(self, name: str) -> int:
        """Return the position of a coefficient, new or known."""
        if name not in self.of:
            self.of[name] = len(self.mean)
            mean, sd = self.prior(name)
            self.mean.append(mean)
            self.sd.append(sd)
        return self.of[name]


_SHORTEST_S = 1e-30
"""No operation that moves bytes takes less: divides where none moves."""


@dataclass
class Row:
    """One measurement: operations of a step (or one kernel) on one device, and the seconds they took."""

    device: Accelerator
    measured_s: float
    flop_s: Array
    """At the dense peak, shape (operations,)."""
    byte_s: Array
    """At the full bandwidth, of what a compiler leaves; of all bytes in a submission."""
    held: Array
    """Of the bytes, the share that is in a GPU's faster cache."""
    brief_more: Array
    """How much briefer a kernel is at the bandwidth of the cache: log2."""
    cache_doublings: float
    """Of the memory's bandwidth to that of the cache."""
    winograd: NDArray[np.bool_]
    compute: list[Indexed]
    memory: list[Indexed]
    fused: NDArray[np.int64]
    """
    By operation of a submission, whose kernels are its vendor's own, 1: pointwise and fused; 2: fused, and
    reduces rows; 0: none of its bytes are saved beyond what `byte_s` counts.
    """
    launches: Array
    """Forward, backward and optimizer, but for those that a compiler fuses."""
    fused_launches: Array
    """Launches of the eager program that a compiler fuses; shape (3,) too."""
    kernels: float
    """Kernels that run one after another, all phases, but for those that a compiler fuses."""
    fused_kernels: float
    weight: float
    source: str
    workload: str
    work: str
    """Kind of work, as `describe_work` names it."""
    precision: str
    end_to_end: bool
    line: Line
    extra_s: float = 0.0
    """Timed with the step though no operation: the copy of the batch to the device."""
    stands_for: float = 1.0
    """Rows of the table that this one was taken for."""
    host: bool = True
    """Whether a host issues the launches one by one."""
    old_host: bool = False
    group: str = ""
    """Kind of work that takes most of its time."""

    @property
    def timed(self) -> str:
        """What was timed, as intervals tell it apart: "trainer", "steps" or "submission"."""
        if self.line.get("measured") == SUBMISSION:
            return SUBMISSION
        return "trainer" if self.trainer else "steps"

    @property
    def trainer(self) -> bool:
        """Whether a trainer's own loop was timed, with its loader and its logging, and not bare steps."""
        return is_trainer_time(self.line)

    @property
    def compiled(self) -> bool:
        """Whether torch.compile ran the step: not XLA or nvFuser, which fuse otherwise."""
        return "torch.compile" in self.line["framework"]

    @property
    def chip(self) -> str:
        """The chip that is left out together with this row."""
        return chip_of(self.device.name)


@dataclass
class RowMaker:
    """Turns operations on a device into a `Row` with the product's own definition of the model."""

    index: Index
    skipped: Counter[str]
    _own: dict[Terms, Indexed] = field(default_factory=dict)

    def device(self, name: str) -> Accelerator | None:
        """Return an accelerator of the catalogue; None, and counted as skipped, where it has none."""
        try:
            return accelerator(name)
        except UnknownNameError:
            self.skipped[f"{name} is not in the catalogue"] += 1
            return None

    def row(
        self, operations: Operations, device: Accelerator, measured_s: float, line: Line, *, source: str, workload: str,
        precision: str, ratio: float = 1.0, optimizer_share: float = 1.0, end_to_end: bool = True, weight: float = 0.0,
    ) -> Row | None:  # fmt: skip
        """
        Return a measurement as a row; None, and counted as skipped, where the device cannot run it.

        Args:
            operations: of the profile.
            device: that ran them.
            measured_s: seconds.
            line: of the table.
            source: of the table.
            workload: name of the model or operator.
            precision: of the table.
            ratio: micro-batch over the profile's.
            optimizer_share: of the optimizer's work that this measurement contains.
            end_to_end: a step, not a kernel timed alone.
            weight: in the fit.
        """
        roofline = Roofline.of(device, operations)
        if roofline.unknown_because:
            self.skipped[f"{device.name} has no {precision}"] += 1
            return None
        share = np.where(operations.phase == 2, optimizer_share, 1.0)
        issued = operations.pointwise & operations.fused  # by a compiler in place of a host
        submitted = line.get("measured") == SUBMISSION
        moved = operations.pointwise & (operations.fused or compiles_graphs(device))
        left = 1.0 if submitted else bytes_share(operations, device)
        reduction = np.array([group.kind in REDUCTION_KINDS for group in operations.groups], dtype=np.bool_)
        return Row(
            device=device, measured_s=measured_s,
            flop_s=operations.flops_at(ratio) * share * roofline.seconds_per_flop,
            byte_s=operations.bytes_at(ratio) * share * roofline.seconds_per_byte * left, winograd=roofline.winograd,
            held=compute_cached_share(operations.bytes_a_launch(ratio), [device])[0],
            brief_more=_brevity(operations, ratio, with_cache_as_memory(device)) - _brevity(operations, ratio, device),
            cache_doublings=math.log2(
                with_cache_as_memory(device).memory_bandwidth_bytes_per_s / device.memory_bandwidth_bytes_per_s
            ),
            compute=self._compute(operations, roofline, ratio), memory=self._index_memory(operations, roofline, ratio),
            fused=np.where(moved & submitted, np.where(reduction, 2, 1), 0),
            launches=operations.by_phase(operations.launches * ~issued),
            fused_launches=operations.by_phase(operations.launches * issued),
            kernels=float(operations.kernels[~issued].sum()), fused_kernels=float(operations.kernels[issued].sum()),
            weight=weight,
            source=source, workload=workload,
            work=describe_work(JobProfile.model_construct(operations=operations.groups)),
            precision=precision, end_to_end=end_to_end, line=line,
            host=end_to_end and not compiles_graphs(device),
            group=name_work(describe_plan(roofline, operations)[:-1]),
        )  # fmt: skip

    def _compute(self, operations: Operations, roofline: Roofline, ratio: float) -> list[Indexed]:
        device = roofline.device
        tiles = np.array([log2_tiles(group, ratio) for group in operations.groups])
        waves, loops = measure_unfilled_waves(tiles, [device])[0], mark_compiled_loops(operations, device)
        of_device: dict[tuple[Path, bool], Indexed] = {}
        indexed: list[Indexed] = []
        for i, (tensor, flops) in enumerate(zip(roofline.tensor_path, operations.flops, strict=True)):
            if not flops:
                indexed.append([])
                continue
            path: Path = "tensor" if tensor else "vector"
            kind = path, operations.groups[i].kind == "convolution"
            if kind not in of_device:
                of_device[kind] = self._index_terms(device_compute_terms(device, path, convolution=kind[1]))
            own_terms = self._terms(compute_terms(operations.groups[i], path, ratio))
            wave = [(self.index.add(WAVES), float(waves[i]))] if waves[i] else []
            loop = [(self.index.add(COMPILED_LOOP), 1.0)] if loops[i] else []
            indexed.append([*of_device[kind], *own_terms, *wave, *loop])
        return indexed

    def _index_memory(self, operations: Operations, roofline: Roofline, ratio: float) -> list[Indexed]:
        of_device = self._index_terms(device_memory_terms(roofline.device))
        brief = _brevity(operations, ratio, roofline.device)
        return [
            [*of_device, *self._terms(memory_terms(group, operations.layout)), (self.index.add(BRIEF), value)]
            for group, value in zip(operations.groups, brief.tolist(), strict=True)
        ]

    def _terms(self, terms: Terms) -> Indexed:
        """Return an operation's own terms by their coefficients; operations of the same terms share the list."""
        if terms not in self._own:
            self._own[terms] = self._index_terms(terms)
        return self._own[terms]

    def _index_terms(self, terms: Terms) -> Indexed:
        return [(self.index.add(name), value) for name, value in terms]


def _brevity(operations: Operations, ratio: float, device: Accelerator) -> Array:
    """Return how far each operation falls short of all bandwidth: log2, shape (operations,)."""
    mean_brevity = np.zeros(len(operations))
    short, brevity = log2_brevity(operations, ratio, np.array([1.0 / device.memory_bandwidth_bytes_per_s]))
    mean_brevity[short] = brevity[0]
    return mean_brevity


def roofline_s(row: Row) -> float:
    """Return the least seconds of a step, with convolutions that Winograd may shorten at their shortest."""
    flop_s = row.flop_s * np.where(row.winograd, WINOGRAD_LEAST, 1.0)
    return float(np.maximum(flop_s, row.byte_s).sum())


def merge_operations(row: Row) -> Row:
    """
    Return a row with operations of the same terms and nearly the same intensity added up: a third is left.

    Only the fit is made of merged rows, for speed: values of terms are rounded to 0.01, how brief a kernel is to 0.5,
    the share in a cache to 0.1, and intensities put in steps of 2^(2/3), so that a sum is limited by the side that
    limits each of its parts.
    """
    numbers: dict[tuple[object, ...], int] = {}
    number, first = np.empty(len(row.flop_s), dtype=np.int64), list[int]()
    facts = (
        values.tolist() for values in (row.flop_s, row.byte_s, row.winograd, row.fused, row.held.round(1))
    )
    operations = zip(row.compute, row.memory, *facts, strict=True)
    for i, (compute, memory, flop_s, byte_s, winograd, fused, held_share) in enumerate(operations):
        intensity = round(math.log2(flop_s / byte_s) * 1.5) if flop_s and byte_s else None
        terms = tuple([(column, round(value, 2)) for column, value in compute])
        *others, (_, brief) = memory
        key = terms, tuple(others), round(brief * 2), winograd, fused, held_share, intensity
        number[i] = numbers.setdefault(key, len(first))
        if number[i] == len(first):
            first.append(i)

    def total(amounts: Array) -> Array:
        return np.asarray(np.bincount(number, weights=amounts), dtype=np.float64)

    all_byte_s = total(row.byte_s)
    least_s = np.maximum(all_byte_s, _SHORTEST_S)
    return replace(
        row, flop_s=total(row.flop_s), byte_s=all_byte_s, held=total(row.byte_s * row.held) / least_s,
        brief_more=total(row.byte_s * row.brief_more) / least_s, winograd=row.winograd[first],
        fused=row.fused[first], compute=[row.compute[i] for i in first], memory=[row.memory[i] for i in first],
    )  # fmt: skip
