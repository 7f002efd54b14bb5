"""ResNets as they are trained on images of 32 pixels (CIFAR): a stem that keeps the size, and ten classes."""

from __future__ import annotations

import re
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_RESNET = re.compile(r"resnet-?(18|34|50|101|152) \(cifar.*\)")
_PIXELS, _CLASSES = 32, 10


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a ResNet for small images."""
    if "(cifar" not in row["model"].lower():
        return None
    match = _RESNET.fullmatch(row["model"].lower())
    if match is None:
        return f"{row['model']}: of networks for small images only ResNets are described"
    name = f"resnet{match[1]}"
    network = Network(f"small.{name}", lambda: SmallResnet(name), _inputs, _compute_loss)
    return step_job(row, network, optimizer_of(row, "sgd"))


class SmallResnet(nn.Module):
    """A ResNet of torchvision with a 3 x 3 convolution of stride 1 as its stem, without the pooling after it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        net: Any = torchvision.models.get_model(name, weights=None, num_classes=_CLASSES)
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
        self.net: nn.Module = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.net(images)
        return scores


def _inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(batch, 3, _PIXELS, _PIXELS), torch.zeros(batch, dtype=torch.long)


def _compute_loss(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    images, labels = batch
    return functional.cross_entropy(net(images), labels)
