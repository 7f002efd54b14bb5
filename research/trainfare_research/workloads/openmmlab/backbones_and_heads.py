"""
Detectors and segmentation networks of OpenMMLab's zoos, from the names of their configurations.

A backbone (openmmlab_backbones) and one of a few heads: a feature pyramid with the two-stage heads of R-CNN or with
the towers of one-stage detectors; a convolution, pooling or pyramid head of a segmentation network. Another head is
taken as the nearest of them, and the notes of the job say so. Detectors train on images of 800 x 1,344, the zoo's
default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.early_torch import pixel_loss
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_PIXELS = (800, 1344)
_CLASSES = {
    "cityscapes": 19,
    "ade20k": 150,
    "voc12aug": 21,
    "pascal-context": 60,
    "coco-stuff": 171,
    "isaid": 16,
}
"""Of segmentation data sets."""
_FEWEST_CLASSES = 7
"""Of the other data sets (LoveDA, Potsdam, vessels): 2 to 7."""
_TWO_STAGE = re.compile(
    r"(?:faster|mask|cascade|dynamic|ms|grid|libra[-_]faster|ga[-_]faster|masktrack|qdtrack)[-_].*rcnn"
    r"|^(?:htc|scnet|panoptic|point|double|sabl_cascade|detectors|faster|mask|cascade|ms|grid|ga[-_]faster)"
)
_EXACT = re.compile(r"^(?:faster|mask|cascade(?:[-_]mask)?)[-_]rcnn|^rpn|^retinanet|^fcos")
"""Detectors whose head is the described one."""
_EXTRAS = re.compile("dconv|dpool|gcb|carafe|attention|sac|rfp|ws|albu|dyhead|fpg|pafpn|openimages")
"""Parts that are not described: they are left out."""
_NEAREST_HEAD = "the head is taken as the nearest of R-CNN's and RetinaNet's, without further blocks"
_ONE_STAGE = re.compile(
    r"^(?:retinanet|fcos|atss|paa|fsaf|fovea|gfl|tood|reppoints|vfnet|autoassign|ld|lad|ga[-_](?:retinanet|rpn)|libra[-_]retinanet"
    r"|solov?2?|decoupled|rpn|pisa|free)"
)
_SEGMENTERS = {
    "fcn": "fcn", "pspnet": "psp", "deeplabv3plus": "sep-aspp", "deeplabv3": "aspp", "upernet": "upernet",
    "uperhead": "upernet", "fpnhead": "fpn", "fpn": "fpn", "pointrend": "fpn",
}  # fmt: skip
_NEAREST = (
    "gcnet",
    "nonlocal",
    "psanet",
    "danet",
    "dmnet",
    "encnet",
    "isanet",
    "ocrnet",
    "ann",
    "apcnet",
    "ccnet",
    "dnl",
    "emanet",
    "fastfcn",
)
"""Segmentation networks with attention after a convolution of 512 channels: taken as an FCN."""
_TASKS = ("openmmlab-detection", "openmmlab-segmentation")


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a network of OpenMMLab's zoos; None for other tasks."""
    if row["task"] not in _TASKS:
        return None
    name = row["model"].lower()
    network = _detector(name) if row["task"] == _TASKS[0] else _segmenter(name, row["image_size"])
    adam = re.search(r"swin|pvt|adamw|convnext|vit|mit-|twins", name)
    return step_job(row, network, optimizer_of(row, "adamw" if adam else "sgd"))


def _detector(name: str) -> Network | str:
    two, one_stage = _TWO_STAGE.search(name), _ONE_STAGE.search(name)
    if not two and not one_stage:
        return "the head of this detector is not described"
    backbone = backbone_of(name, _PIXELS, frozen=True)
    if isinstance(backbone, str):
        return backbone
    masks = bool(two and re.search(r"mask|htc|scnet|panoptic|point|detectors|^ms|instaboost", name))
    notes = () if _EXACT.search(name) and not _EXTRAS.search(name) else (_NEAREST_HEAD,)
    if two:
        stages = 3 if re.search("cascade|htc|scnet|detectors", name) else 1
        return Network(
            f"mmdet.{backbone.key}.{stages}.{masks}",
            lambda: RCnn(backbone.build(), stages, masks=masks), _images(*_PIXELS), notes=notes,
        )  # fmt: skip
    towers, anchors = 0 if "rpn" in name else 4, 9 if "retinanet" in name else 1
    normal = "gn" in name or not re.search("retinanet|rpn", name)
    return Network(
        f"mmdet.{backbone.key}.{towers}.{anchors}.{normal}",
        lambda: _OneStage(backbone.build(), towers=towers, anchors=anchors, normal=normal),
        _images(*_PIXELS), notes=notes,
    )  # fmt: skip


def _images(height: int, width: int) -> Callable[[int], tuple[torch.Tensor, ...]]:
    return lambda batch: (torch.empty(batch, 3, height, width),)


def _segmenter(name: str, stated: str) -> Network | str:
    sizes = re.search(r"(\d{3,4})x(\d{3,4})", name)
    height, width = (int(sizes[1]), int(sizes[2])) if sizes else (int(float(stated or 0)),) * 2
    if not height:
        return "the size of the images is not stated"
    classes = next((n for key, n in _CLASSES.items() if key in name), _FEWEST_CLASSES)
    head = next(
        (kind for key, kind in _SEGMENTERS.items() if re.search(rf"(?<![a-z]){key}(?![a-z])", name)), ""
    )
    notes: tuple[str, ...] = ()
    if not head and name.startswith(_NEAREST):
        head, notes = "fcn", ("the head is taken as an FCN's",)
    if not head:
        return "the head of this segmentation network is not described"
    backbone = backbone_of(name, (height, width), frozen=False)
    if isinstance(backbone, str):
        return backbone
    return Network(
        f"mmseg.{backbone.key}.{head}.{height}x{width}.{classes}",
        lambda: _Segmenter(backbone.build(), head, classes), _images(height, width), notes=notes,
    )  # fmt: skip


def _make_unit(wide: int, out: int, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """Return a convolution, batch normalisation and ReLU that keep the size of their map."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(wide, out, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _separable(wide: int, out: int, dilation: int = 1) -> nn.Sequential:
    """Return a convolution of each channel and one of all channels of a pixel, as a unit each."""
    alone = nn.Conv2d(wide, wide, 3, padding=dilation, dilation=dilation, groups=wide, bias=False)
    return nn.Sequential(alone, nn.BatchNorm2d(wide), nn.ReLU(inplace=True), *_make_unit(wide, out, 1))


class Neck(nn.Module):
    """A feature pyramid of 256 channels: five maps, strides 4 to 64 or, from the second map on, 8 to 128."""

    def __init__(self, widths: tuple[int, ...], *, first: int) -> None:
        super().__init__()
        self.first = first
        self.lateral = nn.ModuleList(nn.Conv2d(w, 256, 1) for w in widths[first:])
        self.smooth = nn.ModuleList(nn.Conv2d(256, 256, 3, padding=1) for _ in widths[first:])
        self.more = nn.ModuleList(nn.Conv2d(256, 256, 3, 2, 1) for _ in range(2 if first else 0))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        sides = [lateral(x) for lateral, x in zip(self.lateral, maps[self.first :], strict=True)]
        for i in range(len(sides) - 1, 0, -1):
            sides[i - 1] = sides[i - 1] + functional.interpolate(
                sides[i], size=sides[i - 1].shape[-2:], mode="nearest"
            )
        levels = [smooth(x) for smooth, x in zip(self.smooth, sides, strict=True)]
        if not self.more:
            return [*levels, functional.max_pool2d(levels[-1], 1, 2)]
        for layer in self.more:
            levels.append(layer(levels[-1]))
        return levels


class RCnn(nn.Module):
    """
    R-CNN with a pyramid: 512 proposals an image, of which 128 have masks; returns its loss.

    Args:
        body: the backbone.
        stages: of box heads (cascades have three), each with a mask head where `masks`.
        masks: whether masks are predicted.
    """

    def __init__(self, body: nn.Module, stages: int, *, masks: bool) -> None:
        super().__init__()
        self.body, self.neck = body, Neck(body.widths, first=0)  # type: ignore[arg-type]
        self.rpn, self.score, self.delta = (
            nn.Conv2d(256, 256, 3, padding=1),
            nn.Conv2d(256, 3, 1),
            nn.Conv2d(256, 12, 1),
        )
        self.boxes = nn.ModuleList(
            nn.Sequential(
                nn.Linear(256 * 49, 1024),
                nn.ReLU(True),
                nn.Linear(1024, 1024),
                nn.ReLU(True),
                nn.Linear(1024, 81 + 320),
            )
            for _ in range(stages)
        )
        self.masks = nn.ModuleList(
            nn.Sequential(
                *(layer for _ in range(4) for layer in (nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(True))),
                nn.ConvTranspose2d(256, 256, 2, 2), nn.ReLU(True), nn.Conv2d(256, 80, 1),
            )
            for _ in range(stages if masks else 0)
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = self.neck(self.body(images))
        loss: Any = torch.zeros((), device=images.device)
        for level in levels:
            hidden = functional.relu(self.rpn(level))
            scores = self.score(hidden)
            loss = (
                loss
                + functional.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores))
                + self.delta(hidden).mean()
            )
        for head in self.boxes:
            features = head(_crops(levels[0], len(images) * 512, 7).flatten(1))
            labels = torch.zeros(len(features), dtype=torch.long, device=features.device)
            loss = loss + functional.cross_entropy(features[:, :81], labels) + features[:, 81:].mean()
        for head in self.masks:
            shapes = head(_crops(levels[0], len(images) * 128, 14))
            loss = loss + functional.binary_cross_entropy_with_logits(shapes, torch.zeros_like(shapes))
        total: torch.Tensor = loss
        return total


def _crops(level: torch.Tensor, rois: int, size: int) -> torch.Tensor:
    """Return `rois` crops of a map, by a gather that writes as many bytes as RoIAlign."""
    flat = level.flatten(2).transpose(1, 2).reshape(-1, level.shape[1])
    where = torch.zeros(rois * size * size, dtype=torch.long, device=level.device)
    return flat[where].view(rois, size, size, -1).permute(0, 3, 1, 2).contiguous()


class _OneStage(nn.Module):
    """
    A one-stage detector: two towers of convolutions over five maps, then classes and boxes; returns its loss.

    Args:
        body: the backbone.
        towers: convolutions of each tower; 0: one convolution for both, as in a proposal network.
        anchors: of a pixel.
        normal: whether the towers have group normalisation.
    """

    def __init__(self, body: nn.Module, *, towers: int, anchors: int, normal: bool) -> None:
        super().__init__()
        self.body, self.neck = body, Neck(body.widths, first=1 if towers else 0)  # type: ignore[arg-type]

        def tower() -> nn.Sequential:
            layers: list[nn.Module] = []
            for _ in range(max(towers, 1)):
                norm = [nn.GroupNorm(32, 256)] if normal else []
                layers += [nn.Conv2d(256, 256, 3, padding=1, bias=not normal), *norm, nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        classes = 80 if towers else 1
        self.kinds, self.places = tower(), tower() if towers else nn.Identity()
        self.classes, self.boxes = (
            nn.Conv2d(256, anchors * classes, 3, padding=1),
            nn.Conv2d(256, anchors * 4, 3, padding=1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores, boxes = [], []
        for level in self.neck(self.body(images)):
            scores.append(self.classes(self.kinds(level)).flatten(1))
            boxes.append(self.boxes(self.places(level)).flatten(1))
        found, places = torch.cat(scores, 1), torch.cat(boxes, 1)
        chance = found.sigmoid()
        focal: torch.Tensor = functional.binary_cross_entropy_with_logits(
            found, torch.zeros_like(found), reduction="none"
        ) * chance.pow(2)
        return focal.sum() + functional.smooth_l1_loss(places, torch.zeros_like(places))


class _Segmenter(nn.Module):
    """
    A segmentation network with an auxiliary head on its third map; returns its loss, at the size of the images.

    Args:
        body: the backbone.
        head: "fcn", "psp", "aspp", "sep-aspp" (DeepLabv3+), "upernet" or "fpn".
        classes: of a pixel.
    """

    def __init__(self, body: nn.Module, head: str, classes: int) -> None:
        super().__init__()
        widths: Any = body.widths
        top = widths[-1]
        self.body, self.head = body, head
        self.helper = (
            None if head == "fpn" else nn.Sequential(_make_unit(widths[2], 256), nn.Conv2d(256, classes, 1))
        )
        wide = 256 if head == "fpn" else 512
        if head == "fcn":
            self.parts = nn.ModuleList((_make_unit(top, 512), _make_unit(512, 512)))
        elif head in ("psp", "upernet"):
            self.parts = nn.ModuleList(_make_unit(top, 512, 1) for _ in range(4))
        elif head == "aspp":
            self.parts = nn.ModuleList(_make_unit(top, 512, 3 if d > 1 else 1, d) for d in (1, 12, 24, 36))
        elif head == "sep-aspp":
            wider = (_separable(top, 512, d) for d in (12, 24, 36))
            self.parts = nn.ModuleList((_make_unit(top, 512, 1), *wider))
            self.low, self.fine = (
                _make_unit(widths[0], 48, 1),
                nn.Sequential(_separable(560, 512), _separable(512, 512)),
            )
        self.merge = _make_unit(
            top + 512 if head == "fcn" else top + 2048 if head in ("psp", "upernet") else 2048, 512
        )
        if head in ("upernet", "fpn"):
            self.lateral = nn.ModuleList(
                _make_unit(w, wide, 1) for w in (widths[:-1] if head == "upernet" else widths)
            )
            self.smooth = nn.ModuleList(_make_unit(wide, wide) for _ in range(3 if head == "upernet" else 4))
            self.join = _make_unit(4 * wide, wide) if head == "upernet" else nn.Identity()
        self.classes = nn.Conv2d(wide, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)
        loss: Any = pixel_loss(self.classes(self._mix(maps)), images)
        if self.helper is not None:
            loss = loss + 0.4 * pixel_loss(self.helper(maps[2]), images)
        total: torch.Tensor = loss
        return total

    def _mix(self, maps: list[torch.Tensor]) -> torch.Tensor:
        x, size = maps[-1], maps[-1].shape[-2:]
        if self.head == "fpn":
            return self._join([lateral(y) for lateral, y in zip(self.lateral, maps, strict=True)])
        if self.head == "fcn":
            return self.merge(torch.cat((x, self.parts[1](self.parts[0](x))), 1))  # type: ignore[no-any-return]
        if self.head.endswith("aspp"):
            top: torch.Tensor = self.merge(torch.cat([part(x) for part in self.parts], 1))
            if self.head == "aspp":
                return top
            top = functional.interpolate(top, size=maps[0].shape[-2:], mode="bilinear")
            return self.fine(torch.cat((top, self.low(maps[0])), 1))  # type: ignore[no-any-return]
        pooled = [
            functional.interpolate(part(functional.adaptive_avg_pool2d(x, n)), size=size, mode="bilinear")
            for part, n in zip(self.parts, (1, 2, 3, 6), strict=True)
        ]
        top = self.merge(torch.cat((x, *pooled), 1))
        if self.head == "psp":
            return top
        return self._join([*(lateral(y) for lateral, y in zip(self.lateral, maps[:-1], strict=True)), top])

    def _join(self, sides: list[torch.Tensor]) -> torch.Tensor:
        for i in range(3, 0, -1):
            sides[i - 1] = sides[i - 1] + functional.interpolate(
                sides[i], size=sides[i - 1].shape[-2:], mode="bilinear"
            )
        smooth = [layer(x) for layer, x in zip(self.smooth, sides, strict=False)] + sides[len(self.smooth) :]
        largest = smooth[0].shape[-2:]
        same = [smooth[0], *(functional.interpolate(x, size=largest, mode="bilinear") for x in smooth[1:])]
        if self.head == "fpn":
            total: torch.Tensor = same[0]
            for x in same[1:]:
                total = total + x
            return total
        joined: torch.Tensor = self.join(torch.cat(same, 1))
        return joined
