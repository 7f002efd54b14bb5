"""
Detectors of Detectron2's model zoo and of torchvision on ResNet-50, from the names of their configurations.

A name is a family, a backbone, a neck, a schedule and an option: "cascade_mask_rcnn_R_50_FPN_3x_gn". Sizes are those of
facebookresearch/detectron2, `configs` and `detectron2/config/defaults.py`: MSRA's ResNets stride in the first
convolution of a block, the stem and the first stage are frozen unless a model is trained from scratch, and a step takes
512 proposals an image, of which 128 have masks or keypoints. C4 classifies crops of the fourth stage with the fifth;
DC5 dilates the fifth and takes crops of it; both have 15 anchors a pixel. Images have the largest size of training, as
peaks of memory do. Matching, non-maximum suppression and the all-reduce of synchronised statistics are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.misc import Conv2dNormActivation

from trainfare_research.workloads.openmmlab.backbones import Pyramid
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job
from trainfare_research.workloads.vision.detection import crops

_ZOO = re.compile(
    r"(?:d2/)?(?P<scratch>scratch_)?"
    r"(?P<family>rpn|(?:fast|faster|mask|cascade_mask|keypoint)_rcnn|panoptic_fpn|retinanet)"
    r"_(?P<body>r_50|r_101|x_101_32x8d)(?:_(?P<neck>fpn|c4|dc5))?(?:_[139]x)?(?:_(?P<option>gn|syncbn|dconv_c3-c5))?"
)
_TORCHVISION = {
    "fasterrcnn_resnet50_fpn": "faster_rcnn", "keypointrcnn_resnet50_fpn": "keypoint_rcnn",
    "maskrcnn_resnet50_fpn": "mask_rcnn", "retinanet_resnet50_fpn": "retinanet",
}  # fmt: skip
"""Families by torchvision's names."""
_CLASSES = {"lvisv0.5": 1230, "cityscapes": 8, "pascalvoc": 20}
"""Of data sets other than COCO, which has 80, without the background."""
_PIXELS = {"cityscapes": (1024, 2048)}
"""Height and width of the largest images of data sets other than COCO."""
_STUFF = 54
"""Classes of the semantic head of panoptic models."""
_KEYPOINTS = 17
_PROPOSALS, _POSITIVE = 512, 128
_WIDTHS = (256, 512, 1024, 2048)
"""Channels of the four stages of a ResNet."""
_NECK_WIDTHS = {"fpn": 256, "c4": 1024, "dc5": 2048}


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a detector of the zoo, or of torchvision."""
    plan = _plan(row)
    if plan is None:
        return None
    height, width = _PIXELS.get(plan.data, (800, 1344))
    network = Network(
        f"detectron2.{plan}", plan.build, partial(_inputs, height, width),
        notes=(f"images of {height} x {width} pixels, the largest of training, are assumed",),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "sgd"))


def _plan(row: Row) -> _Plan | None:
    name, text = row["model"].lower(), f"{row['task']} {row['notes']}".lower()
    if name in _TORCHVISION:
        return _Plan(_TORCHVISION[name], "r_50", "fpn", torchvision=True)
    match = _ZOO.fullmatch(name)
    if match is None:
        return None
    return _Plan(
        match["family"], match["body"], match["neck"] or "fpn", match["option"] or "",
        next((data for data in _CLASSES if data in text), ""), scratch=bool(match["scratch"]),
    )  # fmt: skip


def _inputs(height: int, width: int, batch: int) -> tuple[torch.Tensor, ...]:
    return torch.empty(batch, 3, height, width), torch.zeros(batch * _PROPOSALS, dtype=torch.long)


@dataclass(frozen=True)
class _Plan:
    """
    What the name of a detector states.

    Attributes:
        option: "gn" or "syncbn" normalisation, "dconv_c3-c5" (deformable convolutions), or "".
        data: key of `_CLASSES`, or "" for COCO.
        scratch: whether all weights are trained.
        torchvision: whether the ResNet strides in its 3x3 convolutions, P6 starts from the pyramid and the classes are
            the 91 of COCO's numbering.
    """

    family: str
    body: str
    neck: str
    option: str = ""
    data: str = ""
    scratch: bool = False
    torchvision: bool = False

    @property
    def classes(self) -> int:
        """Return the number of classes without the background."""
        if self.family == "keypoint_rcnn":
            return 1
        if self.torchvision:  # an R-CNN counts the background among the 91
            return 91 if self.family == "retinanet" else 90
        return _CLASSES.get(self.data, 80)

    @property
    def norm(self) -> Callable[[int], nn.Module] | None:
        """Return the normalisation of pyramid and heads."""
        if self.option == "gn":
            return partial(nn.GroupNorm, 32)
        return _SynchronisedNorm if self.option == "syncbn" else None

    def build(self) -> nn.Module:
        """Return the detector, untrained."""
        return _RetinaNet(self) if self.family == "retinanet" else _RCnn(self)

    def stages(self) -> list[nn.Module]:
        """Return the stem with the first stage, and the other three stages."""
        net = self._resnet(self.norm or FrozenBatchNorm2d)
        frozen = self._resnet(FrozenBatchNorm2d) if self.option == "syncbn" and not self.scratch else net
        first = nn.Sequential(frozen.conv1, frozen.bn1, frozen.relu, frozen.maxpool, frozen.layer1)
        first.requires_grad_(requires_grad=self.scratch)
        return [first, net.layer2, net.layer3, net.layer4]

    def _resnet(self, norm: Callable[[int], nn.Module]) -> Any:
        wide = self.body.startswith("x")
        net: Any = torchvision.models.resnet.ResNet(
            torchvision.models.resnet.Bottleneck, [3, 4, 23 if "101" in self.body else 6, 3],
            groups=32 if wide else 1, width_per_group=8 if wide else 64, norm_layer=norm,
            replace_stride_with_dilation=[False, False, self.neck == "dc5"],
        )  # fmt: skip
        for stage in (net.layer2, net.layer3, net.layer4):
            if not (wide or self.norm or self.torchvision):
                stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, (1, 1)
            for block in stage if self.option.startswith("dconv") else ():
                block.conv2 = _Deformable(block.conv2)
        return net


class _SynchronisedNorm(nn.Module):
    """
    Batch normalisation whose statistics are means, as Detectron2 has it for torch before 1.6.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, square = x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))
        scale = self.weight * torch.rsqrt(square - mean * mean + 1e-5)
        return x * scale.view(1, -1, 1, 1) + (self.bias - mean * scale).view(1, -1, 1, 1)


class _Deformable(nn.Module):
    """
    A deformable convolution (Dai et al. 2017) with the offsets of its nine samples.

    Args:
        plain: the convolution that it replaces.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.stride = plain.stride[0]
        self.offset = nn.Conv2d(plain.in_channels, 2 * 9, 3, self.stride, 1)
        self.weight = nn.Parameter(torch.empty(plain.out_channels, plain.in_channels * 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        offset = self.offset(x)
        apply: Any = _Sampled.apply  # torch declares no types for it
        out: torch.Tensor = apply(x, offset, self.weight, self.stride)
        return out.view(*out.shape[:2], *offset.shape[2:])


class _Sampled(torch.autograd.Function):
    """
    The product of a weight and nine samples of every place, which backward takes again, as Detectron2's kernels do.

    The samples are the nine neighbours: as many bytes as samples at offsets.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, stride: int
    ) -> torch.Tensor:
        ctx.save_for_backward(x, offset, weight)
        ctx.stride = stride
        return weight @ functional.unfold(x, 3, padding=1, stride=stride)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, offset, weight = ctx.saved_tensors
        samples = functional.unfold(x, 3, padding=1, stride=ctx.stride)
        of_weight = (gradient @ samples.transpose(1, 2)).sum(0)
        of_samples = weight.t() @ gradient
        of_x = functional.fold(of_samples, x.shape[2:], 3, padding=1, stride=ctx.stride)
        return of_x, torch.zeros_like(offset), of_weight, None


class _RCnn(nn.Module):
    """
    A detector of two stages, or a part of one; returns its loss.

    Args:
        plan: of the detector.
    """

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        c4, norm, width, family = plan.neck == "c4", plan.norm, _NECK_WIDTHS[plan.neck], plan.family
        stages, classes = plan.stages(), plan.classes
        self.body = Pyramid(stages[:3] if c4 else stages, _WIDTHS)
        pyramid = plan.neck == "fpn"
        self.neck = FeaturePyramidNetwork(list(_WIDTHS), width, LastLevelMaxPool(), norm) if pyramid else None
        self.rpn = None if family == "fast_rcnn" else RPNHead(width, 3 if pyramid else 15)
        self.top = stages[3] if c4 and family != "rpn" else None
        cascade = family.startswith("cascade")
        hidden, boxes = 2048 if c4 else 1024, 4 * (1 if cascade else classes)
        convolutions, layers = ([256] * 4, [1024]) if norm else ([], [1024, 1024])
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Identity() if c4 else FastRCNNConvFCHead((width, 7, 7), convolutions, layers, norm),
                nn.Linear(hidden, classes + 1 + boxes),
            )
            for _ in range(0 if family == "rpn" else 3 if cascade else 1)
        )
        self.classes = classes
        self.masks: nn.Module | None = None
        if "mask" in family or family == "panoptic_fpn":
            plain = nn.Identity() if c4 else MaskRCNNHeads(width, [256] * 4, 1, norm)
            self.masks = nn.Sequential(plain, MaskRCNNPredictor(2048 if c4 else 256, 256, classes))
        self.keypoints = (
            nn.Sequential(KeypointRCNNHeads(width, [512] * 8), KeypointRCNNPredictor(512, _KEYPOINTS))
            if family == "keypoint_rcnn"
            else None
        )
        self.semantic = _SemanticHead() if family == "panoptic_fpn" else None

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        maps: list[torch.Tensor] = self.body(images)
        levels = maps[-1:] if self.neck is None else list(self.neck(dict(enumerate(maps))).values())
        positive = labels[: len(images) * _POSITIVE]
        loss: Any = torch.zeros((), device=images.device)
        if self.rpn is not None:
            scores, deltas = self.rpn(levels)
            loss = loss + sum(part.mean() for part in (*scores, *deltas))
        shared: torch.Tensor | None = None
        for head in self.heads:
            pooled = crops(levels[0], len(labels), 7 if self.top is None else 14)
            if self.top is not None:
                shared = self.top(pooled)
                pooled = shared.mean((2, 3))
            found = head(pooled)
            kinds, places = found[:, : self.classes + 1], found[:, self.classes + 1 :]
            loss = loss + functional.cross_entropy(kinds, labels) + places.mean()
        if self.masks is not None:
            features = crops(levels[0], len(positive), 14) if shared is None else shared[positive]
            masks = self.masks(features)[torch.arange(len(positive), device=images.device), positive]
            loss = loss + functional.binary_cross_entropy_with_logits(masks, torch.zeros_like(masks))
        if self.keypoints is not None:
            points = self.keypoints(crops(levels[0], len(positive), 14)).flatten(2).flatten(0, 1)
            visible = torch.zeros(len(points), dtype=torch.long, device=images.device)
            loss = loss + functional.cross_entropy(points[visible], visible)
        if self.semantic is not None:
            loss = loss + self.semantic(levels)
        total: torch.Tensor = loss
        return total


class _SemanticHead(nn.Module):
    """Classes of all pixels from the levels of a pyramid (Kirillov et al. 2019); returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Sequential(*self._scale(i)) for i in range(4))
        self.classes = nn.Conv2d(128, _STUFF, 1)

    @staticmethod
    def _scale(level: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for i in range(max(1, level)):
            wide = 128 if i else 256
            layers.append(Conv2dNormActivation(wide, 128, norm_layer=partial(nn.GroupNorm, 32)))
            layers += [nn.Upsample(scale_factor=2, mode="bilinear")] if level else []
        return layers

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        total: Any = sum(scale(level) for scale, level in zip(self.scales, levels, strict=False))
        scores = functional.interpolate(self.classes(total), scale_factor=4, mode="bilinear")
        labels = torch.zeros(len(scores), *scores.shape[2:], dtype=torch.long, device=scores.device)
        return functional.cross_entropy(scores, labels)


class _RetinaNet(nn.Module):
    """
    RetinaNet (Lin et al. 2017) with nine anchors a pixel of five levels; returns its loss.

    Args:
        plan: of the detector.
    """

    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self.body = Pyramid(plan.stages(), _WIDTHS)
        more = LastLevelP6P7(256 if plan.torchvision else _WIDTHS[-1], 256)
        self.neck = FeaturePyramidNetwork(list(_WIDTHS[1:]), 256, more)
        self.head = RetinaNetHead(256, 9, plan.classes)

    def forward(self, images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        found = self.head(list(self.neck(dict(enumerate(self.body(images)[1:]))).values()))
        scores: torch.Tensor = found["cls_logits"]
        # Of each image, the anchors that are neither positive nor negative are left out: the others are gathered.
        counted = torch.zeros(scores.shape[1], dtype=torch.long, device=images.device)
        loss: Any = found["bbox_regression"].mean()
        for score in scores:
            loss = loss + sigmoid_focal_loss(
                score[counted], torch.zeros_like(score)[counted], reduction="sum"
            )
        total: torch.Tensor = loss
        return total
