"""Shares of a model's memory on one device, by parallel strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array, Flags
from trainfare_core.candidates import SHARDINGS, ModelParallel
from trainfare_core.job_profile import JobProfile

GATHERED_UNITS: Final = 2
"""FSDP holds one unit gathered for compute while it prefetches the next."""
ZERO_BUCKET_BYTES: Final = 10**9
"""Reduction and gathering buckets of a sharded optimizer: 5e8 16-bit elements each, DeepSpeed's default."""

_WEIGHTED_KINDS: Final = frozenset(("matmul", "grouped_matmul", "convolution", "embedding"))


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """
    Shares of the unsharded model's memory on one device, and buffers beside them; arrays of shape (columns,).

    Attributes:
        stored: of weights.
        gradients: of gradients; more than `stored` where frozen weights have gradients too.
        state: of the optimizer.
        kept: of the activations that wait for backward.
        kept_last: the same on the device that computes the loss, the last stage of a pipeline.
        passing: of the activations and their gradients that do not.
        gathered_bytes: weights put together for compute.
        unreduced_bytes: gradients that wait, whole, for their reduction, at most.
        bucket_bytes: buffers of a sharded optimizer.
    """

    stored: Array
    gradients: Array
    state: Array
    kept: Array
    kept_last: Array
    passing: Array
    gathered_bytes: Array
    unreduced_bytes: Array
    bucket_bytes: Array


@dataclass(frozen=True, slots=True)
class Shards:
    """
    Over how many devices each part of a model is divided, 1 is "whole on each"; arrays of shape (columns,).

    Attributes:
        weights: FSDP: all devices; hybrid FSDP: those of one machine.
        gradients: the same, and ZeRO-2: all devices.
        state: of the optimizer; the same, and ZeRO-1: all devices.
    """

    weights: Array
    gradients: Array
    state: Array

    @classmethod
    def of(cls, sharding: NDArray[np.int64], per_machine: Array, world: Array) -> Shards:
        """Return the shards of plans: `sharding` indexes `SHARDINGS`, the others are devices."""

        def mark_shardings(*names: str) -> Flags:
            return np.isin(sharding, [SHARDINGS.index(name) for name in names])

        weights = np.where(
            mark_shardings("hybrid"), per_machine, np.where(mark_shardings("fsdp"), world, 1.0)
        )
        return cls(
            weights=weights,
            gradients=np.where(mark_shardings("zero2"), world, weights),
            state=np.where(mark_shardings("zero1", "zero2"), world, weights),
        )

    def times(self, cores: Array) -> Shards:
        """Return the shards where each device is so many cores; what is whole on a device is whole on each core."""
        return Shards(
            *(np.where(part > 1, part * cores, part) for part in (self.weights, self.gradients, self.state))
        )

    @classmethod
    def of_fsdp(cls, world: Array, sharded: Flags) -> Shards:
        """Return shards of all three over all devices where `sharded`, none elsewhere."""
        devices = np.where(sharded, np.maximum(world, 1.0), 1.0)
        return cls(devices, devices, devices)


def shares_of_whole(profile: JobProfile, shards: Shards, *, flat_units: bool) -> MemoryShares:
    """
    Return the shares of a device that computes the whole model: with DDP, FSDP or ZeRO.

    Args:
        profile: the job, unsharded.
        shards: over how many devices weights, gradients and state are divided.
        flat_units: whether a unit's frozen and trained weights are one flat parameter, whose gradient is as large as
            all of it (FSDP of whole blocks in torch's first version, as Lightning's `FSDPStrategy` wraps them).
    """
    sharded = shards.weights > 1
    zero = ~sharded & (shards.state > 1)
    ones = np.ones_like(shards.weights)
    gradients, unit = profile.memory.gradient_bytes, _largest_unit_bytes(profile)
    all_weights = _same_type_bytes(profile) if flat_units else gradients
    more = np.where(sharded & (all_weights > gradients > 0), all_weights / max(gradients, 1), 1.0)
    weights = float(profile.parameter_bytes)
    return MemoryShares(
        stored=1.0 / shards.weights,
        gradients=more / shards.gradients,
        state=1.0 / shards.state,
        kept=ones,
        kept_last=ones,
        passing=ones,
        gathered_bytes=np.where(sharded, min(GATHERED_UNITS * unit, weights), 0.0),
        unreduced_bytes=np.where(sharded, unit * more * gradients / max(weights, 1.0), 0.0),
        bucket_bytes=np.where(zero, 2.0 * min(gradients, ZERO_BUCKET_BYTES), 0.0),
    )


def shares_of_part(
    profile: JobProfile, world: Array, sharded: Flags, parallel: ModelParallel, passes: NDArray[np.int64]
) -> MemoryShares:
    """
    Return the shares of a device that holds a part of the model.

    The first pipeline stage is the fullest: it has the embedding, and keeps as many micro-batches as there are stages
    (1F1B), one chunk more with an interleaved schedule (Narayanan et al. 2021), whose last stage keeps one chunk and
    those of all stages for each further chunk of its own. Without sequence parallelism block
    inputs, norms and dropout are on every device of a tensor group (Korthikanti et al. 2022). Sharded stages of a
    pipeline keep their weights gathered and their gradients whole over the micro-batches of a step. Devices of an
    expert group hold different experts; each expert's optimizer state is sharded over the replicas that it has, and so
    are its weights and gradients with FSDP: over all devices together, as the other weights are.
    """
    tensor, pipeline = parallel.tensor.astype(np.float64), parallel.pipeline.astype(np.float64)
    staged = pipeline > 1
    data = np.maximum(world / (tensor * pipeline * parallel.context), 1.0)
    shard = 1.0 / np.maximum(world / (tensor * pipeline), 1.0)  # FSDP spreads over the context group as well
    flight = np.where(
        staged, pipeline * (1 + (pipeline - 1) / (pipeline * parallel.virtual) * (parallel.virtual > 1)), 1.0
    )
    flight = np.minimum(flight, np.maximum(passes, 1))
    last = (1 + pipeline * (parallel.virtual - 1)) / parallel.virtual
    dense = np.where(staged, _stage_share(profile, pipeline), 1.0) / tensor
    experts = _expert_share(profile)
    expert_share = 1 - experts + experts / parallel.expert
    part = dense * expert_share
    passing = 1.0 / (tensor * parallel.context)
    split = np.ones_like(tensor, dtype=np.bool_)
    if parallel.sequence_parallel is not None:
        split = parallel.sequence_parallel
    undivided = np.where(split, 0.0, _compute_undivided_share(profile))
    kept_share = passing * (1 - undivided) + undivided / parallel.context
    unit, compute = _largest_unit_bytes(profile), float(sum(n * size for n, size in _weights(profile)))
    trained = min(1.0, profile.memory.gradient_bytes / max(float(profile.parameter_bytes), 1.0))
    whole = np.where(
        staged, compute * part, np.minimum(GATHERED_UNITS * unit, compute) * expert_share / tensor
    )
    bucket = np.minimum(profile.memory.gradient_bytes * part, ZERO_BUCKET_BYTES)
    return MemoryShares(
        stored=np.where(sharded, shard * dense, part),
        gradients=np.where(sharded, shard * dense, part),
        state=np.where(sharded, shard * dense, np.where(parallel.sharded_optimizer, dense / data, part)),
        kept=kept_share * flight / pipeline,
        kept_last=kept_share * np.minimum(last, np.maximum(passes, 1)) / pipeline,
        passing=passing,
        gathered_bytes=np.where(sharded, whole, 0.0),
        unreduced_bytes=np.where(
            sharded, np.where(staged, compute * part, unit * expert_share / tensor) * trained, 0.0
        ),
        bucket_bytes=np.where(parallel.sharded_optimizer & ~sharded, 2 * bucket, 0.0),
    )


def _stage_share(profile: JobProfile, pipeline: Array) -> Array:
    """Return the share of the weights on the fullest stage: an equal part of the blocks, and one table of tokens."""
    weights = _weights(profile)
    half = any(g.kind == "matmul" and g.dtype in ("bf16", "fp16") for g in profile.operations)
    computed = sum(n * size for n, size in weights) / (2 if half else 4)
    table = max((size for n, size in weights if n == 1), default=0.0) / (2 if half else 4)
    stored = float(sum(group.count for group in profile.parameters))
    tables = 2 if stored > computed + 0.5 * table else 1  # an embedding of its own beside the head
    share = table / max(stored, 1.0)
    return np.asarray((1 - tables * share) / pipeline + share)


def _expert_share(profile: JobProfile) -> float:
    """Return the share of the weights that are experts': those of grouped products of a forward pass."""
    weights = _weights(profile)
    grouped = sum(
        g.bytes_fixed for g in profile.operations if g.phase == "forward" and g.kind == "grouped_matmul"
    )
    return grouped / max(sum(n * size for n, size in weights), 1.0)


def _compute_undivided_share(profile: JobProfile) -> float:
    """Return the share of the saved activations that tensor parallelism alone does not divide: norms and dropout."""
    norms = [g for g in profile.operations if g.kind == "normalization" and g.phase == "forward"]
    sizes = {int(np.prod(g.shape)) for g in norms}
    bytes_ = sum(g.bytes_moved - g.bytes_fixed for g in norms)
    bytes_ += sum(
        g.launches * g.shape[0]
        for g in profile.operations
        if g.kind == "dropout" and g.phase == "forward" and g.shape and g.shape[0] in sizes
    )
    return min(1.0, bytes_ / max(profile.memory.saved_activation_bytes, 1))


def _weights(profile: JobProfile) -> list[tuple[int, float]]:
    """Return launches and bytes of every weight of a forward pass."""
    return [
        (group.launches, group.bytes_fixed / group.launches)
        for group in profile.operations
        if group.phase == "forward" and group.launches and group.kind in _WEIGHTED_KINDS
    ]


def _same_type_bytes(profile: JobProfile) -> int:
    """Return the bytes of all weights of the types that train: what one flat parameter can hold."""
    types = {group.dtype for group in profile.parameters if group.trainable}
    return sum(group.parameter_bytes for group in profile.parameters if group.dtype in types)


def _largest_unit_bytes(profile: JobProfile) -> float:
    """
    Return the bytes of the largest FSDP unit.

    A profile does not say how the model is wrapped. Layers that repeat share one shape, so the weights of all
    products that run more than once in forward, counted once each, make about one block; a single large
    weight, such as an embedding, is a unit too.
    """
    weights = _weights(profile)
    block = sum(size for launches, size in weights if launches > 1)
    largest = max((size for _, size in weights), default=0.0)
    stored, computed = float(profile.parameter_bytes), sum(n * size for n, size in weights)
    smaller = min(1.0, stored / max(computed, 1.0))  # weights in 8 or 4 bits are gathered as they are stored
    return min(max(block, largest) * smaller, stored)
