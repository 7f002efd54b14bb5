"""Answers whose larger machines train with a larger global batch."""

from __future__ import annotations

from typing import Any

from builders.recommendations import interval, job, option, recommendation
from builders.toy_market import book, offer_row, small_job
from trainfare_core.job_profile import BatchFacts, EpochFacts, JobProfile, OperationGroup, RunPlan
from trainfare_core.recommendation import (
    CriticalBatchFacts,
    Option,
    QualityRatio,
    Recommendation,
    TrainerArguments,
)

ONE = option(rank=1, usd=50.0, hours=30.0, global_batch_size=128, optimizer_steps=900_900)
TRAINER = TrainerArguments(
    devices=8, num_nodes=1, strategy="ddp", precision="bf16-mixed", accumulate_grad_batches=1, batch_size=128
)


H100 = "H100-SXM-80GB"
MACHINES = book(
    *(
        offer_row(
            instance_type=f"h100.{count}x",
            accelerator=H100,
            accelerator_count=float(count),
            usd_per_hour=4.0 * count,
        )
        for count in (1, 2, 4, 8, 32)
    )
)
LOSS = OperationGroup(
    kind="loss", name="aten.nll_loss_forward", phase="forward", dtype="fp32", shape=(), launches=1, flops=0,
    bytes_read=1, bytes_written=1,
)  # fmt: skip


def make_scaling_job(scales: str | None = "per_device", **epoch: Any) -> JobProfile:
    """Return 100 epochs of 10,007 samples in batches of 32, with a checkpoint after each epoch."""
    facts = EpochFacts(
        **{"samples": 10_007, "batches": 313, "epochs": 100, "checkpoint_every_n_epochs": 1, **epoch}
    )
    steps = 31_300 if facts.max_steps is None else facts.max_steps
    small = small_job(checkpoint_bytes=10**10)
    return small.model_copy(
        update={
            "operations": (*small.operations, LOSS),
            "batch": BatchFacts(micro_batch_size=32, samples_per_step=32, scales=scales),
            "plan": RunPlan(
                optimizer_steps=steps, checkpoint_bytes=10**10, checkpoint_every_n_steps=313, epoch=facts
            ),
        }
    )


def make_eight(**overrides: Any) -> Option:
    """Return the run on eight devices, which is faster and costs $144."""
    fields = {
        "rank": 2, "usd": 144.0, "hours": 1.26, "instance_type": "p6-b200.48xlarge", "accelerator_count": 8.0,
        "trainer": TRAINER, "global_batch_size": 1_024, "batch_ratio": 8.0, "optimizer_steps": 112_680,
        "samples_ratio": 1.0, "quality_ratio": QualityRatio(low=1.03, mid=1.15, high=1.7), "micro_batch_size": 128,
    }  # fmt: skip
    return option(**{**fields, **overrides})


def make_scaled_answer(fast: Option, *, source: str | None = "prior", **overrides: Any) -> Recommendation:
    """Return an answer of a script with 128 samples on one device, and another run; `source` None predicts nothing."""
    samples = None if source is None else interval(3_000.0, 1.3)
    why = "not predicted: a contrastive loss" if source is None else None
    facts = {
        "job": job(global_batch_size=128, optimizer_steps=900_900, scales="per_device", optimizers=("SGD",)),
        "options": (ONE, fast),
        "cheapest_rank": 1,
        "fastest_rank": 2,
        "critical_batch": CriticalBatchFacts(samples=samples, source=source, unknown_because=why),
    }
    return recommendation(**{**facts, **overrides})
