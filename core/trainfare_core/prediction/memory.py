"""
Peak memory of one device: what the step keeps, sharded by strategy, and what the framework takes around it.

    weights + optimizer state (sharded by FSDP) + buffers + input + fragmentation + CUDA context + NCCL buffers
    + the highest instant of activations (x micro-batch ratio), gradients and temporaries

The instants come from the trace, not from a formula: gradients come as activations go, and the update's temporary comes
when no activation is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.accelerators import Accelerator
from trainfare_core.candidates import ModelParallel
from trainfare_core.job_profile import JobProfile, MemoryMoment

__all__ = ["MemoryParts", "memory_parts", "usable_memory_bytes"]

Array = NDArray[np.float64]

GIB: Final = 2**30
CONTEXT_BYTES: Final = 0.75 * GIB
"""CUDA context, loaded kernels and library workspaces of one process (0.5-1 GiB on current torch builds)."""
COLLECTIVE_BYTES: Final = 0.5 * GIB
"""Channel buffers of the collective library, in every process of a run on several devices."""
FRAGMENTATION_SHARE: Final = 0.06
"""Of what the allocator holds for activations, temporaries and gradients: reserved but not allocated."""
RESERVE_BYTES: Final = 0.3 * GIB
RESERVE_SHARE: Final = 0.015
"""What the driver and error-correcting memory keep from every device."""
GATHERED_UNITS: Final = 2
"""FSDP holds one unit gathered for compute while it prefetches the next."""

_WEIGHTED_KINDS: Final = frozenset(("matmul", "grouped_matmul", "convolution", "embedding"))


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Bytes on one device; arrays of shape (columns,) that add up to `total_bytes`."""

    weights_bytes: Array
    gradients_bytes: Array
    optimizer_bytes: Array
    activations_bytes: Array
    temporary_bytes: Array
    overhead_bytes: Array

    @property
    def total_bytes(self) -> Array:
        """The peak."""
        return np.asarray(
            self.weights_bytes + self.gradients_bytes + self.optimizer_bytes
            + self.activations_bytes + self.temporary_bytes + self.overhead_bytes
        )  # fmt: skip


def memory_parts(
    profile: JobProfile, ratio: Array, world: Array, sharded: NDArray[np.bool_],
    parallel: ModelParallel | None = None, passes: NDArray[np.int64] | None = None,
) -> MemoryParts:  # fmt: skip
    """
    Return the peak memory of one device: of its highest instant.

    Args:
        profile: the job, unsharded, with one micro-batch.
        ratio: micro-batch over the profile's, shape (columns,).
        world: devices of the whole run.
        sharded: whether weights, gradients and optimizer state are sharded over them (FSDP).
        parallel: how plans split the model; None: none does.
        passes: forward passes of one optimizer step: gradients of earlier ones are there all the time, and a pipeline
            has so many micro-batches to keep in flight; None: the profile's own.
    """
    facts = profile.memory
    if passes is None:
        passes = np.full(ratio.shape, profile.parallel.accumulate_grad_batches, dtype=np.int64)
    shares = (
        _whole_model(profile, world, sharded)
        if parallel is None
        else _part_of_model(profile, world, sharded, parallel, passes)
    )
    highest = _highest(profile, ratio, shares, passes)
    held = highest.activations + highest.temporary + highest.gradients
    several = (world > 1) | (parallel is not None)
    bucket = np.where((world > 1) & ~sharded & (parallel is None), float(facts.gradient_bytes), 0.0)
    return MemoryParts(
        weights_bytes=profile.parameter_bytes * shares.stored + facts.buffer_bytes,
        gradients_bytes=highest.gradients,
        optimizer_bytes=profile.optimizer.state_bytes * shares.state,
        activations_bytes=highest.activations,
        temporary_bytes=highest.temporary,
        overhead_bytes=np.asarray(
            CONTEXT_BYTES + FRAGMENTATION_SHARE * held + np.where(several, COLLECTIVE_BYTES, 0.0) + bucket
        ),
    )


@dataclass(frozen=True, slots=True)
class _Shares:
    """What one device has of each kind of memory of the unsharded model; arrays of shape (columns,)."""

    stored: Array
    """Of weights and gradients."""
    state: Array
    kept: Array
    """Of the activations that wait for backward."""
    passing: Array
    """Of activations and their gradients that do not."""
    gathered_bytes: Array
    """Weights put together for compute."""
    unreduced_bytes: Array
    """Most that waits, whole, for its reduction over the devices."""


@dataclass(frozen=True, slots=True)
class _Instant:
    """Bytes on one device; arrays of shape (columns,)."""

    activations: Array
    temporary: Array
    gradients: Array


def _whole_model(profile: JobProfile, world: Array, sharded: NDArray[np.bool_]) -> _Shares:
    share = np.where(sharded, 1.0 / np.maximum(world, 1.0), 1.0)
    one = np.ones_like(share)
    return _Shares(share, share, one, one, *_whole_units(profile, share, one))


def _whole_units(profile: JobProfile, share: Array, model: Array) -> tuple[Array, Array]:
    """Return the bytes of weights and of gradients that FSDP holds whole, of a share 1/model of each layer."""
    unit, weights = _largest_unit_bytes(profile), float(profile.parameter_bytes)
    trained = profile.memory.gradient_bytes / max(weights, 1.0)
    split = (share < 1) / model
    return min(GATHERED_UNITS * unit, weights) * split, unit * trained * split


def _part_of_model(
    profile: JobProfile, world: Array, sharded: NDArray[np.bool_], parallel: ModelParallel,
    passes: NDArray[np.int64],
) -> _Shares:  # fmt: skip
    """
    Return the shares of a device that holds a part of the model.

    The first pipeline stage is the fullest: it keeps as many micro-batches as there are stages (1F1B), one chunk
    more with an interleaved schedule (Narayanan et al. 2021).
    """
    tensor, pipeline = parallel.tensor.astype(np.float64), parallel.pipeline.astype(np.float64)
    model = tensor * pipeline
    data = np.maximum(world / (model * parallel.context), 1.0)
    flight = np.where(
        pipeline > 1,
        pipeline * (1 + (pipeline - 1) / (pipeline * parallel.virtual) * (parallel.virtual > 1)),
        1.0,
    )
    flight = np.minimum(flight, np.maximum(passes, 1))
    passing = 1.0 / (tensor * parallel.context)
    shard = np.where(sharded, 1.0 / data, 1.0)
    gathered, unreduced = _whole_units(profile, shard, tensor)
    return _Shares(
        stored=shard / model,
        state=np.where(sharded | parallel.sharded_optimizer, 1.0 / data, 1.0) / model,
        kept=passing * flight / pipeline,
        passing=passing,
        gathered_bytes=gathered,
        unreduced_bytes=unreduced,
    )


def _highest(profile: JobProfile, ratio: Array, shares: _Shares, passes: NDArray[np.int64]) -> _Instant:
    """Return the instant of each column at which most is alive."""
    instants = [_instant(profile, moment, ratio, shares, passes) for moment in _moments(profile)]

    def stacked(name: str) -> Array:
        return np.stack([np.broadcast_to(getattr(one, name), ratio.shape) for one in instants])

    activations, temporary, gradients = (stacked(n) for n in ("activations", "temporary", "gradients"))
    which = np.argmax(activations + temporary + gradients, axis=0)
    column = np.arange(len(ratio))
    return _Instant(activations[which, column], temporary[which, column], gradients[which, column])


def _instant(
    profile: JobProfile, moment: MemoryMoment, ratio: Array, shares: _Shares, passes: NDArray[np.int64]
) -> _Instant:
    facts = profile.memory
    kept = min(moment.activation_bytes, facts.saved_activation_bytes)
    gradients = np.where(passes > 1, max(facts.gradient_bytes, moment.gradient_bytes), moment.gradient_bytes)
    temporary = (moment.activation_bytes - kept) * shares.passing * ratio
    temporary += (moment.fixed_bytes + moment.optimizer_bytes) * shares.stored
    if moment.phase != "optimizer":
        temporary += shares.gathered_bytes
    if moment.phase == "backward":
        temporary += np.minimum(shares.unreduced_bytes, moment.gradient_bytes)
    return _Instant(
        activations=(kept * shares.kept + facts.input_bytes * shares.passing) * ratio,
        temporary=temporary,
        gradients=gradients * shares.stored,
    )


def _moments(profile: JobProfile) -> tuple[MemoryMoment, ...]:
    """Return the instants that can be the peak; of a profile without a watched step, sums that no step exceeds."""
    facts = profile.memory
    if facts.moments:
        return facts.moments
    largest = facts.saved_activation_bytes + facts.largest_temporary_bytes
    return (
        MemoryMoment(phase="backward", activation_bytes=largest, gradient_bytes=facts.gradient_bytes),
        MemoryMoment(
            phase="optimizer", activation_bytes=0, gradient_bytes=facts.gradient_bytes,
            optimizer_bytes=_optimizer_temporary_bytes(profile),
        ),
    )  # fmt: skip


def usable_memory_bytes(device: Accelerator) -> float:
    """Return what a training process can allocate of the device's memory."""
    return device.memory_bytes * (1.0 - RESERVE_SHARE) - RESERVE_BYTES


def _optimizer_temporary_bytes(profile: JobProfile) -> int:
    """Return what the update allocates: a foreach one makes a copy of the gradients."""
    copies = profile.optimizer.implementation in ("foreach", "mixed")
    return profile.memory.gradient_bytes if copies else 0


def _largest_unit_bytes(profile: JobProfile) -> float:
    """
    Return the bytes of the largest FSDP unit.

    A profile does not say how the model is wrapped. Layers that repeat share one shape, so the weights of all
    products that run more than once in forward, counted once each, make about one block; a single large
    weight, such as an embedding, is a unit too.
    """
    weights = [
        (group.launches, group.bytes_fixed / group.launches)
        for group in profile.operations
        if group.phase == "forward" and group.launches and group.kind in _WEIGHTED_KINDS
    ]
    block = sum(size for launches, size in weights if launches > 1)
    largest = max((size for _, size in weights), default=0.0)
    return min(max(block, largest), float(profile.parameter_bytes))
