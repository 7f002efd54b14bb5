"""Decoders that are known by name: their parameters are the published ones, and one that is not has a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightning")

from trainfare_research.truth_table import read_rows
from trainfare_research.workloads.language import decoder_names
from trainfare_research.workloads.language.decoder import Decoder
from trainfare_research.workloads.language.decoder_names import context_of, decoder_of


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Llama 3.1 405b", 405.9), ("LLAMA3_70B", 70.6), ("Mixtral-8x7B", 46.7), ("Qwen3_235B_a22B", 235.1),
        ("DeepSeekV3", 671.0), ("GPT3-175B", 175.0), ("Gemma3-12B", 11.8), ("MPT-7b", 6.7), ("AFM-4.5B", 4.62),
        ("DeepSeek3-671B", 671.0), ("Voxtral-Mini-3B-2507", 4.01), ("Nemotron-8B", 8.54), ("Nemotron-22B", 21.3),
        ("baichuan2-7b-chat", 7.51), ("baichuan2-13b-chat", 13.9), ("ChatGLM3-6B", 6.24), ("gpt-neox-20b", 20.6),
        ("openbuddy-zephyr-7b-chat", 7.28), ("Qwen2.5-Coder-7B-Instruct", 7.62), ("CodeLlama-13b-Instruct-hf", 13.0),
        ("gemma4-26b", 25.2), ("moe-7b-1b-active-shared-experts", 25.49 / 4), ("meta-llama/Meta-Llama-3.1-8B", 8.03),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62), ("Qwen2-57B-A14B-Instruct", 57.4),
        ("unsloth/phi-4-bnb-4bit", 14.66), ("Phi-4-multimodal-instruct", 3.84), ("SmolLM2-360M", 0.362),
    ],
)  # fmt: skip
def test_names_have_the_published_number_of_parameters(name: str, billions: float) -> None:
    decoder = decoder_of(name, {})
    assert isinstance(decoder, Decoder)
    assert decoder.parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_the_blocks_of_a_described_decoder_add_up_to_its_published_weights() -> None:
    """Every row that states them; position embeddings, norms and biases are not counted."""
    table = Path(decoder_names.__file__).with_name("decoders.csv")
    stated = [row for row in read_rows(table) if row["weights_billions"]]
    assert len(stated) > 100
    for row in stated:
        for name in row["names"].split("|"):
            decoder = decoder_of(name, {})
            assert isinstance(decoder, Decoder), name
            assert decoder.parameters / 1e9 == pytest.approx(float(row["weights_billions"]), rel=0.015), name


@pytest.mark.parametrize(
    ("name", "layers", "local", "whole", "ffn"),
    [
        ("gemma-4-12b-it", 48, 3840 * 256 * (2 * 16 + 2 * 8), 3840 * 512 * (2 * 16 + 1), 3 * 3840 * 15360),
        ("Gemma-4-31B-it", 60, 5376 * 256 * (2 * 32 + 2 * 16), 5376 * 512 * (2 * 32 + 4), 3 * 5376 * 21504),
    ],
)
def test_a_gemma_4_of_one_kind_of_block_has_nearly_all_weights(
    name: str, layers: int, local: int, whole: int, ffn: int
) -> None:
    """Five blocks of six have a sliding window; the sixth has heads twice as wide and no values of its own."""
    decoder = decoder_of(name, {})
    assert isinstance(decoder, Decoder)
    blocks = layers // 6 * (5 * local + whole + 6 * ffn)
    assert decoder.parameters == pytest.approx(blocks + decoder.hidden * 262_144, rel=0.02)


def test_a_cut_model_has_the_layers_of_its_name() -> None:
    cut = decoder_of("Llama4-Scout 2-layer cut (torchtitan)", {"notes": ""})
    whole = decoder_of("Llama4-Scout-17B-16E", {})
    assert isinstance(cut, Decoder)
    assert isinstance(whole, Decoder)
    assert (cut.layers, whole.layers, cut.hidden) == (2, 48, whole.hidden)


def test_unknown_decoders_have_a_reason() -> None:
    assert "embeddings of each block" in str(decoder_of("gemma-4-E2B-it", {"params_m": "5141.4"}))
    assert "not a decoder" in str(decoder_of("wan2.1-14b", {}))
    assert "state-space" in str(decoder_of("Jamba-v0.1", {}))
    assert "not a decoder" in str(decoder_of("BERT-Large Ph1", {}))
    assert "not known" in str(decoder_of("SomethingNew", {}))
    assert context_of("SomethingNew") is None
    stated = decoder_of("GPT-x", {"notes": "hidden=2048;layers=12;heads=16"})
    assert isinstance(stated, Decoder)
    assert (stated.layers, stated.hidden) == (12, 2048)
    sized = decoder_of("GPT-181B", {"notes": "nheads=128;02-26"})
    assert isinstance(sized, Decoder)
    assert (sized.hidden, sized.heads) == (12288, 128)
    staged = [decoder_of("GPT2-78B", {"notes": "", "strategy": how}) for how in ("dp1,pp64", "dp64")]
    assert [decoder.layers for decoder in staged if isinstance(decoder, Decoder)] == [64, 76], (
        "stages divide the blocks"
    )
