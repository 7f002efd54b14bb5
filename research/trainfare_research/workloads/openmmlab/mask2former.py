"""
Mask2Former of OpenMMLab's zoos, from the names of its configurations.

A pixel decoder of six layers with deformable attention over three maps, and nine layers for 100 queries, each of which
predicts every mask at a quarter of the images' size (open-mmlab/mmdetection, `configs/mask2former`). Images of the
detection zoo have 1,024 x 1,024 pixels. Labelled masks, as many as an image has objects, are left out.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_JITTERED_PIXELS = (1024, 1024)
_CLASSES = {"panoptic": 133, "cityscapes": 19, "ade20k": 150}
_COCO_CLASSES = 80
_QUERIES, _WIDE, _HEADS, _LEVELS, _POINTS = 100, 256, 8, 3, 4
_SAMPLED = 12544
"""Points of a mask that its loss looks at."""
_OBJECTS = 7
"""Of an image of COCO in the mean."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a Mask2Former; None for other networks, and for those of videos."""
    name = row["model"].lower()
    if not row["task"].startswith("openmmlab") or not re.match("mask2former_(?!.*youtube)", name):
        return None
    sizes = re.search(r"(\d{3,4})x(\d{3,4})$", name)
    pixels = (int(sizes[1]), int(sizes[2])) if sizes else _JITTERED_PIXELS
    classes = next((count for key, count in _CLASSES.items() if key in name), _COCO_CLASSES)
    backbone = backbone_of(name, pixels, frozen=False)
    if isinstance(backbone, str):
        return backbone
    height, width = pixels
    network = Network(
        f"mmdet.mask2former.{backbone.key}.{pixels}.{classes}", lambda: _Mask2Former(backbone.build(), classes),
        lambda batch: (torch.empty(batch, 3, height, width),), notes=("labelled masks are left out",),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "adamw"))


def _make_mixer(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(_WIDE, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, _WIDE))


class _Deformable(nn.Module):
    """A layer of the pixel decoder: every pixel reads four learned places of three maps for each head."""

    def __init__(self) -> None:
        super().__init__()
        places = _HEADS * _LEVELS * _POINTS
        self.value, self.last = nn.Linear(_WIDE, _WIDE), nn.Linear(_WIDE, _WIDE)
        self.places, self.weights = nn.Linear(_WIDE, 2 * places), nn.Linear(_WIDE, places)
        self.mixed, self.norms = _make_mixer(1024), nn.ModuleList(nn.LayerNorm(_WIDE) for _ in range(2))

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        query = x + position
        value = self.value(x)
        weights = self.weights(query).unflatten(-1, (_HEADS, -1)).softmax(-1)
        places = 0.5 + self.places(query).unflatten(-1, (_HEADS, -1, 2)) / 2
        # The kernel keeps its three inputs for backward and writes a value of the size of the first.
        values = value * (places * weights.unsqueeze(-1)).sum()
        x = self.norms[0](x + self.last(values))
        y: torch.Tensor = self.norms[1](x + self.mixed(x))
        return y


class _Masked(nn.Module):
    """A layer of the queries: they read a map where their masks are, then each other."""

    def __init__(self) -> None:
        super().__init__()
        self.cross, self.own = (nn.MultiheadAttention(_WIDE, _HEADS, batch_first=True) for _ in range(2))
        self.mixed, self.norms = _make_mixer(2048), nn.ModuleList(nn.LayerNorm(_WIDE) for _ in range(3))

    def forward(
        self, queries: torch.Tensor, position: torch.Tensor, memory: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        context = self.cross(queries + position, memory, memory, attn_mask=hidden)[0]
        queries = self.norms[0](queries + context)
        query = queries + position
        queries = self.norms[1](queries + self.own(query, query, queries)[0])
        y: torch.Tensor = self.norms[2](queries + self.mixed(queries))
        return y


def _make_normalised(wide: int, kernel: int, *, act: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(wide, _WIDE, kernel, padding=kernel // 2), nn.GroupNorm(32, _WIDE)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))


class _Mask2Former(nn.Module):
    """
    Mask2Former; returns its loss.

    Args:
        body: the backbone.
        classes: of a mask.
    """

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body = body
        self.enter = nn.ModuleList(_make_normalised(wide, 1) for wide in widths)
        self.pixel = nn.ModuleList(_Deformable() for _ in range(6))
        self.smooth, self.feature = _make_normalised(_WIDE, 3, act=True), nn.Conv2d(_WIDE, _WIDE, 1)
        self.layers = nn.ModuleList(_Masked() for _ in range(9))
        self.queries, self.position = (nn.Parameter(torch.zeros(1, _QUERIES, _WIDE)) for _ in range(2))
        self.level, self.norm = nn.Parameter(torch.zeros(_LEVELS, _WIDE)), nn.LayerNorm(_WIDE)
        self.kinds = nn.Linear(_WIDE, classes + 1)
        self.shape = nn.Sequential(nn.Linear(_WIDE, _WIDE), nn.ReLU(inplace=True), _make_mixer(_WIDE))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = [enter(x) for enter, x in zip(self.enter, self.body(images), strict=True)]
        levels = maps[:0:-1]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        position = torch.zeros_like(x)
        for layer in self.pixel:
            x = layer(x, position)
        parts = torch.split(x, [level[0, 0].numel() for level in levels], 1)
        largest = parts[-1].transpose(1, 2).reshape_as(levels[-1])
        grown = functional.interpolate(largest, size=maps[0].shape[-2:], mode="bilinear")
        feature = self.feature(self.smooth(maps[0] + grown))
        memories = [part + level + 0.0 for part, level in zip(parts, self.level, strict=True)]
        queries = self.queries.expand(len(images), -1, -1)
        loss, shapes = self._predict(queries, feature)
        for i, layer in enumerate(self.layers):
            hidden = _mark_hidden(shapes, levels[i % _LEVELS])
            queries = layer(queries, self.position, memories[i % _LEVELS], hidden)
            more, shapes = self._predict(queries, feature)
            loss = loss + more
        return loss

    def _predict(self, queries: torch.Tensor, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a layer's predictions, and its masks."""
        query = self.norm(queries)
        kinds = self.kinds(query).flatten(0, 1)
        shapes = torch.einsum("bqc,bchw->bqhw", self.shape(query), feature)
        sampled = shapes[:, :_OBJECTS].flatten(2)[:, :, :_SAMPLED]
        labels = torch.zeros(len(kinds), dtype=torch.long, device=kinds.device)
        losses = functional.binary_cross_entropy_with_logits(sampled, torch.zeros_like(sampled))
        return functional.cross_entropy(kinds, labels) + losses, shapes


def _mark_hidden(shapes: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Return which pixels of a map each query does not read, for every head."""
    with torch.no_grad():
        small = functional.interpolate(shapes, size=level.shape[-2:], mode="bilinear")
        heads = small.flatten(2).unsqueeze(1).repeat(1, _HEADS, 1, 1).flatten(0, 1)
        return heads.sigmoid() < 0.5
