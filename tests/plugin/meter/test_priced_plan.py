"""FareMeter and the plan of its run's environment: the same, another one, or one that it cannot read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.demos.boring_classes import BoringModel

from builders.exports import plan, small_answer
from builders.patient_meter import PatientMeter
from trainfare.job.run_facts import RunFacts
from trainfare.meter.priced_plan import compare_plan
from trainfare_core.job_profile import ParallelFacts
from trainfare_core.recommendation import PREDICTION_VARIABLE, PricedPlan


def run_facts(strategy: str = "ddp", devices: int = 2, batch: int | None = 2, **of_run: object) -> RunFacts:
    parallel = ParallelFacts(strategy=strategy, devices=devices, **of_run)  # type: ignore[arg-type]
    return RunFacts("Net", "32-true", torch.device("cuda"), "torch", parallel, loader_batch_size=batch)


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
        ({"devices": 8}, run_facts(), "devices 2, priced 8"),
        ({"num_nodes": 2}, run_facts(), "machines 1, priced 2"),
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


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated")
def test_a_metered_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, as it begins, and in the notes of its profile; the training is none the worse."""
    priced = PricedPlan.from_option(small_answer(trainer=plan(strategy="fsdp", batch_size=4)).options[0])
    monkeypatch.setenv(PREDICTION_VARIABLE, priced.to_text())
    meter = PatientMeter(warmup_steps=1, measure_steps=2, report_dir=str(tmp_path), providers=["gcp"])
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=6, limit_val_batches=0, logger=False, callbacks=[meter],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(BoringModel(), torch.utils.data.DataLoader(torch.ones(32, 32), batch_size=2))
    line = (
        f"this run is not the one that was priced as {priced.id}: devices 1, priced 2; batch size 2, priced 4; "
        "on a CPU, priced on an accelerator"
    )
    differs = line.replace(": devices", ": single_device, priced fsdp; devices")
    assert capsys.readouterr().out.count(f"trainfare: {differs}\n") == 1
    assert differs in json.loads((tmp_path / "trainfare-profile.json").read_text())["notes"]
    assert trainer.global_step == 6


def test_a_try_on_a_cpu_is_another_run() -> None:
    """Every plan is of a machine with an accelerator: what a CPU takes says nothing about its prediction."""
    line = compare(replace(run_facts(), device=torch.device("cpu")), strategy="ddp")
    assert line.startswith("this run is not the one that was priced as ")
    assert line.endswith(": on a CPU, priced on an accelerator")


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
