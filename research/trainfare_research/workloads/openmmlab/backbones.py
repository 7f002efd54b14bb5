"""Backbones that names of OpenMMLab's model zoos state ("r50", "x101-32x4d", "swin-t"), as pyramids of feature maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.ops import Conv2dNormActivation

from trainfare_research.workloads.openmmlab.early_torch import UnfusedGroupNorm, keeping_scores

_BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3), "101": (3, 4, 23, 3)}
"""Blocks of each stage, by depth."""
_DILATED = {"d8": (False, True, True), "d16": (False, False, True)}
"""Stages, from the second on, whose stride is replaced by dilation."""
_LAST_STRIDE = 32
"""Of a backbone whose strides are all there."""
_REGNETS = {
    "400mf": "004",
    "800mf": "008",
    "1.6gf": "016",
    "3.2gf": "032",
    "4gf": "040",
    "8gf": "080",
    "12gf": "120",
}
"""Names of timm, by FLOPs."""
_SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
_TWINS = {"s": "small", "b": "base", "l": "large"}
_TIMM: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"regnetx[-_](\d+(?:\.\d)?[mg]f)", lambda m: f"regnetx_{_REGNETS.get(m[1], m[1])}"),
    (r"(?<![a-z])hr(?:netv2p[-_]w)?(\d\d)(s?)(?![0-9])", lambda m: f"hrnet_w{m[1]}" + ("_small_v2" if m[2] else "")),
    (r"swin[-_](t|s|b|l)(?:iny|mall|ase|arge)?[-_]p", lambda m: f"swin_{_SIZES[m[1]]}_patch4_window7_224"),
    (r"swin[-_](t|s|b|l)(?:iny|mall|ase|arge)?(?![a-z])", lambda m: f"swin_{_SIZES[m[1]]}_patch4_window7_224"),
    (r"convnext[-_](t|s|b|l)", lambda m: f"convnext_{_SIZES[m[1]]}"),
    (r"pvtv2[-_]b(\d)", lambda m: f"pvt_v2_b{m[1]}"),
    (r"mobilenet[-_]?v2", lambda _: "mobilenetv2_100"),
    (r"res2net[-_]101|(?<![a-z0-9])r2[-_]101(?![0-9])", lambda _: "res2net101_26w_4s"),
    (r"(?<![a-z0-9])r2[-_]50(?![0-9])", lambda _: "res2net50_26w_4s"),
    (r"(?<![a-z0-9])s50(?![0-9])", lambda _: "resnest50d"),
    (r"(?<![a-z0-9])s101(?![0-9])", lambda _: "resnest101e"),
    (r"twins[-_](pcpvt|svt)[-_](s|b|l)", lambda m: f"twins_{m[1]}_{_TWINS[m[2]]}"),
    (r"(?<![a-z])mit-b(\d)", lambda m: f"pvt_v2_b{m[1]}"),
)  # fmt: skip
"""Pattern of a name, and the name of timm's model. SegFormer's MiT is PVTv2 with narrower layers (`_OPTIONS`)."""
_OPTIONS: dict[str, dict[str, Any]] = {"mit": {"mlp_ratios": (4, 4, 4, 4)}}
"""What a name changes in timm's model."""
_WITH_ATTENTION = re.compile("swin|pvt|twins")
_WIDE_WINDOW = re.compile(r"w12|384x384")
"""Swin trained on images of 384 pixels: its windows have 12 x 12 patches, not 7 x 7."""
_PLAIN = re.compile(r"vit_deit-(s|b)16|(beit|mae)-base")
"""Vision transformers of one resolution."""


class Pyramid(nn.Module):
    """
    A backbone that returns four feature maps; map i has `widths[i]` channels.

    Args:
        stages: the stem and first stage, then the other three; each takes the map of the one before.
        widths: channels of the four maps.
    """

    def __init__(self, stages: Sequence[nn.Module], widths: Sequence[int]) -> None:
        super().__init__()
        self.stages, self.widths = nn.ModuleList(stages), tuple(widths)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Features(nn.Module):
    """
    A pyramid of timm: models that put the channels last have them moved to the second place.

    Args:
        name: of timm's model.
        pixels: height and width of the images.
        stride: of the last map, from which on strides are replaced by dilation; 32: none is.
        more: options of the model.
    """

    def __init__(self, name: str, pixels: tuple[int, int], stride: int, more: dict[str, Any]) -> None:
        super().__init__()
        options: dict[str, Any] = {"img_size": pixels, **more} if name.startswith("swin") else {**more}
        if stride < _LAST_STRIDE:
            options["output_stride"] = stride
        body: Any = keeping_scores(timm.create_model(name, features_only=True, **options))
        self.body, self.widths = body, tuple(body.feature_info.channels()[-4:])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = self.body(x)[-4:]
        return [
            y if y.shape[1] == width else y.permute(0, 3, 1, 2).contiguous()
            for y, width in zip(maps, self.widths, strict=True)
        ]


class _Plain(nn.Module):
    """
    Four maps of a vision transformer of 12 blocks and one resolution, one after each third block.

    Args:
        name: of timm's model.
        pixels: height and width of the images.
        neck: what gives the maps the strides 4 to 32: "levels", two convolutions and a change of size between them;
            "learned", transposed convolutions and a pooling; "": nothing.
    """

    def __init__(self, name: str, pixels: tuple[int, int], neck: str) -> None:
        super().__init__()
        body: Any = keeping_scores(timm.create_model(name, img_size=pixels, num_classes=0))
        wide = int(body.embed_dim)
        self.body, self.widths, self.neck = body, (wide,) * 4, neck
        self.sides = nn.ModuleList(nn.Conv2d(wide, wide, 1) for _ in range(4 if neck == "levels" else 0))
        self.smooth = nn.ModuleList(nn.Conv2d(wide, wide, 3, padding=1) for _ in self.sides)
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(wide, wide, 2, 2) for _ in range(3 if neck == "learned" else 0)
        )
        self.between = nn.Sequential(nn.BatchNorm2d(wide), nn.GELU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = self.body.forward_intermediates(
            x, indices=[2, 5, 8, 11], output_fmt="NCHW", intermediates_only=True
        )
        if self.neck == "learned":
            first = self.grow[1](self.between(self.grow[0](maps[0])))
            return [first, self.grow[2](maps[1]), maps[2], functional.max_pool2d(maps[3], 2)]
        if self.neck == "levels":
            sides = [side(y) for side, y in zip(self.sides, maps, strict=True)]
            same = [
                functional.interpolate(y, scale_factor=scale, mode="bilinear")
                for y, scale in zip(sides, (4.0, 2.0, 1.0, 0.5), strict=True)
            ]
            return [smooth(y) for smooth, y in zip(self.smooth, same, strict=True)]
        return maps


class _Joined(nn.Module):
    """
    A pyramid whose last map is joined from three, at the stride of the second (FastFCN's joint upsampling).

    Args:
        body: the pyramid.
    """

    def __init__(self, body: Pyramid) -> None:
        super().__init__()
        self.body, self.widths = body, (*body.widths[:3], 4 * 512)
        self.sides = nn.ModuleList(Conv2dNormActivation(wide, 512) for wide in body.widths[1:])
        self.parts = nn.ModuleList(
            nn.Sequential(
                Conv2dNormActivation(3 * 512, 3 * 512, dilation=dilation, groups=3 * 512),
                Conv2dNormActivation(3 * 512, 512, 1),
            )
            for dilation in (1, 2, 4, 8)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = self.body(x)
        sides = [side(y) for side, y in zip(self.sides, maps[1:], strict=True)]
        size = sides[0].shape[-2:]
        same = [sides[0], *(functional.interpolate(y, size=size, mode="bilinear") for y in sides[1:])]
        joined = torch.cat(same, 1)
        return [*maps[:3], torch.cat([part(joined) for part in self.parts], 1)]


@dataclass(frozen=True)
class Backbone:
    """A backbone that a name states: `key` has everything that decides its trace."""

    key: str
    build: Callable[[], nn.Module]


def backbone_of(name: str, pixels: tuple[int, int], *, frozen: bool) -> Backbone | str:
    """
    Return the backbone that a name states, or why there is none.

    Args:
        name: of a configuration, in lower case.
        pixels: height and width of the images.
        frozen: whether the stem and the first stage of a ResNet are not trained, as in detectors.
    """
    matches = ((re.search(pattern, name), timm_name) for pattern, timm_name in _TIMM)
    model = next((timm_name(match) for match, timm_name in matches if match), None)
    if model is not None and model.startswith("swin") and _WIDE_WINDOW.search(name):
        model = model.replace("window7_224", "window12_384")
    plain = _PLAIN.search(name)
    if plain is not None:
        kind = {"beit": "beit_base", "mae": "vit_base"}.get(plain[2] or "") or f"deit_{_SIZES[plain[1]]}"
        neck = "learned" if plain[2] else "levels" if "mln" in name else ""
        return Backbone(f"{kind}.{neck}", partial(_Plain, f"{kind}_patch16_224", pixels, neck))
    if model is not None:
        more = next((options for key, options in _OPTIONS.items() if f"{key}-" in name), {})
        dilated = re.search(r"-d(8|16)(?![0-9])", name)
        stride = int(dilated[1]) if dilated and model.startswith(("mobilenet", "resnest")) else _LAST_STRIDE
        key = model if stride == _LAST_STRIDE else f"{model}.d{stride}"
        key += ".kept" if _WITH_ATTENTION.search(model) else ""
        return (
            Backbone(f"{key}.mit" if more else key, partial(_Features, model, pixels, stride, more))
            if timm.is_model(model)
            else f"{model}: not in timm"
        )
    match = re.search(r"x(50|101)[-_](\d+)x(\d+)d|(?<![a-z0-9])r(?:esnet)?(18|34|50|101)(?![0-9])", name)
    if not match:
        return "the backbone is not described"
    deep = bool(re.search(r"-d(?:8|16|32)", name)) and f"r{match[4]}b" not in name
    degree = next((key for key in _DILATED if f"-{key}" in name), "")
    net = _ResNet(
        match[1] or match[4], int(match[2] or 1), int(match[3] or 64), degree, deep=deep, frozen=frozen,
        group_norm=bool(re.search(r"gn[-_](?:ws[-_])?all", name)),
    )  # fmt: skip
    return (
        Backbone(f"{net!r}.jpu", lambda: _Joined(net.build()))
        if "_jpu_" in name
        else Backbone(repr(net), net.build)
    )


@dataclass(frozen=True)
class _ResNet:
    """
    A ResNet or ResNeXt.

    Attributes:
        degree: "d8" or "d16" of segmentation networks, which replace strides by dilation; "": neither.
        deep: whether the stem is three small convolutions.
        frozen: whether the stem and the first stage are not trained.
        group_norm: instead of batch normalisation.
    """

    depth: str
    groups: int
    width: int
    degree: str
    deep: bool
    frozen: bool
    group_norm: bool

    def build(self) -> Pyramid:
        """Return the network, untrained."""
        small = int(self.depth) < 50  # torchvision's basic block has no dilation
        resnet = torchvision.models.resnet
        net = resnet.ResNet(
            resnet.BasicBlock if small else resnet.Bottleneck, list(_BLOCKS[self.depth]), groups=self.groups,
            width_per_group=self.width, norm_layer=UnfusedGroupNorm if self.group_norm else nn.BatchNorm2d,
            replace_stride_with_dilation=None if small else list(_DILATED.get(self.degree, (False,) * 3)),
        )  # fmt: skip
        stem = nn.Sequential(net.conv1, net.bn1, net.relu)
        if self.deep:
            sizes = ((3, 32, 2), (32, 32, 1), (32, 64, 1))
            parts = [
                (nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
                for a, b, stride in sizes
            ]
            stem = nn.Sequential(*(layer for part in parts for layer in part))
        first = nn.Sequential(stem, net.maxpool, net.layer1)
        if self.frozen:
            first.requires_grad_(requires_grad=False)
        widths = [w * (1 if small else 4) for w in (64, 128, 256, 512)]
        return Pyramid((first, net.layer2, net.layer3, net.layer4), widths)
