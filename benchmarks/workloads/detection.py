"""
SSD300 on ResNet-50, and Mask R-CNN with a fixed number of proposals.

SSD: the backbone up to its third stage at stride 8, five extra stages, 8,732 boxes (Liu et al. 2016, as in NVIDIA's
reference). Mask R-CNN (He et al. 2017): images of 800 x 1,344, 512 box and 128 mask proposals per image, the training
defaults of the reference implementations.
"""

from __future__ import annotations

import torch
import torchvision
from torch import nn
from torch.nn import functional

from benchmarks.workloads.single_device import Row, StepJob, Supervised, batch_of, optimizer_of, precision_of

__all__ = ["find"]

_BOXES = 8732
"""Default boxes of SSD300."""
_CLASSES = 81
"""Of COCO: 80 and the background."""
_PROPOSALS, _POSITIVE = 512, 128
_HEIGHT, _WIDTH = 800, 1344


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a detector."""
    if row["task"] != "detection":
        return None
    name = row["model"].lower()
    mode, batch = precision_of(row), batch_of(row)
    if mode is None or not batch:
        return "precision or batch is not stated"
    precision, tf32 = mode
    network: type[nn.Module]
    if name.startswith("ssd300"):
        network, make = Ssd300, _ssd_batch
    elif name.startswith("maskr-cnn"):
        network, make = MaskRcnn, _mask_batch
    else:
        return f"{row['model']}: no description of this detector"
    optimizer = optimizer_of(row, "sgd")
    return StepJob(
        key=f"detection.{name}.{precision}.{'tf32' if tf32 else ''}.{optimizer}",
        module=lambda: Supervised(network(), lambda net, made: net(*made), optimizer),
        batch=lambda: make(batch), batch_size=batch, precision=precision, tf32=tf32,
        notes=("images of 800 x 1344 and 512 proposals an image are assumed",) if network is MaskRcnn else (),
    )  # fmt: skip


def _ssd_batch(batch: int) -> tuple[torch.Tensor, ...]:
    return (
        torch.empty(batch, 3, 300, 300),
        torch.zeros(batch, 4, _BOXES),
        torch.zeros(batch, _BOXES, dtype=torch.long),
    )


def _mask_batch(batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.empty(batch, 3, _HEIGHT, _WIDTH), torch.zeros(batch * _PROPOSALS, dtype=torch.long))


class Ssd300(nn.Module):
    """SSD at 300 pixels; returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        trunk = torchvision.models.resnet50(weights=None)
        block = trunk.layer3[0]
        block.conv1.stride = block.conv2.stride = block.downsample[0].stride = (1, 1)
        self.trunk = nn.Sequential(
            trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1, trunk.layer2, trunk.layer3
        )
        plan = ((1024, 256, 512, 2, 1), (512, 256, 512, 2, 1), (512, 128, 256, 2, 1), (256, 128, 256, 1, 0),
                (256, 128, 256, 1, 0))  # fmt: skip
        self.extra = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True),
                nn.Conv2d(narrow, out, 3, stride=stride, padding=pad, bias=False), nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            )
            for wide, narrow, out, stride, pad in plan
        )  # fmt: skip
        widths, anchors = (1024, 512, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)
        self.boxes = nn.ModuleList(
            nn.Conv2d(w, a * 4, 3, padding=1) for w, a in zip(widths, anchors, strict=True)
        )
        self.classes = nn.ModuleList(
            nn.Conv2d(w, a * _CLASSES, 3, padding=1) for w, a in zip(widths, anchors, strict=True)
        )

    def forward(self, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        maps = [self.trunk(images)]
        for stage in self.extra:
            maps.append(stage(maps[-1]))
        found = torch.cat([b(x).reshape(x.shape[0], 4, -1) for b, x in zip(self.boxes, maps, strict=True)], 2)
        scores = torch.cat(
            [c(x).reshape(x.shape[0], _CLASSES, -1) for c, x in zip(self.classes, maps, strict=True)], 2
        )
        mask = labels > 0
        place = functional.smooth_l1_loss(found, boxes, reduction="none").sum(1)
        kind = functional.cross_entropy(scores, labels, reduction="none")
        hardest = kind.masked_fill(mask, 0.0).sort(1, descending=True)[1].sort(1)[1]
        negative = hardest < 3 * mask.sum(1, keepdim=True)
        return ((mask * place).sum(1) + (kind * (mask | negative)).sum(1)).mean()


class MaskRcnn(nn.Module):
    """Mask R-CNN on ResNet-50 with a feature pyramid; proposals are fixed in number. Returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        frozen = torchvision.ops.FrozenBatchNorm2d
        trunk = torchvision.models.resnet50(weights=None, norm_layer=frozen)
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
        loss: torch.Tensor = sum(self.score(level).mean() + self.delta(level).mean() for level in rpn)
        pooled = self._pooled(levels[0], batch * _PROPOSALS, 7)
        hidden = self.head(pooled.flatten(1))
        loss = loss + functional.cross_entropy(self.classes(hidden), labels) + self.boxes(hidden).mean()
        masks = self.mask(self._pooled(levels[0], batch * _POSITIVE, 14))
        return loss + functional.binary_cross_entropy_with_logits(masks, torch.zeros_like(masks))

    def _pyramid(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        top = self.lateral[3](maps[3])
        levels = [top]
        for i in (2, 1, 0):
            side = self.lateral[i](maps[i])
            top = side + functional.interpolate(top, size=side.shape[-2:], mode="nearest")
            levels.insert(0, top)
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        return [*levels, functional.max_pool2d(levels[-1], 1, 2)]

    def _pooled(self, level: torch.Tensor, rois: int, size: int) -> torch.Tensor:
        """Return `rois` crops, by a gather that writes as many bytes as the RoIAlign that it replaces."""
        batch, width = level.shape[:2]
        flat = level.flatten(2).transpose(1, 2).reshape(-1, width)
        where = torch.zeros(rois * size * size, dtype=torch.long, device=level.device)
        del batch
        return flat[where].view(rois, size, size, width).permute(0, 3, 1, 2).contiguous()
