"""
Trackers of OpenMMLab's zoo: MaskTrack R-CNN and QDTrack, with the sizes of open-mmlab/mmdetection.

Read in `configs/masktrack_rcnn`, `configs/qdtrack` and the data sets that they name. Each sample is two frames of a
video, a key and a reference, which both pass the backbone; boxes and masks are predicted for the key alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.rcnn import crops_of
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job


@dataclass(frozen=True)
class _Sizes:
    """
    What a tracker's configuration decides.

    Attributes:
        pixels: height and width of a frame.
        classes: of a box.
        boxes: proposals of a frame for the box head.
        masks: of these, those with a mask.
        tracked: proposals of a frame that are compared with those of the other one.
        convolved: whether four normalised convolutions are before the layers that compare them.
    """

    pixels: tuple[int, int]
    classes: int
    boxes: int
    masks: int
    tracked: int
    convolved: bool


_SIZES = {
    "masktrack-rcnn": _Sizes((384, 640), 40, 128, 32, 128, convolved=False),
    "qdtrack_faster-rcnn": _Sizes((1088, 1088), 1, 512, 0, 256, convolved=True),
}
"""By the beginning of a configuration's name."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these trackers; None for others."""
    name = row["model"].lower()
    sizes = next((sizes for start, sizes in _SIZES.items() if name.startswith(start)), None)
    if row["task"] != "openmmlab-detection" or sizes is None:
        return None
    height, width = sizes.pixels
    backbone = backbone_of(re.sub("_x101_", "_x101-64x4d_", name), sizes.pixels, frozen=True)
    if isinstance(backbone, str):
        return backbone
    network = Network(
        f"mmdet.tracking.{backbone.key}.{sizes!r}", lambda: _Tracker(backbone.build(), sizes),
        lambda batch: tuple(torch.empty(batch, 3, height, width) for _ in range(2)),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "sgd"))


class _Tracker(nn.Module):
    """
    R-CNN with a pyramid for one frame, and a head that compares crops of two frames; returns its loss.

    Args:
        body: the backbone.
        of: its sizes.
    """

    def __init__(self, body: nn.Module, of: _Sizes) -> None:
        super().__init__()
        widths: Any = body.widths
        self.body, self.of = body, of
        self.neck = FeaturePyramidNetwork(list(widths), 256, LastLevelMaxPool())
        self.rpn = RPNHead(256, 3)
        self.boxes = nn.Sequential(
            FastRCNNConvFCHead((256, 7, 7), [], [1024, 1024]), FastRCNNPredictor(1024, of.classes + 1)
        )
        self.shapes = (
            nn.Sequential(MaskRCNNHeads(256, [256] * 4, 1), MaskRCNNPredictor(256, 256, of.classes))
            if of.masks
            else None
        )
        self.compared = (
            nn.Sequential(
                FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], _make_group_norm), nn.Linear(1024, 256)
            )
            if of.convolved
            else FastRCNNConvFCHead((256, 7, 7), [], [1024, 1024])
        )

    def forward(self, key: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        levels, others = self._levels(key), self._levels(reference)
        scores, places = self.rpn(levels)
        loss: Any = sum(
            functional.binary_cross_entropy_with_logits(s, torch.zeros_like(s)) + p.mean()
            for s, p in zip(scores, places, strict=True)
        )
        kinds, deltas = self.boxes(crops_of(levels[0], len(key) * self.of.boxes, 7))
        loss = loss + deltas.mean()
        loss = loss + functional.cross_entropy(kinds, torch.zeros_like(kinds[:, 0], dtype=torch.long))
        if self.shapes is not None:
            shapes = self.shapes(crops_of(levels[0], len(key) * self.of.masks, 14))
            loss = loss + functional.binary_cross_entropy_with_logits(shapes, torch.zeros_like(shapes))
        features, earlier = (
            self.compared(crops_of(maps[0], len(key) * self.of.tracked, 7)) for maps in (levels, others)
        )
        alike = features @ earlier.transpose(0, 1)
        total: torch.Tensor = loss + functional.cross_entropy(
            alike, torch.zeros_like(alike[:, 0], dtype=torch.long)
        )
        return total

    def _levels(self, frame: torch.Tensor) -> list[torch.Tensor]:
        return list(self.neck({str(i): x for i, x in enumerate(self.body(frame))}).values())


def _make_group_norm(wide: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, wide)
