"""
Networks of NVIDIA's TensorFlow examples (NVIDIA/DeepLearningExamples), with the sizes of their launch scripts.

V-Net (`TensorFlow/Segmentation/VNet`: `model/`, `utils/cmd_util.py`): volumes of 32^3, convolutions of 3^3, 16 to 128
channels, three classes. U-Net Industrial (`TensorFlow/Segmentation/UNet_Industrial`: `model/unet.py`): its smaller
variant on 512 x 512. SSD320 (`TensorFlow/Detection/SSD`: `configs/ssd320_bench.config`):
ResNet-50 with a feature pyramid of five levels, heads shared by the levels, and frozen statistics of batch
normalisation. TensorFlow 1 fuses batch normalisation of images alone (its `keras/layers/normalization.py`:
four dimensions), so that of volumes runs operation by operation.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torchvision
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_SIDE, _PARTS = 32, 3
"""Voxels along each side of V-Net's volumes, and classes of a voxel."""
_PIXELS = {"unet-industrial": 512, "ssd320": 320}
_KINDS, _SHAPES = 90, 6
"""Classes of COCO as TensorFlow counts them, and default boxes of each place."""
_BOXES = _SHAPES * (40**2 + 20**2 + 10**2 + 5**2 + 3**2)


def find(row: Row) -> StepJob | str | None:
    """Return the training step of V-Net, U-Net Industrial or SSD320; None for any other model."""
    networks = {
        "vnet": Network(f"tensorflow.vnet.{_SIDE}", VNet, _volumes),
        "unet-industrial": Network("tensorflow.unet-industrial.512", TinyUNet, _surfaces),
        "ssd320": Network("tensorflow.ssd320", Ssd320, _photographs),
    }
    network = networks.get(row["model"].lower())
    return None if network is None else step_job(row, network, optimizer_of(row, "sgd"))


def _volumes(batch: int) -> tuple[torch.Tensor, ...]:
    shape = (batch, _SIDE, _SIDE, _SIDE)
    return torch.empty(batch, 1, *shape[1:]), torch.zeros(shape, dtype=torch.long)


def _surfaces(batch: int) -> tuple[torch.Tensor, ...]:
    side = _PIXELS["unet-industrial"]
    return torch.empty(batch, 1, side, side), torch.empty(batch, 1, side, side)


def _photographs(batch: int) -> tuple[torch.Tensor, ...]:
    side = _PIXELS["ssd320"]
    return (
        torch.empty(batch, 3, side, side),
        torch.empty(batch, _BOXES, 4),
        torch.empty(batch, _BOXES, _KINDS),
    )


class _Moments(nn.Module):
    """Batch normalisation of volumes as TensorFlow computes it: one operation after the other, moments in fp32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.offset = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        full, axes, shape = x.float(), (0, 2, 3, 4), (1, -1, 1, 1, 1)
        mean = full.mean(axes, keepdim=True)
        variance = (full - mean.detach()).square().mean(axes, keepdim=True)
        factor = torch.rsqrt(variance + 1e-3) * self.scale.view(shape)
        return x * factor.to(x.dtype) + (self.offset.view(shape) - mean * factor).to(x.dtype)


def _convolution(wide: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(wide, width, 3, padding=1), _Moments(width), nn.ReLU())


class _Chain(nn.Module):
    """Three convolutions with a connection around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_convolution(width, width) for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.layers(x)
        return result


class VNet(nn.Module):
    """V-Net (Milletari et al. 2016) with three levels; returns its Dice loss."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.first = _convolution(1, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, 2, stride=2), _Moments(b), nn.ReLU(), _Chain(b))
            for a, b in pairwise(widths)
        )
        wide = widths[-1]
        self.up, self.chains = nn.ModuleList(), nn.ModuleList()
        for width in widths[-2::-1]:
            layers = (nn.ConvTranspose3d(wide, width, 2, 2), _Moments(width), nn.ReLU())
            self.up.append(nn.Sequential(*layers))
            if width != widths[0]:
                self.chains.append(_Chain(2 * width))
            wide = 2 * width
        self.out = nn.Conv3d(widths[0], _PARTS, 3, padding=1)

    def forward(self, volumes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = self.first(volumes) + volumes
        seen = []
        for stage in self.down:
            seen.append(x)
            x = stage(x)
        for up, chain in zip(self.up, self.chains, strict=False):
            x = chain(torch.cat((up(x), seen.pop()), 1))
        share = functional.softmax(self.out(self.up[-1](x)), 1).float().flatten(2)
        truth = functional.one_hot(labels.flatten(1), _PARTS).transpose(1, 2).float()
        both, either = (share * truth).sum(2), (share + truth).sum(2)
        return (1 - ((2 * both + 1e-6) / (either + 1e-6)).mean(0)).sum()


class TinyUNet(nn.Module):
    """U-Net Industrial's smaller variant; returns the cross entropy that its loss begins with, and weight decay."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            (_pair(1, 32, 32), _pair(32, 32, 32), _pair(32, 64, 64), _pair(64, 128, 128))
        )
        self.middle = nn.Sequential(_pair(128, 256, 256), *_make_growing(256, 128))
        self.up = nn.ModuleList(
            nn.Sequential(_pair(wide, width, width // 2), *_make_growing(width // 2, width // 2))
            for wide, width in ((256, 128), (128, 64), (64, 32))
        )
        self.out = nn.Sequential(_pair(48, 32, 32), nn.Conv2d(32, 1, 1))

    def forward(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        x, seen = images, []
        for stage in self.down:
            x = stage(x)
            seen.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.middle(x)
        for stage in (*self.up, self.out):
            x = stage(torch.cat((x, seen.pop()), 1))
        decay = sum(weight.square().sum() for weight in self.parameters())
        return functional.binary_cross_entropy_with_logits(x.float(), masks) + 1e-5 * decay


def _pair(wide: int, width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, out, 3, padding=1), nn.ReLU()
    )


def _make_growing(wide: int, width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Upsample(scale_factor=2),
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(wide, width, 2),
        nn.ReLU(),
    )


class Ssd320(nn.Module):
    """SSD on a ResNet-50 with a feature pyramid, levels 3 to 7; returns focal and box loss of every default box."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        trunk = torchvision.models.resnet50(weights=None, norm_layer=_Fixed)
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1)
        self.stages = nn.ModuleList((trunk.layer2, trunk.layer3, trunk.layer4))
        self.lateral = nn.ModuleList(nn.Conv2d(wide, width, 1) for wide in (512, 1024, 2048))
        self.smooth = nn.ModuleList(_make_fixed(width) for _ in range(2))
        self.coarse = nn.ModuleList(_make_fixed(width, stride=2) for _ in range(2))
        self.heads = nn.ModuleList(_Head(width, numbers) for numbers in (4, _KINDS))

    def forward(self, images: torch.Tensor, boxes: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        levels = self._pyramid(maps)
        boxes_predicted, scores = (head(levels) for head in self.heads)
        chance = torch.sigmoid(scores)
        missed = kinds * (1 - chance) + (1 - kinds) * chance
        weight = (0.25 * kinds + 0.75 * (1 - kinds)) * missed.square()
        focal = weight * functional.binary_cross_entropy_with_logits(scores, kinds, reduction="none")
        return focal.sum() + functional.smooth_l1_loss(boxes_predicted, boxes, reduction="sum")

    def _pyramid(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        top = self.lateral[2](maps[2])
        levels = [top]
        for index in (1, 0):
            top = self.lateral[index](maps[index]) + functional.interpolate(top, scale_factor=2.0)
            levels.insert(0, self.smooth[index](top))
        for layer in self.coarse:
            levels.append(layer(levels[-1]))
        return levels


class _Head(nn.Module):
    """
    Some numbers of every default box: a tower of convolutions that the levels share, each with statistics of its own.

    Args:
        width: channels of the levels.
        numbers: of a box.
    """

    def __init__(self, width: int, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.tower = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(4))
        self.normals = nn.ModuleList(_Fixed(width) for _ in range(5 * 4))
        self.out = nn.Conv2d(width, _SHAPES * numbers, 3, padding=1)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        answers, normals = [], iter(self.normals)
        for level in levels:
            x = level
            for layer in self.tower:
                x = functional.relu6(next(normals)(layer(x)))
            answers.append(self.out(x).permute(0, 2, 3, 1).reshape(len(x), -1, self.numbers))
        return torch.cat(answers, 1).float()


class _Fixed(nn.BatchNorm2d):
    """Batch normalisation by stored statistics, with a scale and an offset that are trained."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False
        )


def _make_fixed(width: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(layer, _Fixed(width), nn.ReLU6())
