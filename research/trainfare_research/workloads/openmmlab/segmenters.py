"""
Segmentation networks of OpenMMLab's zoo with a backbone or a head of their own: SegFormer, Segmenter and U-Net.

Sizes are those of open-mmlab/mmsegmentation (`configs/_base_/models`), by the names of the configurations.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import Conv2dNormActivation

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.crops import classes_of, crop_of
from trainfare_research.workloads.openmmlab.early_torch import keeping_scores, pixel_loss
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_FEWEST_CLASSES = 2
"""Of the data sets of vessels: a vessel or none."""
_VITS = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
_LARGE_PIXELS = 640
"""Segmenter with ViT-L trains on crops of 640 pixels, whatever the name of its configuration says."""
_DILATIONS = (1, 12, 24, 36)
"""Of DeepLabv3's head."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these networks; None for others."""
    name = row["model"].lower()
    pixels, classes = crop_of(row), classes_of(row, _FEWEST_CLASSES)
    if pixels is None:
        return None
    network = _make_network(name, pixels, classes)
    optimizer = optimizer_of(row, "adamw" if name.startswith("segformer") else "sgd")
    return None if network is None else step_job(row, network, optimizer)


def _make_network(name: str, pixels: tuple[int, int], classes: int) -> Network | str | None:
    if name.startswith("segformer"):
        backbone = backbone_of(name, pixels, frozen=False)
        if isinstance(backbone, str):
            return backbone
        key = f"mmseg.{backbone.key}.segformer"
        return _describe_network(key, lambda: _SegFormer(backbone.build(), classes), pixels, classes)
    vit = re.match(r"segmenter_vit-(t|s|b|l)_(mask|fcn)", name)
    if vit:
        size, linear = _VITS[vit[1]], vit[2] == "fcn"
        pixels = (_LARGE_PIXELS, _LARGE_PIXELS) if size == "large" else pixels
        model = f"vit_{size}_patch16_384"
        return _describe_network(
            f"mmseg.segmenter.{model}.{linear}", lambda: _Segmenter(model, pixels, classes, linear=linear),
            pixels, classes,
        )  # fmt: skip
    unet = re.match("unet[-_]s5-d16_(fcn|pspnet|deeplabv3)_", name)
    if unet:
        return _describe_network(f"mmseg.unet.{unet[1]}", lambda: _UNet(unet[1], classes), pixels, classes)
    return None


def _describe_network(
    key: str, build: Callable[[], nn.Module], pixels: tuple[int, int], classes: int
) -> Network:
    height, width = pixels
    return Network(
        f"{key}.{height}x{width}.{classes}", build, lambda batch: (torch.empty(batch, 3, height, width),)
    )


class _SegFormer(nn.Module):
    """
    Four maps in 256 channels each, joined at the size of the first by one layer; returns the loss.

    Args:
        body: the backbone.
        classes: of a pixel.
    """

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body = body
        self.sides = nn.ModuleList(Conv2dNormActivation(wide, 256, 1) for wide in widths)
        self.joined = Conv2dNormActivation(4 * 256, 256, 1)
        self.classes = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)
        size = maps[0].shape[-2:]
        same = [
            functional.interpolate(side(x), size=size, mode="bilinear")
            for side, x in zip(self.sides, maps, strict=True)
        ]
        return pixel_loss(self.classes(self.joined(torch.cat(same, 1))), images)


class _Segmenter(nn.Module):
    """
    A vision transformer, and two blocks more for the patches and a token of each class; returns the loss.

    Args:
        name: of timm's model.
        pixels: height and width of the images.
        classes: of a pixel.
        linear: whether a layer for each patch is the whole head.
    """

    def __init__(self, name: str, pixels: tuple[int, int], classes: int, *, linear: bool) -> None:
        super().__init__()
        body: Any = timm.create_model(name, img_size=pixels, num_classes=0)
        self.body, self.count = body, classes
        wide = body.embed_dim
        self.linear = nn.Linear(wide, classes) if linear else None
        small: Any = timm.create_model(name, img_size=pixels, num_classes=0, depth=2)
        self.head = nn.Sequential() if linear else small.blocks
        self.token, self.norm = nn.Parameter(torch.zeros(1, classes, wide)), nn.LayerNorm(wide)
        self.enter, self.patch, self.kind = (nn.Linear(wide, wide) for _ in range(3))
        self.last = nn.LayerNorm(classes)
        keeping_scores(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.body.forward_features(images)[:, 1:]
        if self.linear is not None:
            scores = self.linear(patches)
        else:
            tokens = self.token.expand(len(images), -1, -1)
            both = self.norm(self.head(torch.cat((self.enter(patches), tokens), 1)))
            left, right = self.patch(both[:, : -self.count]), self.kind(both[:, -self.count :])
            scores = self.last(
                functional.normalize(left, dim=2) @ functional.normalize(right, dim=2).transpose(1, 2)
            )
        side = images.shape[-1] // 16
        return pixel_loss(scores.transpose(1, 2).unflatten(2, (-1, side)), images)


def _pair(wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(Conv2dNormActivation(wide, out), Conv2dNormActivation(out, out))


class _UNet(nn.Module):
    """
    U-Net of five levels, from 64 to 1,024 channels, with a head of few channels; returns the loss.

    Args:
        head: "fcn", "pspnet" or "deeplabv3".
        classes: of a pixel.
    """

    def __init__(self, head: str, classes: int) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(
            _pair(wide, out) for wide, out in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.enter = nn.ModuleList(Conv2dNormActivation(2 * wide, wide, 1) for wide in widths[:-1])
        self.up = nn.ModuleList(_pair(2 * wide, wide) for wide in widths[:-1])
        self.head, wide = head, 64 if head == "fcn" else 16
        sizes = {"fcn": (), "pspnet": (1, 1, 1, 1), "deeplabv3": (1, 3, 3, 3, 1)}[head]
        dilations = (*_DILATIONS, 1) if head == "deeplabv3" else (1,) * len(sizes)
        self.parts = nn.ModuleList(
            Conv2dNormActivation(64, wide, kernel, dilation=dilation)
            for kernel, dilation in zip(sizes, dilations, strict=True)
        )
        joined = len(sizes) * wide + (0 if head == "deeplabv3" else 64)
        self.merge, self.classes = Conv2dNormActivation(joined, wide), nn.Conv2d(wide, classes, 1)
        self.helper = nn.Sequential(Conv2dNormActivation(128, 64), nn.Conv2d(64, classes, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps, x = [], images
        for i, level in enumerate(self.down):
            x = level(functional.max_pool2d(x, 2) if i else x)
            maps.append(x)
        before = x
        for enter, up, side in zip(reversed(self.enter), reversed(self.up), maps[-2::-1], strict=True):
            grown = functional.interpolate(x, scale_factor=2.0, mode="bilinear")
            before, x = x, up(torch.cat((side, enter(grown)), 1))
        total: torch.Tensor = pixel_loss(
            self.classes(self.merge(self._run_parts(x))), images
        ) + 0.4 * pixel_loss(self.helper(before), images)
        return total

    def _run_parts(self, x: torch.Tensor) -> torch.Tensor:
        if self.head == "fcn":
            return x
        size = x.shape[-2:]
        pools = (1, 2, 3, 6) if self.head == "pspnet" else (None, None, None, None, 1)
        pooled = [
            part(x) if pool is None else functional.interpolate(
                part(functional.adaptive_avg_pool2d(x, pool)), size=size, mode="bilinear"
            )
            for part, pool in zip(self.parts, pools, strict=True)
        ]  # fmt: skip
        return torch.cat([x, *pooled] if self.head == "pspnet" else pooled, 1)
