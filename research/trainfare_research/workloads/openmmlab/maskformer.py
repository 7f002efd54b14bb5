"""
MaskFormer of OpenMMLab's zoo on ADE20K, with the sizes of open-mmlab/mmsegmentation (`configs/maskformer`).

A pyramid of normalised layers makes one map, a decoder of six layers reads the smallest map of the backbone with 100
queries, and each layer predicts a mask for each query. Those that are matched with a class of the image are grown to
the size of the image for the loss: ten, as an image of ADE20K has 10.5 classes in the mean (Zhou et al. 2017).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_QUERIES, _WIDE, _HEADS, _LAYERS = 100, 256, 8, 6
_CLASSES, _MATCHED = 150, 10


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a MaskFormer on ADE20K; None for others."""
    name = row["model"].lower()
    match = re.match(r"maskformer_r\d+-d32_.*_ade20k-(\d+)x(\d+)$", name)
    if row["task"] != "openmmlab-segmentation" or match is None:
        return None
    height, width = int(match[1]), int(match[2])
    # Its "d32" is a ResNet with a plain stem.
    backbone = backbone_of(name.replace("-d32", ""), (height, width), frozen=False)
    if isinstance(backbone, str):
        return backbone
    network = Network(
        f"mmseg.maskformer.{backbone.key}.{height}x{width}", lambda: _MaskFormer(backbone.build()),
        lambda batch: (torch.empty(batch, 3, height, width),),
        notes=(f"{_MATCHED} masks of an image are matched",),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "adamw"))


def _make_unit(wide: int, kernel: int, *, act: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(wide, _WIDE, kernel, padding=kernel // 2, bias=False), nn.GroupNorm(32, _WIDE)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))


class _Layer(nn.Module):
    """A layer of the decoder: the queries read each other, then the map."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.cross = (
            nn.MultiheadAttention(_WIDE, _HEADS, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.mixed = nn.Sequential(
            nn.Linear(_WIDE, 2048), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(2048, _WIDE), nn.Dropout(0.1)
        )  # fmt: skip
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDE) for _ in range(3))

    def forward(self, x: torch.Tensor, position: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        query = x + position
        x = self.norms[0](x + functional.dropout(self.own(query, query, x)[0], 0.1))
        context = self.cross(x + position, memory + 0.0, memory)[0]
        x = self.norms[1](x + functional.dropout(context, 0.1))
        y: torch.Tensor = self.norms[2](x + self.mixed(x))
        return y


class _MaskFormer(nn.Module):
    """
    MaskFormer; returns its loss.

    Args:
        body: the backbone.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body = body
        self.sides = nn.ModuleList(_make_unit(wide, 1, act=False) for wide in widths[:3])
        self.smooth = nn.ModuleList(_make_unit(_WIDE, 3) for _ in range(3))
        self.last, self.feature = _make_unit(widths[3], 3), nn.Conv2d(_WIDE, _WIDE, 3, padding=1)
        self.enter = nn.Conv2d(widths[3], _WIDE, 1)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))
        self.position, self.norm = nn.Parameter(torch.zeros(1, _QUERIES, _WIDE)), nn.LayerNorm(_WIDE)
        self.kinds = nn.Linear(_WIDE, _CLASSES + 1)
        self.shape = nn.Sequential(
            nn.Linear(_WIDE, _WIDE), nn.ReLU(inplace=True), nn.Linear(_WIDE, _WIDE), nn.ReLU(inplace=True),
            nn.Linear(_WIDE, _WIDE),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)
        x = self.last(maps[3])
        for i in (2, 1, 0):
            side = self.sides[i](maps[i])
            x = self.smooth[i](side + functional.interpolate(x, size=side.shape[-2:], mode="nearest"))
        feature = self.feature(x)
        memory = self.enter(maps[3]).flatten(2).transpose(1, 2)
        queries = torch.zeros_like(self.position).expand(len(images), -1, -1)
        losses = []
        for layer in self.layers:
            queries = layer(queries, self.position, memory)
            query = self.norm(queries)
            kinds = self.kinds(query).flatten(0, 1)
            losses.append(functional.cross_entropy(kinds, torch.zeros_like(kinds[:, 0], dtype=torch.long)))
            shapes = torch.einsum("bqc,bchw->bqhw", self.shape(query), feature)[:, :_MATCHED]
            whole = functional.interpolate(shapes, size=images.shape[-2:], mode="bilinear")
            chance = whole.sigmoid()
            losses.append(functional.binary_cross_entropy_with_logits(whole, torch.zeros_like(whole)))
            losses.append(1 - (chance * torch.zeros_like(chance)).sum() / (chance.sum() + 1))
        return torch.stack(losses).sum()
