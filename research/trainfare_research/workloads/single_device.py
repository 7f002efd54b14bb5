"""
Training steps of the rows that measured one device.

Each module of models has a function `find(row)`, which returns a `StepJob`, the reason why there is none, or None for a
model of another module. Networks are built from published architectures on fake tensors, without pretrained weights.
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

from trainfare import TrainingJob
from trainfare.fake_step import trace_changed
from trainfare_core.job_profile import JobProfile

Row = dict[str, str]

_PRECISIONS = {
    "fp32": "32-true",
    "tf32": "32-true",
    "amp_fp16": "16-mixed",
    "fp16_pure": "16-true",
    "bf16": "bf16-mixed",
}
"""Lightning's precision, by the tables' word."""
_OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd-plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
}

_LEAST_SAMPLES = 2
"""Of a trace: with one, an operand that all samples share has the size of one that each has, and grows with them."""
_STEP_BATCH = 1024
"""From this many samples on, the batch column of a table with gradient accumulation is that of a whole step: in
those tables micro-batches are at most 256, and steps have at least 2,048 samples."""


def _own_loss(net: nn.Module, inputs: Any) -> torch.Tensor:
    loss: torch.Tensor = net(*inputs)
    return loss


@dataclass(frozen=True)
class Network:
    """A network that a row names, whatever its batch, precision and optimizer."""

    key: str
    """Its name and sizes."""
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Any]
    """Makes a batch of so many samples."""
    loss: Callable[[nn.Module, Any], torch.Tensor] = _own_loss
    """Of the network on a batch; by default the network returns it."""
    units: float = 1.0
    """Throughput units of one sample."""
    notes: tuple[str, ...] = ()
    """What was assumed, for the notes of the profile."""


@dataclass(frozen=True)
class StepJob:
    """One optimizer step of one row, as it can be traced."""

    key: str
    """Everything that decides the trace: network, sizes, precision, layout, optimizer."""
    network: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Any], torch.Tensor]
    inputs: Callable[[int], Any]
    """Makes a batch of so many samples."""
    batch_size: int
    precision: str
    optimizer: str = "sgd"
    """Its name in `_OPTIMIZERS`."""
    tf32: bool = False
    phases: tuple[str, ...] = ("forward", "backward", "optimizer")
    """Phases that the row's time covers."""
    units: float = 1.0
    """Throughput units of one step."""
    compiled: bool = False
    """Whether pointwise operations are fused by a compiler."""
    notes: tuple[str, ...] = ()
    """What was assumed, for the notes of the profile."""

    def batch(self) -> Any:
        """Return a batch of the row's size."""
        return self.inputs(self.batch_size)


class Supervised(pl.LightningModule):
    """
    The module of a job: its network, its loss and its optimizer.

    Args:
        job: the step.
        changed: called where a step leaves the network with other attributes than before, e.g. a table that it keeps.
    """

    def __init__(self, job: StepJob, changed: Callable[[], None]) -> None:
        super().__init__()
        self.net, self._job, self._changed = job.network(), job, changed

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        before = _attributes(self.net)
        loss = self._job.loss(self.net, batch)
        after = _attributes(self.net)
        if len(before) != len(after) or any(a is not b for a, b in zip(before, after, strict=True)):
            self._changed()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return _OPTIMIZERS[self._job.optimizer](p for p in self.parameters() if p.requires_grad)


def step_job(
    row: Row,
    network: Network | str,
    optimizer: str = "adam",
    *,
    half: bool = False,
    unstated_batch: int = 0,
    phases: tuple[str, ...] = ("forward", "backward", "optimizer"),
    compiled: bool = False,
) -> StepJob | str:
    """
    Return the training step of a network in the row's precision and batch, or why there is none.

    Args:
        row: of the table.
        network: that the row names, or why it is not described.
        optimizer: key of `_OPTIMIZERS`.
        half: whether mixed precision has half-precision weights (`half_weights`).
        unstated_batch: samples where the row states none; 0: then there is no job.
        phases: that the row's time covers.
        compiled: whether pointwise operations are fused by a compiler.
    """
    mode, batch = precision_of(row), batch_of(row, unstated_batch)
    if mode is None or not batch:
        return "precision or batch is not stated"
    if isinstance(network, str):
        return network
    precision, tf32 = mode
    precision = half_weights(precision) if half else precision
    return StepJob(
        key=f"{network.key}.{precision}.{'tf32' if tf32 else ''}.{optimizer}",
        network=network.build, loss=network.loss, inputs=network.inputs, batch_size=batch,
        precision=precision, optimizer=optimizer, tf32=tf32, phases=phases, units=batch * network.units,
        compiled=compiled, notes=network.notes,
    )  # fmt: skip


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
    """Return the key of `_OPTIMIZERS` with the memory traffic of the row's optimizer; LAMB counts as Adam."""
    name = row["optimizer"].lower()
    keys = {"sgd": "sgd", "rms": "rmsprop", "adamw": "adamw", "adam": "adam", "lamb": "adam"}
    return next((key for part, key in keys.items() if part in name), default)


def batch_of(row: Row, default: int = 0) -> int:
    """
    Return the micro-batch of one device; 0 where neither the row nor `default` states it.

    Some tables state the batch of a whole optimizer step; their notes then give the number of micro-batches, once for
    fp32 and once for half precision ("accum_col=...").
    """
    text = row["batch_per_device"] or (row["global_batch"] if row["devices"] == "1" else "")
    match = re.search(r"accum_col=(\d+) and (\d+)", row["notes"])
    batch = int(float(text)) if text else default
    if match and batch >= _STEP_BATCH:
        half = row["precision"] in ("amp_fp16", "bf16")
        batch = max(1, batch // int(match[2] if half else match[1]))
    return batch


def trace_step_job(job: StepJob) -> JobProfile:
    """
    Trace a job on fake tensors.

    Raises:
        TraceError: torch cannot run it on fake tensors, or its library has no such model.
    """
    with _tf32(job.tf32):
        profile, unchanged = _trace_with_state_check(job, first_batch=False)
        if not unchanged:  # the first batch is not like every other one
            profile, _ = _trace_with_state_check(job, first_batch=True)
    operations = tuple(group for group in profile.operations if group.phase in job.phases)
    return profile.model_copy(
        update={
            "operations": operations,
            "source": profile.source.model_copy(update={"compiled": job.compiled}),
            "notes": (*profile.notes, *job.notes),
        }
    )


def _trace_with_state_check(job: StepJob, *, first_batch: bool) -> tuple[JobProfile, bool]:
    """Return the trace of a job, and whether its step left every attribute of the network as it was."""
    changes: list[None] = []
    samples = max(job.batch_size, _LEAST_SAMPLES)
    described = TrainingJob(
        module=lambda: Supervised(job, lambda: changes.append(None)),
        batch=lambda: job.inputs(samples),
        batch_size=samples,
        precision=job.precision,
        max_steps=1,
    )
    return trace_changed(described, None, first_batch=first_batch), not changes


def _attributes(net: nn.Module) -> list[Any]:
    """Return every attribute of a network and its parts, and what is in those that are lists or dicts."""
    values = [value for part in net.modules() for value in vars(part).values()]
    for value in tuple(values):
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
    return values


@contextlib.contextmanager
def _tf32(on: bool) -> Generator[None, None, None]:  # noqa: FBT001 - torch's switches are plain booleans
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
