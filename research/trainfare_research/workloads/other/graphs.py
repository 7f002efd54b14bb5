"""
PNA (Corso et al. 2020) as milabench trains it: PyTorch Geometric's `PNAConv`, 64 layers of 64 channels, on PCQM4Mv2.

Sizes are those of mila-iqia/milabench, `benchmarks/geo_gnn` (`bench/models.py`, `main.py`): nine features an atom, four
aggregators, three scalers, the largest value of a molecule's atoms against its energy gap. Its requirements install
torch-scatter, whose minimum and maximum keep the edge that they come from.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_FEATURES, _CHANNELS, _LAYERS = 9, 64, 64
_ATOMS, _EDGES = 229 / 16, 476 / 16
"""Of a molecule: the batch of 16 in the source of `main.py`; the whole data set has 14.1 and 2 x 14.6 in the mean."""
_AGGREGATED = 12
"""Four aggregators by three scalers."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a graph network."""
    if not row["model"].startswith("PNA (PCQM4M"):
        return None
    return step_job(row, Network("graphs.pna.pcqm4m.", Pna, _molecules), optimizer_of(row, "adam"))


def _molecules(batch: int) -> tuple[torch.Tensor, ...]:
    atoms, edges = round(batch * _ATOMS), round(batch * _EDGES)
    ids = torch.zeros(edges, dtype=torch.long)
    return (
        torch.empty(atoms, _FEATURES),
        ids,
        ids.clone(),
        torch.zeros(atoms, dtype=torch.long),
        torch.empty(batch),
    )


class _Largest(torch.autograd.Function):
    """The largest value of each group, with the row that it comes from."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, groups: torch.Tensor, count: int) -> torch.Tensor:
        wide = groups[:, None].expand_as(values)
        largest = values.new_zeros(count, values.shape[1]).scatter_reduce_(
            0, wide, values, "amax", include_self=False
        )
        ctx.save_for_backward(groups.new_zeros(largest.shape))
        ctx.rows = len(values)
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (of,), (gradient,) = ctx.saved_tensors, gradients
        return gradient.new_zeros(ctx.rows, gradient.shape[1]).scatter_(0, of, gradient), None, None


def _largest(values: torch.Tensor, groups: torch.Tensor, count: int) -> torch.Tensor:
    largest: torch.Tensor = _Largest.apply(values, groups, count)  # type: ignore[no-untyped-call]
    return largest


def _mean(values: torch.Tensor, groups: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    wide = groups[:, None].expand_as(values)
    return values.new_zeros(len(sizes), values.shape[1]).scatter_add_(0, wide, values) / sizes


class _Convolution(nn.Module):
    """One layer: messages of edges, and four aggregates of those of an atom, scaled in three ways by their number."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.message = nn.Linear(2 * wide, wide)
        self.update = nn.Linear((_AGGREGATED + 1) * wide, out)
        self.mix = nn.Linear(out, out)

    def forward(self, x: torch.Tensor, senders: torch.Tensor, receivers: torch.Tensor) -> torch.Tensor:
        message = self.message(torch.cat((x[receivers], x[senders]), 1))
        degree = x.new_zeros(len(x)).scatter_add_(0, receivers, x.new_ones(len(receivers)))[:, None]
        sizes = degree.clamp(min=1)
        # Each aggregator for itself: PyTorch Geometric fuses them on two dimensions, and `PNAConv` has three.
        spread = _mean(message * message, receivers, sizes) - _mean(message, receivers, sizes) ** 2
        parts = (
            _mean(message, receivers, sizes),
            _largest(message, receivers, len(x)),
            _largest(message, receivers, len(x)),  # the smallest
            torch.sqrt(spread.relu() + 1e-5),
        )
        every, scale = torch.cat(parts, 1), torch.log(degree + 1)
        scaled = torch.cat((every, every * (scale / 1.1), every * (1.1 / scale)), 1)
        y: torch.Tensor = self.mix(self.update(torch.cat((x, scaled), 1)))
        return y


class Pna(nn.Module):
    """The network and its loss."""

    def __init__(self) -> None:
        super().__init__()
        widths = (_FEATURES, *[_CHANNELS] * (_LAYERS - 1), 1)
        self.layers = nn.ModuleList(_Convolution(*sizes) for sizes in pairwise(widths))

    def forward(
        self, atoms: torch.Tensor, senders: torch.Tensor, receivers: torch.Tensor, molecules: torch.Tensor,
        gaps: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        x = atoms
        for layer in self.layers:
            x = layer(x, senders, receivers)
            x = x if layer is self.layers[-1] else functional.relu(x)
        return functional.l1_loss(_largest(x, molecules, len(gaps))[:, 0], gaps)
