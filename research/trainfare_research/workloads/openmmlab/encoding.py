"""
EncNet and FastFCN with its head in OpenMMLab's zoo, with the sizes of open-mmlab/mmsegmentation (`configs/encnet`).

Each pixel is compared with 32 learned codes in all its channels, which is a tensor of 32 times the size of the map.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import Conv2dNormActivation

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.crops import classes_of, crop_of
from trainfare_research.workloads.openmmlab.early_torch import pixel_loss
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_CODES, _WIDE = 32, 512


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a network with this head; None for others."""
    name = row["model"].lower()
    crop, classes = crop_of(row), classes_of(row)
    mine = re.match("encnet_|fastfcn_.*_enc_", name)
    if crop is None or not mine or not classes:
        return None
    height, width = crop
    backbone = backbone_of(name, (height, width), frozen=False)
    if isinstance(backbone, str):
        return backbone
    network = Network(
        f"mmseg.encoding.{backbone.key}.{height}x{width}.{classes}", lambda: _EncNet(backbone.build(), classes),
        lambda batch: (torch.empty(batch, 3, height, width),),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "sgd"))


class Codes(nn.Module):
    """What the pixels of a map are beside each of the codes, summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.scale = nn.Parameter(torch.zeros(_CODES, _WIDE)), nn.Parameter(torch.zeros(_CODES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = x.flatten(2).transpose(1, 2).contiguous().unsqueeze(2)
        far = (self.scale * (pixels - self.codes).pow(2).sum(3)).softmax(2)
        return (far.unsqueeze(3) * (pixels - self.codes)).sum(1)


class _EncNet(nn.Module):
    """
    The backbone, a head whose channels are weighted by the codes, and an auxiliary head; returns the loss.

    Args:
        body: the backbone.
        classes: of a pixel.
    """

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body, self.enter = body, Conv2dNormActivation(widths[-1], _WIDE)
        self.project = Conv2dNormActivation(_WIDE, _WIDE, 1)
        self.codes = nn.Sequential(Codes(), nn.BatchNorm1d(_CODES), nn.ReLU(inplace=True))
        self.weigh, self.scenes = nn.Linear(_WIDE, _WIDE), nn.Linear(_WIDE, classes)
        self.classes = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(_WIDE, classes, 1))
        self.helper = nn.Sequential(
            Conv2dNormActivation(widths[2], 256), nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)
        x = self.enter(maps[-1])
        codes = self.codes(self.project(x)).mean(1)
        x = functional.relu(x + x * self.weigh(codes).sigmoid()[:, :, None, None])
        scenes = self.scenes(codes)
        there = functional.binary_cross_entropy_with_logits(scenes, torch.zeros_like(scenes))
        loss = pixel_loss(self.classes(x), images) + 0.4 * pixel_loss(self.helper(maps[2]), images)
        return loss + 0.2 * there
