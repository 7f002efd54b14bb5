"""Record fused calls: one ledger line for a call, and one for its backward, whose nodes are known once it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from trainfare.trace import torch_private
from trainfare.trace.fused_calls import Region
from trainfare.trace.kinds import compute_dtype
from trainfare.trace.launch_recorder import LaunchRecorder
from trainfare.trace.ledger import Line
from trainfare.trace.memory import MemoryWatch
from trainfare.trace.storages import Traffic, tensors_in
from trainfare_core.job_profile import Phase


@dataclass(slots=True)
class RegionRecorder:
    """
    The fused calls of one recorded step.

    Attributes:
        memory: follows storages.
        launches: takes the lines of calls.
        by_node: calls by the autograd nodes that are their backward.
    """

    memory: MemoryWatch
    launches: LaunchRecorder
    by_node: dict[tuple[int, str], Region] = field(default_factory=dict[tuple[int, str], Region])
    _recomputed_calls: dict[tuple[str, tuple[int, ...]], list[list[int]]] = field(
        default_factory=dict[tuple[str, tuple[int, ...]], list[list[int]]]
    )
    _results: dict[tuple[str, str, tuple[int, ...]], int] = field(
        default_factory=dict[tuple[str, str, tuple[int, ...]], int]
    )

    def take_backward(self, name: str, moved: Traffic) -> bool:
        """
        Return whether an operation of backward is part of a fused call's; enter that call's backward on its first one.

        Args:
            name: of the operation.
            moved: what it reads and writes.
        """
        node = torch_private.current_node()
        region = None if node is None else self.by_node.get(torch_private.node_key(node))
        if region is None:
            return False
        task = torch_private.graph_task()
        foreign = any(key not in region.backward_storages for key, _ in moved.read)
        if name == "add" and region.entered_in_task == task and foreign:
            # Autograd sums the gradients of a tensor with several uses under the node that ran last.
            return False
        region.backward_storages |= {key for key, _ in moved.written}
        if region.entered_in_task != task:
            region.entered_in_task = task
            region.backward_storages |= {key for key, _ in moved.read}  # the incoming gradient
            self._enter_backward(region)
        self.launches.fusion.extend(region.backward_launch, moved)
        return True

    def _enter_backward(self, region: Region) -> None:
        recomputed_calls = self._recomputed_calls.get((region.name, region.shape))
        held = region.held
        if recomputed_calls and not region.autograd_keeps:
            # Checkpointing hands the recomputed tensors to the autograd nodes of the first forward.
            held = recomputed_calls.pop()
            self.memory.read_in_backward(held)
        self.memory.read_in_backward(region.held)
        line = Line(region.kind, f"{region.name}_backward", "backward", region.dtype, region.shape)
        region.backward_launch = self.launches.fusion.add_several(line)
        self.launches.enter(
            region.backward_launch,
            line,
            flops=region.backward_flops,
            read=region.backward_read,
            written=region.backward_written,
            fixed=region.backward_fixed,
            module=self.launches.modules.running("backward", recomputed=False),
        )
        self.memory.live.enter_transient(region.backward_made)
        self.memory.live.unpin(held)

    def close(self, region: Region, out: Any, phase: Phase) -> None:
        """Record a fused call that has returned, and store which autograd nodes are its backward."""
        recomputed = torch_private.recomputing()
        results = tensors_in(out)
        if results and results[0].dtype != region.operands[0].dtype:
            # Autocast has cast the operands inside the call.
            if region.kind == "recurrent":
                sizes = results[0].element_size(), region.operands[0].element_size()
                region.extra_kept_bytes = region.extra_kept_bytes * sizes[0] // sizes[1]
            region.dtype = compute_dtype(region.kind, "", results, [])
        registry = self.memory.registry
        moved = Traffic(registry.size_tensors(region.operands), registry.size_tensors(results))
        self.memory.live.enter((*region.operands, *results), phase)
        if phase == "forward":
            self.memory.enter_forward(region.operands, moved)
        elif phase == "backward":
            self.memory.enter_backward(region.operands, moved, recomputed=recomputed)
        self.launches.add(
            Line(region.kind, region.name, phase, region.dtype, region.shape, recomputed),
            moved,
            region.flops,
            kept_bytes=region.extra_kept_bytes if region.wanted else 0,
        )
        if region.wanted and phase != "optimizer":
            self._prepare_backward(region, moved, results)
            for key in region.node_keys(out):
                self.by_node[key] = region
            if recomputed:
                self._recomputed_calls.setdefault((region.name, region.shape), []).append(region.held)
        self._results[region.name, region.dtype, region.shape] = moved.bytes_written
        region.operands, region.wanted = [], []  # the trace keeps no tensor alive that the step releases

    def stop(self, region: Region) -> None:
        """
        Record a recomputed fused call that checkpointing has ended, having the tensors that it needs.

        CUDA's kernel runs to its end: what its backward reads is among its results. Those are of the size that the
        same call had in forward.
        """
        if not region.launched or not torch_private.recomputing():
            return
        result_bytes = (
            self._results.get((region.name, region.dtype, region.shape), 0) + region.extra_kept_bytes
        )
        moved = Traffic(self.memory.registry.size_tensors(region.operands), ())
        self.memory.enter_backward(region.operands, moved, recomputed=True)
        self.launches.add(
            Line(region.kind, region.name, "backward", region.dtype, region.shape, recomputed=True),
            moved,
            region.flops,
            kept_bytes=result_bytes,
        )
        self.memory.live.enter_transient(result_bytes)

    def _prepare_backward(self, region: Region, moved: Traffic, results: list[torch.Tensor]) -> None:
        fixed = self.memory.fixed
        wanted = self.memory.registry.size_tensors(region.wanted)
        region.backward_read = moved.bytes_written + region.extra_kept_bytes
        region.backward_written = sum(size for _, size in wanted)
        region.backward_fixed = sum(size for key, size in wanted if key in fixed)
        region.backward_made = region.backward_written - region.backward_fixed
        held: list[torch.Tensor] = []
        if region.backward_reads_operands:
            region.backward_read += moved.bytes_read
            region.backward_fixed += sum(size for key, size in moved.read if key in fixed)
            held += region.operands
        if region.backward_reads_results:
            region.backward_read += moved.bytes_written
            held += results
        # Autocast casts the operands of attention inside the call: autograd keeps the casts, and not what was given.
        cast = [
            t
            for t in held
            if region.kind == "attention" and t.is_floating_point() and t.dtype != results[0].dtype
        ]
        given = [tensor for tensor in held if all(tensor is not other for other in cast)]
        region.held = [self.memory.registry.key(tensor) for tensor in given]
        if region.autograd_keeps or torch_private.in_backward():
            self.memory.live.pin(region.held)
            for tensor in given:
                self.memory.save(tensor)
            cast_bytes = sum(tensor.numel() for tensor in cast) * results[0].element_size()
            region.held.append(self.memory.save_extra(region.extra_kept_bytes + cast_bytes))
