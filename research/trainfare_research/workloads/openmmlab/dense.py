"""
Networks of OpenMMLab's zoo whose heads read every place of a pyramid of five maps, with the sizes of their repository.

SOLO of two axes and SOLOv2, ATSS behind dynamic heads, RetinaNet on Open Images (open-mmlab/mmdetection,
`configs/solo`, `configs/solov2`, `configs/dyhead`, `configs/openimages`); FCOS3D and PGD (open-mmlab/mmdetection3d,
`configs/_base_/models`). Masks of the objects of an image, which SOLO's losses read, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.backbones_and_heads import Neck
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_TASKS = ("openmmlab-detection", "openmmlab-3d")
_PIXELS, _OPEN_PIXELS = (800, 1344), (800, 1024)
_OPEN_CLASSES = 601
_WIDE_PIXELS = (1280, 2048)
"""Of images whose scale goes up to 1,200 x 2,000, padded to whole multiples of 128."""
_ROAD_PIXELS = {"nus-mono3d": (928, 1600), "kitti-mono3d": (384, 1248)}
_GRIDS = (40, 36, 24, 16, 12)
"""Cells of a side of the five grids of SOLO."""
_NUS, _KITTI = (256, 256, 256, 256, 0, 256), (256,) * 6
"""Channels before the numbers of a box that PGD predicts, by group; 0: none."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these networks; None for others."""
    name = row["model"].lower()
    network_parts = _make_network(name) if row["task"] in _TASKS else None
    if network_parts is None:
        return None
    key, build, pixels, frozen = network_parts
    backbone = backbone_of(name, pixels, frozen=frozen)
    if isinstance(backbone, str):
        return backbone
    height, width = pixels
    network = Network(
        f"mmdet.dense.{key}.{backbone.key}.{pixels}", lambda: build(backbone.build()),
        lambda batch: (torch.empty(batch, 3, height, width),),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "adamw" if "swin" in name else "sgd"))


def _make_network(name: str) -> tuple[str, Callable[[nn.Module], nn.Module], tuple[int, int], bool] | None:
    """Return what tells a network from others, its builder, the size of images, and whether a stage is frozen."""
    if "_dyhead_" in name:
        return "dyhead", _Dynamic, _WIDE_PIXELS if "mstrain" in name else _PIXELS, "swin" not in name
    if re.match("decoupled[-_]solo_r50_fpn", name):
        return "solo", _Decoupled, _PIXELS, True
    if re.match("solov2_r", name):
        return "solov2", _Solo, _PIXELS, True
    if name.startswith("retinanet_r50_fpn_32x2_1x_openimages"):
        return "retinanet", _Retina, _OPEN_PIXELS, True
    road = next((pixels for data, pixels in _ROAD_PIXELS.items() if data in name), None)
    match = re.match("(fcos3d|pgd)_r101", name)
    if road is None or match is None:
        return None
    kitti, depth = "kitti" in name, match[1] == "pgd"
    return f"{match[1]}.{kitti}", lambda body: _Monocular(body, depth=depth, kitti=kitti), road, not kitti


def _make_unit(wide: int, out: int, groups: int = 32, *, bias: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide, out, 3, padding=1, bias=bias), nn.GroupNorm(groups, out), nn.ReLU(inplace=True)
    )


def _tower(wide: int, out: int, count: int, *, bias: bool = False) -> nn.Sequential:
    return nn.Sequential(*(_make_unit(wide if i == 0 else out, out, bias=bias) for i in range(count)))


def _focal(scores: torch.Tensor) -> torch.Tensor:
    losses = functional.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores), reduction="none")
    return (losses * scores.sigmoid().pow(2)).sum()


def _same_sizes(levels: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return SOLO's maps: the first at the size of the second, the last at that of the one before."""
    first, last = (
        functional.interpolate(levels[i], size=levels[j].shape[-2:], mode="bilinear")
        for i, j in ((0, 1), (4, 3))
    )
    return [first, *levels[1:4], last]


class _Decoupled(nn.Module):
    """SOLO with a mask for each row and each column of its grids; returns its loss."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body, self.neck = body, Neck(widths, first=0)
        self.axes = nn.ModuleList(_tower(257, 256, 7) for _ in range(2))
        self.masks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(256, cells, 3, padding=1) for cells in _GRIDS) for _ in range(2)
        )
        self.kinds = nn.Sequential(_tower(256, 256, 7), nn.Conv2d(256, 80, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        losses = []
        for i, x in enumerate(_same_sizes(self.neck(self.body(images)))):
            for tower, masks in zip(self.axes, self.masks, strict=True):
                y = tower(torch.cat((x, torch.zeros_like(x[:, :1])), 1))
                grown = functional.interpolate(y, scale_factor=2.0, mode="bilinear")
                losses.append(masks[i](grown).sigmoid().mean())  # type: ignore[index]
            losses.append(_focal(self.kinds(functional.interpolate(x, size=_GRIDS[i], mode="bilinear"))))
        return torch.stack(losses).sum()


class _Solo(nn.Module):
    """SOLOv2: the cells of its grids predict the weights with which a map at a quarter of the size is read."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body, self.neck = body, Neck(widths, first=0)
        self.kernels = nn.Sequential(_tower(258, 512, 4), nn.Conv2d(512, 256, 3, padding=1))
        self.kinds = nn.Sequential(_tower(256, 512, 4), nn.Conv2d(512, 80, 3, padding=1))
        self.levels = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d((256 if i < 3 else 258) if j == 0 else 128, 128, 3, padding=1, bias=False),
                    nn.GroupNorm(32, 128), nn.ReLU(),
                )
                for j in range(max(i, 1))
            )
            for i in range(4)
        )  # fmt: skip
        self.last = nn.Sequential(
            nn.Conv2d(128, 256, 1, bias=False), nn.GroupNorm(32, 256), nn.ReLU(inplace=True)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = self.neck(self.body(images))
        total: Any = 0
        branches: Any = self.levels
        for i, (layers, level) in enumerate(zip(branches, levels[:4], strict=True)):
            x = level if i < 3 else torch.cat((level, torch.zeros_like(level[:, :2])), 1)
            for layer in layers:
                x = layer(x)
                x = functional.interpolate(x, scale_factor=2.0, mode="bilinear") if i else x
            total = total + x
        losses = [self.last(total).mean()]
        for level, cells in zip(_same_sizes(levels), _GRIDS, strict=True):
            placed = torch.cat((level, torch.zeros_like(level[:, :2])), 1)
            x = functional.interpolate(placed, size=cells, mode="bilinear")
            losses += [self.kernels(x).mean(), _focal(self.kinds(x[:, :-2].contiguous()))]
        return torch.stack(losses).sum()


class _Turned(nn.Module):
    """An activation whose two slopes and offsets are predicted for each channel (dynamic ReLU)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(256, 64, 1), nn.ReLU(), nn.Conv2d(64, 1024, 1), nn.Hardsigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d = self.layers(functional.adaptive_avg_pool2d(x, 1)).chunk(4, 1)
        turned: torch.Tensor = torch.max(x * a + b, x * c + d)
        return turned


class _Block(nn.Module):
    """A dynamic head: each map is joined from itself and its neighbours, at learned places."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.above, self.below = (
            nn.Sequential(nn.Conv2d(256, 256, 3, stride, 1, bias=False), nn.GroupNorm(16, 256))
            for stride in (1, 1, 2)
        )
        self.moves = nn.Conv2d(256, 27, 3, padding=1)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(256, 1, 1), nn.ReLU(inplace=True), nn.Hardsigmoid()
        )
        self.turned = _Turned()

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        outputs = []
        for i, x in enumerate(levels):
            moves = self.moves(x)
            y = self.same(x) + moves[:, 18:].sigmoid().mean() + moves[:, :18].mean()
            total, count = y * self.weigh(y), 1
            if i:
                y = self.below(levels[i - 1])[..., : x.shape[2], : x.shape[3]]
                total, count = total + y * self.weigh(y), count + 1
            if i < len(levels) - 1:
                y = functional.interpolate(
                    self.above(levels[i + 1]), size=x.shape[-2:], mode="bilinear", align_corners=True
                )
                total, count = total + y * self.weigh(y), count + 1
            outputs.append(self.turned(total / count))
        return outputs


class _Dynamic(nn.Module):
    """ATSS behind six dynamic heads; returns its loss."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body, self.neck = body, Neck(widths, first=1)
        self.blocks = nn.Sequential(*(_Block() for _ in range(6)))
        self.last = nn.ModuleList(nn.Conv2d(256, numbers, 1) for numbers in (80, 4, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        losses = []
        for level in self.blocks(self.neck(self.body(images))):
            kinds, places, centres = (layer(level) for layer in self.last)
            losses += [_focal(kinds), places.mean(), centres.mean()]
        return torch.stack(losses).sum()


class _Retina(nn.Module):
    """RetinaNet on Open Images; returns its loss."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body, self.neck = body, Neck(widths, first=1)

        def tower() -> nn.Sequential:
            units = (
                nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(4)
            )
            return nn.Sequential(*units)

        self.kinds = nn.Sequential(tower(), nn.Conv2d(256, 9 * _OPEN_CLASSES, 3, padding=1))
        self.places = nn.Sequential(tower(), nn.Conv2d(256, 36, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = self.neck(self.body(images))
        losses = [part for x in levels for part in (_focal(self.kinds(x)), self.places(x).mean())]
        return torch.stack(losses).sum()


class _Monocular(nn.Module):
    """
    FCOS3D, or PGD with a branch for the depth: one branch for each group of numbers of a box; returns its loss.

    Args:
        body: the backbone.
        depth: whether depth is classified, too, and the box in the image predicted.
        kitti: whether the sizes are those of KITTI: three classes, a map of stride 4, no velocities and attributes.
    """

    def __init__(self, body: nn.Module, *, depth: bool, kitti: bool) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body, self.kitti = body, kitti
        self.neck = Neck(widths, first=0 if kitti else 1)
        self.kinds, self.boxes = (_tower(256, 256, 2, bias=True) for _ in range(2))

        def branch(numbers: int, wide: int = 256) -> nn.Sequential:
            return nn.Sequential(
                *((_make_unit(256, wide, bias=True),) if wide else ()), nn.Conv2d(wide or 256, numbers, 1)
            )

        self.of_kinds = nn.ModuleList([branch(3)] if kitti else [branch(10), branch(9)])
        numbers = (2, 1, 3, 1, *((16, 4) if kitti else (2, 4) if depth else (2,)))
        groups = _KITTI if kitti else _NUS
        self.of_boxes = nn.ModuleList(branch(n, wide) for n, wide in zip(numbers, groups, strict=False))
        self.of_boxes.extend((branch(2), branch(1, 256 if kitti else 64)))
        self.of_boxes.extend([branch(6)] if depth else [])
        self.of_boxes.extend([branch(1)] if kitti else [])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = self.neck(self.body(images))
        losses = []
        for level in levels[:4] if self.kitti else levels:
            kinds, boxes = self.kinds(level), self.boxes(level)
            losses += [_focal(branch(kinds.clone())) for branch in self.of_kinds]
            losses += [branch(boxes.clone()).mean() for branch in self.of_boxes]
        return torch.stack(losses).sum()
