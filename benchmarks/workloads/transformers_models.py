"""BERT, BART and GPT on one device, from Hugging Face configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks.workloads.single_device import (
    Row,
    StepJob,
    Supervised,
    batch_of,
    half_weights,
    optimizer_of,
    precision_of,
)

__all__ = ["find"]

_BERT_SIZES = {"base": (12, 768, 12), "large": (24, 1024, 16)}
_TARGETS = ("labels", "next_sentence_label", "start_positions", "end_positions")
"""Inputs that only the loss needs."""


@dataclass(frozen=True)
class _Model:
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, int], dict[str, torch.Tensor]]
    sequence: int


def find(row: Row) -> StepJob | str | None:
    """Return the training step, or the forward pass, of a BERT, BART or GPT of one device."""
    model = _model(row)
    if model is None or isinstance(model, str):
        return model
    mode = precision_of(row)
    batch = batch_of(row)
    if mode is None or not batch:
        return "precision or batch is not stated"
    precision, tf32 = mode
    if row["model"].lower().startswith("bert"):
        precision = half_weights(precision)
    optimizer = optimizer_of(row, "adam")
    phases = _phases(row)

    def loss(net: nn.Module, made: dict[str, torch.Tensor]) -> torch.Tensor:
        scalar: torch.Tensor
        if phases != ("forward",):
            scalar = net(**made).loss
        else:
            out = net(**{name: tensor for name, tensor in made.items() if name not in _TARGETS})
            scalar = out[0].flatten()[:1].sum()
        return scalar

    kind = "tf32" if tf32 else ""
    tokens = batch * model.sequence

    def build() -> nn.Module:
        net = model.build()
        if phases == ("forward",):  # dropout is off in inference
            for module in net.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
        return Supervised(net, loss, optimizer)

    return StepJob(
        key=f"hf.{model.name}.{model.sequence}.{precision}.{kind}.{optimizer}.{'-'.join(phases)}",
        module=build,
        batch=lambda: model.inputs(batch, model.sequence),
        batch_size=batch, precision=precision, tf32=tf32, phases=phases,
        units_per_step=float(tokens if row["throughput_unit"] == "tokens/s" else batch),
        compiled="compile" in row["framework"],
    )  # fmt: skip


def _phases(row: Row) -> tuple[str, ...]:
    if row["task"].startswith("inference"):
        return ("forward",)
    return ("forward", "backward") if row["optimizer"] == "none" else ("forward", "backward", "optimizer")


def _model(row: Row) -> _Model | str | None:
    name = row["model"].lower()
    sequence = int(float(row["sequence_length"])) if row["sequence_length"] else 0
    if name.startswith("bert-"):
        return _bert(row, name, sequence)
    if name.startswith("bart-"):
        return _bart(sequence) if "large" in name else "BART: only the large model is described"
    if name == "gpt2-large" or name.startswith(("gpt3-xl", "gpt3-2.7b")):
        return _gpt(row, name, sequence)
    return None


def _bert(row: Row, name: str, sequence: int) -> _Model:
    layers, width, heads = _BERT_SIZES["large" if "large" in name else "base"]
    config = transformers.BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width,
        vocab_size=30_522, max_position_embeddings=512, attn_implementation="eager",
        pad_token_id=None,  # else older versions search the values of the batch for padding
    )  # fmt: skip
    if row["task"] == "finetune-squad":
        return _Model(
            f"{name}.squad", lambda: transformers.BertForQuestionAnswering(config), _squad_inputs, sequence
        )
    return _Model(
        f"{name}.pretrain", lambda: transformers.BertForPreTraining(config), _masked_inputs, sequence
    )


def _squad_inputs(batch: int, sequence: int) -> dict[str, torch.Tensor]:
    ends = torch.zeros(batch, dtype=torch.long)
    return {
        "input_ids": torch.zeros(batch, sequence, dtype=torch.long),
        "token_type_ids": torch.zeros(batch, sequence, dtype=torch.long),
        "start_positions": ends,
        "end_positions": ends.clone(),
    }


def _masked_inputs(batch: int, sequence: int) -> dict[str, torch.Tensor]:
    ids = torch.zeros(batch, sequence, dtype=torch.long)
    return {
        "input_ids": ids,
        "token_type_ids": ids.clone(),
        "labels": ids.clone(),
        "next_sentence_label": torch.zeros(batch, dtype=torch.long),
    }


def _bart(stated: int) -> _Model:
    """Return BART; without a stated length as for summarisation: articles of 1,024 tokens, summaries of 142."""
    sequence, target = stated or 1024, stated or 142
    config = transformers.BartConfig(attn_implementation="eager")

    def inputs(batch: int, length: int) -> dict[str, torch.Tensor]:
        ids = torch.zeros(batch, length, dtype=torch.long)
        short = torch.zeros(batch, target, dtype=torch.long)
        return {"input_ids": ids, "decoder_input_ids": short, "labels": short.clone()}

    return _Model(
        f"bart-large-{target}", lambda: transformers.BartForConditionalGeneration(config), inputs, sequence
    )


def _gpt(row: Row, name: str, sequence: int) -> _Model:
    layers, width, heads = {
        "gpt2-large": (36, 1280, 20),
        "gpt3-xl": (24, 3072, 24),
        "gpt3-2.7b": (32, 2560, 32),
    }[name]
    config = transformers.GPT2Config(
        n_layer=layers, n_embd=width, n_head=heads, n_positions=max(sequence, 1024), use_cache=False,
        attn_implementation="eager",
    )  # fmt: skip

    def inputs(batch: int, length: int) -> dict[str, torch.Tensor]:
        ids = torch.zeros(batch, length, dtype=torch.long)
        return {"input_ids": ids, "labels": ids.clone()}

    def build() -> Any:
        return transformers.GPT2LMHeadModel(config)

    del row
    return _Model(name, build, inputs, sequence)
