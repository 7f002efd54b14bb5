"""Decoders with one mixer a block: assembled traces equal whole ones, and published sizes are met."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("lightning")

from benchmarks.workloads.decoder import DecoderStep
from benchmarks.workloads.decoder_names import context_of, decoder_of
from benchmarks.workloads.decoder_profile import DecoderTraces, blocks_of
from benchmarks.workloads.hybrid import Hybrid, trace_hybrid_blocks
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.language_models.sums import DecoderLedger

STATE = Hybrid(
    3, 256, 4, 2, 512, 1024, gated=False, state_blocks=3, state_heads=8, state_head=64, state=32, groups=2, kernel=4,
)  # fmt: skip
MIXED = replace(
    STATE, layers=8, state_blocks=2, convolution_blocks=2, attention_blocks=1, dense_blocks=1, expert_blocks=2,
    experts=8, active=2, expert_ffn=128, shared_ffn=256, expert_latent=64, further=2,
)  # fmt: skip


@pytest.mark.parametrize(
    "step",
    [
        DecoderStep(MIXED, 256),
        DecoderStep(replace(MIXED, further=0), 128, recompute="full", method="lora", lora_everywhere=True),
    ],
    ids=["further tokens", "adapters"],
)
def test_an_assembled_hybrid_equals_the_trace_of_the_whole(step: DecoderStep) -> None:
    ours, whole = DecoderTraces().profile(step), trace_hybrid_blocks(step, MIXED.blocks)
    assert blocks_of(MIXED) == MIXED.blocks
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


@pytest.mark.parametrize(
    ("name", "billions", "kinds"),
    [
        ("Nemotron-H 56b", 56.3, {"state": 54, "attention": 10, "dense": 54}),
        ("Nemotron_3_Nano", 31.6, {"state": 23, "attention": 6, "expert": 23}),
        ("Nemotron_3_Super", 123.6, {"state": 40, "attention": 8, "expert": 40}),
        ("Nemotron V3 Ultra 550B", 560.0, {"state": 48, "attention": 12, "expert": 48}),
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
    refused = decoder_of("Qwen3-Next-80B-A3B-Instruct", {"notes": ""})
    assert isinstance(refused, str)
    assert "linear-attention" in refused
