"""`trainfare estimate`: from the name or configuration of a model to machines and prices, without code or network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from builders.cli import run_main
from trainfare.estimate import EstimateRequest, parse_count
from trainfare.estimate.models import KNOWN_MODELS, model_named
from trainfare.estimate.profile import estimate_profile
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Recommendation

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}

pytest.importorskip("transformers")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    """Write a configuration with some fields changed, and return its file's name."""

    def write(**changes: object) -> str:
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps({**TINY, **changes}), encoding="utf-8")
        return str(path)

    return write


run = partial(run_main, "estimate")


def test_a_configuration_is_ranked(config: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """The steps are tokens over sequences of a batch, and the answer has machines with prices."""
    asked = ("--tokens", "1M", "--seq", "64", "--batch", "16", "--format", "json")
    assert run("--model", config(), *asked) == 0
    answer = Recommendation.from_json(capsys.readouterr().out)
    assert answer.options
    assert answer.implementations.startswith("implementation eager: the cheapest run would cost $")
    assert answer.implementations in answer.assumptions
    profile = estimate_profile(EstimateRequest(model=config(), tokens=10**6, seq=64, batch=16))
    assert profile.plan.optimizer_steps == -(-(10**6) // (64 * 16))
    assert profile.name == "tiny, full"
    weights = 2 * 128 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    assert sum(group.count for group in profile.parameters) == weights
    assert profile.global_samples_per_step == 16
    assert any("the micro-batch is 16: it was chosen" in note for note in profile.notes)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [((), ("checkpointing",)), (("--recompute",), ()), (("--keep-plan",), ())],
)
def test_recomputation_is_tried(
    options: tuple[str, ...],
    allowed: tuple[str, ...],
    config: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No script stands against it: it is left out where it is given already, and where the plan is to stay."""
    asked = ("--tokens", "1M", "--seq", "64", "--batch", "16", "--format", "json")
    assert run("--model", config(), *asked, *options) == 0
    assert Recommendation.from_json(capsys.readouterr().out).constraints.allow == allowed


def test_methods_differ_in_what_trains(config: Callable[..., str]) -> None:
    """Adapters train a part of the weights; QLoRA packs the others in 4 bits."""
    pytest.importorskip("peft")
    full, lora, qlora = (
        estimate_profile(EstimateRequest(model=config(), method=method, tokens=10**6, seq=64, lora_rank=4))
        for method in ("full", "lora", "qlora")
    )
    assert full.trainable_parameters > lora.trainable_parameters == qlora.trainable_parameters > 0
    assert full.parameter_bytes > lora.parameter_bytes > qlora.parameter_bytes


def test_published_sizes_give_the_published_parameters() -> None:
    """The weights of a short name are those that its authors count."""
    import torch

    published = {
        "gpt2": 124_439_808,
        "gpt2-xl": 1_557_611_200,
        "llama-2-7b": 6_738_415_616,
        "llama-3.1-8b": 8_030_261_248,
        "mistral-7b": 7_248_023_552,
        "qwen2.5-0.5b": 494_032_768,
        "t5-small": 60_506_624,
        "t5-3b": 2_851_598_336,
        "vit-base": 86_567_656,
        "vit-huge": 632_045_800,
        "dinov2-base": 86_580_480 + 2 * 768 * 1000 + 1000,
        "whisper-tiny": 37_760_640,
        "whisper-large-v3": 1_543_490_560,
    }
    assert published.keys() <= KNOWN_MODELS.keys()
    for name, weights in published.items():
        with torch.device("meta"):
            model = model_named(name).build()
        assert sum(parameter.numel() for parameter in model.parameters()) == weights, name


@pytest.mark.parametrize(
    ("name", "asked", "weights"),
    [
        ("t5-small", {"tokens": 10**6, "seq": 128}, 60_506_624),
        ("whisper-tiny", {"samples": 1000}, 37_760_640),
        ("dinov2-small", {"samples": 1000, "image_size": 224}, 22_056_576 + 2 * 384 * 1000 + 1000),
    ],
)
def test_a_short_name_of_another_kind_is_traced(name: str, asked: dict[str, int], weights: int) -> None:
    """An encoder with a decoder, speech, and images by transformers: with the published weights and work of every kind."""
    profile = estimate_profile(EstimateRequest(model=name, batch=2, **asked))  # type: ignore[arg-type]
    assert sum(group.count for group in profile.parameters) == weights
    assert profile.step_flops > 6 * weights


@pytest.mark.parametrize(
    "name", ["mamba-130m", "SDXL", "stable-diffusion-xl", "clip-vit-b-32", "wav2vec2-base"]
)
def test_a_family_whose_step_no_name_says_is_named(name: str) -> None:
    """With the reason, and the way that there is."""
    with pytest.raises(InputError, match=": describe the run as a TARGET"):
        model_named(name)


def test_speech_has_no_tokens() -> None:
    """Whisper's clips are 30 s each."""
    with pytest.raises(InputError, match="whisper-tiny takes clips of sound: give --samples"):
        estimate_profile(EstimateRequest(model="whisper-tiny", tokens=1000, seq=10))


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18"])
def test_an_image_classifier_is_traced(name: str) -> None:
    """ResNet-18 on images of 224 pixels: 11.69 M weights, 1.814 G multiply-adds forward, three times that in all."""
    pytest.importorskip(name.partition("/")[0])
    profile = estimate_profile(EstimateRequest(model=name, samples=1000, batch=2))
    assert sum(group.count for group in profile.parameters) == 11_689_512
    assert profile.step_flops == pytest.approx(2 * 3 * 2 * 1.814e9, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "asked", "reason"),
    [
        ({"architectures": None}, {"seq": 64}, "does not say which model"),
        ({"architectures": ["MyOwnForCausalLM"]}, {"seq": 64}, "has no MyOwnForCausalLM"),
        ({"architectures": ["LlamaModel"]}, {"seq": 64}, "no loss that is known"),
        ({}, {"seq": None}, "give --seq"),
        ({}, {"seq": 64, "batch": 6, "micro_batch": 4}, "does not divide"),
        ({}, {"seq": 64, "image_size": 224}, "takes text"),
    ],
)
def test_what_cannot_be_estimated_is_said(
    config: Callable[..., str], changes: dict[str, object], asked: dict[str, int], reason: str
) -> None:
    """One sentence that names what is missing."""
    with pytest.raises(InputError, match=reason):
        estimate_profile(EstimateRequest(model=config(**changes), samples=100, **asked))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("gpt3", "did you mean"),
        ("meta-llama/Llama-3.1-8B", "nothing is downloaded"),
        ("missing.json", "missing.json"),
        ("gpt2", "has positions for 1024 tokens"),
    ],
)
def test_a_model_that_is_not_there_is_refused(model: str, reason: str) -> None:
    """A name without a model, a name on the Hub, a missing file, and more tokens than the model takes."""
    with pytest.raises(InputError, match=reason):
        estimate_profile(EstimateRequest(model=model, tokens=10**6, seq=4096))


def test_the_length_of_the_run_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is loaded."""
    assert run("--model", "gpt2", "--seq", "1024") == 2
    assert "--tokens" in capsys.readouterr().err


def test_counts_are_read() -> None:
    """With and without a unit; anything else is refused."""
    assert [parse_count(text, "--tokens") for text in ("500000", "1.5k", "300M", "10B", "2T")] == [
        500_000, 1_500, 300 * 10**6, 10**10, 2 * 10**12
    ]  # fmt: skip
    for text in ("ten", "-1", "0", "1e9", "9999999T"):
        with pytest.raises(InputError):
            parse_count(text, "--tokens")


def test_the_answer_says_which_implementation_is_meant(
    config: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in one line of the first screen what the others would cost; the model is built and traced once for all."""
    from transformers import LlamaForCausalLM

    built: list[object] = []
    build = LlamaForCausalLM.__init__

    def count(model: LlamaForCausalLM, *given: object) -> None:
        built.append(model)
        build(model, *given)

    monkeypatch.setattr(LlamaForCausalLM, "__init__", count)
    asked = ("--model", config(), "--tokens", "1M", "--seq", "64", "--batch", "16")
    assert run(*asked, "--implementation", "fused") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Implementation"))
    cost = r"\$[0-9.,]+"
    assert re.fullmatch(
        rf"Implementation fused: the cheapest run would cost {cost} under eager, {cost} under compile\.", line
    )
    assert len(built) == 1


def test_fused_kernels_are_of_language_models(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was timed of a network of convolutions."""
    pytest.importorskip("timm")
    asked = ("--model", "timm/resnet18", "--samples", "1k", "--batch", "2", "--implementation", "fused")
    assert run(*asked) == 2
    assert "give eager or compile" in capsys.readouterr().err
