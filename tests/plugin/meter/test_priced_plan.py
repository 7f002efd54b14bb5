"""FareMeter and the plan of its run's environment: the same, another one, or one that it cannot read."""

from __future__ import annotations

import json

import pytest
import torch

from builders.exports import plan, small_answer
from trainfare.job.run_facts import RunFacts
from trainfare.meter.priced_plan import compare_plan
from trainfare_core.job_profile import ParallelFacts
from trainfare_core.recommendation import PREDICTION_VARIABLE, PricedPlan


def run_facts(strategy: str = "ddp", devices: int = 2, batch: int | None = 2, **of_run: object) -> RunFacts:
    parallel = ParallelFacts(strategy=strategy, devices=devices, **of_run)  # type: ignore[arg-type]
    return RunFacts("Net", "32-true", torch.device("cpu"), "cpu", "torch", parallel, loader_batch_size=batch)


def compare(facts: RunFacts, **of_plan: object) -> str:
    priced = PricedPlan.from_option(small_answer(trainer=plan(**of_plan)).options[0]).to_text()
    return compare_plan(facts, {PREDICTION_VARIABLE: priced})


@pytest.mark.parametrize(
    ("priced", "live"),
    [
        ("ddp", "ddp"),
        (
            "auto",
            "ddp",
        ),  # https://lightning.ai/docs/pytorch/stable/extensions/strategy.html: the default on devices
        ("ddp", "ddp_find_unused_parameters_true"),
        ("FSDPStrategy(activation_checkpointing_policy={Block})", "fsdp"),
        ("FSDPStrategy(sharding_strategy='HYBRID_SHARD')", "FSDPStrategy(sharding_strategy='HYBRID_SHARD')"),
        ("deepspeed_stage_2", "deepspeed_stage_2_offload"),
    ],
)
def test_the_same_plan(priced: str, live: str) -> None:
    """Two words for one way to share a model are one plan."""
    line = compare(run_facts(live), strategy=priced)
    assert line.startswith("this run is the plan that was priced as ")
    assert line.endswith("for $12.40 [$8.66 – $17.75]")


@pytest.mark.parametrize(
    ("priced", "facts", "said"),
    [
        ({"strategy": "fsdp"}, run_facts("ddp"), "ddp, priced fsdp"),
        ({"strategy": "fsdp"}, run_facts("FSDPStrategy(sharding_strategy='HYBRID_SHARD')"), ", priced fsdp"),
        (
            {"strategy": "deepspeed_stage_1"},
            run_facts("deepspeed_stage_2"),
            "deepspeed_stage_2, priced deepspeed_stage_1",
        ),
        ({"devices": 8}, run_facts(), "2 devices, priced 8"),
        ({"num_nodes": 2}, run_facts(), "1 machines, priced 2"),
        ({"accumulate_grad_batches": 4}, run_facts(), "accumulation of 1, priced 4"),
        ({"precision": "bf16-mixed"}, run_facts(), "precision 32-true, priced bf16-mixed"),
        ({"batch_size": 4}, run_facts(), "batch size 2, priced 4"),
    ],
)
def test_another_plan(priced: dict[str, object], facts: RunFacts, said: str) -> None:
    """One line has every difference."""
    line = compare(facts, **priced)
    assert line.startswith("this run is not the one that was priced as ")
    assert said in line
    assert "\n" not in line


def test_an_unknown_value_is_no_difference() -> None:
    """A batch size that the loader does not say is not compared."""
    assert "not the one" not in compare(run_facts(batch=None), batch_size=64)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "{}", '{"id": 7}', json.dumps({"id": "0" * 12, "later": 1}), "[" * 9999]
)
def test_a_plan_that_cannot_be_read_is_a_line(text: str) -> None:
    """An empty variable, a damaged one, and that of a later version."""
    assert compare_plan(run_facts(), {PREDICTION_VARIABLE: text}).startswith(
        f"{PREDICTION_VARIABLE} holds no plan"
    )


def test_a_run_that_was_not_exported_says_nothing() -> None:
    """Most runs have no such variable."""
    assert compare_plan(run_facts(), {}) == ""
