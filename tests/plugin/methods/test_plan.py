"""Which strategy is chosen, from traces and prices alone."""

from __future__ import annotations

from functools import partial

import pytest

from builders.jobs import job
from builders.offers import book_of, offer_row
from builders.profiles import gpt_profile, operation
from trainfare.methods.plan import answer_methods
from trainfare.methods.request import MethodsRequest
from trainfare.methods.step_change import StepChange
from trainfare_core.job_profile import JobProfile, OptimizerFacts, ParameterGroup
from trainfare_core.prediction.language_models.sums import UNPACK_4_BITS

FROZEN, TRAINED = 12_800_000_000, 60_000_000
"""Weights of a decoder of 40 layers of 5,120 channels, and of its adapters."""


def _trace_small(change: StepChange, *, unpacks: bool) -> JobProfile:
    """Return a step of adapters: frozen weights in 16 bits, or packed in 4 bits and unpacked in both directions."""
    packed = change.strategy == "qlora"
    frozen = round(0.516 * FROZEN) if packed else 2 * FROZEN
    whole = gpt_profile(layers=40, width=5120, heads=40, batch_size=1, checkpointing=True)
    unpacking = [
        operation(
            kind="elementwise", name=UNPACK_4_BITS, phase=phase, shape=(FROZEN,), launches=40, flops=0,
            bytes_read=frozen, bytes_written=2 * FROZEN, bytes_fixed=frozen + 2 * FROZEN,
        )
        for phase in ("forward", "backward")
        if packed and unpacks
    ]  # fmt: skip
    return whole.model_copy(
        update={
            "precision": change.precision,
            "operations": (
                *(operation for operation in whole.operations if operation.phase != "optimizer"),
                *unpacking,
            ),
            "parameters": (
                ParameterGroup(
                    dtype="int8" if packed else "bf16", trainable=False, count=FROZEN, parameter_bytes=frozen
                ),
                ParameterGroup(dtype="fp32", trainable=True, count=TRAINED, parameter_bytes=4 * TRAINED),
            ),
            "optimizer": OptimizerFacts(names=("AdamW",), state_bytes=8 * TRAINED, implementation="foreach"),
            "memory": whole.memory.model_copy(update={"gradient_bytes": 4 * TRAINED}),
        }
    )


@pytest.mark.parametrize(("unpacks", "chosen"), [(True, "lora"), (False, "qlora")])
def test_what_unpacking_costs_decides_between_lora_and_qlora(*, unpacks: bool, chosen: str) -> None:
    """Only packed weights fit the cheaper card; unpacking them doubles the step there, which costs more than is saved."""
    small = offer_row(
        instance_type="small", accelerator="L4-24GB", accelerator_count=1.0, accelerator_memory_gib=24.0,
        usd_per_hour=1.0,
    )  # fmt: skip
    large = offer_row(
        instance_type="large", accelerator="A100-SXM-80GB", accelerator_count=1.0,
        accelerator_memory_gib=80.0, usd_per_hour=5.5,
    )  # fmt: skip
    request = MethodsRequest(
        domain="llm-ift", samples=20_000, strategies=("lora", "qlora"), within_pct=50, metric="accuracy"
    )
    answer = answer_methods(
        job(precision="bf16-true", train_samples=20_000, tokens_per_sample=1024),
        request,
        book_of(small, large),
        trace=partial(_trace_small, unpacks=unpacks),
    )
    machines = {line.strategy: line.machine.instance_type for line in answer.lines if line.machine}
    assert machines == {"lora": "large", "qlora": "small"}
    assert answer.strategy == chosen


@pytest.mark.parametrize(("saved_gib", "recomputes"), [(6, False), (60, True)])
def test_recomputing_is_traced_where_it_can_pay(*, saved_gib: int, recomputes: bool) -> None:
    """It adds work to save memory: where the cheapest machine has room, no run that takes less costs less."""
    roomy = offer_row(
        instance_type="roomy", accelerator="A100-SXM-80GB", accelerator_count=1.0,
        accelerator_memory_gib=80.0, usd_per_hour=5.5,
    )  # fmt: skip
    cheap = offer_row(
        instance_type="cheap", accelerator="L4-24GB", accelerator_count=1.0, accelerator_memory_gib=24.0,
        usd_per_hour=0.5,
    )  # fmt: skip
    changes: list[StepChange] = []

    def trace(change: StepChange) -> JobProfile:
        changes.append(change)
        plain = gpt_profile(batch_size=1, checkpointing=change.recompute)
        saved_bytes = (1 if change.recompute else saved_gib) * 2**30
        memory = plain.memory.model_copy(update={"saved_activation_bytes": saved_bytes})
        return plain.model_copy(update={"precision": change.precision, "memory": memory})

    answer = answer_methods(
        job(precision="bf16-true", train_samples=20_000, tokens_per_sample=1024),
        MethodsRequest(domain="llm-ift", samples=20_000, strategies=("full_finetune",), metric="accuracy"),
        book_of(roomy, cheap),
        trace=trace,
    )
    machine = answer.lines[0].machine
    assert machine is not None
    assert machine.instance_type == "cheap"
    assert [change.recompute for change in changes] == [False, True][: 1 + recomputes]
