"""`trainfare estimate --method grpo` and `rloo`: the phases of a run, from a model's name alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builders.cli import capture_main
from plugin.estimate.test_estimate import TINY
from trainfare.estimate import EstimateRequest, RolloutRequest
from trainfare.estimate.models import count_cache_bytes, model_named
from trainfare.estimate.profile import estimate_rollout_profile
from trainfare.estimate.rollout_request import TokenRange
from trainfare_core.errors import InputError
from trainfare_core.rollouts import RolloutAnswer

pytest.importorskip("transformers")

DAY = ("--as-of", "2026-11-26")
ASKED = ("--method", "grpo", "--prompts", "1k", "--completion-length", "8..56", "--prompt-length", "8")


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINFARE_LEDGER", "off")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    return str(path)


def test_the_phases_are_shown_and_the_cost_is_unknown(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 with the reason; the table has the phases, and says that the interval is chosen."""
    done = capture_main(capsys, "estimate", "--model", config, *ASKED, *DAY)
    assert done.exit_code == 3
    assert "the cost is unknown: the interval of the time of generation is chosen" in " ".join(
        done.stderr.split()
    )
    text = " ".join(done.stdout.split())
    assert text.startswith("The cost of the run is unknown: ")
    assert "One generation: 8 prompts, 8 completions each, of 8 to 56 tokens" in text
    assert "The interval of the time of generation is chosen, not measured." in text
    assert "generation scoring updates" in text
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_json_is_a_document_of_its_own(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not exit code 2; and a CSV, which is a ranking, is refused."""
    done = capture_main(capsys, "estimate", "--model", config, *ASKED, *DAY, "--format", "json")
    assert done.exit_code == 3
    answer = RolloutAnswer.model_validate_json(done.stdout)
    assert answer.job == "tiny, grpo"
    assert answer.optimizer_steps == 1000 * 8 // 64
    assert answer.machines
    assert capture_main(capsys, "estimate", "--model", config, *ASKED, *DAY, "--format", "csv").exit_code == 2
    page = capture_main(capsys, "estimate", "--model", config, *ASKED, *DAY, "--format", "html")
    assert "Machines by phase" in page.stdout


def test_a_kept_profile_gives_the_same_answer(
    config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`recommend` of the profile shows its phases, not a ranking of its updates."""
    request = EstimateRequest(model=config, method="grpo")
    rollout = RolloutRequest(prompts=1000, completion_length=TokenRange(8, 56), prompt_length=8)
    (tmp_path / "job.json").write_text(estimate_rollout_profile(request, rollout).to_json())
    kept = capture_main(capsys, "recommend", tmp_path / "job.json", *DAY, "--format", "json")
    told = capture_main(capsys, "estimate", "--model", config, *ASKED, *DAY, "--format", "json")
    assert kept.exit_code == told.exit_code == 3
    assert kept.stdout == told.stdout


def test_the_defaults_are_those_of_the_installed_trl() -> None:
    """Completions of a prompt, a reference model, and vLLM's share of a device."""
    trl = pytest.importorskip("trl")
    for method, config_class in (("grpo", trl.GRPOConfig), ("rloo", trl.RLOOConfig)):
        fields = config_class.__dataclass_fields__
        request = EstimateRequest(model="gpt2", method=method)
        asked = RolloutRequest(prompts=10, completion_length=TokenRange(8, 8))
        assert asked.count_completions(request) == fields["num_generations"].default
        rollout = describe(asked, request)
        assert rollout.scores_reference == (fields["beta"].default > 0)
        assert rollout.vllm_memory_share == fields["vllm_gpu_memory_utilization"].default
        assert rollout.update_epochs == fields["num_iterations"].default


def describe(asked: RolloutRequest, request: EstimateRequest) -> Any:
    from builders.profiles import gpt_profile

    return asked.describe(request, gpt_profile(), 1000)


def test_what_is_scored_follows_the_method_and_the_engine() -> None:
    """TRL's GRPO scores the old policy where vLLM sampled or the policy moved on; RLOO always does."""
    make = partial(RolloutRequest, prompts=10, completion_length=TokenRange(8, 8))
    grpo, rloo = (EstimateRequest(model="gpt2", method=method) for method in ("grpo", "rloo"))
    assert not describe(make(engine="transformers"), grpo).scores_old_policy
    assert describe(make(), grpo).scores_old_policy
    assert describe(make(engine="transformers", update_epochs=2), grpo).scores_old_policy
    assert describe(make(engine="transformers"), rloo).scores_old_policy
    assert describe(make(beta=0.1), grpo).reference_bytes > 0
    assert describe(make(beta=0.1, trains="lora"), grpo).reference_bytes == 0
    server = describe(make(engine="vllm-server", vllm_devices=2), grpo)
    assert (server.vllm_devices, server.vllm_memory_share) == (2, 0.9)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "needs --prompts"),
        ({"prompts": 10}, "needs --prompts"),
        (
            {"prompts": 10, "completion_length": TokenRange(1, 2), "generations": 7},
            "--batch 64 is no whole number",
        ),
        (
            {
                "prompts": 10,
                "completion_length": TokenRange(1, 2),
                "vllm_sleeps": True,
                "engine": "transformers",
            },
            "--vllm-sleeps: is for",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], said: str) -> None:
    """With what to give instead."""
    with pytest.raises(InputError, match=said):
        RolloutRequest(**asked).check(EstimateRequest(model="gpt2", method="grpo"))


def test_options_of_the_other_kind_of_run_are_refused(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens with --method grpo, and prompts without it."""
    done = capture_main(capsys, "estimate", "--model", config, *ASKED, "--tokens", "1M")
    assert (done.exit_code, "takes --prompts" in done.stderr) == (2, True)
    plain = ("--samples", "10", "--seq", "8", "--prompts", "10")
    done = capture_main(capsys, "estimate", "--model", config, *plain)
    assert (done.exit_code, "are for --method grpo" in done.stderr) == (2, True)


@pytest.mark.parametrize("text", ["", "x", "5..4", "0..4", "1..2..3", "-1..4"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(InputError, match=r"256\.\.4096"):
        TokenRange.parse(text)
    assert TokenRange.parse("512") == TokenRange(512, 512)


def test_keys_and_values_are_counted_by_the_published_sizes() -> None:
    """Qwen2.5-7B: 28 layers of 4 shared heads of 128; DeepSeek-V3's latent vector; an encoder has none."""
    assert model_named("qwen2.5-7b").kv_bytes_per_token == 2 * 2 * 28 * 4 * 128
    assert model_named("bert-base").kv_bytes_per_token is None
    transformers = pytest.importorskip("transformers")
    assert count_cache_bytes(transformers.DeepseekV3Config()) == 2 * 61 * (512 + 64)
    assert count_cache_bytes(transformers.PretrainedConfig()) is None
    assert model_named("vit-base").kv_bytes_per_token is None
