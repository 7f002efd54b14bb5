"""Recommenders: NCF (He et al. 2017) on MovieLens 20M and DLRM (Naumov et al. 2019), small variant."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional

from benchmarks.workloads.single_device import Network, Row, StepJob, batch_of, optimizer_of, step_job

__all__ = ["find"]

_USERS, _ITEMS = 138_493, 26_744
"""Of MovieLens 20M."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a recommender."""
    name = row["model"].lower()
    if row["task"] != "recommendation":
        return None
    if name.startswith("ncf"):
        return step_job(
            row, Network(f"recommender.{name}.", NeuMf, _ratings), optimizer_of(row, "adam"), half=True
        )
    if name.startswith("dlrm"):
        rows = batch_of(row)
        return step_job(row, Network(f"recommender.{name}.{rows}", lambda: Dlrm(rows), _clicks), "sgd-plain")
    return f"{row['model']}: no description of this recommender"


def _ratings(batch: int) -> tuple[torch.Tensor, ...]:
    ids = torch.zeros(batch, dtype=torch.long)
    return ids, ids.clone(), torch.zeros(batch)


def _clicks(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(batch, 13), torch.zeros(batch, 26, dtype=torch.long), torch.zeros(batch)


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


class Dlrm(nn.Module):
    """
    DLRM small: 26 embedding tables of width 128, bottom MLP 512-256-128, top MLP 1024-1024-512-256, SGD.

    The tables hold 15.6 GB, but their update is sparse: the trace has only as many rows as a batch can touch.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        rows = 26 * batch
        self.table = nn.Embedding(rows, 128, sparse=True)
        self.bottom = _mlp((13, 512, 256, 128))
        self.top = _mlp((480, 1024, 1024, 512, 256))
        self.last = nn.Linear(256, 1)

    def forward(self, dense: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.bottom(dense)
        both = torch.cat((x.unsqueeze(1), self.table(ids).to(x.dtype)), 1)
        pairs = torch.bmm(both, both.transpose(1, 2)).flatten(1)[:, :352]
        scores = self.last(self.top(torch.cat((x, pairs), 1))).squeeze(1)
        return functional.binary_cross_entropy_with_logits(scores.float(), labels)


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
