"""
Transformer-XL with 410 channels and segments of 150 tokens (FlagOpen/FlagPerf, `training/benchmarks/transformer_xl`).

Embeddings of the rarer words have a quarter, a sixteenth and a 64th of the channels, as in `transformers`.
"""

from __future__ import annotations

import torch
from torch import nn

from trainfare_research.workloads.language.sequences import TransformerXl
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_TOKENS = 150


def find(row: Row) -> StepJob | str | None:
    """Return the training step of this Transformer-XL; None for other models and sources."""
    if row["source"] != "flagperf" or row["model"] != "Transformer-XL base":
        return None
    network = Network(
        f"sequence.transformer-xl-410-{_TOKENS}", _small, _ids, notes=(f"segments of {_TOKENS} tokens",)
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "adam"))


def _small() -> nn.Module:
    return TransformerXl(16, 410, 10, 2100, _TOKENS, (410, 102, 25, 6))


def _ids(batch: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros(_TOKENS, batch, dtype=torch.long) for _ in range(2))
