"""
Training steps of the rows that measured one device.

Each module of models has a function `find(row)`, which returns a `StepJob`, the reason why there is none, or None for a
model of another module. Models are built from published architectures on fake tensors, without pretrained weights.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from trainfare import TrainingJob, trace_job
from trainfare_core.job_profile import JobProfile

__all__ = [
    "OPTIMIZERS",
    "Row",
    "StepJob",
    "Supervised",
    "batch_of",
    "half_weights",
    "optimizer_of",
    "precision_of",
    "traced",
]

Row = dict[str, str]

_PRECISIONS = {
    "fp32": "32-true",
    "tf32": "32-true",
    "amp_fp16": "16-mixed",
    "fp16_pure": "16-true",
    "bf16": "bf16-mixed",
}
"""Lightning's precision, by the tables' word."""
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd-plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
}

_STEP_BATCH = 1024
"""From this many samples on, the batch column of a table with gradient accumulation is that of a whole step: in
those tables micro-batches are at most 256, and steps have at least 2,048 samples."""


@dataclass(frozen=True)
class StepJob:
    """One optimizer step of one row, as it can be traced."""

    key: str
    """Everything that decides the trace: model, sizes, precision, layout, optimizer."""
    module: Callable[[], nn.Module]
    batch: Callable[[], Any]
    batch_size: int
    precision: str
    tf32: bool = False
    phases: tuple[str, ...] = ("forward", "backward", "optimizer")
    """Phases that the row's time covers."""
    units_per_step: float = 0.0
    """Throughput units of one step; 0: one unit per sample."""
    compiled: bool = False
    """Whether pointwise operations are fused by a compiler."""
    notes: tuple[str, ...] = ()
    """What was assumed, for the notes of the profile."""

    @property
    def units(self) -> float:
        """Throughput units of one step."""
        return self.units_per_step or float(self.batch_size)


class Supervised(pl.LightningModule):
    """A network, its loss on a batch, and the key of its optimizer in `OPTIMIZERS`."""

    def __init__(
        self, net: nn.Module, loss: Callable[[nn.Module, Any], torch.Tensor], optimizer: str = "sgd"
    ) -> None:
        super().__init__()
        self.net, self._loss, self._optimizer = net, loss, optimizer

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        return self._loss(self.net, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return OPTIMIZERS[self._optimizer](self.parameters())


def precision_of(row: Row) -> tuple[str, bool] | None:
    """Return Lightning's precision and whether TF32 is on; None where Lightning has no such precision."""
    precision = _PRECISIONS.get(row["precision"])
    return None if precision is None else (precision, row["precision"] == "tf32")


def half_weights(precision: str) -> str:
    """
    Return the precision of trainers with half-precision weights beside fp32 master weights (Apex level O2).

    NVIDIA's reference trainers of BERT, GNMT and Transformer-XL run mixed precision this way: normalisation and
    softmax stay in fp16, and no weight is cast during the step.
    """
    return "16-true" if precision == "16-mixed" else precision


def optimizer_of(row: Row, default: str) -> str:
    """Return the key of `OPTIMIZERS` with the memory traffic of the row's optimizer; LAMB counts as Adam."""
    name = row["optimizer"].lower()
    for part, key in (
        ("sgd", "sgd"),
        ("rms", "rmsprop"),
        ("adamw", "adamw"),
        ("adam", "adam"),
        ("lamb", "adam"),
    ):
        if part in name:
            return key
    return default


def batch_of(row: Row, default: int = 0) -> int:
    """
    Return the micro-batch of one device; 0 where neither the row nor `default` states it.

    Some tables state the batch of a whole optimizer step; their notes then give the number of micro-batches, once for
    fp32 and once for half precision ("accum_col=...").
    """
    text = row["batch_per_device"] or (row["global_batch"] if row["devices"] == "1" else "")
    found = re.search(r"accum_col=(\d+) and (\d+)", row["notes"])
    batch = int(float(text)) if text else default
    if found and batch >= _STEP_BATCH:
        half = row["precision"] in ("amp_fp16", "bf16")
        batch = max(1, batch // int(found[2] if half else found[1]))
    return batch


def traced(job: StepJob) -> JobProfile:
    """
    Trace a job on fake tensors.

    Raises:
        TraceError: torch cannot run it on fake tensors, or its library has no such model.
    """
    with _tf32(job.tf32):
        profile = trace_job(
            TrainingJob(
                module=job.module,
                batch=job.batch,
                batch_size=job.batch_size,
                precision=job.precision,
                max_steps=1,
            )
        )
    kept = tuple(group for group in profile.operations if group.phase in job.phases)
    return profile.model_copy(
        update={
            "operations": kept,
            "source": profile.source.model_copy(update={"compiled": job.compiled}),
            "notes": (*profile.notes, *job.notes),
        }
    )


@contextlib.contextmanager
def _tf32(on: bool) -> Generator[None, None, None]:  # noqa: FBT001 - torch's switches are plain booleans
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
