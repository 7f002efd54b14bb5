"""Add up the launches of a step by group, and return the `OperationGroup`s of one optimizer step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, cast

from trainfare.trace.repetition import Item, extend_rows, extend_sequence, same
from trainfare_core.job_profile import ModuleWork, OperationGroup, OperationKind, Phase

Fused: TypeAlias = Callable[[int], None]

# Limits of one multi-tensor launch, from `aten/src/ATen/native/cuda/MultiTensorApply.cuh`.
_CHUNK_ELEMENTS: Final = 65_536
_CHUNKS_PER_LAUNCH: Final = 320
_TENSORS_PER_LAUNCH: Final = (110, 64, 48, 36, 30)
"""Tensors in one launch of an operation over 1, 2, 3, 4 and 5 lists."""


_DIGITS: Final = 3
"""Of a share of bytes, so that profiles stay short."""


class Line(NamedTuple):
    """The key of a group: operations that agree in all of these are added up."""

    kind: OperationKind
    name: str
    phase: Phase
    dtype: str
    shape: tuple[int, ...]
    recomputed: bool = False
    in_block: bool = False


@dataclass(slots=True)
class _Tally:
    launches: int = 0
    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_fixed: int = 0
    bytes_followed: int = 0
    """Of the launches for which `bytes_left` is known."""
    bytes_left: int = 0
    """What a fusing compiler leaves of `bytes_followed`."""

    def add(self, launches: int, flops: int, read: int, written: int, fixed: int) -> None:
        self.launches += launches
        self.flops += flops
        self.bytes_read += read
        self.bytes_written += written
        self.bytes_fixed += min(fixed, read + written)

    def amounts(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class OptimizerCall:
    """
    One operation of the optimizer phase.

    Attributes:
        name: the operation, e.g. 'aten.lerp_'.
        dtype: of the tensors it updates.
        sizes: elements of each tensor it updates; one entry unless it is a multi-tensor operation.
        lists: tensors it reads or writes per updated tensor.
        bytes_read: by the whole operation.
        bytes_written: by the whole operation.
        new_bytes: bytes of results that are new tensors.
        loop: number of parameters over which this machine loops where CUDA runs multi-tensor kernels; 0 where
            CUDA loops as well.
        parameter_groups: of the optimizer; each has its own kernels.
    """

    name: str
    dtype: str
    sizes: tuple[int, ...]
    lists: int
    bytes_read: int
    bytes_written: int
    new_bytes: int
    loop: int = 0
    parameter_groups: int = 1

    def of_tensors(self) -> tuple[int, ...]:
        """Return what grows with the tensors: lists, and bytes read, written and of new tensors."""
        return self.lists, self.bytes_read, self.bytes_written, self.new_bytes

    def of_loop(self) -> tuple[int, ...]:
        """Return what is the same in all operations of an update: parameters and their groups."""
        return self.loop, self.parameter_groups


def multi_tensor_launches(sizes: Sequence[int], lists: int) -> int:
    """
    Return how many CUDA kernels one multi-tensor operation takes.

    A launch takes at most 320 chunks of 65,536 elements, and at most 110, 64, 48, 36 or 30 tensors for
    operations over 1 to 5 lists.

    Args:
        sizes: elements of each tensor.
        lists: how many lists of tensors the operation reads and writes.
    """
    if not sizes:
        return 0
    chunks = sum(max(1, math.ceil(size / _CHUNK_ELEMENTS)) for size in sizes)
    tensors = _TENSORS_PER_LAUNCH[min(max(lists, 1), len(_TENSORS_PER_LAUNCH)) - 1]
    return max(math.ceil(chunks / _CHUNKS_PER_LAUNCH), math.ceil(len(sizes) / tensors))


@dataclass(slots=True)
class Ledger:
    """Adds up the operations of one micro-batch and of one optimizer update."""

    _tallies: dict[Line, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    _accumulations: dict[Line, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    _optimizer: list[OptimizerCall] = field(default_factory=list[OptimizerCall])
    _modules: dict[tuple[str, Phase, bool], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )

    def add(
        self,
        line: Line,
        *,
        flops: int,
        read: int,
        written: int,
        fixed: int,
        accumulation: bool = False,
        module: str = "",
    ) -> Fused:
        """
        Add one launch, and return a function that adds the bytes a fusing compiler leaves of it: known at the end.

        Args:
            line: its group.
            flops: its FLOPs.
            read: bytes read.
            written: bytes written.
            fixed: the part of `read + written` that does not shrink with the batch.
            accumulation: whether it adds a gradient to that of an earlier micro-batch.
            module: name of the submodule in which it runs.
        """
        work = self._modules[module, line.phase, accumulation]
        work[0] += flops
        work[1] += read + written
        tallies = self._accumulations if accumulation else self._tallies
        tally = tallies[line]
        tally.add(1, flops, read, written, fixed)

        def record_fused(left: int) -> None:
            tally.bytes_followed += read + written
            tally.bytes_left += min(left, read + written)

        return record_fused

    def add_optimizer(self, call: OptimizerCall) -> None:
        """Add one operation of the optimizer's update."""
        self._optimizer.append(call)

    def longer(self, second: Ledger, third: Ledger, more: int) -> Ledger:
        """
        Return the ledger of a longer module, of which this is the shortest version.

        Args:
            second: with one more piece of equal blocks.
            third: with two more.
            more: pieces beyond the shortest.

        Raises:
            NotRepeatedError: the operations do not grow in the same way with each piece.
        """
        tallies, accumulations = (
            {line: _Tally(*amounts) for line, amounts in extend_rows(map(_rows, tables), more).items()}
            for tables in (
                (self._tallies, second._tallies, third._tallies),
                (self._accumulations, second._accumulations, third._accumulations),
            )
        )
        updates = _longer_updates((self._optimizer, second._optimizer, third._optimizer), more)
        modules = extend_rows((self._modules, second._modules, third._modules), more)
        return Ledger(tallies, accumulations, updates, modules)

    def unknown_names(self) -> list[str]:
        """Return the names of operations whose FLOPs are unknown, sorted."""
        return sorted({line.name for line in self._tallies if line.kind == "unknown"})

    def largest_optimizer_temporary_bytes(self) -> int:
        """Return the bytes of new tensors of the multi-tensor operation that allocates most."""
        passes: dict[str, list[OptimizerCall]] = defaultdict(list)
        largest = 0
        for call in self._optimizer:
            largest = max(largest, call.new_bytes)
            if call.loop and call.new_bytes:
                passes[call.name].append(call)
        for calls in passes.values():
            largest = max(largest, sum(c.new_bytes for c in calls) // _repeats(calls))
        return largest

    def groups(
        self, micro_batches: int, accumulated: Iterable[tuple[str, int, int]]
    ) -> tuple[OperationGroup, ...]:
        """
        Return the operations of one optimizer step, sorted.

        Args:
            micro_batches: forward and backward passes in one optimizer step. Where it is above 1, the
                gradients of all but the first are added to the existing ones.
            accumulated: (dtype, elements, bytes) of every gradient.
        """
        groups: list[OperationGroup] = []
        for line, tally in self._tallies.items():
            groups.append(_group(line, tally, 1 if line.phase == "optimizer" else micro_batches))
        if micro_batches == 1:
            groups += [_group(line, tally, 1) for line, tally in self._accumulations.items()]
        else:
            groups += _accumulation_groups(accumulated, micro_batches - 1)
        groups += self._optimizer_groups()
        return tuple(sorted(groups, key=_order))

    def modules(
        self, micro_batches: int, accumulated: Iterable[tuple[str, int]], operations: Iterable[OperationGroup]
    ) -> tuple[ModuleWork, ...]:
        """
        Return the work of one optimizer step by submodule and phase, sorted; it adds up to that of the operations.

        Args:
            micro_batches: as for `groups`.
            accumulated: (module, bytes) of every gradient.
            operations: the result of `groups`. The optimizer's update belongs to no submodule.
        """
        totals: dict[tuple[str, Phase], list[int]] = defaultdict(lambda: [0, 0])

        def add(module: str, phase: Phase, flops: int, moved: int) -> None:
            entry = totals[module, phase]
            entry[0] += flops
            entry[1] += moved

        for (module, phase, accumulation), (flops, moved) in self._modules.items():
            if phase != "optimizer" and not (accumulation and micro_batches > 1):
                times = 1 if accumulation else micro_batches
                add(module, phase, times * flops, times * moved)
        if micro_batches > 1:
            for module, size in accumulated:
                add(module, "backward", 0, 3 * size * (micro_batches - 1))
        for group in operations:
            if group.phase == "optimizer":
                add("", "optimizer", group.flops, group.bytes_moved)
        return tuple(
            ModuleWork(module=module, phase=phase, flops=flops, bytes_moved=moved)
            for (module, phase), (flops, moved) in sorted(totals.items())
            if flops or moved
        )

    def _optimizer_groups(self) -> list[OperationGroup]:
        tallies: dict[Line, _Tally] = defaultdict(_Tally)
        looped: dict[tuple[str, str], list[OptimizerCall]] = defaultdict(list)
        for call in self._optimizer:
            if call.loop:
                looped[call.name, call.dtype].append(call)
                continue
            launches = multi_tensor_launches(call.sizes, call.lists) if len(call.sizes) != 1 else 1
            line = Line("optimizer", call.name, "optimizer", call.dtype, (sum(call.sizes),))
            tallies[line].add(
                launches, 0, call.bytes_read, call.bytes_written, call.bytes_read + call.bytes_written
            )
        for (name, dtype), calls in looped.items():
            repeats = _repeats(calls)
            sizes = [size for call in calls for size in call.sizes]
            once = multi_tensor_launches(sizes[: math.ceil(len(sizes) / repeats)], calls[0].lists)
            launches = min(len(calls), repeats * max(once, calls[0].parameter_groups))
            line = Line("optimizer", _foreach_name(name), "optimizer", dtype, (sum(sizes) // repeats,))
            read, written = sum(c.bytes_read for c in calls), sum(c.bytes_written for c in calls)
            tallies[line].add(launches, 0, read, written, read + written)
        return [_group(line, tally, 1) for line, tally in tallies.items()]


def _repeats(calls: Sequence[OptimizerCall]) -> int:
    """Return how often a loop over the parameters ran the same operation on each of them."""
    return max(1, round(len(calls) / calls[0].loop))


def _foreach_name(name: str) -> str:
    namespace, _, operation = name.rpartition(".")
    return f"{namespace}.{operation if operation.startswith('_f') else '_foreach_' + operation}"


def _accumulation_groups(accumulated: Iterable[tuple[str, int, int]], times: int) -> list[OperationGroup]:
    tallies: dict[Line, _Tally] = defaultdict(_Tally)
    for dtype, elements, size in accumulated:
        line = Line("elementwise", "aten.add_", "backward", dtype, (elements,))
        tallies[line].add(1, 0, 2 * size, size, 3 * size)
    return [_group(line, tally, times) for line, tally in tallies.items()]


def _group(line: Line, tally: _Tally, times: int) -> OperationGroup:
    names = ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")
    sizes = {name: times * getattr(tally, name) for name in names}
    share = round(tally.bytes_left / tally.bytes_followed, _DIGITS) if tally.bytes_followed else None
    return OperationGroup(**line._asdict(), **sizes, fused_bytes_share=share)


def _order(group: OperationGroup) -> tuple[int, bool, str, str, str, tuple[int, ...], bool]:
    phase = ("forward", "backward", "optimizer").index(group.phase)
    return phase, group.recomputed, group.kind, group.name, group.dtype, group.shape, group.in_block


def _rows(tallies: Mapping[Line, _Tally]) -> dict[Line, tuple[int, ...]]:
    return {line: tally.amounts() for line, tally in tallies.items()}


def _longer_updates(updates: Sequence[Sequence[OptimizerCall]], more: int) -> list[OptimizerCall]:
    """Return the operations of a longer module's update: more of them, or over more tensors."""
    by_operation = [_by_operation(calls) for calls in updates]
    same(*(list(calls) for calls in by_operation))
    longer: list[OptimizerCall] = []
    for key in by_operation[0]:
        first, second, third = (calls[key] for calls in by_operation)
        if len(first) == len(second) == len(third):
            longer += [_larger(calls, more) for calls in zip(first, second, third, strict=True)]
            continue
        # One size may be the number of all parameters; those of a list are paired with themselves alone.
        shared = _extend([calls[0].of_loop() for calls in (first, second, third)], more)
        items = extend_sequence(_items(first), _items(second), _items(third), more)
        longer += [
            OptimizerCall(
                *key[:2], (item.amounts[0], *cast("tuple[int, ...]", item.key)), *item.amounts[1:], *shared
            )
            for item in items
        ]
    return longer


def _items(calls: Iterable[OptimizerCall]) -> list[Item]:
    return [Item(call.sizes[1:], (call.sizes[0], *call.of_tensors())) for call in calls]


def _larger(calls: Sequence[OptimizerCall], more: int) -> OptimizerCall:
    """Return one operation of the update, which may be over the tensors of all blocks."""
    sizes = [call.sizes for call in calls]
    if len(set(map(len, sizes))) == 1:
        all_sizes = _extend(sizes, more)
    else:
        first, second, third = ([Item((), (size,)) for size in numbers] for numbers in sizes)
        all_sizes = [item.amounts[0] for item in extend_sequence(first, second, third, more)]
    amounts = _extend([(*call.of_tensors(), *call.of_loop()) for call in calls], more)
    return OptimizerCall(calls[0].name, calls[0].dtype, tuple(all_sizes), *amounts)


def _extend(steps: Iterable[Sequence[int]], more: int) -> list[int]:
    return extend_rows(({"": amounts} for amounts in steps), more)[""]


def _by_operation(calls: Iterable[OptimizerCall]) -> dict[tuple[str, str, bool], list[OptimizerCall]]:
    by_operation: dict[tuple[str, str, bool], list[OptimizerCall]] = defaultdict(list)
    for call in calls:
        by_operation[call.name, call.dtype, call.loop > 0].append(call)
    return by_operation
