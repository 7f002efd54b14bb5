"""
Detectors of OpenMMLab's zoo that find corners or centres of boxes on maps of each class, a quarter of the images' size.

CornerNet and CentripetalNet on two hourglasses, and CenterNet on ResNet-18, with the sizes of open-mmlab/mmdetection
(`configs/cornernet`, `configs/centripetalnet`, `configs/centernet`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.units import build_plain_unit
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_CLASSES = 80
_CORNER_PIXELS, _CENTRE_PIXELS = 511, 512
_CHANNELS, _BLOCKS = (256, 256, 384, 384, 384, 512), (2, 2, 2, 2, 2, 4)
"""Of an hourglass, from its largest map to its smallest."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these detectors; None for others."""
    name = row["model"].lower()
    match = re.match("(cornernet|centripetalnet)_hourglass104_|(centernet)_resnet18_140e", name)
    if row["task"] != "openmmlab-detection" or match is None:
        return None
    build: Callable[[], nn.Module] = _CenterNet
    pixels = _CENTRE_PIXELS
    if match[1]:
        shifted, pixels = match[1] == "centripetalnet", _CORNER_PIXELS

        def build() -> nn.Module:
            return _CornerNet(shifted=shifted)

    network = Network(
        f"mmdet.points.{match[1] or match[2]}", build, lambda batch: (torch.empty(batch, 3, pixels, pixels),)
    )
    return step_job(row, network, optimizer_of(row, "adam" if match[1] else "sgd"))


def _branch(out: int, wide: int = 256, hidden: int = 256) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, out, 1)
    )


def _heat_loss(scores: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of a map of each class, whose targets fall off around the points."""
    chance, near = scores.sigmoid(), torch.zeros_like(scores)
    near_loss = -(chance + 1e-12).log() * (1 - chance).pow(2) * near.eq(1)
    missed = -(1 - chance + 1e-12).log() * chance.pow(2) * (1 - near).pow(4)
    return (near_loss + missed).sum()


def _residual(wide: int, out: int, count: int, stride: int = 1, *, last: bool = False) -> nn.Sequential:
    """Return blocks of which the first, or the `last`, changes channels and size."""

    def block(enter: int, leave: int, by: int) -> nn.Module:
        same = enter == leave and by == 1
        short = nn.Sequential(nn.Conv2d(enter, leave, 1, by, bias=False), nn.BatchNorm2d(leave))
        residual: nn.Module = BasicBlock(enter, leave, by, None if same else short)
        return residual

    if last:
        return nn.Sequential(*(block(wide, wide, 1) for _ in range(count - 1)), block(wide, out, stride))
    return nn.Sequential(block(wide, out, stride), *(block(out, out, 1) for _ in range(count - 1)))


class _Hourglass(nn.Module):
    """
    A map beside a smaller one, which is an hourglass of its own, and grown to its size.

    Args:
        level: of the map; the largest is 0.
    """

    def __init__(self, level: int = 0) -> None:
        super().__init__()
        wide, less, count = _CHANNELS[level], _CHANNELS[level + 1], _BLOCKS[level]
        self.side, self.down = _residual(wide, wide, count), _residual(wide, less, count, 2)
        deepest = level == len(_CHANNELS) - 2
        self.inner: nn.Module = _residual(less, less, _BLOCKS[-1]) if deepest else _Hourglass(level + 1)
        self.up = _residual(less, wide, count, last=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = self.side(x)
        inner = self.up(self.inner(self.down(x)))
        return side + functional.interpolate(inner, size=side.shape[-2:], mode="nearest")  # type: ignore[no-any-return]


class _Corner(nn.Module):
    """The greatest values along both sides of a corner, and the map, joined by convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = nn.ModuleList(Conv2dNormActivation(256, 128) for _ in range(2))
        self.after, self.short, self.last = (
            build_plain_unit(128, 256, 3),
            build_plain_unit(256, 256, 1),
            Conv2dNormActivation(256, 256),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        along = [side(x).cummax(dim)[0] for side, dim in zip(self.sides, (2, 3), strict=True)]
        last: torch.Tensor = self.last(functional.relu(self.after(along[0] + along[1]) + self.short(x)))
        return last


class _CornerNet(nn.Module):
    """
    Two hourglasses with a head for each corner behind each; returns its loss.

    Args:
        shifted: whether corners predict where their centre is, at places that they learn, in place of a mark.
    """

    def __init__(self, *, shifted: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv2dNormActivation(3, 128, 7, 2), _residual(128, 256, 1, 2))
        self.glasses = nn.ModuleList(_Hourglass() for _ in range(2))
        self.outs = nn.ModuleList(Conv2dNormActivation(256, 256) for _ in range(2))
        self.between = nn.ModuleList(build_plain_unit(256, 256, 1) for _ in range(2))
        self.next = _residual(256, 256, 1)
        self.corners = nn.ModuleList(_Corner() for _ in range(4))
        self.heats = nn.ModuleList(_branch(_CLASSES) for _ in range(4))
        self.moves = nn.ModuleList(_branch(2) for _ in range(4))
        self.marks = nn.ModuleList(_branch(2 if shifted else 1) for _ in range(4))
        guides = range(4 if shifted else 0)
        self.guides = nn.ModuleList(_branch(2) for _ in guides)
        self.adapted = nn.ModuleList(nn.Conv2d(256, 256, 3, padding=1, bias=False) for _ in guides)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x, losses = self.stem(images), []
        for i, (glass, out) in enumerate(zip(self.glasses, self.outs, strict=True)):
            features = out(glass(x))
            if i == 0:
                x = self.next(functional.relu(self.between[0](x) + self.between[1](features)))
            for j in (2 * i, 2 * i + 1):
                corner = self.corners[j](features)
                losses += [_heat_loss(self.heats[j](corner)), self.moves[j](corner).mean()]
                if len(self.guides):
                    losses.append(self.guides[j](corner).mean())
                    corner = functional.relu(self.adapted[j](corner))
                losses.append(self.marks[j](corner).mean())
        return torch.stack(losses).sum()


class _CenterNet(nn.Module):
    """ResNet-18, three doublings of its last map and a branch each for classes, sizes and offsets."""

    def __init__(self) -> None:
        super().__init__()
        backbone = backbone_of("resnet18", (_CENTRE_PIXELS, _CENTRE_PIXELS), frozen=False)
        if isinstance(backbone, str):
            raise TypeError(backbone)
        self.body: Any = backbone.build()
        layers: list[nn.Module] = []
        for wide, out in ((512, 256), (256, 128), (128, 64)):
            layers += [Conv2dNormActivation(wide, out), nn.ConvTranspose2d(out, out, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        self.neck = nn.Sequential(*layers)
        self.heat, self.sizes, self.moves = (_branch(out, 64, 64) for out in (_CLASSES, 2, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.neck(self.body(images)[-1])
        total: torch.Tensor = _heat_loss(self.heat(x)) + self.sizes(x).mean() + self.moves(x).mean()
        return total
