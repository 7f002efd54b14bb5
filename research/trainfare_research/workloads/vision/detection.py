"""
SSD300 on ResNet, and Mask R-CNN with a fixed number of proposals.

SSD: the backbone up to its third stage at stride 8, five extra stages, 8,732 boxes (Liu et al. 2016, as in NVIDIA's
reference). Mask R-CNN (He et al. 2017): images of 800 x 1,344, 512 box and 128 mask proposals per image, the training
defaults of the reference implementations.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

CHANNELS_LAST = "channels_last"
"""Note of a row whose images and weights have that layout."""

_BOXES = 8732
"""Default boxes of SSD300."""
_CLASSES = 81
"""Of COCO: 80 and the background."""
_IMAGE_DIMS = 4
_PROPOSALS, _POSITIVE = 512, 128
"""Box and mask proposals of an image in training."""
_HEIGHT, _WIDTH = 800, 1344


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a detector."""
    if row["task"] != "detection":
        return None
    name = row["model"].lower()
    network: Network | str = f"{row['model']}: no description of this detector"
    if name.startswith("ssd300") and CHANNELS_LAST in row["notes"]:
        network = Network(f"detection.{name}.nhwc", _ssd_channels_last, _ssd_inputs_channels_last)
    elif name.startswith("ssd300"):
        network = Network(f"detection.{name}", Ssd300, ssd_inputs)
    elif name.startswith("maskr-cnn"):
        notes = ("images of 800 x 1344 and 512 proposals an image are assumed",)
        network = Network(f"detection.{name}", MaskRcnn, _mask_inputs, notes=notes)
    return step_job(row, network, optimizer_of(row, "sgd"))


def ssd_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    """Return images of 300 pixels with the place and class of every default box."""
    return (
        torch.empty(batch, 3, 300, 300),
        torch.zeros(batch, 4, _BOXES),
        torch.zeros(batch, _BOXES, dtype=torch.long),
    )


def _ssd_channels_last() -> nn.Module:
    net = Ssd300()
    for parameter in net.parameters():
        if parameter.dim() == _IMAGE_DIMS:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return net


def _ssd_inputs_channels_last(batch: int) -> tuple[torch.Tensor, ...]:
    images, places, classes = ssd_inputs(batch)
    return images.contiguous(memory_format=torch.channels_last), places, classes


def _mask_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.empty(batch, 3, _HEIGHT, _WIDTH), torch.zeros(batch * _PROPOSALS, dtype=torch.long))


class Ssd300(nn.Module):
    """
    SSD at 300 pixels on the first three stages of a ResNet; returns its loss.

    Args:
        depth: of the ResNet, 50 or 34.
        normal: whether the extra stages have batch normalisation.
    """

    def __init__(self, depth: int = 50, *, normal: bool = True) -> None:
        super().__init__()
        trunk = torchvision.models.get_model(f"resnet{depth}", weights=None)
        block = trunk.layer3[0]
        block.conv1.stride = block.conv2.stride = block.downsample[0].stride = (1, 1)
        self.trunk = nn.Sequential(
            trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1, trunk.layer2, trunk.layer3
        )
        widths, anchors = (1024 if depth == 50 else 256, 512, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)
        plan = ((256, 2, 1), (256, 2, 1), (128, 2, 1), (128, 1, 0), (128, 1, 0))

        def convolution(
            wide: int, out: int, kernel: int, stride: int = 1, padding: int = 0
        ) -> list[nn.Module]:
            layer = nn.Conv2d(wide, out, kernel, stride=stride, padding=padding, bias=not normal)
            return [layer, *([nn.BatchNorm2d(out)] if normal else []), nn.ReLU(inplace=True)]

        self.extra = nn.ModuleList(
            nn.Sequential(*convolution(wide, narrow, 1), *convolution(narrow, out, 3, stride, padding))
            for (wide, out), (narrow, stride, padding) in zip(itertools.pairwise(widths), plan, strict=True)
        )
        pairs = tuple(zip(widths, anchors, strict=True))
        self.boxes = nn.ModuleList(nn.Conv2d(w, a * 4, 3, padding=1) for w, a in pairs)
        self.classes = nn.ModuleList(nn.Conv2d(w, a * _CLASSES, 3, padding=1) for w, a in pairs)

    def forward(self, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        maps = [self.trunk(images)]
        for stage in self.extra:
            maps.append(stage(maps[-1]))
        boxes_predicted = torch.cat(
            [b(x).reshape(x.shape[0], 4, -1) for b, x in zip(self.boxes, maps, strict=True)], 2
        )
        scores = torch.cat(
            [c(x).reshape(x.shape[0], _CLASSES, -1) for c, x in zip(self.classes, maps, strict=True)], 2
        )
        mask = labels > 0
        box_loss = functional.smooth_l1_loss(boxes_predicted, boxes, reduction="none").sum(1)
        kind = functional.cross_entropy(scores, labels, reduction="none")
        hardest = kind.masked_fill(mask, 0.0).sort(1, descending=True)[1].sort(1)[1]
        negative = hardest < 3 * mask.sum(1, keepdim=True)
        return ((mask * box_loss).sum(1) + (kind * (mask | negative)).sum(1)).mean()


class MaskRcnn(nn.Module):
    """Mask R-CNN on ResNet-50 with a feature pyramid; proposals are fixed in number. Returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        frozen = torchvision.ops.FrozenBatchNorm2d
        trunk = torchvision.models.get_model("resnet50", weights=None, norm_layer=frozen)
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        for parameter in (*self.stem.parameters(), *trunk.layer1.parameters()):
            parameter.requires_grad_(False)
        self.stages = nn.ModuleList((trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4))
        self.lateral = nn.ModuleList(nn.Conv2d(w, 256, 1) for w in (256, 512, 1024, 2048))
        self.smooth = nn.ModuleList(nn.Conv2d(256, 256, 3, padding=1) for _ in range(4))
        self.rpn, self.score, self.delta = (
            nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 3, 1), nn.Conv2d(256, 12, 1),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(256 * 49, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
        self.classes, self.boxes = nn.Linear(1024, _CLASSES), nn.Linear(1024, 4 * _CLASSES)
        mask: list[nn.Module] = []
        for _ in range(4):
            mask += [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]
        self.mask = nn.Sequential(
            *mask, nn.ConvTranspose2d(256, 256, 2, 2), nn.ReLU(), nn.Conv2d(256, _CLASSES, 1)
        )

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        batch, x = images.shape[0], self.stem(images)
        maps: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        levels = self._pyramid(maps)
        rpn = [functional.relu(self.rpn(level)) for level in levels]
        loss: Any = sum(self.score(level).mean() + self.delta(level).mean() for level in rpn)
        hidden = self.head(crops(levels[0], batch * _PROPOSALS, 7).flatten(1))
        loss = loss + functional.cross_entropy(self.classes(hidden), labels) + self.boxes(hidden).mean()
        masks = self.mask(crops(levels[0], batch * _POSITIVE, 14))
        total: torch.Tensor = loss + functional.binary_cross_entropy_with_logits(
            masks, torch.zeros_like(masks)
        )
        return total

    def _pyramid(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        top = self.lateral[3](maps[3])
        levels = [top]
        for i in (2, 1, 0):
            side = self.lateral[i](maps[i])
            top = side + functional.interpolate(top, size=side.shape[-2:], mode="nearest")
            levels.insert(0, top)
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        return [*levels, functional.max_pool2d(levels[-1], 1, 2)]


def crops(level: torch.Tensor, rois: int, size: int) -> torch.Tensor:
    """Return `rois` crops of a map, by a gather that writes as many bytes as the RoIAlign that it replaces."""
    width = level.shape[1]
    flat = level.flatten(2).transpose(1, 2).reshape(-1, width)
    where = torch.zeros(rois * size * size, dtype=torch.long, device=level.device)
    return flat[where].view(rois, size, size, width).permute(0, 3, 1, 2).contiguous()
