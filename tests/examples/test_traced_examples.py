"""The GPT and the 7B example: described, traced without hardware, and the small one trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.cli import run_python
from trainfare.fake_step import load_profile
from trainfare_core.job_profile import JobProfile

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def trace_module(target: str) -> JobProfile:
    """Trace an example without hardware; the profile must be complete."""
    profile = load_profile(str(EXAMPLES / target))
    assert profile.coverage > 0.99
    assert profile.plan.optimizer_steps
    assert any(group.kind == "attention" for group in profile.operations)
    return profile


def test_the_gpt_example_describes_a_gpt_2() -> None:
    """124M parameters, half a million tokens a step over eight devices, mixed precision."""
    profile = trace_module("small_gpt.py:job")
    assert sum(group.count for group in profile.parameters) == 124_439_808
    assert profile.batch.tokens_per_step is not None
    assert profile.batch.tokens_per_step * profile.parallel.world_size == 2**19
    assert {o.dtype for o in profile.operations if o.kind == "matmul"} == {"bf16"}
    # 6 FLOPs for each weight of a product and token, the output layer included, and attention.
    products = 12 * 12 * 768 * 768 + 50257 * 768
    tokens = 64 * 1024
    attention = 12 * 14 * 1024 * 1024 * 768 * 64
    assert profile.step_flops == pytest.approx(6 * products * tokens + attention, rel=0.01)


def test_the_gpt_example_really_trains(tmp_path: Path) -> None:
    """It learns from text that ships with Python, metered, the loss goes down, and it leaves a profile of the run."""
    code = (
        "import sys, warnings; warnings.simplefilter('ignore'); sys.path.insert(0, sys.argv[1]); import small_gpt, math;"
        "trainer = small_gpt.main(max_epochs=2, report_dir=sys.argv[2]);"
        "loss = float(trainer.callback_metrics['train_loss']); assert trainer.global_step > 20 and loss < math.log(256) - 0.5, loss"
    )
    run_python("-c", code, EXAMPLES, tmp_path, cwd=tmp_path, check=True)
    profile = JobProfile.from_json((tmp_path / "trainfare-profile.json").read_text(encoding="utf-8"))
    assert profile.measured is not None


def test_the_7b_example_shards_over_eight_devices() -> None:
    """The same run on eight devices: a step of one micro-batch each, and the same number of steps."""
    profile = trace_module("llama_7b.py:job")
    eight = trace_module("llama_7b.py:job_on_eight")
    assert (eight.parallel.strategy, eight.parallel.world_size) == ("fsdp", 8)
    assert profile.plan.optimizer_steps == eight.plan.optimizer_steps
    assert profile.global_samples_per_step == eight.global_samples_per_step == 8
    assert profile.step_flops == pytest.approx(8 * eight.step_flops, rel=1e-3)
