"""Which plans are tried for a job: `PlanSpace`, and what of the script's own plan it keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.job_profile import JobProfile
from trainfare_core.variants import JobVariant, variants_of, why_not_split

NODE_COUNTS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Machines of one kind that a plan may use whatever the batch, which may be changed with leave."""

MAX_NODES: Final = NODE_COUNTS[-1]

DEFAULT_MAX_NODES: Final = 4
"""Largest number of machines unless asked otherwise: beyond four, quota and placement limit more than price does."""

_OWN_SHARDINGS: Final = (
    ("deepspeed_stage_1", "zero1"),
    ("deepspeed_stage_3", "fsdp"),
    ("deepspeed", "zero2"),
    ("fsdpstrategy(sharding_strategy='hybrid_shard')", "hybrid"),
    ("fsdp", "fsdp"),
)
"""Beginnings of the names of Lightning's strategies, and what they share; DeepSpeed without a stage is its second."""


@dataclass(frozen=True, slots=True)
class PlanSpace:
    """
    Which plans are tried for a job.

    Attributes:
        max_nodes: largest number of machines in one plan; None: `DEFAULT_MAX_NODES`, or the job's own number if larger.
        keep_plan: only the script's own strategy, micro-batch and accumulation.
        lower_batch_norm: BatchNorm may see fewer samples of a device than in the script, and SyncBatchNorm of all
            devices, which changes what is trained.
        other_batch: where the script's global batch cannot be shared by all accelerators, the nearest one that can is
            planned, which changes what is trained.
        checkpointing: every plan is tried with activation checkpointing of the blocks that repeat too, where the
            profile knows what that costs.
        precision: every plan is tried in the other precisions that the profile was traced in and the hardware has.
        deepspeed: ZeRO-1 and ZeRO-2 are tried, which need another package, also where the script does not use it.
        model_parallel: plans that split the model itself over devices are tried too, where the profile is of a
            decoder; the script must be written for it.
        weak_scaling: every device keeps the script's own batch, so that more devices have a larger global batch; None:
            where the script, as it stands, does so.
        most_times_batch: largest global batch of a plan that scales so, over the script's.
    """

    max_nodes: int | None = None
    keep_plan: bool = False
    lower_batch_norm: bool = False
    other_batch: bool = False
    deepspeed: bool = False
    checkpointing: bool = False
    precision: bool = False
    model_parallel: bool = False
    weak_scaling: bool | None = None
    most_times_batch: float = math.inf

    def scales_weakly(self, profile: JobProfile) -> bool:
        """Return whether each device keeps the batch that it has in the script."""
        known = global_batch(profile) is not None and profile.parallel.replicas is None
        wanted = profile.batch.scales == "per_device" if self.weak_scaling is None else self.weak_scaling
        return known and wanted

    def node_counts(self, profile: JobProfile) -> NDArray[np.int64]:
        """Return the numbers of machines to try for a job, rising: also every one that can share its batch."""
        own_nodes, batch = profile.parallel.num_nodes, global_batch(profile)
        most = max(DEFAULT_MAX_NODES, own_nodes) if self.max_nodes is None else self.max_nodes
        sharing = [] if batch is None else [count for count in range(1, most + 1) if batch % count == 0]
        counts = sorted({*NODE_COUNTS, own_nodes, *sharing})
        return np.array([count for count in counts if count <= most], dtype=np.int64)

    def variants(self, profile: JobProfile) -> tuple[JobVariant, ...]:
        """Return the changes of a job that plans may make, none first."""
        if self.keep_plan:
            return (JobVariant(),)
        return variants_of(profile, checkpointing=self.checkpointing, precision=self.precision)

    def may_split(self, profile: JobProfile) -> bool:
        """Return whether plans may split a job's model."""
        return self.model_parallel and not self.keep_plan and not why_not_split(profile)

    def least_micro_batch(self, profile: JobProfile, world: NDArray[np.int64]) -> NDArray[np.float64]:
        """
        Return the smallest micro-batch that a device may have.

        BatchNorm never sees fewer samples than in the script: of one device, or of all where it is synchronized.

        Args:
            profile: the job.
            world: devices that share its global batch, shape (n,).
        """
        least = np.ones(len(world))
        if self.lower_batch_norm:
            return least
        own_micro = own_micro_batch(profile)
        if profile.batch.synchronized_norms is not None:
            least = np.maximum(least, count_synchronized_samples(profile) / world)
        return np.maximum(least, own_micro) if profile.batch.batch_norm else least


USUAL: Final = PlanSpace()
"""What is tried where nothing is asked for."""


def own_sharding(profile: JobProfile, nodes: int = MAX_NODES) -> str:
    """
    Return what of `SHARDINGS` the script's strategy is on several devices; auto is DDP, as in Lightning.

    Args:
        profile: the job.
        nodes: machines; on one of them hybrid FSDP is FSDP.
    """
    name = profile.parallel.strategy.lower()
    own = next((sharding for beginning, sharding in _OWN_SHARDINGS if name.startswith(beginning)), "ddp")
    return "fsdp" if (own, nodes) == ("hybrid", 1) else own


def _samples_per_step(profile: JobProfile) -> int | None:
    batch = profile.batch
    if batch.samples_per_step:
        return batch.samples_per_step
    return (
        batch.micro_batch_size * profile.parallel.accumulate_grad_batches if batch.micro_batch_size else None
    )


def global_batch(profile: JobProfile) -> int | None:
    """Return the samples of an optimizer step over all devices; None where they are not known."""
    samples = _samples_per_step(profile)
    return None if samples is None else samples * profile.parallel.data_parallel_size


def own_micro_batch(profile: JobProfile) -> float:
    """Return the script's micro-batch; that of a device's step shared by its accumulation where it is not known."""
    return float(
        profile.batch.micro_batch_size
        or (_samples_per_step(profile) or 0) / profile.parallel.accumulate_grad_batches
    )


def count_synchronized_samples(profile: JobProfile) -> float:
    """Return the samples of all devices in one forward pass of the script: what SyncBatchNorm sees."""
    return own_micro_batch(profile) * profile.parallel.data_parallel_size


def divisors(number: int) -> list[int]:
    """Return the divisors in rising order, by factoring: a profile may have a batch of up to 10^18 samples."""
    products = [1]
    for prime, power in _factors(number):
        products = [d * prime**exponent for d in products for exponent in range(power + 1)]
    return sorted(products)


def _factors(number: int) -> list[tuple[int, int]]:
    """Return prime factors found up to 10^6; what is left above counts as one factor."""
    factors: list[tuple[int, int]] = []
    prime = 2
    while prime * prime <= number and prime <= 1_000_000:
        power = 0
        while number % prime == 0:
            number, power = number // prime, power + 1
        if power:
            factors.append((prime, power))
        prime += 1 if prime == 2 else 2
    if number > 1:
        factors.append((number, 1))
    return factors
