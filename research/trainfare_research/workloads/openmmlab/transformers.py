"""
SETR, SegNeXt and BEiT-large of OpenMMLab's zoo, with the sizes of open-mmlab/mmsegmentation.

Read in `configs/_base_/models/setr_*.py`, `configs/segnext` and `configs/beit`, by the names of the configurations.
SegNeXt came to the zoo at the end of 2022, when PyTorch no longer kept the input of `log_softmax`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from trainfare_research.workloads.openmmlab.crops import classes_of, crop_of
from trainfare_research.workloads.openmmlab.early_torch import keeping_scores, pixel_loss
from trainfare_research.workloads.openmmlab.units import build_unit
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_HAM_RANK, _HAM_STEPS = 16, 6
"""Columns of the factors that SegNeXt's head finds, and the steps that it takes to find them."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these networks; None for others."""
    name = row["model"].lower()
    pixels, classes = crop_of(row), classes_of(row)
    if pixels is None or not classes:
        return None
    setr = re.match(r"setr_vit-l_(naive|pup|mla)_", name)
    build: Callable[[], nn.Module]
    if setr:
        key = f"setr.{setr[1]}"

        def build() -> nn.Module:
            return _Setr(setr[1], pixels, classes)
    elif name.startswith("segnext_mscan-t_"):
        key = "segnext.t"

        def build() -> nn.Module:
            return _SegNext(classes)
    elif name.startswith("beit-large_upernet_"):
        key = "beit-large.upernet"

        def build() -> nn.Module:
            return _UperNet(pixels, classes)
    else:
        return None
    network = Network(
        f"mmseg.{key}.{pixels}.{classes}", build, lambda batch: (torch.empty(batch, 3, *pixels),)
    )
    return step_job(row, network, optimizer_of(row, "sgd" if setr else "adamw"))


def _maps(body: Any, images: torch.Tensor, after: list[int]) -> list[torch.Tensor]:
    """Return the maps of a vision transformer after some of its blocks."""
    maps: list[torch.Tensor] = body.forward_intermediates(
        images, indices=after, output_fmt="NCHW", intermediates_only=True
    )
    return maps


class _Up(nn.Module):
    """A head of SETR: a normalisation, then convolutions and growth by turns."""

    def __init__(self, classes: int, count: int, scale: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.scale = nn.LayerNorm(1024), float(scale)
        self.layers = nn.ModuleList(build_unit(1024 if i == 0 else 256, 256, kernel) for i in range(count))
        self.classes = nn.Conv2d(256, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape_as(x)
        for layer in self.layers:
            x = functional.interpolate(layer(x), scale_factor=self.scale, mode="bilinear")
        scores: torch.Tensor = self.classes(x)
        return scores


class _Levels(nn.Module):
    """The neck and head of SETR-MLA: four maps, each added to those behind it, then grown side by side."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(1024) for _ in range(4))
        self.enter, self.smooth = (
            nn.ModuleList(build_unit(wide, 256, kernel) for _ in range(4))
            for wide, kernel in ((1024, 1), (256, 3))
        )
        self.sides = nn.ModuleList(
            nn.Sequential(build_unit(256, 128), build_unit(128, 128)) for _ in range(4)
        )
        self.classes = nn.Conv2d(512, classes, 1)
        self.helpers = nn.ModuleList(nn.Conv2d(256, classes, 1) for _ in range(4))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        levels: list[torch.Tensor] = []
        for norm, enter, x in zip(reversed(self.norms), reversed(self.enter), reversed(maps), strict=True):
            y = enter(norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape_as(x))
            levels.append(y + levels[-1] if levels else y)
        smooth = [layer(x) for layer, x in zip(self.smooth, levels, strict=True)]
        same = [
            functional.interpolate(side(x), scale_factor=4.0, mode="bilinear")
            for side, x in zip(self.sides, smooth, strict=True)
        ]
        helped = [helper(x) for helper, x in zip(self.helpers, smooth, strict=True)]
        return [self.classes(torch.cat(same, 1)), *helped]


class _Setr(nn.Module):
    """
    ViT-L with heads after four of its blocks; returns the loss of all.

    Args:
        kind: "naive", "pup" or "mla".
        pixels: height and width of the images.
        classes: of a pixel.
    """

    def __init__(self, kind: str, pixels: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.body = keeping_scores(timm.create_model("vit_large_patch16_384", img_size=pixels, num_classes=0))
        self.after = [5, 11, 17, 23] if kind == "mla" else [9, 14, 19, 23]
        self.levels = _Levels(classes) if kind == "mla" else None
        kernel, last = (1, (1, 4)) if kind == "naive" else (3, (4, 2))
        heads = (*((1, 4),) * 3, last) if kind != "mla" else ()
        self.heads = nn.ModuleList(_Up(classes, count, scale, kernel) for count, scale in heads)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = _maps(self.body, images, self.after)
        scores = (
            self.levels(maps)
            if self.levels is not None
            else [head(x) for head, x in zip(self.heads, maps, strict=True)]
        )
        return torch.stack([pixel_loss(score, images) for score in scores]).sum()


class _UperNet(nn.Module):
    """
    BEiT-large with maps of strides 4 to 32, and UPerNet of 1,024 channels; returns the loss.

    Args:
        pixels: height and width of the images.
        classes: of a pixel.
    """

    def __init__(self, pixels: tuple[int, int], classes: int) -> None:
        super().__init__()
        wide, side = 1024, 256
        self.body = keeping_scores(
            timm.create_model("beit_large_patch16_224", img_size=pixels, num_classes=0)
        )
        self.grow = nn.ModuleList(nn.ConvTranspose2d(wide, wide, 2, 2) for _ in range(3))
        self.between = nn.Sequential(nn.BatchNorm2d(wide), nn.GELU())
        # A normalisation over the devices has more than the one value of a channel that a mean of one image has here.
        alone = nn.Sequential(nn.Conv2d(wide, wide, 1, bias=False), nn.ReLU(inplace=True))
        self.pools = nn.ModuleList((alone, *(build_unit(wide, wide, 1) for _ in range(3))))
        self.lateral, self.smooth = (
            nn.ModuleList(build_unit(wide, wide, kernel) for _ in range(3)) for kernel in (1, 3)
        )
        self.merge, self.join = build_unit(5 * wide, wide), build_unit(4 * wide, wide)
        self.classes = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(wide, classes, 1))
        self.helper = nn.Sequential(build_unit(wide, side), nn.Dropout2d(0.1), nn.Conv2d(side, classes, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first, second, third, last = _maps(self.body, images, [7, 11, 15, 23])
        x = functional.max_pool2d(last, 2)
        means = [
            functional.interpolate(
                pool(functional.adaptive_avg_pool2d(x, parts)), size=x.shape[-2:], mode="bilinear"
            )
            for pool, parts in zip(self.pools, (1, 2, 3, 6), strict=True)
        ]
        maps = [self.grow[1](self.between(self.grow[0](first))), self.grow[2](second), third]
        sides = [
            *(layer(y) for layer, y in zip(self.lateral, maps, strict=True)),
            self.merge(torch.cat((x, *means), 1)),
        ]
        for i in range(3, 0, -1):
            grown = functional.interpolate(sides[i], size=sides[i - 1].shape[-2:], mode="bilinear")
            sides[i - 1] = sides[i - 1] + grown
        smooth = [*(layer(y) for layer, y in zip(self.smooth, sides[:3], strict=True)), sides[3]]
        size = smooth[0].shape[-2:]
        same = [smooth[0], *(functional.interpolate(y, size=size, mode="bilinear") for y in smooth[1:])]
        joined = self.classes(self.join(torch.cat(same, 1)))
        return pixel_loss(joined, images) + 0.4 * pixel_loss(self.helper(third), images)


class _Attended(nn.Module):
    """A block of MSCAN: convolutions of each channel as weights of the map, then a mixing layer with one more."""

    def __init__(self, wide: int, ratio: int) -> None:
        super().__init__()

        def alone(height: int, width: int) -> nn.Conv2d:
            return nn.Conv2d(wide, wide, (height, width), padding=(height // 2, width // 2), groups=wide)

        self.enter, self.mix, self.leave = (nn.Conv2d(wide, wide, 1) for _ in range(3))
        self.first = alone(5, 5)
        self.pairs = nn.ModuleList(nn.Sequential(alone(1, size), alone(size, 1)) for size in (7, 11, 21))
        self.norms = nn.ModuleList(nn.BatchNorm2d(wide) for _ in range(2))
        hidden = ratio * wide
        self.mixed = nn.Sequential(
            nn.Conv2d(wide, hidden, 1), nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU(),
            nn.Conv2d(hidden, wide, 1),
        )  # fmt: skip
        self.scales = nn.Parameter(torch.ones(2, wide, 1, 1))
        self.dropped = StochasticDepth(0.1, "row")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[0](x)
        z = functional.gelu(self.enter(y))
        near = self.first(z)
        weights = near
        for pair in self.pairs:
            weights = weights + pair(near)
        y = self.leave(self.mix(weights) * z.clone()) + y
        x = x + self.dropped(self.scales[0] * y)
        return x + self.dropped(self.scales[1] * self.mixed(self.norms[1](x)))  # type: ignore[no-any-return]


def _make_grouped(wide: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, 256, 1, bias=False), nn.GroupNorm(32, 256), nn.ReLU(inplace=True))


class _SegNext(nn.Module):
    """
    MSCAN-T and a head that takes the factors of a map of 256 channels in place of it; returns the loss.

    Args:
        classes: of a pixel.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths, depths, ratios = (32, 64, 160, 256), (3, 3, 5, 2), (8, 8, 4, 4)
        stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32)
        )  # fmt: skip
        smaller = (
            nn.Sequential(nn.Conv2d(wide, out, 3, 2, 1), nn.BatchNorm2d(out))
            for wide, out in pairwise(widths)
        )
        self.enter = nn.ModuleList((stem, *smaller))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Attended(wide, ratio) for _ in range(count)))
            for wide, count, ratio in zip(widths, depths, ratios, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(wide) for wide in widths)
        self.squeeze, self.align = _make_grouped(sum(widths[1:])), _make_grouped(256)
        self.first = nn.Conv2d(256, 256, 1)
        self.last = nn.Sequential(nn.Conv2d(256, 256, 1, bias=False), nn.GroupNorm(32, 256))
        self.classes = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x, maps = images, []
        for enter, stage, norm in zip(self.enter, self.stages, self.norms, strict=True):
            x = stage(enter(x))
            x = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
            maps.append(x)
        size = maps[1].shape[-2:]
        same = [functional.interpolate(y, size=size, mode="bilinear") for y in maps[1:]]
        x = self.squeeze(torch.cat(same, 1))
        x = functional.relu(x + self.last(_factor_map(functional.relu(self.first(x)))))
        scores = functional.interpolate(self.classes(self.align(x)), size=images.shape[-2:], mode="bilinear")
        return functional.cross_entropy(scores, torch.zeros_like(images[:, 0], dtype=torch.long))


def _factor_map(x: torch.Tensor) -> torch.Tensor:
    """Return the product of the two factors of a map, which a few multiplicative steps find."""
    flat = x.flatten(2)
    bases = functional.normalize(torch.rand_like(flat[:, :, :_HAM_RANK]), dim=1)
    parts = (flat.transpose(1, 2) @ bases).softmax(-1)
    for _ in range(_HAM_STEPS):
        parts = parts * (flat.transpose(1, 2) @ bases) / (parts @ (bases.transpose(1, 2) @ bases) + 1e-6)
        bases = bases * (flat @ parts) / (bases @ (parts.transpose(1, 2) @ parts) + 1e-6)
    parts = parts * (flat.transpose(1, 2) @ bases) / (parts @ (bases.transpose(1, 2) @ bases) + 1e-6)
    return (bases @ parts.transpose(1, 2)).reshape_as(x)
