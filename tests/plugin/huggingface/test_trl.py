"""TRL's Trainers: SFT and DPO are traced and priced, metered and before launch; of GRPO the time alone is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from builders.huggingface import attach_meter, quiet
from builders.lightning_modules import MeterHarness
from builders.scripts import load_script
from builders.trl_trainers import ROWS, SIZE, WORDS, make_trl_trainer
from builders.versions import needs_version
from trainfare import trace_job
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import JobProfile

SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from builders.trl_trainers import make_trl_trainer
trainer = make_trl_trainer("{{method}}", "out", {{options}})
trainer.train()
"""

pytestmark = quiet
_GRPO = needs_version("trl", "0.14", "has no GRPOTrainer")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trace(method: str, options: str = "") -> JobProfile:
    return trace_job(load_script(SCRIPT.format(method=method, options=options)))


def meter(method: str, folder: Path, **options: Any) -> tuple[Any, MeterHarness]:
    harness, trainer = MeterHarness(), make_trl_trainer(method, folder, **options)
    attach_meter(trainer, harness, folder, warmup_steps=1, measure_steps=3)
    trainer.train()
    return trainer, harness


def list_weights(trainer: Any) -> list[bytes]:
    return [value.numpy().tobytes() for value in trainer.model.state_dict().values()]


def sum_flops(profile: JobProfile) -> float:
    return sum(group.flops for group in profile.operations)


@pytest.mark.parametrize("method", ["sft", "dpo", pytest.param("grpo", marks=_GRPO)])
def test_weights_are_bitwise_those_without_it(method: str, here: Path) -> None:
    """After ten steps, and the random state too."""
    plain = make_trl_trainer(method, here)
    plain.train()
    state = torch.get_rng_state()
    metered, _ = meter(method, here)
    assert list_weights(metered) == list_weights(plain)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", ["sft", "dpo"])
@pytest.mark.parametrize(
    "options", [{}, {"bf16": True, "gradient_accumulation_steps": 2}], ids=["fp32", "bf16"]
)
def test_before_launch_is_as_metered(method: str, options: dict[str, Any], here: Path) -> None:
    """The step on fake tensors is that of the run, in all that is counted."""
    metered = meter(method, here, **options)[1].profile
    before = trace(method, ", ".join(f"{name}={value}" for name, value in options.items())).with_loader_time(
        None
    )
    assert before.source.how == "fake"
    assert sum_flops(before) == sum_flops(metered)
    for name in ("parameters", "optimizer", "plan", "batch", "precision", "parallel"):
        assert getattr(before, name) == getattr(metered, name), name
    assert before.memory.saved_activation_bytes == metered.memory.saved_activation_bytes
    assert before.source.loop == "huggingface"


@needs_version("trl", "1.16", "keeps the logits, and computes the head once")
@pytest.mark.parametrize(("method", "texts", "length"), [("sft", SIZE, 12), ("dpo", 2 * SIZE, 8)])
def test_flops_are_those_of_the_products(method: str, texts: int, length: int) -> None:
    """By hand: a product takes 2 FLOPs of each weight and token, and its backward two more products; the head, whose
    logits are not kept, is computed once more in backward; attention's backward is 2.5 forwards. DPO adds a forward.
    """
    hidden, layers, inner = 32, 2, 64
    body = 2 * texts * length * layers * (4 * hidden**2 + 3 * hidden * inner)
    head = 2 * texts * (length - 1) * WORDS * hidden
    attention = layers * 4 * texts * hidden * length**2
    reference = body + head + attention if method == "dpo" else 0
    expected = 3 * body + 4 * head + 3.5 * attention + reference
    assert sum_flops(trace(method, "gradient_checkpointing=False")) == expected


def test_a_sample_of_dpo_is_a_pair_and_its_reference_model_is_counted() -> None:
    """As `per_device_train_batch_size` and `max_steps` count them; the reference is as large as the model, and frozen."""
    profile = trace("dpo")
    trained = sum(p.numel() for p in make_trl_trainer("dpo", "out").model.parameters())
    assert (profile.batch.micro_batch_size, profile.batch.samples_per_step) == (SIZE, SIZE)
    assert profile.batch.tokens_per_step == SIZE * 2 * 8
    assert profile.plan.epochs == pytest.approx(10 * SIZE / ROWS)
    assert {group.trainable: group.count for group in profile.parameters} == {True: trained, False: trained}
    # Adam keeps two moments of 4 bytes of each weight, and a count for each tensor; no checkpoint holds the reference.
    assert profile.plan.checkpoint_bytes == pytest.approx(trained * 12, rel=0.01)


def test_a_last_batch_with_fewer_pairs_is_not_the_one_that_is_traced(here: Path) -> None:
    """Of 64 pairs by 24 the third batch of an epoch has 16, which are 32 texts: more than 24, and fewer than 48."""
    profile = meter("dpo", here, per_device_train_batch_size=24)[1].profile
    assert (profile.batch.micro_batch_size, profile.batch.tokens_per_step) == (24, 24 * 2 * 8)
    assert profile.batch.variation is None


@_GRPO
def test_grpo_is_timed_and_not_traced(here: Path) -> None:
    """Its step generates text: the profile has the measured step, no work, and the reason is said."""
    _, harness = meter("grpo", here)
    assert "generation is not traced" in "".join(harness.lines)
    profile = JobProfile.from_json((here / "trainfare-profile.json").read_text(), where="the profile")
    assert profile.operations == ()
    assert profile.measured is not None
    assert profile.measured.steps == 3


@_GRPO
def test_grpo_is_refused_before_launch() -> None:
    with pytest.raises(TargetError, match="generation is not traced: measure a run with"):
        trace("grpo")
