"""A plan in the terms of Lightning's Trainer, and what it changes of the script's own (part of stage 6)."""

from __future__ import annotations

import math
from typing import Final

from trainfare_core.candidates import SHARDINGS, CandidateTable, own_sharding, sharding_label
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import TrainerArguments

__all__ = ["plan_changes", "plan_text", "trainer_arguments"]

_STRATEGIES: Final = {
    "none": "auto",
    "ddp": "ddp",
    "fsdp": "fsdp",
    "zero1": "deepspeed_stage_1",
    "zero2": "deepspeed_stage_2",
    "hybrid": "FSDPStrategy(sharding_strategy='HYBRID_SHARD')",
}


def trainer_arguments(
    profile: JobProfile, candidates: CandidateTable, plan: int, devices: int
) -> TrainerArguments:
    """
    Return what to give Lightning's Trainer so that the script runs as planned.

    Args:
        profile: the job.
        candidates: plans.
        plan: row of `candidates`.
        devices: that the plan uses of one machine.
    """
    sharding, micro = SHARDINGS[int(candidates.sharding[plan])], float(candidates.micro_batch[plan])
    own = profile.parallel.strategy
    keeps = (
        sharding != "none"
        and own_sharding(profile) == sharding
        and own.startswith(("ddp", "fsdp", "deepspeed"))
    )
    return TrainerArguments(
        devices=devices,
        num_nodes=int(candidates.nodes[plan]),
        strategy=own if keeps else _STRATEGIES[sharding],
        precision=profile.precision,
        accumulate_grad_batches=int(candidates.accumulate[plan]),
        batch_size=None if math.isnan(micro) else int(micro),
    )


def plan_changes(profile: JobProfile, candidates: CandidateTable, plan: int) -> tuple[str, ...]:
    """Return what a plan changes besides the number of devices, in words; empty where it is the script's own."""
    sharding = SHARDINGS[int(candidates.sharding[plan])]
    found: list[str] = []
    if sharding not in ("none", own_sharding(profile)):
        found.append(f"{sharding_label(sharding)} instead of {sharding_label(own_sharding(profile))}")
    factor = 1.0 if candidates.batch_factor is None else float(candidates.batch_factor[plan])
    if factor != 1 and profile.global_samples_per_step:
        batch, steps = profile.global_samples_per_step, profile.plan.optimizer_steps
        found.append(
            f"global batch {round(batch * factor)} instead of {batch}, which changes what is trained"
            + (
                ""
                if steps is None
                else f": {math.ceil(steps / factor * (1 - 1e-12)):,} steps see the same samples"
            )
        )
    own, micro = profile.batch.micro_batch_size, float(candidates.micro_batch[plan])
    if own is not None and not math.isnan(micro) and int(micro) != own:
        found.append(f"micro-batch {int(micro)} instead of {own}")
    return tuple(found)


def plan_text(candidates: CandidateTable, plan: int) -> str:
    """Return a plan in words, e.g. "FSDP, micro-batch 4, accumulate 2"."""
    sharding, micro = SHARDINGS[int(candidates.sharding[plan])], float(candidates.micro_batch[plan])
    accumulate = int(candidates.accumulate[plan])
    parts = [
        *([] if sharding == "none" else [sharding_label(sharding)]),
        *([] if math.isnan(micro) else [f"micro-batch {int(micro)}"]),
        *([f"accumulate {accumulate}"] if accumulate > 1 else []),
    ]
    return ", ".join(parts)
