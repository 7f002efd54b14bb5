"""Language models with short names: the classes and sizes that their published configurations have. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

__all__ = ["KNOWN_MODELS", "KnownModel"]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """
    A published configuration.

    Attributes:
        architecture: class of transformers.
        sizes: fields of its configuration class that differ from the class's defaults.
    """

    architecture: str
    sizes: MappingProxyType[str, Any]


def _model(architecture: str, **sizes: Any) -> KnownModel:
    return KnownModel(architecture, MappingProxyType(sizes))


def _llama(
    width: int, hidden: int, layers: int, heads: int, kv_heads: int, vocab: int, **more: Any
) -> KnownModel:
    return _decoder("LlamaForCausalLM", width, hidden, layers, heads, kv_heads, vocab, **more)


def _decoder(
    architecture: str,
    width: int,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    **more: Any,
) -> KnownModel:
    return _model(
        architecture,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocab,
        **more,
    )


KNOWN_MODELS: Final = MappingProxyType(
    {
        "gpt2": _model("GPT2LMHeadModel"),
        "gpt2-medium": _model("GPT2LMHeadModel", n_embd=1024, n_layer=24, n_head=16),
        "gpt2-large": _model("GPT2LMHeadModel", n_embd=1280, n_layer=36, n_head=20),
        "gpt2-xl": _model("GPT2LMHeadModel", n_embd=1600, n_layer=48, n_head=25),
        "bert-base": _model("BertForMaskedLM"),
        "bert-large": _model(
            "BertForMaskedLM",
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
        ),
        "llama-2-7b": _llama(4096, 11008, 32, 32, 32, 32000, max_position_embeddings=4096),
        "llama-2-13b": _llama(5120, 13824, 40, 40, 40, 32000, max_position_embeddings=4096),
        "llama-2-70b": _llama(8192, 28672, 80, 64, 8, 32000, max_position_embeddings=4096),
        "llama-3.1-8b": _llama(4096, 14336, 32, 32, 8, 128256, max_position_embeddings=131072),
        "llama-3.1-70b": _llama(8192, 28672, 80, 64, 8, 128256, max_position_embeddings=131072),
        "llama-3.1-405b": _llama(16384, 53248, 126, 128, 8, 128256, max_position_embeddings=131072),
        "mistral-7b": _decoder(
            "MistralForCausalLM",
            4096,
            14336,
            32,
            32,
            8,
            32768,
            max_position_embeddings=32768,
            sliding_window=None,
        ),
        "mixtral-8x7b": _decoder(
            "MixtralForCausalLM", 4096, 14336, 32, 32, 8, 32000, max_position_embeddings=32768
        ),
        "qwen2.5-0.5b": _decoder(
            "Qwen2ForCausalLM",
            896,
            4864,
            24,
            14,
            2,
            151936,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
        ),
        "qwen2.5-7b": _decoder(
            "Qwen2ForCausalLM", 3584, 18944, 28, 28, 4, 152064, max_position_embeddings=131072
        ),
    }
)
"""Sizes from the `config.json` that the authors published; the names are theirs in lower case, without the owner."""
