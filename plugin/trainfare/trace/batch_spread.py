"""
Batches that vary in size: how large a run's batches are, which one stands for them, and what the mean one does.

The size of a batch is the number of elements of its tensors, which also varies where only the padded length does. A
step is traced for one size or two. Between them the work of an operation grows as a sum of two terms of the size:
what is done to weights is constant, what is done for each token proportional, attention over a length a square.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from trainfare.trace.weighted_sum import (
    add_modules,
    add_rows,
    amounts_of,
    with_amounts,
)
from trainfare_core.job_profile import BatchVariation, MemoryFacts, ModuleWork, OperationGroup

SAME_SIZE = 0.01
"""Sizes are counted in steps of 1 %, which bounds the memory of a long run: a factor of a million has 1,400 steps."""
VARIES_FROM = 0.01
"""Batches vary where the standard deviation of their size is more than 1 % of the mean: a chosen value, below any
other doubt about a run."""
TYPICAL = 0.1
"""A batch within 10 % of the median stands for it. A chosen value: nearer ones come too rarely to wait for."""
OTHER_FACTOR = 1.4
"""A second traced batch differs by this factor, so that powers of the size can be told from what rounding adds."""
STEEPEST = 3.0
"""Work grows with the cube of the size at most: a chosen bound on what two traces can suggest."""
ONE_TRACE_DOUBT = 0.5
"""Standard deviation of the power of the size that is assumed to be 1 where one size was traced; attention has 2."""
MAX_DRAWS = 9
"""Traces of a step whose work is random. A chosen value: their mean is known to a third of their spread."""
ALWAYS_DRAWS = 2
"""Consecutive steps that are traced of every run: the work of a step may depend on the number of its batch. A chosen
value: it shows what is done in every second step, and a traced step is slow."""
SAME_DRAWS = 3
"""Equal traces after which the work of a step that reads a value is not taken as random, nor that of an optimizer that
is not torch's as periodic. A chosen value: most steps that read one only log it."""
SAME_DRAWS_OF_CHANCE = 6
"""The same of a step that draws a number on the host. A chosen value: of six layers that are each left out with a
probability of 0.1, six traces are equal in 2 runs of a hundred, three in 20."""

_EITHER_END = 0.05
"""Share of runs in which a batch may lie beyond either end of the range that is said of them."""

_Key: TypeAlias = tuple[str, str, str]
"""Phase, kind and name of an operation."""


@dataclass(frozen=True, slots=True)
class Growth:
    """
    How work grows with the size of a batch: constant + linear r + square r^2, at r = 1 equal to 1; or r^power.

    Attributes:
        constant, linear, square: parts of the work of the batch that was traced.
        power: where it grows faster than the square; 0: it does not.
    """

    constant: float = 0.0
    linear: float = 1.0
    square: float = 0.0
    power: float = 0.0

    @classmethod
    def between(cls, here: float, there: float, ratio: float) -> Growth:
        """
        Return the growth that leads from one amount of work to another, proportional where one of them is 0.

        Args:
            here: work of the batch that was traced.
            there: work of a batch of another size.
            ratio: that size over the traced one's; not 1.
        """
        if here <= 0 or there <= 0:
            return cls()
        work = there / here
        power = math.log(work) / math.log(ratio)
        if power <= 0:
            return cls(constant=1.0, linear=0.0)
        if power <= 1:
            linear = (work - 1.0) / (ratio - 1.0)
            return cls(constant=1.0 - linear, linear=linear)
        if power <= 2:
            square = (work - ratio) / (ratio**2 - ratio)
            return cls(linear=1.0 - square, square=square)
        return cls(linear=0.0, power=min(STEEPEST, power))

    def at(self, ratio: float) -> float:
        """Return the work of a batch over that of the traced one."""
        if self.power:
            return math.pow(ratio, self.power)
        return self.constant + self.linear * ratio + self.square * ratio**2


_Growths: TypeAlias = dict[_Key, tuple[Growth, Growth]]
_CONSTANT = Growth(constant=1.0, linear=0.0)


@dataclass(slots=True)
class BatchSpread:
    """The sizes of the batches seen so far, in elements; a size is kept by its rounded logarithm."""

    _counts: dict[int, int] = field(default_factory=dict[int, int])
    _sums: dict[int, int] = field(default_factory=dict[int, int])
    batches: int = 0
    of_run: int = 0
    """Batches of the run, or of an epoch of it; 0: not known, or all were seen."""

    @classmethod
    def of(cls, sizes: Iterable[int]) -> BatchSpread:
        """Return the spread of these sizes."""
        spread = cls()
        for size in sizes:
            spread.add(size)
        return spread

    def add(self, elements: int) -> None:
        """Count one batch; one without elements is left out."""
        if elements <= 0:
            return
        size_class = round(math.log(elements) / SAME_SIZE)
        self._counts[size_class] = self._counts.get(size_class, 0) + 1
        self._sums[size_class] = self._sums.get(size_class, 0) + elements
        self.batches += 1

    def sizes(self) -> list[tuple[float, int]]:
        """Return (elements, batches) of every size, the smallest first."""
        return [
            (self._sums[size_class] / self._counts[size_class], self._counts[size_class])
            for size_class in sorted(self._counts)
        ]

    @property
    def differs(self) -> bool:
        """Whether two batches of different sizes were seen."""
        return len(self._counts) > 1

    @property
    def varies(self) -> bool:
        """Whether the sizes differ by more than `VARIES_FROM`."""
        _, deviation = self.mean_of(1.0, Growth())
        return self.differs and deviation > VARIES_FROM

    def mean_of(self, base: float, growth: Growth) -> tuple[float, float]:
        """
        Return the mean work of the batches over that of a batch of `base` elements, and its relative deviation.

        Before the first batch that is (1, 0).
        """
        if self.batches == 0:
            return 1.0, 0.0
        work = [(growth.at(size / base), count) for size, count in self.sizes()]
        mean = sum(count * ratio for ratio, count in work) / self.batches
        if mean <= 0:
            return 1.0, 0.0
        variance = sum(count * (ratio - mean) ** 2 for ratio, count in work) / self.batches
        return mean, math.sqrt(variance) / mean

    def range(self) -> tuple[float, float]:
        """
        Return the sizes between which those of the run lie.

        Of more batches than were seen the ends lie further out: as far as those of so many draws from a normal
        distribution of the logarithm lie in nine of ten runs.
        """
        sizes = self.sizes()
        if self.of_run <= self.batches:
            return sizes[0][0], sizes[-1][0]
        logs = [(math.log(size), count) for size, count in sizes]
        mean = sum(count * log for log, count in logs) / max(1, self.batches)
        deviation = math.sqrt(
            sum(count * (log - mean) ** 2 for log, count in logs) / max(1, self.batches - 1)
        )
        further = math.sqrt(2 * math.log(self.of_run / _EITHER_END)) - math.sqrt(2 * math.log(self.batches))
        factor = math.exp(deviation * further)
        return sizes[0][0] / factor, sizes[-1][0] * factor

    def median(self) -> float:
        """Return the median size, the lower of two; 0 before the first batch."""
        left = (self.batches + 1) // 2
        for size, count in self.sizes():
            left -= count
            if left <= 0:
                return size
        return 0.0

    def is_typical(self, elements: int) -> bool:
        """Return whether a batch is as large as the median, within `TYPICAL`."""
        median = self.median()
        return median <= 0 or abs(elements - median) <= TYPICAL * median


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """
    What a step does for a batch of one size.

    Attributes:
        elements: of one micro-batch.
        operations: of one optimizer step.
        modules: the same work by submodule.
        memory: of one micro-batch.
    """

    elements: float
    operations: tuple[OperationGroup, ...]
    modules: tuple[ModuleWork, ...]
    memory: MemoryFacts


@dataclass(frozen=True, slots=True)
class MeanWork(TracedBatch):
    """
    What the mean step of a run does; elements and shapes are those of the traced batch, memory of the largest.

    Attributes:
        variation: how far the batches vary.
        growth: of the whole step's work with the size.
        mean: work of the mean step over that of the traced one.
    """

    variation: BatchVariation
    growth: Growth
    mean: float

    def over_mean(self, elements: float) -> float:
        """Return the work of a step with batches of a size, over that of the mean step."""
        return self.growth.at(elements / self.elements) / self.mean


def join_variations(sizes: BatchVariation | None, draws: BatchVariation | None) -> BatchVariation | None:
    """Return the variation of batches that differ in size and whose work is random besides."""
    if sizes is None or draws is None:
        return sizes or draws
    return BatchVariation(
        batches=sizes.batches,
        smallest_flops=min(sizes.smallest_flops, draws.smallest_flops),
        largest_flops=max(sizes.largest_flops, draws.largest_flops),
        work_log_sigma=math.hypot(sizes.work_log_sigma, draws.work_log_sigma),
    )


def choose_sizes(sizes: Sequence[int], spread: BatchSpread) -> tuple[int, int | None]:
    """
    Return the place of the size nearest to the median, and that of the size that differs most from it.

    Args:
        sizes: at least one, in elements.
        spread: of the run's batches.

    Returns:
        Two places in `sizes`; None for the second where sizes do not vary or none differs by `OTHER_FACTOR`.
    """
    median = spread.median()
    first = min(range(len(sizes)), key=lambda index: abs(sizes[index] - median))

    def factor(index: int) -> float:
        low, high = sorted((max(1, sizes[index]), max(1, sizes[first])))
        return high / low

    second = max(range(len(sizes)), key=factor)
    return first, second if spread.varies and factor(second) >= OTHER_FACTOR else None


def mean_work(traced: TracedBatch, spread: BatchSpread, other: TracedBatch | None = None) -> MeanWork:
    """
    Scale the work of a traced batch to the mean of all batches, and its memory to the largest.

    Args:
        traced: the batch that stands for the run.
        spread: sizes of the run's batches.
        other: the same step for a batch of another size; None: what is done for a batch is proportional to its size.
    """

    def growth_of(amount: Callable[[TracedBatch], int]) -> Growth:
        if other is None:
            return Growth()
        return Growth.between(amount(traced), amount(other), other.elements / traced.elements)

    at = traced.elements
    growths = {} if other is None else _growths(traced, other)
    whole = growth_of(_total)
    mean, deviation = spread.mean_of(at, whole)
    assumed = ONE_TRACE_DOUBT * abs(math.log(mean)) if other is None else 0.0
    sizes = spread.sizes() or [(at, 1)]
    smallest, largest = (
        sum(round(group.flops * _growths_of(group, growths)[0].at(size / at)) for group in traced.operations)
        for size in (spread.range() if spread.batches else (at, at))
    )
    operations = tuple(
        _scale(group, *(spread.mean_of(at, growth)[0] for growth in _growths_of(group, growths)))
        for group in traced.operations
    )
    return MeanWork(
        elements=at,
        operations=operations,
        modules=add_modules([(traced.modules, 1.0)], operations),
        memory=_memory_of(
            traced.memory, growth_of(lambda batch: batch.memory.saved_activation_bytes), sizes[-1][0] / at
        ),
        variation=BatchVariation(
            batches=spread.batches,
            smallest_flops=smallest,
            largest_flops=largest,
            work_log_sigma=math.hypot(deviation / math.sqrt(max(1, spread.batches)), assumed),
        ),
        growth=whole,
        mean=mean,
    )


def _total(batch: TracedBatch) -> int:
    """Return the FLOPs of a step, or its bytes where it has none."""
    flops = sum(group.flops for group in batch.operations)
    return flops or sum(group.bytes_moved for group in batch.operations)


def _variable_bytes(group: OperationGroup) -> int:
    return group.bytes_moved - group.bytes_fixed


def _make_key(group: OperationGroup) -> _Key:
    return group.phase, group.kind, group.name


def _growths(traced: TracedBatch, other: TracedBatch) -> _Growths:
    """Return how FLOPs and variable bytes of every operation grow, by name."""
    here, there = (
        add_rows((_make_key(group), (group.flops, _variable_bytes(group)), 1) for group in batch.operations)
        for batch in (traced, other)
    )
    ratio = other.elements / traced.elements
    growths: _Growths = {}
    for key, amounts in here.items():
        pairs = zip(amounts, there.get(key, (0, 0)), strict=True)
        by_flops, by_bytes = (Growth.between(*pair, ratio) for pair in pairs)
        growths[key] = (by_flops, by_bytes)
    return growths


def _growths_of(group: OperationGroup, growths: _Growths) -> tuple[Growth, Growth]:
    """Return how a group's FLOPs and bytes grow; the update, and what moves weights alone, do not."""
    if group.phase == "optimizer":
        return _CONSTANT, _CONSTANT
    usual = Growth() if _variable_bytes(group) else _CONSTANT
    return growths.get(_make_key(group), (usual, usual))


def _scale(group: OperationGroup, by_flops: float, by_bytes: float) -> OperationGroup:
    """Return a group with more FLOPs and more variable bytes by these factors."""
    moved = group.bytes_moved
    factor = 1.0 + _variable_bytes(group) * (by_bytes - 1.0) / moved if moved else 1.0
    weights = (1, by_flops, factor, factor, 1)
    return with_amounts(group, map(operator.mul, amounts_of(group), weights))


def _memory_of(memory: MemoryFacts, growth: Growth, ratio: float) -> MemoryFacts:
    """Return the memory of a batch of another size: whether a run fits is decided by its largest batch."""
    factor = growth.at(ratio)
    grown = {
        name: round(getattr(memory, name) * factor)
        for name in ("saved_activation_bytes", "largest_temporary_bytes")
    }
    moments = tuple(
        moment.model_copy(update={"activation_bytes": round(moment.activation_bytes * factor)})
        for moment in memory.moments
    )
    blocks = None if memory.blocks is None else memory.blocks.scale(factor)
    inputs = round(memory.input_bytes * ratio)
    return memory.model_copy(update={**grown, "input_bytes": inputs, "moments": moments, "blocks": blocks})
