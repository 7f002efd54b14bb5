"""
Two-stage detectors of OpenMMLab's zoo with another backbone, neck or data set than R-CNN with a pyramid on COCO.

Attention in the last two stages ("attention_1111", "attention_0010"), convolutions of two dilations ("sac"), a pyramid
that is fed back into a second backbone ("rfp", both in "detectors"), and the 2-D half of ImVoteNet. Sizes are those of
open-mmlab/mmdetection (`configs/empirical_attention`, `configs/detectors`) and open-mmlab/mmdetection3d
(`configs/imvotenet`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.backbones_and_heads import RCnn
from trainfare_research.workloads.openmmlab.early_torch import KeptScores
from trainfare_research.workloads.openmmlab.rcnn import HybridRCnn, Parts, Standard
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_PIXELS, _ROOM_PIXELS = (800, 1344), (608, 832)
"""Height and width of the images: of COCO, and the greatest of SUN RGB-D."""
_ROOM_CLASSES = 10
_HYBRID = Parts(norm="", standard=False, masks=True, proposing=1, hybrid=True, offsets=0)
_TASKS = ("openmmlab-detection", "openmmlab-3d")


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these detectors; None for others."""
    name = row["model"].lower()
    detector_parts = _make_detector(name) if row["task"] in _TASKS else None
    if detector_parts is None:
        return None
    key, build, (height, width) = detector_parts
    network = Network(f"mmdet.{key}", build, lambda batch: (torch.empty(batch, 3, height, width),))
    return step_job(row, network, optimizer_of(row, "sgd"))


def _make_detector(name: str) -> tuple[str, Callable[[], nn.Module], tuple[int, int]] | None:
    """Return what tells a detector from others, its builder and the size of its images."""
    attention = re.match(r"faster[-_]rcnn_r50_fpn_attention_(1111|0010)_", name)
    if attention:
        everything = attention[1] == "1111"
        return (
            f"attention.{everything}",
            lambda: _make_plain(_make_attended(everything=everything), 1),
            _PIXELS,
        )
    if name.startswith("imvotenet_faster_rcnn_r50_fpn_"):
        return "imvotenet", lambda: _make_plain(_body(_ROOM_PIXELS), 1, _ROOM_CLASSES), _ROOM_PIXELS
    recursive = re.match(r"(cascade[-_]rcnn|htc|detectors_htc)[-_]r50[-_](rfp_|sac_)?1x", name)
    if recursive:
        both = name.startswith("detectors")
        fed, switched = both or recursive[2] == "rfp_", both or recursive[2] == "sac_"
        hybrid = "htc" in recursive[1]
        if fed or switched:
            return (
                f"detectors.{hybrid}.{fed}.{switched}",
                lambda: _recursive(hybrid=hybrid, fed=fed, switched=switched), _PIXELS,
            )  # fmt: skip
    return None


def _body(pixels: tuple[int, int] = _PIXELS) -> Any:
    """Return a ResNet-50 whose first stage is frozen."""
    backbone = backbone_of("r50", pixels, frozen=True)
    if isinstance(backbone, str):
        raise TypeError(backbone)
    return backbone.build()


def _make_plain(body: nn.Module, stages: int, classes: int = 80) -> nn.Module:
    """Return R-CNN with a pyramid and so many box heads, without masks."""
    net = RCnn(body, stages, masks=False)
    heads: Any = net.boxes
    for head in heads:
        head[-1] = nn.Linear(1024, classes + 1 + 4 * classes)
    return net


def _make_attended(*, everything: bool) -> nn.Module:
    """Return a ResNet-50 with attention behind the second convolution of the blocks of its last two stages."""
    body = _body()
    for stage in body.stages[2:]:
        for block in stage:
            block.conv3 = nn.Sequential(
                BlockAttention(block.conv3.in_channels, everything=everything), block.conv3
            )
    return body  # type: ignore[no-any-return]


class BlockAttention(nn.Module):
    """
    Attention of all pixels to every second one in eight heads.

    Args:
        wide: channels.
        everything: by content and relative position of both pixels; False: by the content of the second alone.
    """

    heads = 8

    def __init__(self, wide: int, *, everything: bool) -> None:
        super().__init__()
        self.everything = everything
        self.query = nn.Conv2d(wide, wide, 1, bias=False) if everything else None
        self.key, self.value = (nn.Conv2d(wide, wide, 1, bias=False) for _ in range(2))
        self.across, self.down = (nn.Linear(wide // 2, wide, bias=False) for _ in range(2))
        self.bias, self.place = (
            nn.Parameter(torch.zeros(1, self.heads, 1, wide // self.heads)) for _ in range(2)
        )
        self.last, self.gamma, self.kept = (
            nn.Conv2d(wide, wide, 1),
            nn.Parameter(torch.zeros(1)),
            KeptScores(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        few = functional.avg_pool2d(x, 1, 2)
        keys = self.key(few).flatten(2).unflatten(1, (self.heads, -1))
        values = self.value(few).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        if self.query is None:
            scores = self.bias.expand(len(x), -1, -1, -1) @ keys
            attended: torch.Tensor = self.last((scores.softmax(3) @ values).flatten(1)[:, :, None, None])
            return self.gamma * attended + x
        query = self.query(x).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        sizes = (*x.shape[-2:], *few.shape[-2:])
        scores = ((query + self.bias) @ keys).unflatten(3, sizes[2:]).unflatten(2, sizes[:2])
        placed = (query + self.place).unflatten(2, sizes[:2])
        down, across = (
            layer(x.new_zeros(here, there, layer.in_features))
            .unflatten(2, (self.heads, -1))
            .permute(2, 0, 3, 1)
            for layer, here, there in ((self.down, *sizes[::2]), (self.across, *sizes[1::2]))
        )
        scores = scores + (
            (placed @ down).unsqueeze(5) + (placed.transpose(2, 3) @ across).transpose(2, 3).unsqueeze(4)
        )
        weights = self.kept(scores.flatten(4).flatten(2, 3).softmax(3))
        context = (weights @ values).transpose(2, 3).flatten(1, 2).unflatten(2, sizes[:2])
        last: torch.Tensor = self.last(context.contiguous())
        return self.gamma * last + x


class _Switched(nn.Module):
    """A convolution with two dilations, chosen between at each pixel."""

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__()
        wide, stride = like.in_channels, like.stride[0]
        self.near = nn.Conv2d(wide, wide, 3, stride, 1, bias=False)
        self.far = nn.Conv2d(wide, wide, 3, stride, 3, 3, bias=False)
        self.before, self.after = (nn.Conv2d(wide, wide, 1) for _ in range(2))
        self.switch = nn.Conv2d(wide, 1, 1, stride)
        self.moves = nn.ModuleList(nn.Conv2d(wide, 18, 3, stride, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.before(functional.adaptive_avg_pool2d(x, 1)).expand_as(x)
        around = functional.avg_pool2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), 5, 1)
        switch, (near, far) = self.switch(around), (move(around).mean() for move in self.moves)
        y: torch.Tensor = switch * (self.near(x) + near) + (1 - switch) * (self.far(x) + far)
        mean: torch.Tensor = self.after(functional.adaptive_avg_pool2d(y, 1))
        return y + mean.expand_as(y)


def _detectors_body(*, switched: bool) -> Any:
    """Return a ResNet-50 with standardised weights and, where `switched`, convolutions of two dilations."""
    body = _body()
    if switched:
        for stage in body.stages[1:]:
            for block in stage:
                block.conv2 = _Switched(block.conv2)
    for layer in list(body.modules()):
        if isinstance(layer, nn.Conv2d) and layer.bias is None:
            parametrize.register_parametrization(layer, "weight", Standard(), unsafe=True)
    return body


class _Kept(nn.Module):
    """A backbone that returns the images behind its maps, for the neck."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body, self.widths = body, body.widths

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [*self.body(images), images]


class _Fed(nn.Module):
    """
    A pyramid whose maps go into a second backbone, whose maps go into the same pyramid again.

    Args:
        neck: the pyramid: takes a list of maps, or a dict of them by their number.
        body: the second backbone.
        named: whether the pyramid takes a dict.
    """

    def __init__(self, neck: nn.Module, body: Any, *, named: bool) -> None:
        super().__init__()
        self.neck, self.body, self.named = neck, body, named
        self.parts = nn.ModuleList(nn.Conv2d(256, 64, 3, padding=d, dilation=d) for d in (3, 6))
        self.plain, self.mean = (nn.Conv2d(256, 64, 1) for _ in range(2))
        self.back = nn.ModuleList(nn.Conv2d(256, wide, 1) for wide in body.widths[1:])
        self.weigh = nn.Conv2d(256, 1, 1)

    def forward(self, given: Any) -> Any:
        *maps, images = list(given.values()) if self.named else given
        levels = self._pyramid(maps)
        levels_pooled = [self._pool(level) for level in levels[1:]]
        x = self.body.stages[0](images)
        again = [x]
        for stage, layer, feature in zip(self.body.stages[1:], self.back, levels_pooled, strict=False):
            x = _run_first(stage[0], x, layer(feature))
            for block in stage[1:]:
                x = block(x)
            again.append(x)
        chosen = []
        for new, old in zip(self._pyramid(again), levels, strict=True):
            share = self.weigh(new).sigmoid()
            chosen.append(share * new + (1 - share) * old)
        return {str(i): x for i, x in enumerate(chosen)} if self.named else chosen

    def _pyramid(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        maps_by_name = self.neck({str(i): x for i, x in enumerate(maps)} if self.named else maps)
        return list(maps_by_name.values()) if self.named else maps_by_name

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        mean = functional.relu(self.mean(functional.adaptive_avg_pool2d(x, 1)))
        near = [functional.relu(layer(x)) for layer in (self.plain, *self.parts)]
        return torch.cat((*near, mean.expand_as(near[0])), 1)


def _run_first(block: Any, x: torch.Tensor, levels_pooled: torch.Tensor) -> torch.Tensor:
    """Return the output of a stage's first block with what the pyramid told added to it."""
    y = block.relu(block.bn1(block.conv1(x)))
    y = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(y)))))
    return functional.relu(y + block.downsample(x) + levels_pooled)


def _recursive(*, hybrid: bool, fed: bool, switched: bool) -> nn.Module:
    """Return a cascade, or a hybrid task cascade, on such a backbone and, where `fed`, such a pyramid."""
    body = _detectors_body(switched=switched)
    first = _Kept(body) if fed else body
    net: Any = HybridRCnn(first, _HYBRID) if hybrid else RCnn(first, 3, masks=False)
    if fed:
        net.neck = _Fed(net.neck, _detectors_body(switched=switched), named=hybrid)
    return net  # type: ignore[no-any-return]
