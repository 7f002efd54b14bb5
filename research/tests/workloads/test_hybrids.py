"""Decoders with one mixer a block: assembled traces equal whole ones, and published sizes are met."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("lightning")

from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_research.workloads.language.decoder import DecoderStep
from trainfare_research.workloads.language.decoder_names import context_of, decoder_of
from trainfare_research.workloads.language.decoder_profile import DecoderTraces, blocks_of
from trainfare_research.workloads.language.hybrid import trace_hybrid_blocks
from trainfare_research.workloads.language.hybrid_parts import Hybrid

STATE = Hybrid(
    3, 256, 4, 2, 512, 1024, gated=False, state_blocks=3, state_heads=8, state_head=64, state=32, groups=2, kernel=4,
)  # fmt: skip
MIXED = replace(
    STATE, layers=8, state_blocks=2, convolution_blocks=2, attention_blocks=1, dense_blocks=1, expert_blocks=2,
    experts=8, active=2, expert_ffn=128, shared_ffn=256, expert_latent=64, further=2,
)  # fmt: skip
DELTA = Hybrid(
    2, 128, 2, 1, 256, 512, linear_blocks=2, linear_heads=4, linear_key_heads=2, linear_head=32, kernel=4,
)  # fmt: skip
"""Gated DeltaNet, whose value heads share keys and queries in pairs."""
KIMI_DELTA = replace(DELTA, linear_key_heads=4, decay_rank=16)
"""The same with a decay for each channel."""


@pytest.mark.parametrize(
    "step",
    [
        DecoderStep(MIXED, 256),
        DecoderStep(replace(MIXED, further=0), 128, recompute="full", method="lora", lora_everywhere=True),
        DecoderStep(replace(DELTA, layers=4, attention_blocks=1, dense_blocks=1, gated_attention=True), 128),
        DecoderStep(
            replace(KIMI_DELTA, layers=3, attention_blocks=1, kv_latent=32),
            100,
            method="lora",
            lora_everywhere=True,
        ),
    ],
    ids=["further tokens", "adapters", "gated attention", "latent attention"],
)
def test_an_assembled_hybrid_equals_the_trace_of_the_whole(step: DecoderStep) -> None:
    assert isinstance(step.model, Hybrid)
    ours, whole = DecoderTraces().profile(step), trace_hybrid_blocks(step, step.model.blocks)
    assert blocks_of(step.model) == step.model.blocks
    assert ours.step_flops == whole.step_flops
    assert sum(g.bytes_moved for g in ours.operations) == sum(g.bytes_moved for g in whole.operations)
    assert ours.memory.saved_activation_bytes == whole.memory.saved_activation_bytes
    assert [g.count for g in ours.parameters] == [g.count for g in whole.parameters]


def _products(profile: JobProfile, *, weights: bool) -> int:
    return sum(g.flops for g in profile.operations if g.kind == "matmul" and bool(g.bytes_fixed) == weights)


def test_a_state_space_block_multiplies_within_chunks_of_128_tokens_and_between_them() -> None:
    tokens, inner = 200, 8 * 64
    profile = DecoderTraces().profile(DecoderStep(STATE, tokens))
    padded = 256  # two chunks
    within, between = 128 * inner, 2 * 128 * 32 + 2 * 32 * inner
    # Forward, two products for each one in backward, and those whose results are not kept again before it.
    chunks = 3 * 2 * padded * (3 * within + 4 * between)
    assert _products(profile, weights=False) == chunks
    weights = 256 * (inner + inner + 2 * 2 * 32 + 8 + inner)
    head = 256 * 1024
    assert _products(profile, weights=True) == 3 * 2 * tokens * (3 * weights + head)
    twice = DecoderTraces().profile(DecoderStep(STATE, 2 * padded))
    assert _products(twice, weights=False) == 2 * chunks, "linear in the tokens, unlike attention"


def test_a_state_space_block_keeps_its_projected_input_and_the_output_of_its_scan() -> None:
    tokens = 1024
    two, three = (
        DecoderTraces().profile(DecoderStep(replace(STATE, layers=n, state_blocks=n), tokens)).memory.saved_activation_bytes
        for n in (2, 3)
    )  # fmt: skip
    inner, hidden = 512, 256
    projected = 2 * inner + 2 * 2 * 32 + 8
    # Inputs of the norm and of both projections, what the first one returns, and the scan's output.
    kept = 2 * hidden + projected + 2 * inner
    assert three - two == pytest.approx(2 * tokens * kept, rel=0.01)


def test_gated_norms_that_run_again_are_not_taken_for_those_of_whole_tokens() -> None:
    model = replace(STATE, layers=6, dense_blocks=3, groups=4)
    assert 2 * 7 * model.hidden < 3 * 3 * model.inner, "counted in every phase they would be"
    ledger = DecoderLedger.of(DecoderTraces().profile(DecoderStep(model, 256)))
    assert (float(ledger.width), float(ledger.blocks)) == (model.hidden, 3), "of two mixers each"


@pytest.mark.parametrize("model", [DELTA, KIMI_DELTA], ids=["a decay a head", "a decay a channel"])
def test_linear_attention_multiplies_within_chunks_of_64_tokens_and_by_one_state_a_chunk(
    model: Hybrid,
) -> None:
    chunk, head, heads, padded = 64, 32, 4, 128
    profile = DecoderTraces().profile(DecoderStep(model, 100))
    pairs, state = chunk * head, head * head
    # Products of keys, and of queries with keys; the inverse by keys and by values; scores by values. Then the new
    # state, and what keys and queries read of the last one.
    forward = 5 * pairs + 3 * state
    again = (
        2 * pairs + 2 * state
    )  # for backward: the inverse by keys and values, the state, and what keys read of it
    again += pairs  # scores by values, though backward does not need their sum
    if not model.decay_rank:
        again += pairs  # the scores, which stay where each channel has its decay
    assert _products(profile, weights=False) == 2 * 2 * padded * heads * (3 * forward + again)
    assert "attention" not in {group.kind for group in profile.operations}
    long = DecoderTraces().profile(DecoderStep(model, 4 * padded))
    assert _products(long, weights=False) == 4 * _products(profile, weights=False), "linear in the tokens"


@pytest.mark.parametrize("model", [DELTA, KIMI_DELTA], ids=["a decay a head", "a decay a channel"])
def test_linear_attention_keeps_its_triangles_and_neither_states_nor_new_values(model: Hybrid) -> None:
    tokens, chunk, hidden, values, heads = 512, 64, 128, 128, 4
    two, three = (
        DecoderTraces().profile(DecoderStep(replace(model, layers=n, linear_blocks=n), tokens)).memory.saved_activation_bytes
        for n in (2, 3)
    )  # fmt: skip
    keys, strengths = model.linear_key_heads * 32, heads
    # Inputs of the norm and the projections; what these return; queries, keys and values for each head; the triangle of
    # each chunk; and the output before and after its gate.
    kept = 2 * hidden + 2 * keys + values + strengths + 3 * values + heads * chunk + 2 * values
    # Gate and decays, with the scores of each chunk where every channel has a decay.
    kept += 2 * (model.decay_rank + values) + heads * chunk if model.decay_rank else values + heads
    assert three - two == pytest.approx(2 * tokens * kept, rel=0.01)


def test_hybrids_of_linear_attention_have_the_weights_that_transformers_builds() -> None:
    transformers = pytest.importorskip("transformers")
    qwen27 = {
        "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 64, "num_attention_heads": 24,
        "linear_num_value_heads": 48,
    }  # fmt: skip
    for name, kind, sizes in (
        ("Qwen3-Next-80B-A3B-Instruct", "Qwen3NextForCausalLM", {}),
        ("Qwen3.5-35B-A3B", "Qwen3_5MoeForCausalLM", {}),
        ("Qwen3.5-27B", "Qwen3_5ForCausalLM", qwen27),
        ("Kimi-Linear-48B-A3B-Instruct", "KimiLinearForCausalLM", {}),
    ):
        made = getattr(transformers, kind, None)
        if made is None:
            pytest.skip(f"this release of transformers has no {kind}")
        model = decoder_of(name, {})
        assert isinstance(model, Hybrid)
        with torch.device("meta"):
            weights = {part: p.numel() for part, p in made(made.config_class(**sizes)).named_parameters()}
        assert model.parameters == pytest.approx(sum(weights.values()), rel=0.002), name
        experts = sum(size for part, size in weights.items() if ".experts." in part)
        idle = experts * (1 - model.active / model.experts) if experts else 0
        assert model.active_parameters == pytest.approx(sum(weights.values()) - idle, rel=0.005), name


@pytest.mark.parametrize(
    ("name", "billions", "kinds"),
    [
        ("Nemotron-H 56b", 56.3, {"state": 54, "attention": 10, "dense": 54}),
        ("Nemotron_3_Nano", 31.6, {"state": 23, "attention": 6, "expert": 23}),
        ("Nemotron_3_Super", 123.6, {"state": 40, "attention": 8, "expert": 40}),
        ("Nemotron V3 Ultra 550B", 560.0, {"state": 48, "attention": 12, "expert": 48}),
        ("Qwen3-Next-80B-A3B-Instruct", 80.0, {"linear": 36, "attention": 12, "expert": 48}),
        ("Qwen3.5-35B-A3B", 34.7, {"linear": 30, "attention": 10, "expert": 40}),
        ("Qwen3.5-27B", 26.9, {"linear": 48, "attention": 16, "dense": 64}),
        ("Qwen3.5-2B", 1.88, {"linear": 18, "attention": 6, "dense": 24}),
        ("Kimi-Linear-48B-A3B-Instruct", 49.1, {"linear": 20, "attention": 7, "dense": 1, "expert": 26}),
        ("granite-4.0-tiny-preview", 6.67, {"state": 36, "attention": 4, "expert": 40}),
        ("granite-4.0-h-tiny", 6.94, {"state": 36, "attention": 4, "expert": 40}),
        ("LFM2-350M", 0.354, {"convolution": 10, "attention": 6, "dense": 16}),
        ("LFM2-8B-A1B", 8.34, {"convolution": 18, "attention": 6, "dense": 2, "expert": 22}),
    ],
)
def test_named_hybrids_have_the_weights_that_their_publishers_count(
    name: str, billions: float, kinds: dict[str, int]
) -> None:
    model = decoder_of(name, {"notes": ""})
    assert isinstance(model, Hybrid)
    assert model.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert {kind: model.blocks.count(kind) for kind in dict.fromkeys(model.blocks)} == kinds
    assert context_of(name)


def test_a_hybrid_of_another_depth_and_a_family_without_sizes_are_refused() -> None:
    assert isinstance(decoder_of("Nemotron-H 56b", {"notes": "layers=118"}), Hybrid)
    other = decoder_of("Nemotron-H 56b", {"notes": "layers=30"})
    assert isinstance(other, str)
    assert "118 blocks" in other
    refused = decoder_of("Jamba-v0.1", {"notes": ""})
    assert isinstance(refused, str)
    assert "linear-attention" in refused
