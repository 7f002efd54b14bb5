"""
PointPillars of OpenMMLab's zoo, with the sizes of open-mmlab/mmdetection3d.

Points are gathered in pillars, whose features are put on a map of the ground; the rest is a detector of images. Read in
`configs/_base_/models/hv_pointpillars_*.py`, `configs/regnet` and `configs/free_anchor`, by the names of the
configurations. How many pillars have a point is in the data: as many are taken as a configuration allows, as the peak
of a run is that of its fullest scenes. On Lyft's, which have 1 to 2 million anchors each, runs hold 4 to 7 GiB more
than the network; what pairs anchors with the boxes of a scene is not described, so they are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import Conv2dNormActivation

from trainfare_research.workloads.openmmlab.units import build_unit
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_ROTATIONS = 2
"""Of each anchor, and directions of a box."""
_FULL = "as many pillars as the configuration allows"


@dataclass(frozen=True)
class _Scenes:
    """
    What a data set decides.

    Attributes:
        pillars: at most, of a scene in training.
        points: at most, of a pillar.
        numbers: of a point, with its distances from the pillar and from the mean of its points.
        layers: channels of the layers over points.
        canvas: height and width of the map, pillars.
        stride: of the first stage of the backbone.
        classes: of a box.
        sizes: of anchors at each place of a head with one map.
        code: numbers of a box.
    """

    pillars: int
    points: int
    numbers: int
    layers: tuple[int, ...]
    canvas: tuple[int, int]
    stride: int
    classes: int
    sizes: int
    code: int


_SCENES = {
    "kitti-3d-3class": _Scenes(16_000, 32, 9, (64,), (496, 432), 2, 3, 3, 7),
    "kitti-3d-car": _Scenes(16_000, 32, 9, (64,), (496, 432), 2, 1, 1, 7),
    "nus-3d": _Scenes(30_000, 64, 10, (64, 64), (400, 400), 2, 10, 7, 9),
    "waymo-3d-car": _Scenes(32_000, 20, 11, (64,), (468, 468), 1, 1, 1, 7),
    "waymod5-3d-car": _Scenes(32_000, 20, 11, (64,), (468, 468), 1, 1, 1, 7),
}
"""By the end of a configuration's name."""
_SHARED_SIZES = 4
"""Sizes of anchors of a head with three maps."""
_SECOND = ((64, 4), (128, 6), (256, 6))
"""Channels and convolutions of the stages of the plain backbone."""
_REGNETS = {
    "400mf": (16, ((32, 1), (64, 2), (160, 7), (384, 12))),
    "1.6gf": (24, ((72, 2), (168, 4), (408, 10), (912, 2))),
    "3.2gf": (48, ((96, 2), (192, 6), (432, 15), (1008, 2))),
}
"""Width of a group, and channels and blocks of the stages, by FLOPs."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a PointPillars; None for other networks."""
    name = row["model"].lower()
    scenes = next((scenes for end, scenes in _SCENES.items() if name.endswith(f"_{end}")), None)
    if row["task"] != "openmmlab-3d" or not re.match("(?:hv_)?pointpillars_", name):
        return None
    if scenes is None:
        return "what pairs its anchors with the boxes of a scene is not described"
    body = next((flops for flops in _REGNETS if f"regnet-{flops}_" in name), "")
    joined = "_secfpn_" in name
    if not joined:
        scenes = replace(scenes, sizes=_SHARED_SIZES)

    def inputs(batch: int) -> tuple[torch.Tensor, ...]:
        points = torch.empty(batch, scenes.pillars, scenes.points, scenes.numbers)
        return points, torch.zeros(batch, scenes.pillars, dtype=torch.long)

    network = Network(
        f"mmdet3d.pillars.{scenes!r}.{body}.{joined}", lambda: _Pillars(scenes, body, joined=joined), inputs,
        notes=(_FULL,),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "adamw"))


class PillarPoints(nn.Module):
    """A layer over every point and the greatest values of its pillar, which `beside` puts beside each point's own."""

    def __init__(self, wide: int, out: int, *, beside: bool) -> None:
        super().__init__()
        self.layer, self.norm, self.beside = nn.Linear(wide, out, bias=False), nn.BatchNorm1d(out), beside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.layer(x).permute(0, 2, 1).contiguous()).permute(0, 2, 1).contiguous()
        x = functional.relu(x)
        greatest = x.max(1, keepdim=True)[0]
        if not self.beside:
            return greatest.squeeze(1)
        return torch.cat((x, greatest.expand_as(x)), 2)


class _Grouped(nn.Module):
    """A block of RegNetX."""

    def __init__(self, wide: int, out: int, stride: int, group: int) -> None:
        super().__init__()
        middle = Conv2dNormActivation(out, out, 3, stride, groups=out // group)
        last = Conv2dNormActivation(out, out, 1, activation_layer=None)
        self.layers = nn.Sequential(build_unit(wide, out, 1), middle, last)
        same = wide == out and stride == 1
        self.short = (
            nn.Identity() if same else Conv2dNormActivation(wide, out, 1, stride, activation_layer=None)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.layers(x) + self.short(x), inplace=True)


def _stages(scenes: _Scenes, body: str) -> tuple[list[nn.Module], list[int]]:
    """Return the stages of the backbone, of which the last three have a map, and the channels of these."""
    stages: list[nn.Module] = []
    wide = scenes.layers[-1]
    if not body:
        for i, (out, count) in enumerate(_SECOND):
            first = build_unit(wide, out, 3, scenes.stride if i == 0 else 2)
            stages.append(nn.Sequential(first, *(build_unit(out, out) for _ in range(count - 1))))
            wide = out
        return stages, [out for out, _ in _SECOND]
    group, sizes = _REGNETS[body]
    for i, (out, count) in enumerate(sizes):
        stride = 1 if i == 0 else 2
        blocks = (
            _Grouped(wide if n == 0 else out, out, stride if n == 0 else 1, group) for n in range(count)
        )
        stages.append(nn.Sequential(*blocks))
        wide = out
    return stages, [out for out, _ in sizes[1:]]


class _Pyramid(nn.Module):
    """A feature pyramid of three maps with 256 channels, normalised."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.sides, self.smooth = (
            nn.ModuleList(Conv2dNormActivation(w, 256, kernel, inplace=False) for w in wide)
            for wide, kernel in ((widths, 1), ([256] * 3, 3))
        )

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        sides = [side(x) for side, x in zip(self.sides, maps, strict=True)]
        for i, j in pairwise(range(len(sides) - 1, -1, -1)):
            sides[j] = sides[j] + functional.interpolate(sides[i], size=sides[j].shape[-2:], mode="nearest")
        return [smooth(x) for smooth, x in zip(self.smooth, sides, strict=True)]


class _Joined(nn.Module):
    """Three maps, grown to the size of the largest and put beside each other."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.grow = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(wide, 128, stride, stride, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True)
            )
            for wide, stride in zip(widths, (1, 2, 4), strict=True)
        )  # fmt: skip

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.cat([grow(x) for grow, x in zip(self.grow, maps, strict=True)], 1)]


class _Pillars(nn.Module):
    """
    PointPillars; returns its loss.

    Args:
        scenes: what the data set decides.
        body: a RegNetX by its FLOPs; "": the plain backbone.
        joined: whether the head has one map, joined from three.
    """

    def __init__(self, scenes: _Scenes, body: str, *, joined: bool) -> None:
        super().__init__()
        widths = (scenes.numbers, *scenes.layers)
        last = len(scenes.layers) - 1
        self.points = nn.Sequential(
            *(
                PillarPoints(wide if i == 0 else 2 * wide, out, beside=i < last)
                for i, (wide, out) in enumerate(pairwise(widths))
            )
        )
        self.canvas, self.classes = scenes.canvas, scenes.classes
        stages, outs = _stages(scenes, body)
        self.stages = nn.ModuleList(stages)
        self.neck: nn.Module = _Joined(outs) if joined else _Pyramid(outs)
        wide, anchors = 384 if joined else 256, scenes.sizes * _ROTATIONS
        self.kinds, self.places, self.turns = (
            nn.Conv2d(wide, anchors * numbers, 1) for numbers in (scenes.classes, scenes.code, _ROTATIONS)
        )

    def forward(self, points: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        features = self.points(points.flatten(0, 1)).unflatten(0, where.shape)
        height, width = self.canvas
        grounds = []
        for scene, places in zip(features, where, strict=True):
            ground = torch.zeros(scene.shape[1], height * width, dtype=scene.dtype, device=scene.device)
            ground[:, places] = scene.t()
            grounds.append(ground)
        x = torch.stack(grounds, 0).view(len(grounds), -1, height, width)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        losses = []
        for level in self.neck(maps[-3:]):
            scores = self.kinds(level).permute(0, 2, 3, 1).reshape(-1, self.classes).float()
            chance = scores.sigmoid()
            class_losses = functional.binary_cross_entropy_with_logits(
                scores, torch.zeros_like(scores), reduction="none"
            )
            losses += [(class_losses * chance.pow(2)).sum(), self.places(level).float().mean()]
            losses.append(self.turns(level).float().mean())
        return torch.stack(losses).sum()
