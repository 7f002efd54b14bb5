"""YOLOF of OpenMMLab's zoo, with the sizes of open-mmlab/mmdetection (`configs/yolof`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import Conv2dNormActivation

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_HEIGHT, _WIDTH = 800, 1344
_CLASSES, _ANCHORS = 80, 5


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a YOLOF; None for others."""
    name = row["model"].lower()
    if row["task"] != "openmmlab-detection" or not name.startswith("yolof_"):
        return None
    backbone = backbone_of(name, (_HEIGHT, _WIDTH), frozen=True)
    if isinstance(backbone, str):
        return backbone
    network = Network(
        f"mmdet.yolof.{backbone.key}", lambda: _Yolof(backbone.build()),
        lambda batch: (torch.empty(batch, 3, _HEIGHT, _WIDTH),),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "sgd"))


def _compute_loss(scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of all scores and a loss of all places."""
    chance = scores.sigmoid()
    losses = functional.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores), reduction="none")
    total: torch.Tensor = (losses * chance.pow(2)).sum() + functional.l1_loss(
        places, torch.zeros_like(places)
    )
    return total


class _Yolof(nn.Module):
    """One map of stride 32, four blocks of growing dilation and two towers; returns its loss."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body = body
        self.enter = nn.Sequential(
            Conv2dNormActivation(widths[-1], 512, 1, activation_layer=None),
            Conv2dNormActivation(512, 512, activation_layer=None),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Conv2dNormActivation(512, 128, 1), Conv2dNormActivation(128, 128, dilation=dilation),
                Conv2dNormActivation(128, 512, 1),
            )
            for dilation in (2, 4, 6, 8)
        )  # fmt: skip
        self.kinds, self.places = (
            nn.Sequential(*(Conv2dNormActivation(512, 512) for _ in range(count))) for count in (2, 4)
        )
        self.last = nn.ModuleList(
            nn.Conv2d(512, _ANCHORS * numbers, 3, padding=1) for numbers in (_CLASSES, 4, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.enter(self.body(images)[-1])
        for block in self.blocks:
            x = x + block(x)
        kinds, places = self.last[0](self.kinds(x)), self.places(x)
        objects = self.last[2](places).repeat_interleave(_CLASSES, 1)
        # A class counts where there is an object: kinds + objects - log(1 + exp(kinds) + exp(objects)).
        both = kinds + objects - torch.log(1 + kinds.exp() + objects.exp())
        return _compute_loss(both, self.last[1](places))
