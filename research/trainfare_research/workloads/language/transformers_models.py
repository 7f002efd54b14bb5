"""BERT, BART and GPT on one device, from Hugging Face configurations."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

MASKED_LOGITS = "logits=masked"
"""Note of a row whose BERT computes logits of the masked tokens alone."""
FUSED_ATTENTION = "attention=fused"
"""Note of a row whose BERT has one kernel for softmax and both of its products."""

_SIZES = {
    "bert-base": (12, 768, 12),
    "bert-large": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt3-xl": (24, 3072, 24),
    "gpt3-2.7b": (32, 2560, 32),
}
"""Layers, width and heads."""
_TARGETS = ("labels", "next_sentence_label", "start_positions", "end_positions")
"""Inputs that only the loss needs."""
_Described = tuple[str, Callable[[], nn.Module], dict[str, int]]
"""Name, builder, and length of each input; 0: one number per sample."""
_MASKED_SHARE = 0.15
"""Of BERT's tokens."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step, or the forward pass, of a BERT, BART or GPT of one device."""
    name = row["model"].lower()
    sequence = int(float(row["sequence_length"])) if row["sequence_length"] else 0
    if name.startswith("bert-"):
        if MASKED_LOGITS in row["notes"]:
            return _build_masked_bert(row, name, sequence)
        described = _bert(row, name, sequence)
    elif name.startswith("bart-"):
        if "large" not in name:
            return "BART: only the large model is described"
        described = _bart(sequence)
    elif name == "gpt2-large" or name.startswith(("gpt3-xl", "gpt3-2.7b")):
        described = _gpt(name, sequence)
    else:
        return None
    name, build, lengths = described
    sequence = lengths["input_ids"]
    phases = _phases(row)
    forward_alone = phases == ("forward",)

    def inputs(batch: int) -> dict[str, torch.Tensor]:
        shapes = {key: (batch, length) if length else (batch,) for key, length in lengths.items()}
        return {key: torch.zeros(shape, dtype=torch.long) for key, shape in shapes.items()}

    def loss(net: nn.Module, made: dict[str, torch.Tensor]) -> torch.Tensor:
        scalar: torch.Tensor
        if not forward_alone:
            scalar = net(**made).loss
        else:
            out = net(**{key: tensor for key, tensor in made.items() if key not in _TARGETS})
            scalar = out[0].flatten()[:1].sum()
        return scalar

    def network() -> nn.Module:
        net = build()
        if forward_alone:  # dropout is off in inference
            for module in net.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
        return net

    return step_job(
        row,
        Network(
            f"hf.{name}.{sequence}",
            network,
            inputs,
            loss,
            units=sequence if row["throughput_unit"] == "tokens/s" else 1,
        ),
        optimizer_of(row, "adam"),
        half=name.startswith("bert") and not casts_weights(row),
        phases=phases,
        compiled="compile" in row["framework"],
    )


def _phases(row: Row) -> tuple[str, ...]:
    if row["task"].startswith("inference"):
        return ("forward",)
    return ("forward", "backward") if row["optimizer"] == "none" else ("forward", "backward", "optimizer")


class PretrainedBert(nn.Module):
    """
    BERT with its two pre-training losses.

    Args:
        config: sizes, and the implementation of attention.
        predicted: tokens of a sample whose logits are computed.
    """

    def __init__(self, config: transformers.BertConfig, predicted: int) -> None:
        super().__init__()
        net = transformers.BertForPreTraining(config)
        self.body, self.heads, self.predicted = net.bert, net.cls, predicted

    def forward(self, ids: torch.Tensor, labels: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        outputs = self.body(input_ids=ids, token_type_ids=torch.zeros_like(ids))
        words, pairs = self.heads(outputs.last_hidden_state[:, : self.predicted], outputs.pooler_output)
        masked = functional.cross_entropy(words.flatten(0, 1).float(), labels[:, : self.predicted].flatten())
        return masked + functional.cross_entropy(pairs.float(), order)


def _build_masked_bert(row: Row, name: str, sequence: int) -> StepJob | str:
    def inputs(batch: int) -> tuple[torch.Tensor, ...]:
        ids = torch.zeros(batch, sequence, dtype=torch.long)
        return ids, ids.clone(), torch.zeros(batch, dtype=torch.long)

    predicted = int(_MASKED_SHARE * sequence)
    config, fused = _bert_config(row, name)
    key = f"hf.{name}.pretrain-masked{fused}.{sequence}"
    network = Network(key, lambda: PretrainedBert(config, predicted), inputs)
    return step_job(row, network, optimizer_of(row, "adam"), half=not casts_weights(row))


def casts_weights(row: Row) -> bool:
    """Return whether mixed precision casts fp32 weights at every use, as TensorFlow's does."""
    return row["framework"].startswith("tensorflow")


def _bert_config(row: Row, name: str) -> tuple[transformers.BertConfig, str]:
    """Return the sizes of BERT, and the part of its key that says how attention is computed."""
    fused = FUSED_ATTENTION in row["notes"]
    layers, width, heads = _SIZES["bert-large" if "large" in name else "bert-base"]
    config = transformers.BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width,
        vocab_size=30_522, max_position_embeddings=512, attn_implementation="sdpa" if fused else "eager",
        pad_token_id=None,  # else older versions search the values of the batch for padding
    )  # fmt: skip
    return config, "-fused" * fused


def _bert(row: Row, name: str, sequence: int) -> _Described:
    config, fused = _bert_config(row, name)
    lengths = {"input_ids": sequence, "token_type_ids": sequence}
    if row["task"] == "finetune-squad":
        return (
            f"{name}.squad{fused}",
            lambda: transformers.BertForQuestionAnswering(config),
            {**lengths, "start_positions": 0, "end_positions": 0},
        )
    return (
        f"{name}.pretrain{fused}",
        lambda: transformers.BertForPreTraining(config),
        {**lengths, "labels": sequence, "next_sentence_label": 0},
    )


def _bart(stated: int) -> _Described:
    """Return BART; without a stated length as for summarisation: articles of 1,024 tokens, summaries of 142."""
    target = stated or 142
    config = transformers.BartConfig(attn_implementation="eager")
    lengths = {"input_ids": stated or 1024, "decoder_input_ids": target, "labels": target}
    return f"bart-large-{target}", lambda: transformers.BartForConditionalGeneration(config), lengths


def _gpt(name: str, sequence: int) -> _Described:
    layers, width, heads = _SIZES[name]
    config = transformers.GPT2Config(
        n_layer=layers, n_embd=width, n_head=heads, n_positions=max(sequence, 1024), use_cache=False,
        attn_implementation="eager",
    )  # fmt: skip
    return name, lambda: transformers.GPT2LMHeadModel(config), {"input_ids": sequence, "labels": sequence}
