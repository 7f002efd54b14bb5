"""A profile scaled to another micro-batch is predicted as the same module traced at that micro-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional

from builders.lightning_modules import lightning_module, update_by
from trainfare import TrainingJob, trace_job
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import operation_seconds

Classifier = lightning_module(
    lambda self, batch, _index: functional.cross_entropy(
        self.net(batch[0]).flatten(0, -2), batch[1].flatten()
    ),
    update_by(torch.optim.SGD, lr=0.1),
    lambda net: {"net": net},
    base=LightningModule,
)
"""Cross-entropy of a network's logits."""


def convolutions() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return Classifier(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 100)))


def encoder() -> nn.Module:
    blocks = [nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True) for _ in range(2)]
    return Classifier(nn.Sequential(nn.Embedding(1000, 256), *blocks, nn.Linear(256, 1000)))


def images(size: int) -> Any:
    return torch.zeros(size, 3, 112, 112), torch.zeros(size, dtype=torch.long)


def tokens(size: int) -> Any:
    return torch.zeros(size, 128, dtype=torch.long), torch.zeros(size, 128, dtype=torch.long)


def device_seconds(job: JobProfile, name: str, ratio: float) -> float:
    operations = Operations.of(job)
    roofline = Roofline.of(accelerator(name), operations)
    return float(operation_seconds(operations, [roofline], ratio, calibration()).total_s.sum())


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize(("module", "batch"), [(convolutions, images), (encoder, tokens)])
def test_a_scaled_profile_takes_as_long_as_a_new_trace(
    module: Callable[[], nn.Module], batch: Callable[[int], Any], precision: str
) -> None:
    """From 64 samples to 4 and to 256, on a small and on a large GPU, within 1 %."""

    def trace_module(size: int) -> JobProfile:
        return trace_job(
            TrainingJob(
                module=module, batch=lambda: batch(size), batch_size=size, precision=precision, max_steps=1
            )
        )

    profiled = trace_module(64)
    for size in (4, 256):
        again = trace_module(size)
        for name in ("T4-16GB", "H100-SXM-80GB"):
            scaled_s = device_seconds(profiled, name, size / 64)
            assert scaled_s == pytest.approx(device_seconds(again, name, 1.0), rel=0.01), (size, name)
