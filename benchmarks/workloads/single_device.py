"""
What the rows of one device name, as jobs that trainfare can trace.

Each model module holds a `find(row)` that returns a `StepJob`, a reason in words, or None for "not mine".
All models are built from public architecture facts on fake tensors, with no weights.
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
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd-plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
}


@dataclass(frozen=True)
class StepJob:
    """One optimizer step of one row, still to be traced."""

    key: str
    """All that decides the trace: model, sizes, batch, precision, layout, optimizer."""
    module: Callable[[], nn.Module]
    batch: Callable[[], Any]
    batch_size: int
    precision: str
    tf32: bool = False
    phases: tuple[str, ...] = ("forward", "backward", "optimizer")
    """What the row's time covers."""
    units_per_step: float = 0.0
    """Throughput units of one step; 0: one a sample."""
    compiled: bool = False
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> float:
        return self.units_per_step or float(self.batch_size)


class Supervised(pl.LightningModule):
    """A network, what it loses on a batch, and its optimizer."""

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
    """Return Lightning's word and whether TF32 is on; None where the row's precision has none."""
    word = _PRECISIONS.get(row["precision"])
    return None if word is None else (word, row["precision"] == "tf32")


def half_weights(word: str) -> str:
    """
    Return the precision of trainers that keep half-precision weights beside fp32 masters (Apex level O2).

    NVIDIA's reference trainers of BERT, GNMT and Transformer-XL run their mixed precision so: normalisation and
    softmax stay in fp16, and no weight is cast in the step.
    """
    return "16-true" if word == "16-mixed" else word


def optimizer_of(row: Row, default: str) -> str:
    """Return the key of `OPTIMIZERS` nearest to the row's; the LAMB and Adam families move the same bytes."""
    name = row["optimizer"].lower()
    for word, key in (
        ("sgd", "sgd"),
        ("rms", "rmsprop"),
        ("adamw", "adamw"),
        ("adam", "adam"),
        ("lamb", "adam"),
    ):
        if word in name:
            return key
    return default


def batch_of(row: Row, default: int = 0) -> int:
    """
    Return the micro-batch of one device; 0 where neither row nor `default` says it.

    Where the batch column of a table is a step of several micro-batches, its notes say how many.
    """
    text = row["batch_per_device"] or (row["global_batch"] if row["devices"] == "1" else "")
    found = re.search(r"accum_col=(\d+) and (\d+)", row["notes"])
    batch = int(float(text)) if text else default
    if found and batch >= 1024:
        half = row["precision"] in ("amp_fp16", "bf16")
        batch = max(1, batch // int(found[2] if half else found[1]))
    return batch


def traced(job: StepJob) -> JobProfile:
    """
    Trace a job on fake tensors.

    Raises:
        TraceError: torch cannot run it on fake tensors, or the model does not exist in the zoo.
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
