"""QuartzNet 15x5 (Kriman et al. 2019): depthwise convolutions over time, each with a pointwise one."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_FRAMES = 1664
"""10 ms frames: the middle of the lengths that NVIDIA's benchmark allocates memory for, 1,408 to 1,920."""
_BLOCKS = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
"""Channels and kernel of five blocks, each of which comes three times."""
_MELS, _LETTERS = 64, 29


def find(row: Row) -> StepJob | str | None:
    """Return the training step of QuartzNet 15x5."""
    if not row["model"].lower().startswith("quartznet15x5"):
        return None
    notes = (f"utterances of {_FRAMES / 100:g} s are assumed",)
    network = Network(f"audio.quartznet15x5.{_FRAMES}", QuartzNet, _utterances, notes=notes)
    return step_job(row, network, optimizer_of(row, "adam"))


def _utterances(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(batch, _MELS, _FRAMES), torch.zeros(batch, 200, dtype=torch.long)


class QuartzNet(nn.Module):
    """
    Fifteen blocks of five modules with a residual connection each.

    Returns a loss with the traffic of log-softmax; that of CTC itself is small beside it and left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _module(_MELS, 256, 33, stride=2)
        blocks, sides, wide = [], [], 256
        for width, kernel in _BLOCKS:
            for _ in range(3):
                widths = (wide, width, width, width, width)
                blocks.append(nn.ModuleList(_module(a, width, kernel) for a in widths))
                sides.append(_pointwise(wide, width))
                wide = width
        self.blocks, self.sides = nn.ModuleList(blocks), nn.ModuleList(sides)
        self.last = nn.Sequential(
            _module(wide, 512, 87, dilation=2), nn.ReLU(), _pointwise(512, 1024), nn.ReLU(),
            nn.Conv1d(1024, _LETTERS, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first(x))
        for block, side in zip(self.blocks, self.sides, strict=True):
            y, layers = x, list(block.children())
            for layer in layers[:-1]:
                y = functional.relu(layer(y))
            x = functional.relu(layers[-1](y) + side(x))
        scores = functional.log_softmax(self.last(x).float(), 1)
        return -scores.mean() + 0.0 * labels.sum()


def _pointwise(wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(wide, out, 1, bias=False), nn.BatchNorm1d(out))


def _module(wide: int, out: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a separable convolution: each channel by itself over time, then all channels of a moment."""
    padding = dilation * (kernel - 1) // 2
    depthwise = nn.Conv1d(
        wide, wide, kernel, stride=stride, padding=padding, dilation=dilation, groups=wide, bias=False
    )
    return nn.Sequential(depthwise, *_pointwise(wide, out))
