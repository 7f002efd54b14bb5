"""
GPUNet (Wang et al. 2022) as NVIDIA trains it (`PyTorch/Classification/GPUNet`: `configs/batch1/GV100`, `train_params`).

Stages in timm's notation, its stem and its images. Its trainer is timm's without `--channels-last`. Distilled GPUNets
(D1) have blocks of their own and a teacher; they are not described.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn
from torch.nn import functional

from trainfare_research.workloads.single_device import Network, Row, StepJob, optimizer_of, step_job

_STAGES = {
    "gpunet-0": (
        320, 32, "cn_r2_k3_s1_e1_c32_nre", "er_r2_k3_s2_e5_c32_nre", "er_r3_k3_s2_e5_c64_nre",
        "ir_r3_k3_s2_e5_c256_nsw", "ir_r2_k3_s2_e5_c704_se0.25_nre",
    ),
    "gpunet-1": (
        288, 24, "cn_r1_k3_s1_e1_c24_nre", "er_r2_k3_s2_e4_c64_nsw", "er_r2_k3_s2_e4_c96_nsw",
        "ir_r1_k3_s2_e2_c160_se0.25_nsw", "ir_r4_k3_s1_e5_c288_nre", "ir_r4_k3_s2_e4_c448_se0.25_nre",
    ),
    "gpunet-2": (
        384, 32, "cn_r3_k3_s1_e1_c32_nre", "er_r1_k5_s2_e6_c32_se0.25_nsw", "er_r3_k3_s2_e3_c112_nsw",
        "ir_r6_k3_s2_e6_c144_nsw", "ir_r4_k5_s1_e3_c160_nre", "ir_r8_k3_s2_e3_c224_se0.25_nsw",
        "ir_r7_k5_s1_e2_c832_nre",
    ),
}  # fmt: skip
"""Pixels, channels of the stem, and stages."""


def find(row: Row) -> StepJob | str | None:
    """Return the training step of a GPUNet; None for any other model and for the distilled ones."""
    name = row["model"].lower()
    if name not in _STAGES:
        return None
    pixels, stem, *stages = _STAGES[name]
    network = Network(
        f"gpunet.{name}.{pixels}",
        lambda: Classifier(int(stem), [str(stage) for stage in stages]),
        lambda batch: (torch.empty(batch, 3, int(pixels), int(pixels)), torch.zeros(batch, dtype=torch.long)),
    )
    return step_job(row, network, optimizer_of(row, "rmsprop"))


class Classifier(nn.Module):
    """
    A network of timm's EfficientNet blocks; returns its cross entropy.

    Args:
        stem: channels of the first convolution.
        stages: in timm's notation.
    """

    def __init__(self, stem: int, stages: list[str]) -> None:
        super().__init__()
        blocks = cast("Any", decode_arch_def)([[stage] for stage in stages])  # untyped in timm
        self.net = EfficientNet(
            blocks, stem_size=stem, fix_stem=True, act_layer=nn.SiLU, round_chs_fn=round, drop_rate=0.3,
            drop_path_rate=0.2,
        )  # fmt: skip

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self.net(images), labels)
