"""
Two-stage detectors of OpenMMLab's zoo whose blocks differ from those of R-CNN with a pyramid.

Normalised everywhere ("gn-all", "gn-ws-all", "syncbn-all"), with a hybrid task cascade ("htc") or with crops whose
places are learned ("dpool", "mdpool"). Sizes are those of open-mmlab/mmdetection (`configs/gn`, `configs/gn+ws`,
`configs/simple_copy_paste`, `configs/htc`, `configs/dcn`). Images have 800 x 1,344 pixels, or 1,024 x 1,024 where
their scale is jittered ("ssj"); an image has 512 proposals, of which 128 have masks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.early_torch import UnfusedGroupNorm
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_PIXELS, _JITTERED_PIXELS = (800, 1344), (1024, 1024)
_PROPOSALS, _WITH_MASKS = 512, 128
"""Of an image, in training."""
_STUFF = 183
"""Classes of a pixel of HTC's semantic branch."""
_NORMALISED = re.compile(r"(gn|syncbn)(?:[-_](ws))?-all")
_NAMES = re.compile(r"(faster|mask)[-_]rcnn|htc[-_]")


@dataclass(frozen=True)
class Parts:
    """
    What a configuration changes.

    Attributes:
        norm: "gn" or "bn" on every layer of pyramid and heads, of which the box head has four more; "": none.
        standard: whether the weights of convolutions are standardised.
        masks: whether masks are predicted.
        proposing: convolutions of the proposal network.
        hybrid: whether the heads are a hybrid task cascade.
        offsets: networks that learn the places of a crop: 1 ("dpool") or, with their weights, 2 ("mdpool").
    """

    norm: str
    standard: bool
    masks: bool
    proposing: int
    hybrid: bool
    offsets: int


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these detectors; None for others."""
    name = row["model"].lower()
    if row["task"] != "openmmlab-detection" or not _NAMES.match(name) or re.search("rfp|nuim", name):
        return None
    normalised, hybrid = _NORMALISED.search(name), name.startswith("htc")
    offsets = 2 if "mdpool" in name else 1 if "dpool" in name else 0
    if not (normalised or hybrid or offsets):
        return None
    jittered = "ssj" in name
    pixels = _JITTERED_PIXELS if jittered else _PIXELS
    backbone = backbone_of(name, pixels, frozen=not jittered)
    if isinstance(backbone, str):
        return backbone
    norm = "" if normalised is None else "gn" if normalised[1] == "gn" else "bn"
    parts = Parts(
        norm, bool(normalised and normalised[2]), hybrid or "mask" in name, 2 if "rpn-2conv" in name else 1,
        hybrid, offsets,
    )  # fmt: skip
    network = Network(
        f"mmdet.{backbone.key}.{parts!r}.{pixels}", lambda: _standardise(HybridRCnn(backbone.build(), parts), parts),
        _images(*pixels),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "sgd"))


def _images(height: int, width: int) -> Callable[[int], tuple[torch.Tensor, ...]]:
    return lambda batch: (torch.empty(batch, 3, height, width),)


class Standard(nn.Module):
    """A weight whose filters have mean 0 and deviation 1."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        flat = weight.flatten(1)
        centred = flat - flat.mean(1, keepdim=True)
        return (centred / (flat.std(1, keepdim=True) + 1e-5)).view_as(weight)


def _standardise(net: nn.Module, parts: Parts) -> nn.Module:
    """Return the network with standardised weights in every convolution that is followed by a normalisation."""
    if parts.standard:
        for layer in list(net.modules()):
            if isinstance(layer, nn.Conv2d) and layer.bias is None:
                parametrize.register_parametrization(layer, "weight", Standard(), unsafe=True)
    return net


class _Offsets(nn.Module):
    """Crops at learned places: a plain crop, three layers that move its bins, and a second crop."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.moves = nn.ModuleList(
            nn.Sequential(
                nn.Linear(256 * 49, 1024), nn.ReLU(True), nn.Linear(1024, 1024), nn.ReLU(True), nn.Linear(1024, out)
            )
            for out in (2 * 49, 49)[:count]
        )  # fmt: skip

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return torch.stack([move(crops.flatten(1)).mean() for move in self.moves]).sum()


class HybridRCnn(nn.Module):
    """
    R-CNN with a pyramid; returns its loss.

    Args:
        body: the backbone.
        parts: what the configuration changes.
    """

    def __init__(self, body: nn.Module, parts: Parts) -> None:
        super().__init__()
        widths: Any = body.widths
        norms: dict[str, Callable[..., nn.Module]] = {"gn": UnfusedGroupNorm, "bn": nn.BatchNorm2d}
        norm = norms.get(parts.norm)
        self.body, self.hybrid = body, parts.hybrid
        self.neck = FeaturePyramidNetwork(list(widths), 256, LastLevelMaxPool(), norm)
        self.rpn = RPNHead(256, 3, parts.proposing)
        stages = 3 if parts.hybrid else 1
        convolutions, layers = ([256] * 4, [1024]) if norm else ([], [1024, 1024])
        self.boxes = nn.ModuleList(
            nn.Sequential(FastRCNNConvFCHead((256, 7, 7), convolutions, layers, norm), FastRCNNPredictor(1024, 81))
            for _ in range(stages)
        )  # fmt: skip
        masks = range(stages if parts.masks else 0)
        self.masks = nn.ModuleList(MaskRCNNHeads(256, [256] * 4, 1, norm) for _ in masks)
        self.shapes = nn.ModuleList(MaskRCNNPredictor(256, 256, 80) for _ in masks)
        self.flow = nn.ModuleList(nn.Conv2d(256, 256, 1) for _ in range(stages - 1))
        # A crop of each of the four maps has layers of its own.
        self.offsets = nn.ModuleList(_Offsets(parts.offsets) for _ in range(4 if parts.offsets else 0))
        side = [nn.Sequential(nn.Conv2d(256, 256, 1), nn.ReLU(True)) for _ in range(5)]
        self.side = nn.ModuleList(side if parts.hybrid else [])
        self.pixel = MaskRCNNHeads(256, [256] * 4, 1) if parts.hybrid else None
        self.stuff, self.context = nn.Conv2d(256, _STUFF, 1), nn.Conv2d(256, 256, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        levels = list(self.neck({str(i): x for i, x in enumerate(self.body(images))}).values())
        scores, places = self.rpn(levels)
        loss: Any = sum(
            functional.binary_cross_entropy_with_logits(s, torch.zeros_like(s)) + p.mean()
            for s, p in zip(scores, places, strict=True)
        )
        context = None
        if self.pixel is not None:
            hidden = self._semantic(levels, self.pixel)
            stuff = self.stuff(hidden)
            loss = loss + functional.cross_entropy(stuff, torch.zeros_like(stuff[:, 0], dtype=torch.long))
            context = self.context(hidden)
        boxes, masks = len(images) * _PROPOSALS, len(images) * _WITH_MASKS
        for stage, head in enumerate(self.boxes):
            crops = crops_of(levels[0], boxes, 7)
            for offsets in self.offsets:
                loss = loss + offsets(crops_of(levels[0], boxes // 4, 7))
            if context is not None:
                crops = crops + functional.adaptive_avg_pool2d(crops_of(context, boxes, 14), 7)
            kinds, deltas = head(crops)
            labels = torch.zeros(len(kinds), dtype=torch.long, device=kinds.device)
            loss = loss + functional.cross_entropy(kinds, labels) + deltas.mean()
            if len(self.masks):
                loss = loss + self._mask_loss(levels[0], context, masks, stage)
        total: torch.Tensor = loss
        return total

    def _semantic(self, levels: list[torch.Tensor], pixel: nn.Module) -> torch.Tensor:
        """Return the map of stride 8 of all levels together."""
        size = levels[1].shape[-2:]
        total: Any = 0
        for side, level in zip(self.side, levels, strict=True):
            total = total + side(functional.interpolate(level, size=size, mode="bilinear"))
        total_map: torch.Tensor = pixel(total)
        return total_map

    def _mask_loss(
        self, level: torch.Tensor, context: torch.Tensor | None, count: int, stage: int
    ) -> torch.Tensor:
        crops = crops_of(level, count, 14)
        if context is not None:
            crops = crops + crops_of(context, count, 14)
        features = self.masks[0](crops)
        for i in range(stage):  # a stage of the cascade runs those before it again
            features = self.masks[i + 1](crops + self.flow[i](features))
        shapes = self.shapes[stage](features)
        return functional.binary_cross_entropy_with_logits(shapes, torch.zeros_like(shapes))


def crops_of(level: torch.Tensor, count: int, size: int) -> torch.Tensor:
    """Return `count` crops of a map, by a gather that writes as many bytes as RoIAlign."""
    flat = level.flatten(2).transpose(1, 2).reshape(-1, level.shape[1])
    where = torch.zeros(count * size * size, dtype=torch.long, device=level.device)
    return flat[where].view(count, size, size, -1).permute(0, 3, 1, 2).contiguous()
