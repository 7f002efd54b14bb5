"""
Models that rows name by a class of Hugging Face's library, or by a configuration with published sizes, on one device.

"AlbertForMaskedLM" is that class with its default configuration. Where a row names a model, `_MODELS` has its class,
and the sizes that differ from the default ones. A class of the library needs no line here, nor does a family with a
size (`checkpoints.py`).
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import nn

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base mlm (bertconfig default)": ("BertForMaskedLM", {}),
    "clip-vit-base-patch32 with roberta-base": (
        "VisionTextDualEncoderModel",
        {"vision_config": {"model_type": "clip_vision_model"}, "text_config": {"model_type": "roberta"}},
    ),
    "googlefnet": ("FNetForMaskedLM", {}),
    "language-perceiver": ("PerceiverForSequenceClassification", {"qk_channels": 256, "v_channels": 1280}),
    "longformer-base": ("LongformerForMaskedLM", {}),
    "vision-perceiver-conv": (
        "PerceiverForImageClassificationConvProcessing",
        {"num_latents": 512, "d_latents": 1024, "d_model": 322, "num_blocks": 8, "num_self_attends_per_block": 6,
         "num_self_attention_heads": 8, "num_cross_attention_heads": 1},
    ),
    "whisper-tiny audio classification": ("WhisperForAudioClassification", {}),
    "yitutechconvbert": ("ConvBertForMaskedLM", {}),
}  # fmt: skip
"""Class and sizes by model, in lower case. The Perceivers are those of deepmind's checkpoints
(huggingface/transformers, `models/perceiver/convert_perceiver_haiku_to_pytorch.py`)."""
_TOKENS, _NUMBER = "a target for each token", "one number for each sample"
_TARGETS = {
    "ForMaskedLM": {"labels": _TOKENS},
    "ForConditionalGeneration": {"labels": _TOKENS},
    "LMHeadModel": {"labels": _TOKENS},
    "ForCausalLM": {"labels": _TOKENS},
    "ForTokenClassification": {"labels": _TOKENS},
    "ForSequenceClassification": {"labels": _NUMBER},
    "ForAudioClassification": {"labels": _NUMBER},
    "ForImageClassification": {"labels": _NUMBER},
    "ForImageClassificationConvProcessing": {"labels": _NUMBER},
    "VisionTextDualEncoderModel": {},
    "ForQuestionAnswering": {"start_positions": _NUMBER, "end_positions": _NUMBER},
}
"""What the loss of a class needs, by the end of its name."""
_WHISPER_INPUT = (80, 3000)
"""Mel bands and 10 ms frames of Whisper's input, which is always padded to 30 s."""
_FUSED_ATTENTION_FROM = (2, 4)
"""Release of PyTorch from which a row is taken to run a release of Transformers of the same time, whose classes use
`scaled_dot_product_attention` where they support it (BERT since Transformers 4.41, of May 2024)."""


@dataclass(frozen=True)
class _Samples:
    """Inputs of a class: the shape of one sample of each; () is one number."""

    shapes: dict[str, tuple[int, ...]]
    targets: tuple[str, ...]
    """Inputs that only the loss needs."""
    real: tuple[str, ...] = field(default=())
    """Inputs of real numbers; all others are token or class numbers."""

    def batch(self, size: int) -> dict[str, torch.Tensor]:
        """Return a batch of `size` samples."""
        return {
            key: torch.empty(size, *shape)
            if key in self.real
            else torch.zeros((size, *shape), dtype=torch.long)
            for key, shape in self.shapes.items()
        }


def find(row: Row) -> StepJob | str | None:
    """Return the training step, or the forward pass, of a class of the library."""
    kind, sizes = _MODELS.get(row["model"].lower(), (row["model"], {}))
    return job_of_class(row, kind, sizes)


def job_of_class(row: Row, kind: str, sizes: dict[str, Any]) -> StepJob | str | None:
    """Return the step of a class of the library with these sizes; None where the library has no such class."""
    name = row["model"].lower()
    if not kind.endswith(tuple(_TARGETS)) or not hasattr(transformers, kind):
        return None
    sequence = int(float(row["sequence_length"] or 0))
    pixels = int(float(row["image_size"] or 0))
    samples = _make_samples(kind, sizes, sequence, pixels)
    if samples is None:
        return f"{row['model']}: samples of unknown length"
    phases = _phases(row)
    attention = _find_attention(row, kind)
    compiled = "compile" in row["framework"]

    def loss(net: nn.Module, made: dict[str, torch.Tensor]) -> torch.Tensor:
        if phases == ("forward",):
            out = net(**{key: tensor for key, tensor in made.items() if key not in samples.targets})
            scalar: torch.Tensor = out[0].flatten()[:1].sum()
            return scalar
        paired = {"return_loss": True} if kind == "VisionTextDualEncoderModel" else {}
        whole: torch.Tensor = net(**made, **paired).loss
        return whole

    def network() -> nn.Module:
        return _build(kind, {**sizes, "attn_implementation": attention}, dropout=phases != ("forward",))

    units = sequence if row["throughput_unit"] == "tokens/s" else 1
    seen = f"{pixels}px." if "pixel_values" in samples.shapes else ""
    key = f"hf.{name}.{sequence}.{seen}{attention}"
    return step_job(
        row,
        Network(key, network, samples.batch, loss, units=units),
        optimizer_of(row, "adam"),
        phases=phases,
        compiled=compiled,
    )


def _make_samples(kind: str, sizes: dict[str, Any], sequence: int, pixels: int) -> _Samples | None:
    """Return the inputs of a class for texts of `sequence` tokens and square images; None where a size is missing."""
    targets = next(target for end, target in _TARGETS.items() if kind.endswith(end))
    if kind.startswith("Whisper"):
        return _Samples({"input_features": _WHISPER_INPUT, "labels": ()}, ("labels",), ("input_features",))
    sees, reads = ("Image" in kind or "Vision" in kind), "Image" not in kind
    if (sees and not pixels) or (reads and not sequence):
        return None
    shapes: dict[str, tuple[int, ...]] = {"pixel_values": (3, pixels, pixels)} if sees else {}
    if reads:
        shapes["input_ids"] = (sequence,)
    if getattr(_config(kind, sizes), "is_encoder_decoder", False):
        shapes["decoder_input_ids"] = (sequence,)
    shapes |= {key: (sequence,) if what == _TOKENS else () for key, what in targets.items()}
    return _Samples(shapes, tuple(targets), ("pixel_values",))


def _phases(row: Row) -> tuple[str, ...]:
    """Return the phases that a row's time covers."""
    if row["task"].startswith("inference"):
        return ("forward",)
    without_update = row["optimizer"] == "none" or row["task"].endswith("fwd_bwd")
    return ("forward", "backward") if without_update else ("forward", "backward", "optimizer")


def _find_attention(row: Row, kind: str) -> str:
    """Return the attention of the library's release that a row ran."""
    version = re.search(r"pytorch (\d+)\.(\d+)", row["framework"])
    recent = version is not None and (int(version[1]), int(version[2])) >= _FUSED_ATTENTION_FROM
    # Until Transformers 5, of 2026, T5 had no fused attention.
    supported = getattr(getattr(transformers, kind), "_supports_sdpa", False) and not kind.startswith("T5")
    return "sdpa" if recent and supported else "eager"


def _config(kind: str, sizes: dict[str, Any]) -> Any:
    """Return the configuration of a class; Transformers 4 takes names out of the mappings that it is given."""
    return getattr(transformers, kind).config_class(**deepcopy(sizes))


def _build(kind: str, sizes: dict[str, Any], *, dropout: bool) -> nn.Module:
    config_class: Any = getattr(transformers, kind)
    config = _config(kind, sizes)
    net: nn.Module = config_class(config)
    if getattr(config, "pad_token_id", 0) is None and kind.endswith("ForSequenceClassification"):
        config.pad_token_id = 0  # a decoder classifies at the last token before it
    elif not getattr(config, "is_encoder_decoder", False):
        # Else some classes search the values of the batch for padding. RoBERTa counts its positions by the number.
        config.pad_token_id = None
    if not dropout:
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return net
