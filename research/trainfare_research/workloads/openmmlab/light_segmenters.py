"""
Segmentation networks of few channels in OpenMMLab's zoo: BiSeNet, CGNet, ERFNet, Fast-SCNN, ICNet and LR-ASPP.

Sizes are those of open-mmlab/mmsegmentation (`configs/_base_/models`), by the names of the configurations. All of these
train on street scenes, and every head has a loss at the size of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from trainfare_research.workloads.openmmlab.backbones import backbone_of
from trainfare_research.workloads.openmmlab.crops import CLASSES, crop_of
from trainfare_research.workloads.openmmlab.early_torch import pixel_loss
from trainfare_research.workloads.openmmlab.units import build_plain_unit, build_unit
from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_CLASSES = CLASSES["cityscapes"]


def find(row: Row) -> StepJob | str | None:
    """Return the training step of one of these networks; None for others."""
    name = row["model"].lower()
    crop = crop_of(row)
    start, build = next(((start, build) for start, build in _MAKERS if name.startswith(start)), ("", None))
    if crop is None or build is None:
        return None
    height, width = crop
    network = Network(
        f"mmseg.light.{start}.{height}x{width}", build,
        lambda batch: (torch.empty(batch, 3, height, width),),
    )  # fmt: skip
    return step_job(row, network, optimizer_of(row, "sgd"))


def _separable(wide: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv2dNormActivation(wide, wide, 3, stride, groups=wide), build_unit(wide, out, 1))


def _head(wide: int, out: int, convolutions: int) -> nn.Sequential:
    layers = [build_unit(wide if i == 0 else out, out) for i in range(convolutions)]
    return nn.Sequential(*layers, nn.Dropout2d(0.1), nn.Conv2d(out, _CLASSES, 1))


def _resize_like(x: torch.Tensor, like: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode=mode)


class _Segmenter(nn.Module):
    """
    A backbone and a head for each of its maps; returns the loss of all heads at the size of the images.

    Args:
        body: returns as many maps as there are heads.
        heads: from a map to scores of classes.
    """

    def __init__(self, body: nn.Module, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.body, self.heads = body, nn.ModuleList(heads)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)
        losses = [pixel_loss(head(x), images) for head, x in zip(self.heads, maps, strict=True)]
        return torch.stack(losses).sum()


class _Weighted(nn.Module):
    """Channels weighted by a layer over their means."""

    def __init__(self, wide: int, *, act: bool = False) -> None:
        super().__init__()
        self.layer = build_unit(wide, wide, 1) if act else build_plain_unit(wide, wide)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = self.layer(functional.adaptive_avg_pool2d(x, 1)).sigmoid()
        return x * weights


class _BiSeNetV1(nn.Module):
    """A ResNet-18 whose two last maps are refined and grown, beside four layers for the details."""

    def __init__(self) -> None:
        super().__init__()
        backbone = backbone_of("r18-d32", (0, 0), frozen=False)
        if isinstance(backbone, str):
            raise TypeError(backbone)
        self.body = backbone.build()
        self.details = nn.Sequential(
            build_unit(3, 64, 7, 2),
            build_unit(64, 64, 3, 2),
            build_unit(64, 64, 3, 2),
            build_unit(64, 128, 1),
        )
        self.mean = build_unit(512, 128, 1)
        self.refine = nn.ModuleList(
            nn.Sequential(build_unit(wide, 128), _Weighted(128)) for wide in (512, 256)
        )
        self.smooth = nn.ModuleList(build_unit(128, 128) for _ in range(2))
        self.join, self.weigh = build_unit(256, 256, 1), _Weighted(256, act=True)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        _, x8, x16, x32 = self.body(images)
        low = self.refine[0](x32) + self.mean(functional.adaptive_avg_pool2d(x32, 1))
        x32 = self.smooth[0](_resize_like(low, x16, "nearest"))
        context = self.smooth[1](_resize_like(self.refine[1](x16) + x32, x8, "nearest"))
        both = self.join(torch.cat((self.details(images), context), 1))
        return [self.weigh(both) + both, context, x32]


class _Expanded(nn.Module):
    """A block of BiSeNetV2's branch of low resolution: six times as many channels between its ends."""

    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        middle, alone = 6 * wide, Conv2dNormActivation
        self.enter = build_unit(wide, wide)
        if stride == 1:
            self.between: nn.Module = alone(wide, middle, 3, groups=wide)
            self.short: nn.Module = nn.Identity()
        else:
            self.between = nn.Sequential(
                build_plain_unit(wide, middle, 3, 2, wide), alone(middle, middle, 3, groups=middle)
            )
            self.short = nn.Sequential(build_plain_unit(wide, wide, 3, 2, wide), build_plain_unit(wide, out))
        self.last = build_plain_unit(middle, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.last(self.between(self.enter(x))) + self.short(x))


class _BiSeNetV2(nn.Module):
    """A branch of few strides, one of many, and their products."""

    def __init__(self) -> None:
        super().__init__()
        self.details = nn.Sequential(
            build_unit(3, 64, 3, 2), build_unit(64, 64), build_unit(64, 64, 3, 2), build_unit(64, 64),
            build_unit(64, 64), build_unit(64, 128, 3, 2), build_unit(128, 128), build_unit(128, 128),
        )  # fmt: skip
        self.stem, self.fuse = build_unit(3, 16, 3, 2), build_unit(32, 16)
        self.side = nn.Sequential(build_unit(16, 8, 1), build_unit(8, 16, 3, 2))
        self.stages = nn.ModuleList(
            nn.Sequential(_Expanded(wide, out, 2), *(_Expanded(out, out, 1) for _ in range(count)))
            for wide, out, count in ((16, 32, 1), (32, 64, 1), (64, 128, 3))
        )
        self.mean = nn.Sequential(nn.BatchNorm2d(128), build_unit(128, 128, 1))
        self.context = build_unit(128, 128)
        self.fine, self.grown = (
            nn.Sequential(build_plain_unit(128, 128, 3, 1, 128), nn.Conv2d(128, 128, 1, bias=False))
            for _ in range(2)
        )
        self.down = nn.Sequential(build_plain_unit(128, 128, 3, 2), nn.AvgPool2d(3, 2, 1))
        self.up, self.last = build_plain_unit(128, 128, 3), build_plain_unit(128, 128, 3)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        details, x = self.details(images), self.stem(images)
        maps = [self.fuse(torch.cat((self.side(x), functional.max_pool2d(x, 3, 2, 1)), 1))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        x = maps[-1]
        x = self.context(x + self.mean(functional.adaptive_avg_pool2d(x, 1)))
        fine = self.fine(details) * _resize_like(self.up(x), details).sigmoid()
        coarse = self.down(details) * self.grown(x).sigmoid()
        maps[-1] = x
        return [self.last(fine + _resize_like(coarse, fine)), *maps]


class _Guided(nn.Module):
    """A block of CGNet: two convolutions of each channel, near and far, and weights of the channels."""

    def __init__(self, wide: int, out: int, dilation: int, reduction: int, *, down: bool) -> None:
        super().__init__()
        half = out if down else out // 2
        self.enter = nn.Sequential(
            build_plain_unit(wide, half, 3, 2) if down else build_plain_unit(wide, half), nn.PReLU(half)
        )
        self.near = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.far = nn.Conv2d(half, half, 3, padding=dilation, dilation=dilation, groups=half, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(2 * half), nn.PReLU(2 * half))
        self.last = nn.Conv2d(2 * half, out, 1, bias=False) if down else nn.Identity()
        self.weigh, self.same = SqueezeExcitation(out, out // reduction), not down

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.enter(x)
        z: torch.Tensor = self.weigh(self.last(self.norm(torch.cat((self.near(y), self.far(y)), 1))))
        return x + z if self.same else z


class _CgNet(nn.Module):
    """A stem and two stages of 3 and 21 blocks; the smaller images are put into the first two maps."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((3, 32, 2), (32, 32, 1), (32, 32, 1))
        self.stem = nn.Sequential(
            *(
                nn.Sequential(build_plain_unit(wide, out, 3, stride), nn.PReLU(out))
                for wide, out, stride in sizes
            )
        )
        self.norms = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(wide), nn.PReLU(wide)) for wide in (35, 131, 256)
        )
        self.first = nn.ModuleList((_Guided(35, 64, 2, 8, down=True), _Guided(131, 128, 4, 16, down=True)))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_Guided(wide, wide, dilation, reduction, down=False) for _ in range(count)))
            for wide, dilation, reduction, count in ((64, 2, 8, 2), (128, 4, 16, 20))
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        half = functional.avg_pool2d(images, 3, 2, 1)
        x = self.norms[0](torch.cat((self.stem(images), half), 1))
        down = self.first[0](x)
        x = self.norms[1](torch.cat((self.blocks[0](down), down, functional.avg_pool2d(half, 3, 2, 1)), 1))
        down = self.first[1](x)
        return [self.norms[2](torch.cat((down, self.blocks[1](down)), 1))]


class _Narrow(nn.Module):
    """Two pairs of convolutions along one side of the image each; the second pair is dilated."""

    def __init__(self, wide: int, dilation: int = 1) -> None:
        super().__init__()

        def pair(by: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(wide, wide, (3, 1), padding=(by, 0), dilation=(by, 1)), nn.ReLU(),
                nn.Conv2d(wide, wide, (1, 3), padding=(0, by), dilation=(1, by)), nn.BatchNorm2d(wide),
            )  # fmt: skip

        self.layers = nn.Sequential(pair(1), nn.ReLU(), pair(dilation), nn.Dropout(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.layers(x) + x)


class _Halved(nn.Module):
    """A strided convolution beside a pooling."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(wide, out - wide, 3, 2, 1)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(torch.cat((self.layer(x), functional.max_pool2d(x, 2)), 1)))


class _ErfNet(nn.Module):
    """Three halvings with narrow convolutions between, and two doublings."""

    def __init__(self) -> None:
        super().__init__()

        def make_doubling(wide: int, out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.ConvTranspose2d(wide, out, 3, 2, 1, output_padding=1), nn.BatchNorm2d(out), nn.ReLU(),
                _Narrow(out), _Narrow(out),
            )  # fmt: skip

        dilated = (_Narrow(128, dilation) for _ in range(2) for dilation in (2, 4, 8, 16))
        self.layers = nn.Sequential(
            _Halved(3, 16), _Halved(16, 64), *(_Narrow(64) for _ in range(5)), _Halved(64, 128), *dilated,
            make_doubling(128, 64), make_doubling(64, 16),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.layers(images)]


class _Pools(nn.Module):
    """Means of 1 to 36 parts of a map beside the map, each through a layer, and a layer over all."""

    def __init__(self, wide: int, per_branch: int, out: int, kernel: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(build_unit(wide, per_branch, 1) for _ in range(4))
        self.last = build_unit(wide + 4 * per_branch, out, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = [
            _resize_like(layer(functional.adaptive_avg_pool2d(x, parts)), x)
            for layer, parts in zip(self.layers, (1, 2, 3, 6), strict=True)
        ]
        last: torch.Tensor = self.last(torch.cat((x, *means), 1))
        return last


class _FastScnn(nn.Module):
    """Three strided layers, nine blocks of MobileNetV2 behind them, and the sum of both."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(build_unit(3, 32, 3, 2), _separable(32, 48, 2), _separable(48, 64, 2))
        widths, strides = (64, 64, 96, 128), (2, 2, 1)
        blocks = [
            InvertedResidual(wide if i == 0 else out, out, stride if i == 0 else 1, 6)
            for wide, out, stride in zip(widths, widths[1:], strides, strict=False)
            for i in range(3)
        ]
        self.blocks, self.pools = nn.Sequential(*blocks), _Pools(128, 32, 128, 1)
        self.low, self.high = (
            nn.Sequential(build_unit(128, 128, 1), build_plain_unit(128, 128)),
            build_plain_unit(64, 128),
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        high = self.down(images)
        low = self.pools(self.blocks(high))
        return [functional.relu(self.high(high) + self.low(_resize_like(low, high))), low, high]


class _IcNet(nn.Module):
    """Images of three sizes: three layers for the whole, half a ResNet-50 for a half, the rest for a quarter."""

    def __init__(self) -> None:
        super().__init__()
        backbone = backbone_of("r50-d8", (0, 0), frozen=False)
        if isinstance(backbone, str):
            raise TypeError(backbone)
        body: Any = backbone.build()
        self.stages = body.stages
        self.large = nn.Sequential(
            build_unit(3, 32, 3, 2), build_unit(32, 32, 3, 2), build_unit(32, 64, 3, 2)
        )
        self.second, self.third = build_unit(512, 256, 1), build_unit(512, 256, 1)
        self.pools = _Pools(2048, 512, 512, 3)
        self.lows = nn.ModuleList(Conv2dNormActivation(wide, 128, dilation=2) for wide in (256, 128))
        self.highs = nn.ModuleList(build_unit(wide, 128, 1) for wide in (256, 64))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        half = self.stages[1](
            self.stages[0](functional.interpolate(images, scale_factor=0.5, mode="bilinear"))
        )
        x = functional.interpolate(half, scale_factor=0.5, mode="bilinear")
        x = self.third(self.pools(self.stages[3](self.stages[2](x))))
        grown = []
        larger_maps = (self.second(half), self.large(images))
        for low, high, larger in zip(self.lows, self.highs, larger_maps, strict=True):
            grown.append(low(_resize_like(x, larger)))
            x = functional.relu(grown[-1] + high(larger))
        return [x, *grown]


class _LrAspp(nn.Module):
    """
    MobileNetV3 of stride 8 and three of its maps, joined at the size of the largest.

    Args:
        size: "large" or "small".
        widths: channels of the three maps.
    """

    def __init__(self, size: str, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.body = timm.create_model(f"mobilenetv3_{size}_100", features_only=True, output_stride=8)
        first, second, top = widths
        self.main, self.enter = build_unit(top, 128, 1), nn.Conv2d(128, 128, 1)
        self.weigh = nn.Sequential(nn.AvgPool2d(49, (16, 20)), nn.Conv2d(top, 128, 1), nn.Sigmoid())
        self.sides = nn.ModuleList(
            nn.Conv2d(wide, out, 1, bias=False) for wide, out in ((first, 32), (second, 64))
        )
        self.joins = nn.ModuleList(build_unit(128 + out, 128, 1) for out in (32, 64))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = self.body(images)
        x = self.enter(self.main(maps[-1]) * _resize_like(self.weigh(maps[-1]), maps[-1]))
        for i in (1, 0):
            x = self.joins[i](torch.cat((_resize_like(x, maps[i]), self.sides[i](maps[i])), 1))
        return [x]


def _bisenet_v1() -> nn.Module:
    return _Segmenter(_BiSeNetV1(), (_head(256, 256, 1), _head(128, 64, 1), _head(128, 64, 1)))


def _bisenet_v2() -> nn.Module:
    sides = (_head(wide, out, 2) for wide, out in ((16, 16), (32, 64), (64, 256), (128, 1024)))
    return _Segmenter(_BiSeNetV2(), (_head(128, 1024, 1), *sides))


def _fast_scnn() -> nn.Module:
    last = nn.Sequential(
        _separable(128, 128), _separable(128, 128), nn.Dropout2d(0.1), nn.Conv2d(128, _CLASSES, 1)
    )
    return _Segmenter(_FastScnn(), (last, _head(128, 32, 1), _head(64, 32, 1)))


def _lr_aspp(size: str, widths: tuple[int, int, int]) -> Callable[[], nn.Module]:
    return lambda: _Segmenter(_LrAspp(size, widths), (_head(128, 128, 0),))


_MAKERS: tuple[tuple[str, Callable[[], nn.Module]], ...] = (
    ("bisenetv1_r18-d32", _bisenet_v1),
    ("bisenetv2_fcn", _bisenet_v2),
    ("cgnet_fcn", lambda: _Segmenter(_CgNet(), (_head(256, 256, 0),))),
    ("erfnet_fcn", lambda: _Segmenter(_ErfNet(), (_head(16, 128, 1),))),
    ("fast_scnn", _fast_scnn),
    ("icnet_r50-d8", lambda: _Segmenter(_IcNet(), tuple(_head(128, 128, 1) for _ in range(3)))),
    ("mobilenet-v3-d8-scratch-s_lraspp", _lr_aspp("small", (16, 16, 576))),
    ("mobilenet-v3-d8-scratch_lraspp", _lr_aspp("large", (16, 24, 960))),
)
"""By the beginning of a configuration's name."""
