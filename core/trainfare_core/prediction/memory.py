"""
Peak memory of one device: what the step keeps, sharded by strategy, and what the framework takes around it.

    weights + gradients + optimizer state (sharded by FSDP) + buffers + saved activations and input (x
    micro-batch ratio) + the largest temporary + fragmentation + CUDA context + NCCL buffers

The activations come from the trace, not from a formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.accelerators import Accelerator
from trainfare_core.candidates import ModelParallel
from trainfare_core.job_profile import JobProfile

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
    Return the peak memory of one device.

    Args:
        profile: the job, unsharded, with one micro-batch.
        ratio: micro-batch over the profile's, shape (columns,).
        world: devices of the whole run.
        sharded: whether weights, gradients and optimizer state are sharded over them (FSDP).
        parallel: how plans split the model; None: none does.
        passes: forward passes of one optimizer step, for the micro-batches in flight of a pipeline.
    """
    if parallel is not None:
        return _split_parts(profile, ratio, world, sharded, parallel, passes)
    facts = profile.memory
    share = np.where(sharded, 1.0 / np.maximum(world, 1.0), 1.0)
    weights = float(profile.parameter_bytes)
    gathered = np.where(
        sharded, np.minimum(GATHERED_UNITS * _largest_unit_bytes(profile), weights * (1 - share)), 0.0
    )
    gradients = facts.gradient_bytes * share
    activations = (facts.saved_activation_bytes + facts.input_bytes) * ratio
    temporary = facts.largest_temporary_bytes * ratio + gathered
    temporary += np.maximum(_optimizer_temporary_bytes(profile) * share - activations - temporary, 0.0)
    fragmentation = FRAGMENTATION_SHARE * (activations + temporary + gradients)
    collective = np.where(world > 1, COLLECTIVE_BYTES, 0.0)
    bucket = np.where((world > 1) & ~sharded, float(facts.gradient_bytes), 0.0)
    return MemoryParts(
        weights_bytes=weights * share + facts.buffer_bytes,
        gradients_bytes=gradients,
        optimizer_bytes=profile.optimizer.state_bytes * share,
        activations_bytes=activations,
        temporary_bytes=temporary,
        overhead_bytes=CONTEXT_BYTES + fragmentation + collective + bucket,
    )


def _split_parts(
    profile: JobProfile, ratio: Array, world: Array, sharded: NDArray[np.bool_], parallel: ModelParallel,
    passes: NDArray[np.int64] | None,
) -> MemoryParts:  # fmt: skip
    """
    Return the peak of a device that holds a part of the model.

    The first pipeline stage is the fullest: it keeps as many micro-batches as there are stages (1F1B), one chunk
    more with an interleaved schedule (Narayanan et al. 2021).
    """
    facts = profile.memory
    tensor, pipeline = parallel.tensor.astype(np.float64), parallel.pipeline.astype(np.float64)
    model = tensor * pipeline
    data = np.maximum(world / (model * parallel.context), 1.0)
    stored = np.where(sharded, 1.0 / data, 1.0) / model
    state = np.where(sharded | parallel.sharded_optimizer, 1.0 / data, 1.0) / model
    flight = np.where(
        pipeline > 1,
        pipeline * (1 + (pipeline - 1) / (pipeline * parallel.virtual) * (parallel.virtual > 1)),
        1.0,
    )
    if passes is not None:
        flight = np.minimum(flight, np.maximum(passes, 1))
    share = ratio / (tensor * parallel.context)
    activations = (facts.saved_activation_bytes * flight / pipeline + facts.input_bytes) * share
    temporary = facts.largest_temporary_bytes * share
    gradients = facts.gradient_bytes * stored
    return MemoryParts(
        weights_bytes=profile.parameter_bytes * stored + facts.buffer_bytes,
        gradients_bytes=gradients,
        optimizer_bytes=profile.optimizer.state_bytes * state,
        activations_bytes=np.asarray(activations),
        temporary_bytes=np.asarray(temporary),
        overhead_bytes=np.asarray(
            CONTEXT_BYTES + COLLECTIVE_BYTES + FRAGMENTATION_SHARE * (activations + temporary + gradients)
        ),
    )


def usable_memory_bytes(device: Accelerator) -> float:
    """Return what a training process can allocate of the device's memory."""
    return device.memory_bytes * (1.0 - RESERVE_SHARE) - RESERVE_BYTES


def _optimizer_temporary_bytes(profile: JobProfile) -> float:
    """
    Return what the update allocates when the activations are gone: a foreach one makes a copy of the
    gradients.
    """
    return (
        float(profile.memory.gradient_bytes)
        if profile.optimizer.implementation in ("foreach", "mixed")
        else 0.0
    )


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
