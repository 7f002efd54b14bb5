"""Turn each operation that torch dispatches into a ledger line: kind, FLOPs, bytes, and phase of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch

from trainfare.trace import torch_private
from trainfare.trace.flops import convolution_flops, operation_flops
from trainfare.trace.fused_calls import Region
from trainfare.trace.kinds import (
    SKIPPED_NAMESPACES,
    classify,
    compute_dtype,
    dtype_name,
    free_of_kernels,
)
from trainfare.trace.launch_recorder import LaunchRecorder
from trainfare.trace.ledger import Ledger, Line, OptimizerCall
from trainfare.trace.memory import MemoryWatch
from trainfare.trace.module_work import ModuleWatch
from trainfare.trace.region_recorder import RegionRecorder
from trainfare.trace.shapes import convolution_shape
from trainfare.trace.storages import MAKES_SPARSE, Traffic, looks_up, tensor_bytes, tensors_in, traffic
from trainfare_core.job_profile import SPARSE_TENSOR, Phase

# Kinds that are recorded as themselves within an optimizer's update; all others become kind "optimizer".
_MATRIX_KINDS_OR_UNKNOWN: Final = frozenset({
    "matmul", "grouped_matmul", "convolution", "attention", "recurrent", "unknown"
})  # fmt: skip
# Operations by which torch's optimizers create their state in the first step.
_STATE_CREATORS: Final = frozenset({"zeros_like", "zeros", "full_like", "new_zeros"})
_VALUE_TAGS: Final = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})
"""Of operations whose result on the host depends on values: reading a scalar, or as many rows as are not zero."""
_MADE_SPARSE: Final = f"{SPARSE_TENSOR}_with_dims_and_tensors"
_OTHER_KERNEL: Final = "kernel that torch did not launch"
"""Name of what wrote memory that torch only allocated: Triton or a library of CUDA kernels, called by user code."""


class _Call(NamedTuple):
    """One dispatched operation with its result."""

    name: str
    func: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    out: Any
    operands: list[torch.Tensor]
    results: list[torch.Tensor]
    moved: Traffic

    @property
    def qualified_name(self) -> str:
        return f"{getattr(self.func, 'namespace', 'torch')}.{self.name}"

    def flops(self) -> int | None:
        return operation_flops(
            getattr(self.func, "overloadpacket", self.func), self.args, self.kwargs, self.out
        )


@dataclass(slots=True)
class Recorder:
    """
    The operations and memory of one recorded step.

    Attributes:
        memory: follows storages.
        modules: knows which submodule is running.
        ledger: adds up operations.
        notes: what could not be recorded, in sentences.
        optimizing: whether the optimizer's update is running.
        looped_parameters: number of parameters over which this machine loops where CUDA would run multi-tensor
            kernels; 0 where CUDA loops as well.
        parameter_groups: of the optimizer; each has its own kernels.
        user_call: whether Python code of the user called torch while autograd was running.
        region: the fused call that is running, if any.
        reads_values: the host has read a value outside the update, by which what follows may be chosen.
        draws_choice: a single random number was drawn on the host outside the update, as for leaving out a layer.
        real: whether tensors have values, so that what no operation wrote and one reads, another kernel wrote.
        launches: enters what the model launches.
        regions: records fused calls.
    """

    memory: MemoryWatch
    modules: ModuleWatch
    ledger: Ledger = field(default_factory=Ledger)
    notes: list[str] = field(default_factory=list[str])
    optimizing: bool = False
    looped_parameters: int = 0
    parameter_groups: int = 1
    user_call: bool = False
    region: Region | None = None
    real: bool = False
    reads_values: bool = False
    draws_choice: bool = False
    launches: LaunchRecorder = field(init=False)
    regions: RegionRecorder = field(init=False)
    _unwritten: dict[int, str] = field(default_factory=dict[int, str])
    _was_in_backward: bool = False

    def __post_init__(self) -> None:
        """Make the recorders of launches and of fused calls."""
        self.launches = LaunchRecorder(self.memory, self.modules, self.ledger)
        self.regions = RegionRecorder(self.memory, self.launches)

    def record(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        """Record one dispatched operation: an `OpOverload` or a higher-order operator."""
        packet = getattr(func, "overloadpacket", None)
        if packet is not None and func.namespace in SKIPPED_NAMESPACES:
            return
        operands, results = [*tensors_in(args), *tensors_in(kwargs)], tensors_in(out)
        if not self.optimizing:
            self._note_chance(getattr(func, "tags", ()), results)
        if packet is not None and free_of_kernels(func):
            self.memory.enter_allocation(results, tensors_in(args))
            if self.real and "empty" in str(packet.__name__):
                self._unwritten.update((self.memory.registry.key(t), dtype_name(t.dtype)) for t in results)
            return
        name = str(getattr(packet if packet is not None else func, "__name__", func))
        moved = traffic(name, func, args, operands, results, self.memory.registry)
        call = _Call(name, func, args, kwargs, out, operands, results, moved)
        makes_sparse = name.startswith(MAKES_SPARSE) and torch_private.in_backward()
        if not (moved.written or moved.read or makes_sparse) or _only_a_view(func, moved):
            return
        backward = self._follow_backward()
        if backward and name == "clone" and _is_sparse(operands):
            return  # torch takes the gradient itself where no trace holds it
        others = self._list_written_by_others(moved)
        if self._is_in_region(call, backward=backward):
            return
        phase, recomputed = self._phase(call.moved, backward=backward)
        for dtype, part in others:
            line = Line("unknown", _OTHER_KERNEL, phase, dtype, (), recomputed)
            self.launches.add(line, Traffic((), (part,)), 0)
        self._enter_memory(call, phase)
        if phase == "optimizer":
            self._optimizer_operation(call)
        else:
            self._model_operation(call, phase, recomputed=recomputed)
            if phase == "backward" and not makes_sparse and _is_sparse(results):
                self._gradient_of_bags(results[0], recomputed=recomputed)

    def _note_chance(self, tags: Sequence[torch.Tag], results: Sequence[torch.Tensor]) -> None:
        """Note what may make the work of each step another one."""
        self.reads_values |= not _VALUE_TAGS.isdisjoint(tags)
        self.draws_choice |= torch.Tag.nondeterministic_seeded in tags and any(
            tensor.device.type == "cpu" and tensor.numel() == 1 for tensor in results
        )

    def _gradient_of_bags(self, gradient: torch.Tensor, *, recomputed: bool) -> None:
        """Record that a kernel made a sparse tensor of rows of its own, which stay until the update."""
        values = torch_private.list_stored_parts(gradient)[1]
        self.memory.live.enter_extra(self.memory.registry.key(gradient), tensor_bytes(values))
        line = Line("copy", _MADE_SPARSE, "backward", dtype_name(gradient.dtype), (), recomputed)
        self.launches.add(line, Traffic((), ()), 0)

    def _list_written_by_others(self, moved: Traffic) -> list[tuple[str, tuple[int, int]]]:
        """Return type, storage and bytes of what an operation reads and no operation has written."""
        written = {key for key, _ in moved.written}
        for key in written:
            self._unwritten.pop(key, None)
        parts = [(self._unwritten.pop(part[0]), part) for part in moved.read if part[0] in self._unwritten]
        return [(dtype, part) for dtype, part in parts if part[1]]

    def _enter_memory(self, call: _Call, phase: Phase) -> None:
        if self.optimizing:
            state = call.name in _STATE_CREATORS
            self.memory.live.enter_update(call.operands, call.results, state=state)
        else:
            handles_gradients = phase == "optimizer"  # outside an update: zeroing gradients, clipping by hand
            entered: Phase = "backward" if handles_gradients else phase
            self.memory.live.enter((*call.operands, *call.results), entered)

    def _follow_backward(self) -> bool:
        backward = torch_private.in_backward()
        if self._was_in_backward and not backward:
            self.memory.update_gradients()
        self._was_in_backward = backward
        return backward

    def _phase(self, moved: Traffic, *, backward: bool) -> tuple[Phase, bool]:
        """Return the phase, and whether activation checkpointing is running a forward operation again."""
        if self.optimizing:
            return "optimizer", False
        if backward:
            return "backward", self._recomputing()
        gradients = self.memory.gradients
        if gradients and any(key in gradients for key, _ in (*moved.read, *moved.written)):
            return "optimizer", False
        return "forward", False

    def _recomputing(self) -> bool:
        return self.user_call and torch_private.recomputing()

    # ---- fused regions

    def _is_in_region(self, call: _Call, *, backward: bool) -> bool:
        if self.region is not None:
            self.region.launched = True
            return True
        if not backward or not self.regions.by_node or self.optimizing or self._recomputing():
            # A block that ends in a fused call is recomputed under the node of that call, which asks for its tensors.
            return False
        return self.regions.take_backward(call.name, call.moved)

    def close_region(self, region: Region, out: Any) -> None:
        """Record a fused call that has returned."""
        if region.launched:
            backward = self._follow_backward()
            phase: Phase = "optimizer" if self.optimizing else "backward" if backward else "forward"
            self.regions.close(region, out, phase)

    # ---- forward and backward

    def _model_operation(self, call: _Call, phase: Phase, *, recomputed: bool) -> None:
        node = torch_private.current_node() if phase == "backward" else None
        if phase == "forward":
            self.memory.enter_forward(call.operands, call.moved)
        else:
            self.memory.enter_backward(call.operands, call.moved, recomputed=recomputed)
        self.memory.mark_fixed_results(node, call.operands, call.results)
        if call.name == "convolution_backward":
            self._convolution_backward(call, phase, recomputed=recomputed)
            return
        flops = call.flops()
        kind, shape = classify(call.func, call.args, call.out, has_formula=flops is not None)
        dtype = compute_dtype(kind, call.name, call.operands, call.results)
        if phase == "forward":
            self.modules.count_launch(call.name, shape)
        accumulates = (
            node is not None and call.name in ("add", "add_") and self.memory.edges(node).accumulates
        )
        self.launches.add(
            Line(kind, call.qualified_name, phase, dtype, shape, recomputed),
            call.moved,
            flops or 0,
            only_rows=looks_up(call.name),
            accumulation=accumulates,
        )

    def _convolution_backward(self, call: _Call, phase: Phase, *, recomputed: bool) -> None:
        """Record input gradient and weight gradient separately: a frozen input or weight has none."""
        args = call.args
        grad, source, weight, stride, transposed, groups, mask = (args[i] for i in (0, 1, 2, 4, 7, 9, 10))
        axes = convolution_shape(
            source, weight, grad, stride, groups=int(groups), transposed=bool(transposed)
        )
        flops = convolution_flops(source.shape if transposed else grad.shape, weight.shape)
        dtype = compute_dtype("convolution", call.name, [grad], [])
        registry = self.memory.registry
        for which, is_needed, other, gradients in (
            ("input", mask[0], weight, call.out[:1]),
            ("weight", mask[1], source, call.out[1:]),
        ):
            if is_needed:
                results = registry.size_tensors(t for t in gradients if t is not None)
                self.launches.add(
                    Line("convolution", f"{call.qualified_name}.{which}", phase, dtype, axes, recomputed),
                    Traffic(registry.size_tensors((grad, other)), results),
                    flops,
                )

    # ---- the optimizer

    def _optimizer_operation(self, call: _Call) -> None:
        everything = [*call.operands, *call.results]
        if all(tensor.dim() == 0 for tensor in everything):
            return  # scalar step counters, which torch keeps on the CPU
        if call.name in _STATE_CREATORS:
            note = "optimizer state was created in the traced step; writing it is not counted"
            if note not in self.notes:
                self.notes.append(note)
            return
        flops = call.flops()
        kind, shape = classify(call.func, call.args, call.out, has_formula=flops is not None)
        dtype = compute_dtype(kind, call.name, everything, [])
        moved = call.moved
        if kind in _MATRIX_KINDS_OR_UNKNOWN:
            self.ledger.add(
                Line(kind, call.qualified_name, "optimizer", dtype, shape),
                flops=flops or 0,
                read=moved.bytes_read,
                written=moved.bytes_written,
                fixed=moved.bytes_read + moved.bytes_written,
            )
            return
        sparse = [tensor for tensor in call.operands if tensor.layout is torch.sparse_coo]
        if sparse:  # it touches the rows of a batch, which more samples have more of
            rows = sum(int(part.numel()) for part in torch_private.list_stored_parts(sparse[0]))
            self.ledger.add(
                Line("indexing", call.qualified_name, "optimizer", dtype, (rows,)),
                flops=0, read=moved.bytes_read, written=moved.bytes_written, fixed=0,
            )  # fmt: skip
            return
        lists = [
            tensors
            for tensors in (tensors_in(a) for a in call.args if not isinstance(a, torch.Tensor))
            if tensors
        ]
        multi = bool(lists) and call.name.startswith(("_foreach", "_fused", "_amp_foreach"))
        existing = self.memory.registry.keys(call.operands)
        self.ledger.add_optimizer(
            OptimizerCall(
                name=call.qualified_name,
                dtype=dtype,
                sizes=tuple(int(t.numel()) for t in lists[0])
                if multi
                else (max(int(t.numel()) for t in everything),),
                lists=len(lists) if multi else max(1, len({id(t) for t in everything if t.dim()})),
                bytes_read=moved.bytes_read,
                bytes_written=moved.bytes_written,
                new_bytes=sum(size for key, size in moved.written if key not in existing),
                loop=0 if multi else self.looped_parameters,
                parameter_groups=self.parameter_groups,
            )
        )


def _is_sparse(results: Sequence[torch.Tensor]) -> bool:
    return bool(results) and results[0].layout is torch.sparse_coo


def _only_a_view(func: Any, moved: Traffic) -> bool:
    """Return whether every result shares memory with an operand and nothing was written."""
    schema = getattr(func, "_schema", None)
    if schema is None or schema.is_mutable or not moved.written:
        return False
    read = {key for key, _ in moved.read}
    return all(key in read for key, _ in moved.written)
