"""Sizes read from the module and its optimizers after a step."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch.optim.optimizer import Optimizer

from trainfare.trace import torch_private
from trainfare.trace.kinds import dtype_name
from trainfare.trace.live_memory import moments_of
from trainfare.trace.recorder import Recorder
from trainfare.trace.storages import StorageRegistry, tensor_bytes, tensors_in
from trainfare_core.job_profile import MemoryFacts, OptimizerFacts, ParameterGroup, SynchronizedNorms

Implementation = Literal["fused", "foreach", "for_loop", "mixed", "unknown"]


@contextlib.contextmanager
def _plain_reading() -> Generator[None, None, None]:
    """Read tensors without their `__torch_function__`, which may refuse `numel`."""
    with torch_private.without_torch_functions():
        yield


@dataclass(frozen=True, slots=True)
class BatchNorms:
    """
    Channels of each submodule that trains and normalises over samples.

    Attributes:
        of_device: over those of one device's micro-batch (BatchNorm).
        of_all: over those of all devices (SyncBatchNorm).
    """

    of_device: tuple[int, ...] = ()
    of_all: tuple[int, ...] = ()

    def synchronize(self, *, asked: bool) -> BatchNorms:
        """Return them as `Trainer(sync_batchnorm=asked)` makes them on several devices."""
        return BatchNorms((), (*self.of_all, *self.of_device)) if asked else self

    @property
    def synchronized_norms(self) -> SynchronizedNorms | None:
        """Those that devices share, as the profile has them; None where there are none."""
        if not self.of_all:
            return None
        return SynchronizedNorms(modules=len(self.of_all), channels=sum(self.of_all))


def parameter_groups(module: torch.nn.Module) -> tuple[ParameterGroup, ...]:
    """Return the parameters of a module by dtype and trainability, each storage once."""
    return group_parameters([(parameter, parameter.requires_grad) for parameter in module.parameters()])


@_plain_reading()
def group_parameters(
    parameters: Sequence[tuple[torch.Tensor, bool]], others: Iterable[ParameterGroup] = ()
) -> tuple[ParameterGroup, ...]:
    """
    Return parameters by dtype and trainability, each storage once.

    Args:
        parameters: and whether each trains.
        others: groups to which they are added.
    """
    sums: dict[tuple[str, bool], list[int]] = defaultdict(lambda: [0, 0])
    for group in others:
        sums[group.dtype, group.trainable] = [group.count, group.parameter_bytes]
    trains = {id(parameter): trainable for parameter, trainable in parameters}
    for parameter in _distinct(parameter for parameter, _ in parameters):
        entry = sums[dtype_name(parameter.dtype), trains[id(parameter)]]
        entry[0] += int(parameter.numel())
        entry[1] += int(parameter.numel()) * parameter.element_size()
    return tuple(
        ParameterGroup(dtype=dtype, trainable=trainable, count=count, parameter_bytes=size)
        for (dtype, trainable), (count, size) in sorted(sums.items())
    )


def batch_norms(module: torch.nn.Module) -> BatchNorms:
    """Return the submodules that train and normalise over samples."""
    torch_norms = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)

    def channels(kinds: type[torch.nn.Module] | tuple[type[torch.nn.Module], ...]) -> tuple[int, ...]:
        return tuple(
            int(cast("Any", norm).num_features)
            for norm in module.modules()
            if isinstance(norm, kinds) and norm.training
        )

    return BatchNorms(of_device=channels(torch_norms), of_all=channels(torch.nn.SyncBatchNorm))


@_plain_reading()
def list_accumulated_gradients(parameters: Iterable[torch.Tensor]) -> list[tuple[str, int, int]]:
    """Return (dtype, elements, bytes) of the gradient of every trainable parameter."""
    return [
        (dtype_name(p.dtype), int(p.numel()), int(p.numel()) * p.element_size())
        for p in _distinct(parameters)
        if p.requires_grad
    ]


@_plain_reading()
def gradient_owners(
    parameters: Iterable[torch.Tensor], owner: Callable[[torch.Tensor], str]
) -> list[tuple[str, int]]:
    """Return (module, bytes) of the gradient of every trainable parameter; `owner` returns a parameter's module."""
    return [(owner(p), int(p.numel()) * p.element_size()) for p in _distinct(parameters) if p.requires_grad]


@_plain_reading()
def buffer_bytes(module: torch.nn.Module) -> int:
    """Return the bytes of a module's buffers, each storage once."""
    return sum(tensor_bytes(b) for b in _distinct(module.buffers()))


@_plain_reading()
def memory_facts(module: torch.nn.Module, recorder: Recorder) -> MemoryFacts:
    """Return the memory facts of a recorded step, in bytes."""
    gradients = sum(
        tensor_bytes(p.grad) if p.grad is not None else int(p.numel()) * p.element_size()
        for p in _distinct(module.parameters())
        if p.requires_grad
    )
    return MemoryFacts(
        saved_activation_bytes=recorder.memory.count_saved_bytes(),
        gradient_bytes=gradients,
        buffer_bytes=buffer_bytes(module),
        input_bytes=recorder.memory.input_bytes(),
        largest_temporary_bytes=recorder.memory.largest_temporary_bytes(),
        moments=moments_of(recorder.memory.changes(), recorder.ledger.largest_optimizer_temporary_bytes()),
        blocks=recorder.memory.block_facts(),
    )


@_plain_reading()
def optimizer_facts(optimizers: Sequence[Optimizer]) -> OptimizerFacts:
    """Return names, state size and implementation of the optimizers."""
    state: list[torch.Tensor] = []
    for optimizer in optimizers:
        state += tensors_in(list(dict(optimizer.state).values()))
    kinds: set[Implementation] = {implementation(optimizer) for optimizer in optimizers}
    return OptimizerFacts(
        names=tuple(type(optimizer).__name__ for optimizer in optimizers),
        state_bytes=sum(int(t.numel()) * t.element_size() for t in _distinct(state)),
        implementation=_one_of(kinds),
    )


def implementation(optimizer: Optimizer) -> Implementation:
    """
    Return how CUDA runs an optimizer's update.

    Where neither `fused` nor `foreach` is chosen, torch takes multi-tensor kernels on CUDA, even if it loops on
    this machine.
    """
    kinds: set[Implementation] = set()
    groups: list[dict[str, Any]] = optimizer.param_groups
    for group in groups:
        if group.get("fused"):
            kinds.add("fused")
        elif "foreach" not in group or group["foreach"] is False or group.get("differentiable"):
            kinds.add("for_loop")
        else:
            kinds.add("foreach")
    return _one_of(kinds)


def count_looped_parameters(optimizer: Optimizer) -> int:
    """Return over how many parameters this machine loops where CUDA updates them together; 0 where CUDA loops too."""
    if implementation(optimizer) != "foreach":
        return 0
    groups: list[dict[str, Any]] = optimizer.param_groups
    return sum(1 for group in groups for parameter in group["params"] if parameter.grad is not None)


def _one_of(kinds: set[Implementation]) -> Implementation:
    if len(kinds) > 1:
        return "mixed"
    for kind in kinds:
        return kind
    return "unknown"


def _distinct(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors without those that share memory, offset and shape with an earlier one."""
    registry, seen, distinct = StorageRegistry(), set[tuple[Any, ...]](), list[torch.Tensor]()
    for tensor in tensors:
        strided = tensor.layout is torch.strided
        view = (registry.key(tensor), tensor.storage_offset() if strided else 0, tuple(tensor.shape))
        if view not in seen:
            seen.add(view)
            distinct.append(tensor)
    return distinct
