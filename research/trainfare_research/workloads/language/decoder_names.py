"""
Architecture of a decoder from its name, from a row's notes, or from its number of parameters.

Names are in decoders.csv, and in hybrids.csv those of decoders with one mixer a block. Of Gemma 4 every block is
described as one with a sliding window: one block in six attends to all tokens, with heads of twice the width and keys
that are its values too, which makes 0 to 2 % more weights.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainfare_research.workloads.language.decoder import Decoder
from trainfare_research.workloads.language.hybrid_parts import Hybrid

_MEGATRON = re.compile(
    r"layers (\d+), hidden (\d+), heads (\d+), kv groups (\d+), ffn (\d+)( swiglu)?"
    r"(?:, experts (\d+) topk (\d+) expert-ffn (\d+))?, vocab (\d+)"
)
"""How the notes of Megatron's tests state a model."""
_UNDESCRIBED_BLOCKS = {
    "state-space or linear-attention blocks": (
        "nemotronh", "nemotron3", "lfm2", "granite4", "kimilinear", "qwen3next", "qwen35", "mamba", "jamba",
    ),
    "embeddings of each block, shared keys and feed-forwards of two widths": (
        "gemma3n", "gemma4e", "gemma42b", "gemma44b",
    ),
}  # fmt: skip
"""Families by what their blocks have, and by the beginning of their normalised name. MaxText's gemma4-2b and -4b are
E2B and E4B (tpu-recipes, `training/ironwood`); embeddings of their blocks are 2.3 and 2.8 billion weights."""
_NOT_DECODERS = re.compile(
    r"(?<![a-z])(bert|clip|vit|swin|d2/|t5|t0|mt0|language-per|vision-per|bart|gnmt|wan\d)|diffusion|flux"
)
_WIDTHS = (
    768, 1024, 1536, 2048, 2560, 3072, 4096, 5120, 6144, 7168, 8192, 9216, 10240, 11264, 12288, 14336, 16384,
    18432, 20480, 25600,
)  # fmt: skip
"""Hidden sizes of published GPT-like models, among which a model of unknown shape gets its own."""
_GPT_VOCABULARY = 51_200
"""GPT-2's 50,257 tokens, padded for tensor parallelism as Megatron does."""
_WIDTH_PER_LAYER = 128
"""Hidden size over layers of a model of unknown shape: GPT-3's sizes lie around it, and the loss hardly depends on it
(Kaplan et al. 2020)."""
_SIZE_OFF = 0.1
"""How far a model whose layers the stages of its pipeline must divide may be from its stated size, in ln. Chosen."""


def normalise_name(name: str) -> str:
    """Return the letters and digits of a name in lower case, so that "Llama-3.1 8B" equals "LLAMA31_8b"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _simplify_name(name: str) -> str:
    """Return a normalised name without what stands in parentheses, before a slash, or for Meta before its models."""
    plain = normalise_name(re.sub(r"\(.*?\)", "", name).rpartition("/")[2]) or normalise_name(name)
    return re.sub(r"^meta(?=llama)", "", plain)


def decoder_of(name: str, row: Mapping[str, str]) -> Decoder | str:
    """
    Return the decoder of a row, or why its architecture is not known.

    A name in decoders.csv decides; `layers=` in the notes, or "proxy4L" or "2-layer" in the name, replaces its layers.
    Else `hidden=`, `layers=`, `heads=` and `vocabulary=` in the notes describe it. A decoder of which only the number
    of parameters is known gets the usual proportions of a GPT of that size, which its FLOPs hardly depend on.

    Args:
        name: of the model.
        row: `params` (weights), `params_m` (millions of weights) and `notes` are read where they are there.
    """
    plain = _simplify_name(name)
    known = _find_known(plain)
    stated = {
        key: int(value)
        for key, value in re.findall(r"\bn?(hidden|layers|heads|vocabulary)=(\d+)", row.get("notes", ""))
    }
    cut = re.search(r"\b(?:proxy)?(\d+)(?:l|[ -]layers?)\b", name.lower())
    if cut:
        stated["layers"] = int(cut[1])
    if known is not None:
        layers = stated.get("layers", known.layers)
        if isinstance(known, Hybrid) and layers != known.layers:
            return f"{name}: which of its {known.layers} blocks make up {layers} is not known"
        dense = min(known.dense_layers, layers // 2 if known.dense_layers > 3 else known.dense_layers)
        return replace(known, layers=layers, dense_layers=dense)
    if _NOT_DECODERS.search(name.lower()):
        return f"{name}: not a decoder"
    whole = _MEGATRON.search(row.get("notes", ""))
    if whole:
        return _of_megatron(whole)
    if {"hidden", "layers", "heads"} <= stated.keys():
        width, heads = stated["hidden"], stated["heads"]
        words = stated.get("vocabulary", _GPT_VOCABULARY)
        return Decoder(
            stated["layers"], width, heads, heads, 4 * width, words, gated=False, tied="vocabulary" in stated
        )
    for blocks, families in _UNDESCRIBED_BLOCKS.items():
        if plain.startswith(families):
            return f"{name}: {blocks} are not described"
    params = _params(name, row)
    if params is None or re.search(r"a\d+b|moe|flash|maverick", plain):
        return f"{name}: the architecture is not known"
    stages = re.search(r"\bpp\s?=?(\d+)", row.get("strategy", "").lower())
    return _of_size(params, stated.get("heads"), int(stages[1]) if stages else 1)


def context_of(name: str) -> int | None:
    """Return the sequence length at which a named decoder is usually trained; None where the table has no such name."""
    row = _find_row(_simplify_name(name))
    return int(row["context"]) if row is not None else None


def _find_known(plain: str) -> Decoder | None:
    row = _find_row(plain)
    if row is None:
        return None
    sizes: dict[str, Any] = {
        key: int(value or 0)
        for key, value in row.items()
        if key not in ("names", "context", "weights_billions", "source")
    }
    flags = {key: bool(sizes[key]) for key in ("gated", "tied")}
    if "layers" in sizes:
        return Decoder(**{**sizes, **flags})
    blocks = sum(size for key, size in sizes.items() if key.endswith("_blocks"))
    return Hybrid(**{**sizes, **flags, "layers": blocks})


def _find_row(plain: str) -> dict[str, str] | None:
    """Return the table's row whose name is the longest beginning of this one; None where there is none."""
    fitting = [(len(alias), alias) for alias in _read_table() if plain.startswith(alias)]
    if not fitting:
        return None
    alias = max(fitting)[1]
    rest = plain[len(alias) :]
    return None if rest[:1].isdigit() and alias[-1].isdigit() else _read_table()[alias]


@lru_cache(maxsize=1)
def _read_table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for name in ("decoders.csv", "hybrids.csv"):
        with Path(__file__).with_name(name).open(newline="", encoding="utf-8") as stream:
            table |= {alias: row for row in csv.DictReader(stream) for alias in row["names"].split("|")}
    return table


def _of_megatron(stated: re.Match[str]) -> Decoder:
    """Return the decoder that the notes of a Megatron test state in full."""
    layers, width, heads, pairs, ffn, swiglu, experts, active, expert_ffn, vocabulary = stated.groups()
    return Decoder(
        int(layers), int(width), int(heads), int(pairs), int(ffn), int(vocabulary), gated=bool(swiglu),
        experts=int(experts or 0), active=int(active or 0), expert_ffn=int(expert_ffn or 0),
    )  # fmt: skip


def _params(name: str, row: Mapping[str, str]) -> float | None:
    if row.get("params"):
        return float(row["params"])
    if row.get("params_m"):
        return float(row["params_m"]) * 1e6
    match = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)\s?(b|m)(?![a-z])", name.lower())
    return float(match[1]) * (1e9 if match[2] == "b" else 1e6) if match else None


def _of_size(params: float, heads: int | None, stages: int = 1) -> Decoder:
    """
    Return a GPT of so many weights: 12 x layers x width^2 beside its embeddings, in the usual proportions.

    Megatron refuses layers that its pipeline's stages do not divide.
    """
    vocabulary = _GPT_VOCABULARY
    options = []
    for width in _WIDTHS:
        beside = 2 * vocabulary * width
        layers = round((params - beside) / (12 * width**2) / stages) * stages
        size = layers * 12 * width**2 + beside
        if layers >= 2 and (stages == 1 or abs(math.log(size / params)) < _SIZE_OFF):
            options.append((abs(math.log(width / layers / _WIDTH_PER_LAYER)), width, layers))
    if not options and stages > 1:
        return _of_size(params, heads)
    if not options:
        return Decoder(12, 768, 12, 12, 3072, vocabulary, gated=False, tied=True)
    _, width, layers = min(options)
    count = heads if heads and width % heads == 0 else width // 128
    return Decoder(layers, width, count, count, 4 * width, vocabulary, gated=False)
