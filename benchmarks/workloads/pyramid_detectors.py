"""Detectron2's detectors with a feature pyramid, on ResNet-50 or 101, with or without proposals, boxes, masks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import nn
from torch.nn import functional

from benchmarks.workloads.detection import MaskRcnn

__all__ = ["pyramid_detector"]

_NAME = re.compile(r"d2/(mask_rcnn|faster_rcnn|fast_rcnn|rpn)_r_(50|101)_fpn")
_PROPOSALS, _POSITIVE = 512, 128
"""Box and mask proposals of an image in training: Detectron2's defaults."""


@dataclass(frozen=True)
class _Parts:
    depth: int
    proposals: bool
    """Whether a region proposal network is trained."""
    boxes: bool
    masks: bool


class _Detector(MaskRcnn):
    def __init__(self, parts: _Parts) -> None:
        super().__init__()
        self.parts = parts
        if parts.depth == 101:
            trunk = torchvision.models.resnet101(weights=None, norm_layer=torchvision.ops.FrozenBatchNorm2d)
            trunk.layer1.requires_grad_(requires_grad=False)
            self.stages = nn.ModuleList((trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4))
        if not parts.proposals:
            del self.rpn, self.score, self.delta
        if not parts.boxes:
            del self.head, self.classes, self.boxes
        if not parts.masks:
            del self.mask

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        batch, x = images.shape[0], self.stem(images)
        maps: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        levels = self._pyramid(maps)
        loss = torch.zeros((), device=images.device)
        if self.parts.proposals:
            found = [functional.relu(self.rpn(level)) for level in levels]
            loss = loss + sum(self.score(level).mean() + self.delta(level).mean() for level in found)
        if self.parts.boxes:
            hidden = self.head(self._pooled(levels[0], batch * _PROPOSALS, 7).flatten(1))
            loss = loss + functional.cross_entropy(self.classes(hidden), labels) + self.boxes(hidden).mean()
        if self.parts.masks:
            masks = self.mask(self._pooled(levels[0], batch * _POSITIVE, 14))
            loss = loss + functional.binary_cross_entropy_with_logits(masks, torch.zeros_like(masks))
        return loss


def pyramid_detector(name: str) -> Callable[[], nn.Module] | None:
    """Return a builder of the Detectron2 model of this lower-case name; None where it has no feature pyramid."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind = found[1]
    parts = _Parts(int(found[2]), kind != "fast_rcnn", kind != "rpn", kind == "mask_rcnn")
    return lambda: _Detector(parts)
