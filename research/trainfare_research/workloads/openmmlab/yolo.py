"""
Detectors of the YOLO family in OpenMMLab's zoos, from the names of their configurations: YOLOv3, v5, v8, X and RTMDet.

A backbone of four stages, a pyramid that is walked down and up again, and a head for each of its maps. Sizes are those
of open-mmlab/mmyolo (`mmyolo/models`) and open-mmlab/mmdetection (`configs/yolo`, `configs/yolox`). What pairs places
with the boxes of an image depends on the boxes and is left out: YOLOv6, which pairs every place of a batch with every
box at once, holds 3 to 4 GB for it and has no description.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import Conv2dNormActivation

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_SCALES = {
    "tiny": (0.33, 0.375), "n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.0, 1.25),
}  # fmt: skip
"""Factors of depth and width."""
_LAST_V8 = {"m": 768, "l": 512, "x": 512}
"""Channels of YOLOv8's last stage before its factor; 1,024 for the others."""
_LARGEST = {"tiny": 640, "l": 800}
"""Greatest size of YOLOX's images, which are resized during training: the peak of a run is theirs."""
_PIXELS, _VOC_PIXELS, _P6_PIXELS = 640, 512, 1280
_OTHERS = re.compile("ins_|pose|kd_|rtmdet-")
"""Networks with heads that are not described, or a teacher."""


@dataclass(frozen=True)
class _Yolo:
    """
    A detector.

    Attributes:
        block: of its stages: `_Csp` of plain or large separable convolutions, or `_Split`.
        head: of each map.
        depths: blocks of the stages and of those of the neck.
        widths: channels of the stem and the stages.
        classes: of a box.
        act: activation; mmcv's "swish" keeps a sigmoid beside its input.
    """

    block: Literal["plain", "separable", "split"]
    head: Literal["anchors", "decoupled", "towers"]
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    act: Literal["silu", "swish"] = "silu"


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a YOLO; None for other networks."""
    name = row["model"].lower()
    if row["task"] != "openmmlab-detection" or _OTHERS.search(name):
        return None
    old = re.match(r"yolov3_(d53|mobilenetv2)_.*?(320|416)", name)
    if old:
        body, pixels = old[1], int(old[2])
        network = Network(f"mmdet.yolov3.{body}.{pixels}", lambda: _Yolov3(body), _images(pixels))
        return step_job(row, network, optimizer_of(row, "sgd"))
    match = re.match(r"(yolov5|yolov8|yolox|rtmdet)_(tiny|n|s|m|l|x)(?:[-_]|$)", name)
    if not match:
        return None
    of = _describe_yolo(match[1], match[2], name)
    if match[1] == "yolox" and row["source"] == "mmdet-zoo":
        of = replace(of, act="swish")
    pixels = _P6_PIXELS if "-p6-" in name else _VOC_PIXELS if name.endswith("voc") else _PIXELS
    pixels = _LARGEST.get(match[2], pixels) if match[1] == "yolox" else pixels
    network = Network(
        f"mmyolo.{of!r}.{pixels}", lambda: _Averaged(_Detector(of)), _images(pixels),
        notes=("what pairs places with boxes is left out",),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "adamw" if match[1] == "rtmdet" else "sgd"))


def _images(pixels: int) -> Callable[[int], tuple[torch.Tensor, ...]]:
    return lambda batch: (torch.empty(batch, 3, pixels, pixels),)


def _describe_yolo(family: str, size: str, name: str) -> _Yolo:
    depth, width = _SCALES[size]
    last = _LAST_V8.get(size, 1024) if family == "yolov8" else 1024
    sizes: tuple[int, ...] = (64, 128, 256, 512, last)
    blocks: tuple[int, ...] = {"yolov5": (3, 6, 9, 3), "yolox": (3, 9, 9, 3)}.get(family, (3, 6, 6, 3))
    if "-p6-" in name:
        sizes, blocks = (64, 128, 256, 512, 768, 1024), (3, 6, 9, 3, 3)
    widths = tuple(math.ceil(wide * width / 8) * 8 for wide in sizes)
    depths = tuple(max(1, round(count * depth)) for count in (*blocks, 3))
    yolo = _Yolo("plain", "anchors", depths, widths, 20 if "voc" in name else 80)
    if family == "yolov8":
        return replace(yolo, block="split", head="decoupled")
    if family == "yolox":
        return replace(yolo, head="towers")
    return replace(yolo, block="separable", head="towers") if family == "rtmdet" else yolo


class _Averaged(nn.Module):
    """A network and the moving average of its weights, which its trainer keeps on the device; returns its loss."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.average = copy.deepcopy(net).requires_grad_(requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.net(images)
        return loss


class _Swish(nn.Module):
    """A product of the input and its sigmoid, which are both kept for backward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)


@dataclass(frozen=True)
class _Units:
    """Makes convolutions with batch normalisation and one activation."""

    act: Literal["silu", "swish"]

    def __call__(self, wide: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
        if self.act == "silu":
            return nn.Sequential(
                Conv2dNormActivation(wide, out, kernel, stride, groups=groups, activation_layer=nn.SiLU)
            )
        plain = Conv2dNormActivation(wide, out, kernel, stride, groups=groups, activation_layer=None)
        return nn.Sequential(plain, _Swish())


class _Residual(nn.Module):
    """Layers whose input is added to their output where `same` says so."""

    def __init__(self, *layers: nn.Module, same: bool) -> None:
        super().__init__()
        self.layers, self.same = nn.Sequential(*layers), same

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.same else y


class _Csp(nn.Module):
    """
    Two halves of the channels, of which one goes through blocks, and a layer over both.

    Args:
        unit: makes a convolution.
        wide: channels of the input.
        out: channels of the output.
        blocks: of half of these.
        attention: whether the channels are weighted before the last layer.
    """

    def __init__(
        self, unit: _Units, wide: int, out: int, blocks: Sequence[nn.Module], *, attention: bool
    ) -> None:
        super().__init__()
        half = out // 2
        self.short, self.main, self.last = unit(wide, half), unit(wide, half), unit(out, out)
        self.blocks = nn.Sequential(*blocks)
        self.weight = nn.Conv2d(out, out, 1) if attention else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = self.short(x)
        both = torch.cat((self.blocks(self.main(x)), short), 1)
        if self.weight is not None:
            both = both * functional.hardsigmoid(self.weight(functional.adaptive_avg_pool2d(both, 1)))
        last: torch.Tensor = self.last(both)
        return last


class _Split(nn.Module):
    """One layer, and blocks over half of its channels; every block's output goes into the last layer."""

    def __init__(self, unit: _Units, wide: int, out: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.main, self.blocks = unit(wide, out), nn.ModuleList(blocks)
        self.last = unit((2 + len(blocks)) * (out // 2), out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.main(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        last: torch.Tensor = self.last(torch.cat(parts, 1))
        return last


def _stage(of: _Yolo, wide: int, out: int, count: int, *, neck: bool = False) -> nn.Module:
    """Return the blocks of a stage of the backbone, or of the neck, from `wide` to `out` channels."""
    unit, half = _Units(of.act), out // 2

    def layers() -> tuple[nn.Module, ...]:
        if of.block == "plain":
            return unit(half, half), unit(half, half, 3)
        if of.block == "split":
            return unit(half, half, 3), unit(half, half, 3)
        return unit(half, half, 3), unit(half, half, 5, 1, half), unit(half, half)

    blocks = [_Residual(*layers(), same=not neck) for _ in range(count)]
    if of.block == "split":
        return _Split(unit, wide, out, blocks)
    return _Csp(unit, wide, out, blocks, attention=of.block == "separable" and not neck)


class _Pools(nn.Module):
    """Three poolings of the same map beside it, between two layers."""

    def __init__(self, unit: _Units, wide: int) -> None:
        super().__init__()
        self.enter, self.last = unit(wide, wide // 2), unit(2 * wide, wide)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [self.enter(x)]
        for _ in range(3):
            maps.append(functional.max_pool2d(maps[-1], 5, 1, 2))
        last: torch.Tensor = self.last(torch.cat(maps, 1))
        return last


class _Neck(nn.Module):
    """A pyramid that is walked down, from small maps to large ones, and up again."""

    def __init__(self, of: _Yolo) -> None:
        super().__init__()
        unit, count, out = _Units(of.act), of.depths[-1], of.widths[2:]
        reduces = of.block != "split"
        pairs = list(pairwise(out))
        lows = [small if reduces else large for small, large in pairs]
        self.reduce = nn.ModuleList(
            unit(large, small) if reduces else nn.Identity() for small, large in pairs
        )
        self.down = nn.ModuleList(
            _stage(of, low + small, small, count, neck=True)
            for (small, _), low in zip(pairs, lows, strict=True)
        )
        self.stride = nn.ModuleList(unit(small, small, 3, 2) for small, _ in pairs)
        self.up = nn.ModuleList(
            _stage(of, small + low, large, count, neck=True)
            for (small, large), low in zip(pairs, lows, strict=True)
        )

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        x, lows = maps[-1], []
        for i in range(len(self.down) - 1, -1, -1):
            lows.append(self.reduce[i](x))
            grown = functional.interpolate(lows[-1], scale_factor=2.0, mode="nearest")
            x = self.down[i](torch.cat((grown, maps[i]), 1))
        outputs = [x]
        for stride, up, low in zip(self.stride, self.up, reversed(lows), strict=True):
            outputs.append(up(torch.cat((stride(outputs[-1]), low), 1)))
        return outputs


class _Head(nn.Module):
    """
    The head of one map: scores and places of its boxes.

    Args:
        of: the detector.
        wide: channels of the map.
    """

    def __init__(self, of: _Yolo, wide: int) -> None:
        super().__init__()
        unit, first = _Units(of.act), of.widths[2]
        self.anchors = of.head == "anchors"
        if self.anchors:  # one layer for three boxes of a place
            self.enter: nn.Module = nn.Conv2d(wide, 3 * (5 + of.classes), 1)
            return
        kinds = places = first
        numbers, kernel = (64, 1) if of.head == "decoupled" else (4, 3 if of.block == "separable" else 1)
        if of.head == "decoupled":
            self.enter = nn.Identity()
            kinds, places = max(first, of.classes), max(16, first // 4, numbers)
        else:
            self.enter, wide = unit(wide, first, kernel), first

        def tower(out: int, last: int) -> nn.Sequential:
            return nn.Sequential(unit(wide, out, 3), unit(out, out, 3), nn.Conv2d(out, last, 1))

        self.kinds, self.places = tower(kinds, of.classes), tower(places, numbers)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.enter(x)
        if self.anchors:  # classes are scored for the boxes that have an object alone
            return y[:, :3].flatten(2), y[:, 3:6].flatten(2)
        return self.kinds(y).flatten(2), self.places(y).flatten(2)


class _Detector(nn.Module):
    """A detector of the family; returns its loss."""

    def __init__(self, of: _Yolo) -> None:
        super().__init__()
        unit, first = _Units(of.act), of.widths[0]
        if of.head == "anchors":
            unpadded = nn.Conv2d(3, first, 6, 2, 2, bias=False)
            self.stem = nn.Sequential(unpadded, nn.BatchNorm2d(first), nn.SiLU())
        elif of.block == "plain":  # YOLOX: four pixels of a square are one
            self.stem = nn.Sequential(nn.PixelUnshuffle(2), unit(12, first, 3))
        elif of.block == "split":
            self.stem = nn.Sequential(unit(3, first, 3, 2))
        else:
            half = first // 2
            self.stem = nn.Sequential(unit(3, half, 3, 2), unit(half, half, 3), unit(half, first, 3))
        stages = [
            nn.Sequential(unit(wide, out, 3, 2), _stage(of, out, out, count))
            for (wide, out), count in zip(pairwise(of.widths), of.depths[:-1], strict=True)
        ]
        stages[-1].append(_Pools(unit, of.widths[-1]))
        self.stages, self.neck = nn.ModuleList(stages), _Neck(of)
        self.heads = nn.ModuleList(_Head(of, wide) for wide in of.widths[2:])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: list[torch.Tensor] = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        outputs = [head(y) for head, y in zip(self.heads, self.neck(maps[1:]), strict=True)]
        total = _compute_loss(torch.cat([kinds for kinds, _ in outputs], 2))
        for _, places in outputs:
            total = total + places.float().mean()
        return total


def _compute_loss(scores: torch.Tensor) -> torch.Tensor:
    wide = scores.float()
    losses = functional.binary_cross_entropy_with_logits(wide, torch.zeros_like(wide), reduction="none")
    return losses.sum()


class _Yolov3(nn.Module):
    """
    YOLOv3 on Darknet-53 or MobileNetV2: one layer for three boxes of each place of three maps; returns its loss.

    Args:
        kind: "d53" or "mobilenetv2".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        darknet = kind == "d53"
        body: Any = timm.create_model("darknet53" if darknet else "mobilenetv2_100", features_only=True)
        self.body, widths = body, body.feature_info.channels()[-3:]
        outs = (128, 256, 512) if darknet else (96, 96, 96)

        def unit(wide: int, out: int, kernel: int = 1) -> nn.Sequential:
            plain = Conv2dNormActivation(wide, out, kernel, activation_layer=None)
            return nn.Sequential(plain, nn.LeakyReLU(0.1, inplace=True))

        self.enter = nn.ModuleList(unit(above, out) for out, above in pairwise(outs))
        joined = [wide + out for wide, out in zip(widths, (*outs[:-1], 0), strict=True)]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                unit(wide, out), unit(out, 2 * out, 3), unit(2 * out, out), unit(out, 2 * out, 3), unit(2 * out, out)
            )
            for wide, out in zip(joined, outs, strict=True)
        )  # fmt: skip
        self.last = nn.ModuleList(
            nn.Sequential(unit(out, 2 * out, 3), nn.Conv2d(2 * out, 3 * 85, 1)) for out in outs
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)[-3:]
        x = self.blocks[2](maps[2])
        outputs = [self.last[2](x).flatten(2)]
        for i in (1, 0):
            grown = functional.interpolate(self.enter[i](x), scale_factor=2.0, mode="nearest")
            x = self.blocks[i](torch.cat((grown, maps[i]), 1))
            outputs.append(self.last[i](x).flatten(2))
        return _compute_loss(torch.cat(outputs, 2))
