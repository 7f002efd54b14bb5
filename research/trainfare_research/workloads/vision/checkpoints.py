"""
Text models that rows name by a family and a size of its checkpoints: "RoBERTa-large", "OPT-350m", "DistilBERT".

The class is that of the family's language model in Hugging Face's library, or the one of the row's task, with the
published sizes. A family without a size is its first one, as in the library's default configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import transformers

from trainfare_research.workloads.language.transformers_classes import job_of_class
from trainfare_research.workloads.single_device import Row, StepJob

_Size = tuple[int, int, int]
"""Layers of a stack, width and heads; feed-forwards are four times as wide."""


@dataclass(frozen=True)
class _Family:
    name: str
    """How the library's classes begin."""
    head: str
    """How the name of the class of its language model ends."""
    sizes: dict[str, _Size]
    words: int = 0
    """Of the vocabulary; 0: as many as by default."""
    job: str = ""
    """What a name must end in: other jobs of the family have no description."""


_BERT: dict[str, _Size] = {"base": (12, 768, 12), "large": (24, 1024, 16)}
"""Sizes that the successors of BERT keep (Devlin et al. 2019)."""
_OPT: dict[str, _Size] = {
    "125m": (12, 768, 12), "350m": (24, 1024, 16), "1.3b": (24, 2048, 32), "2.7b": (32, 2560, 32),
    "6.7b": (32, 4096, 32), "13b": (40, 5120, 40), "30b": (48, 7168, 56),
}  # fmt: skip
"""Zhang et al. 2022, table 1."""
_GPT2: dict[str, _Size] = {
    "small": (12, 768, 12), "medium": (24, 1024, 16), "large": (36, 1280, 20), "xl": (48, 1600, 25),
}  # fmt: skip
_WHISPER: dict[str, _Size] = {
    "tiny": (4, 384, 6), "base": (6, 512, 8), "small": (12, 768, 12), "medium": (24, 1024, 16), "large": (32, 1280, 20),
}  # fmt: skip
"""Radford et al. 2022, table 1. Rows that transcribe do not say how long their texts are: they have no description."""
_FAMILIES = {
    "bigbird": _Family("BigBird", "ForMaskedLM", _BERT),
    "biobert": _Family("Bert", "ForMaskedLM", _BERT, 28_996),
    "camembert": _Family("Camembert", "ForMaskedLM", _BERT, 32_005),
    "distilbert": _Family("DistilBert", "ForMaskedLM", {"base": (6, 768, 12)}),
    "distilgpt2": _Family("GPT2", "LMHeadModel", {"": (6, 768, 12)}),
    "electra": _Family("Electra", "ForMaskedLM", {"small": (12, 256, 4), **_BERT}),
    "gpt2": _Family("GPT2", "LMHeadModel", _GPT2),
    "opt": _Family("OPT", "ForCausalLM", _OPT),
    "reformer": _Family("Reformer", "ForMaskedLM", {"": (6, 256, 12)}),
    "roberta": _Family("Roberta", "ForMaskedLM", _BERT),
    "t5": _Family(
        "T5",
        "ForConditionalGeneration",
        {"small": (6, 512, 8), "base": (12, 768, 12), "large": (24, 1024, 16)},
    ),
    "whisper": _Family("Whisper", "ForAudioClassification", _WHISPER, job="audioclassification"),
    "xlmroberta": _Family("XLMRoberta", "ForMaskedLM", _BERT, 250_002),
}
_FURTHER: dict[tuple[str, str], dict[str, Any]] = {
    ("electra", "small"): {"embedding_size": 128},
    ("opt", "350m"): {"word_embed_proj_dim": 512, "do_layer_norm_before": False},
}
"""What else differs from the library's defaults (config.json of google/electra-small-discriminator and
facebook/opt-350m)."""
_HEADS = {
    "squad": "ForQuestionAnswering",
    "token-classification": "ForTokenClassification",
    "classification": "ForSequenceClassification",
}
"""End of the class of a task, by a part of its name."""
_OF_A_SIZE = (
    {
        "num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer", "n_layers", "encoder_layers",
        "decoder_layers",
    },
    {"hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"},
    {
        "num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads",
    },
)  # fmt: skip
"""Names that the library's configurations have for the three parts of a size."""
_FEED_FORWARDS = {"intermediate_size", "d_ff", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"}
_OF_THE_WEIGHTS = r"(?:(?:un)?cased|v\d|discriminator|mlm)*"
"""What follows the size in a checkpoint's name and leaves its sizes as they are."""


def find(row: Row) -> StepJob | str | None:
    """Return the step of a family's model in the size that a row names."""
    name_and_size = _parse_name(row["model"])
    if name_and_size is None:
        return None
    family, size = name_and_size
    kind = _FAMILIES[family]
    head = next((end for part, end in _HEADS.items() if part in row["task"].lower()), "")
    named_row = {**row, "model": f"{row['model']} {head}".strip()}  # the head is a part of the trace's key
    return job_of_class(
        named_row,
        kind.name + (head or kind.head),
        _parse_sizes(kind, size) | _FURTHER.get((family, size), {}),
    )


def _parse_name(model: str) -> tuple[str, str] | None:
    """Return the family and the size of a name; None where it is not made of these."""
    plain = re.sub(r"[^a-z0-9.]", "", model.lower().rpartition("/")[2]).replace("distill", "distil")
    for family, kind in _FAMILIES.items():
        sizes = "|".join(map(re.escape, kind.sizes))
        match = re.fullmatch(rf"{family}({sizes})?{_OF_THE_WEIGHTS}{kind.job}", plain)
        if match:
            return family, match[1] or next(iter(kind.sizes))
    return None


def _parse_sizes(kind: _Family, size: str) -> dict[str, Any]:
    """Return the sizes in the words of the family's configuration."""
    config = getattr(transformers, f"{kind.name}Config")().to_dict()
    numbers = kind.sizes[size]
    sizes = {
        key: number for keys, number in zip(_OF_A_SIZE, numbers, strict=True) for key in keys & config.keys()
    }
    sizes |= dict.fromkeys(_FEED_FORWARDS & config.keys(), 4 * numbers[1])
    return sizes | ({"vocab_size": kind.words} if kind.words else {})
