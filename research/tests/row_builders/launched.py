"""Rows of measured steps, and what is made of them."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainfare_research.workloads.single_device import StepJob

LAMBDA = {
    "source": "lambda-dlbench", "model": "WaveGlow", "task": "tts", "precision": "amp_fp16", "devices": "1",
    "accelerator": "A100-SXM4-80GB", "batch_per_device": "48", "global_batch": "48", "sequence_length": "",
    "framework": "pytorch 1.13.0 (NGC container)", "notes": "suite=v1;flag=FP16", "throughput": "1000",
    "throughput_unit": "samples/s", "optimizer": "adam", "measured": "training loop", "image_size": "224",
    "strategy": "single", "source_ref": "scaling/H100.yaml#resnet50",
}  # fmt: skip
NVIDIA_BERT = LAMBDA | {
    "source": "nvidia-dle", "model": "BERT-large", "task": "pretrain", "sequence_length": "512",
    "framework": "pytorch (NGC)", "notes": "column=Throughput",
}  # fmt: skip


def job_of(found: StepJob | str | None) -> StepJob:
    """Return what a row resolved to, which must be a job."""
    assert isinstance(found, StepJob), found
    return found


def flops_of(net: nn.Module, *inputs: torch.Tensor) -> int:
    """Return the FLOPs of a forward pass."""
    counter = FlopCounterMode(display=False)
    with counter:
        net(*inputs)
    return counter.get_total_flops()
