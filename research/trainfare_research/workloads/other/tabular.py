"""
Recommenders: NCF (He et al. 2017) on MovieLens 20M and DLRM (Naumov et al. 2019) on Criteo's clicks.

DLRM's small and large variant differ in the rows of their tables, of which a step touches only those of its batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, batch_of, optimizer_of, step_job

_USERS, _ITEMS = 138_493, 26_744
"""Of MovieLens 20M."""
_TABLES, _WIDTH = 26, 128
"""Categorical features of Criteo's clicks, and numbers of an embedding."""
_PARTS, _PAIRS = 9, 352
"""The 27 x 128 numbers of a sample's vectors are 9 rows of 384; 351 products and one number of padding are kept."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a recommender."""
    name = row["model"].lower()
    if name == "dlrm (criteo)":
        return "two versions of its source state throughputs a factor of two apart"
    if name.startswith("dlrm"):
        return step_job(row, clicks_network(name, batch_of(row)), "sgd-plain")
    if row["task"] != "recommendation":
        return None
    if name.startswith("ncf"):
        return step_job(
            row, Network(f"recommender.{name}.", NeuMf, _ratings), optimizer_of(row, "adam"), half=True
        )
    return f"{row['model']}: no description of this recommender"


def clicks_network(key: str, batch: int) -> Network:
    """Return DLRM for a batch: the update of its tables is not linear in the samples of another one."""
    return Network(f"clicks.{key}.{batch}", lambda: Dlrm(batch), _clicks)


def count_looked_up_bytes(samples: float, precision: str) -> float:
    """Return the bytes of the embeddings that samples look up, as the layers above the tables read them."""
    return samples * _TABLES * _WIDTH * (2.0 if precision.startswith(("16", "bf16")) else 4.0)


def dense_gradient_bytes(parameter_bytes: int, batch: int, precision: str) -> int:
    """Return the bytes of all gradients but the table's, of the parameters of a trace of `batch` samples."""
    return parameter_bytes - batch * _TABLES * _WIDTH * (2 if precision == "16-true" else 4)


def _ratings(batch: int) -> tuple[torch.Tensor, ...]:
    ids = torch.zeros(batch, dtype=torch.long)
    return ids, ids.clone(), torch.zeros(batch)


def _clicks(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(batch, 13), torch.zeros(batch, _TABLES, dtype=torch.long), torch.zeros(batch)


class NeuMf(nn.Module):
    """NeuMF with 64 factors and an MLP of widths 256, 256, 128, 64."""

    def __init__(self) -> None:
        super().__init__()
        self.user_mf, self.item_mf = nn.Embedding(_USERS, 64), nn.Embedding(_ITEMS, 64)
        self.user, self.item = nn.Embedding(_USERS, 128), nn.Embedding(_ITEMS, 128)
        self.layers = nn.ModuleList((nn.Linear(256, 256), nn.Linear(256, 128), nn.Linear(128, 64)))
        self.last = nn.Linear(128, 1)

    def forward(self, users: torch.Tensor, items: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        product = self.user_mf(users) * self.item_mf(items)
        x = torch.cat((self.user(users), self.item(items)), 1)
        for layer in self.layers:
            x = functional.dropout(functional.relu(layer(x)), 0.5)
        scores = self.last(torch.cat((product.to(x.dtype), x), 1)).squeeze(1)
        return functional.binary_cross_entropy_with_logits(scores.float(), labels)


class _Interaction(torch.autograd.Function):
    """
    Products of every two of 27 vectors as one kernel each way, as HugeCTR and NVIDIA's trainer have it.

    Forward reads the vectors, backward reads them again and writes their gradients. Their few FLOPs are left out.
    """

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(both)
        return both.view(len(both), _PARTS, -1).sum(1)[:, :_PAIRS]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (both,) = ctx.saved_tensors
        gradient: torch.Tensor = both * grads[0][:, :1].unsqueeze(1)
        return gradient


class Dlrm(nn.Module):
    """
    DLRM: 26 embedding tables of width 128, bottom MLP 512-256-128, top MLP 1024-1024-512-256, SGD.

    The tables hold 15.6 GB or more, but their update is sparse: the trace has only as many rows as a batch can touch.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.table = nn.Embedding(_TABLES * batch, _WIDTH, sparse=True)
        self.bottom = _mlp((13, 512, 256, 128))
        self.top = _mlp((480, 1024, 1024, 512, 256))
        self.last = nn.Linear(256, 1)

    def forward(self, dense: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.bottom(dense)
        both = torch.cat((x.unsqueeze(1), self.table(ids).to(x.dtype)), 1)
        interact: Callable[[torch.Tensor], torch.Tensor] = _Interaction.apply
        pairs = interact(both)
        scores = self.last(self.top(torch.cat((x, pairs), 1))).squeeze(1)
        return functional.binary_cross_entropy_with_logits(scores.float(), labels)


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
