"""
Memory of one device at its peak: tensors of the step, sharded by strategy, and what the process has beside them.

    weights + optimizer state (sharded by FSDP) + buffers + input + buckets of gradients
    + the highest instant of activations (x micro-batch ratio), gradients and temporaries
    + context of the process + buffers of the collective library

The instants come from the trace, not from a formula: gradients come as activations go, and the update's temporary comes
when no activation is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array
from trainfare_core.candidates import ModelParallel
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import JobProfile, MemoryMoment
from trainfare_core.prediction.memory.sharding import MemoryShares, Shards, shares_of_part, shares_of_whole

GIB: Final = 2**30
CONTEXT_BYTES: Final = 0.75 * GIB
"""CUDA context, loaded kernels and library workspaces of one process (0.5-1 GiB on current torch builds)."""
COLLECTIVE_BYTES: Final = 0.5 * GIB
"""Channel buffers of the collective library, in every process of a run on several devices. A planning figure."""
RESERVE_BYTES: Final = 0.3 * GIB
RESERVE_SHARE: Final = 0.015
"""Memory that the driver keeps of a device whose own figure is not in the catalogue (`visible_bytes`): 0.7 to 2 % more
than what torch shows of A100, H100, V100 and RTX 4090, whose memory corrects errors at no cost of it, or not at all."""


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """
    Bytes on one device; arrays of shape (columns,) that add up to `total_bytes`.

    All but the overhead are tensors, which torch's allocator counts as allocated.
    """

    weights_bytes: Array
    gradients_bytes: Array
    optimizer_bytes: Array
    activations_bytes: Array
    temporary_bytes: Array
    overhead_bytes: Array

    @property
    def allocated_bytes(self) -> Array:
        """The allocator's peak: what `torch.cuda.max_memory_allocated` counts."""
        return np.asarray(
            self.weights_bytes + self.gradients_bytes + self.optimizer_bytes
            + self.activations_bytes + self.temporary_bytes
        )  # fmt: skip

    @property
    def total_bytes(self) -> Array:
        """What the process uses of its device at the peak."""
        return np.asarray(self.allocated_bytes + self.overhead_bytes)


def memory_parts(
    profile: JobProfile, ratio: Array, world: Array, sharded: NDArray[np.bool_],
    parallel: ModelParallel | None = None, passes: NDArray[np.int64] | None = None, *, flat_units: bool = True,
    shards: Shards | None = None,
) -> MemoryParts:  # fmt: skip
    """
    Return the parts of one device's memory at its highest instant, without any correction by measurements.

    Args:
        profile: the job, unsharded, with one micro-batch.
        ratio: micro-batch over the profile's, shape (columns,).
        world: devices of the whole run.
        sharded: whether weights, gradients and optimizer state are sharded over them (FSDP).
        parallel: how plans split the model; None: none does.
        passes: forward passes of one optimizer step: gradients of earlier ones are there all the time, and a pipeline
            has so many micro-batches to keep in flight; None: the profile's own.
        flat_units: see `shares_of_whole`.
        shards: of plans that divide neither nothing nor all of it over all devices; None: as `sharded` says.
    """
    facts = profile.memory
    if passes is None:
        passes = np.full(ratio.shape, profile.parallel.accumulate_grad_batches, dtype=np.int64)
    if shards is None:
        shards = Shards.of_fsdp(world, sharded)
    shares = (
        shares_of_whole(profile, shards, flat_units=flat_units)
        if parallel is None
        else shares_of_part(profile, world, sharded, parallel, passes)
    )
    highest = _highest(profile, ratio, shares, passes)
    several = (world > 1) | (parallel is not None)
    bucket = np.where(
        (world > 1) & (shards.state <= 1) & (parallel is None), float(facts.gradient_bytes), 0.0
    )
    bucket = bucket + shares.bucket_bytes
    return MemoryParts(
        weights_bytes=profile.parameter_bytes * shares.stored + facts.buffer_bytes,
        gradients_bytes=np.asarray(highest.gradients + bucket),
        optimizer_bytes=profile.optimizer.state_bytes * shares.state,
        activations_bytes=highest.activations,
        temporary_bytes=highest.temporary,
        overhead_bytes=np.asarray(CONTEXT_BYTES + np.where(several, COLLECTIVE_BYTES, 0.0)),
    )


@dataclass(frozen=True, slots=True)
class _Instant:
    """Bytes on one device; arrays of shape (columns,)."""

    activations: Array
    temporary: Array
    gradients: Array


def _highest(profile: JobProfile, ratio: Array, shares: MemoryShares, passes: NDArray[np.int64]) -> _Instant:
    """Return the instant of each column with the most bytes alive."""
    instants = [_instant(profile, moment, ratio, shares, passes) for moment in _moments(profile)]

    def stack_instants(name: str) -> Array:
        return np.stack([np.broadcast_to(getattr(instant, name), ratio.shape) for instant in instants])

    activations, temporary, gradients = (stack_instants(n) for n in ("activations", "temporary", "gradients"))
    which = np.argmax(activations + temporary + gradients, axis=0)
    column = np.arange(len(ratio))
    return _Instant(activations[which, column], temporary[which, column], gradients[which, column])


def _instant(
    profile: JobProfile, moment: MemoryMoment, ratio: Array, shares: MemoryShares, passes: NDArray[np.int64]
) -> _Instant:
    facts = profile.memory
    kept_bytes = min(moment.activation_bytes, facts.saved_activation_bytes)
    gradients = np.where(passes > 1, max(facts.gradient_bytes, moment.gradient_bytes), moment.gradient_bytes)
    temporary = (moment.activation_bytes - kept_bytes) * shares.passing * ratio
    temporary += (moment.fixed_bytes + moment.optimizer_bytes) * shares.stored
    if moment.phase != "optimizer":
        temporary += shares.gathered_bytes
    if moment.phase == "backward":
        temporary += np.minimum(shares.unreduced_bytes, gradients * shares.gradients / shares.stored)
    # All activations wait at the end of forward alone: in a pipeline, on the stage that computes the loss, which keeps
    # those of one micro-batch.
    at_loss = moment.activation_bytes >= facts.saved_activation_bytes
    share = shares.kept_last if at_loss else shares.kept
    return _Instant(
        activations=(kept_bytes * share + facts.input_bytes * shares.passing) * ratio,
        temporary=temporary,
        gradients=gradients * shares.gradients,
    )


def _moments(profile: JobProfile) -> tuple[MemoryMoment, ...]:
    """Return the instants that can be the peak; of a profile without a watched step, sums that no step exceeds."""
    facts = profile.memory
    if facts.moments:
        return facts.moments
    largest = facts.saved_activation_bytes + facts.largest_temporary_bytes
    copies = profile.optimizer.implementation in ("foreach", "mixed")  # a foreach update copies the gradients
    return (
        MemoryMoment(phase="backward", activation_bytes=largest, gradient_bytes=facts.gradient_bytes),
        MemoryMoment(
            phase="optimizer", activation_bytes=0, gradient_bytes=facts.gradient_bytes,
            optimizer_bytes=facts.gradient_bytes if copies else 0,
        ),
    )  # fmt: skip


def usable_memory_bytes(device: Accelerator) -> float:
    """
    Return the bytes that training processes can allocate on the device, one for each of its cores.

    What the context of each takes is on the other side of the comparison, in `MemoryParts.overhead_bytes`.
    """
    if device.visible_bytes is not None:
        return device.visible_bytes
    return device.memory_bytes * (1.0 - RESERVE_SHARE) - RESERVE_BYTES * device.cores
