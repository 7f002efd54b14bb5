"""Layers that the networks of OpenMMLab share: a convolution, its batch normalisation and, mostly, a ReLU."""

from __future__ import annotations

from torch import nn
from torchvision.ops import Conv2dNormActivation


def build_unit(wide: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution, batch normalisation and ReLU."""
    unit: nn.Sequential = Conv2dNormActivation(wide, out, kernel, stride)
    return unit


def build_plain_unit(wide: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution and its batch normalisation, without activation."""
    unit: nn.Sequential = Conv2dNormActivation(
        wide, out, kernel, stride, groups=groups, activation_layer=None
    )
    return unit
