"""
Stage 5: duration of the whole run on a machine, beyond its training steps, and its cost beside the machine.

Hours are the sum of start-up, training steps, validation, checkpoint writes and, on spot machines, the work
that interruptions destroy. Dollars are price x machines x hours, plus the disk that keeps the checkpoints.
Every figure that is assumed and not measured is a constant here or in `clouds`, with its reason, and is listed in the
assumptions of the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.candidates import CandidateTable
from trainfare_core.clouds import (
    HOURS_PER_MONTH,
    OTHER_INTERRUPTIONS_PER_MACHINE_HOUR,
    OTHER_STARTUP_S,
    SERVICES,
    interruptions_per_machine_hour,
    service_startup_s,
)
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.book import MachineShapes

__all__ = [
    "UNKNOWN_LENGTH_STEPS",
    "RunTable",
    "cost_assumptions",
    "forward_share",
    "runs_of",
    "storage_usd_per_hour",
]

Column = NDArray[np.float64]

UNKNOWN_LENGTH_STEPS: Final = 1_000
"""Optimizer steps that a run of unknown length is priced for, with no start-up and no validation: a round number."""

STARTUP_LOG_SIGMA: Final = 0.5
"""Standard deviation of ln(start-up time), a planning figure: four minutes mean two to eight (central 80 %)."""

COMPILE_S: Final = {"tpu": 300.0, "trainium": 1_200.0, "inferentia": 1_200.0, "gaudi": 300.0}
"""Graph compilation before the first step: XLA some minutes, neuronx tens of minutes with a cold cache."""

TORCH_COMPILE_S: Final = 120.0
"""The user's step runs under torch.compile: a minute or two before the first step of a mid-sized model."""

DISK_BYTES_PER_S: Final = 1e9
"""Checkpoint writes and reads by one writer, while training waits: the top rate of AWS's gp3 SSD volumes."""

DISK_USD_PER_GIB_MONTH: Final = 0.10
"""Between the list prices of general-purpose SSD volumes on the three clouds (0.08 to 0.13)."""

CHECKPOINTS_KEPT: Final = 2
"""The best and the last, the usual settings of Lightning's ModelCheckpoint."""

RIDGE_FLOP_PER_BYTE: Final = 100.0
"""Weighs FLOPs against bytes when forward is split from the rest: an A100's sustained bf16 ridge."""

HOPELESS_SLOWDOWN: Final = 10.0
"""A spot run expected to take ten times its uninterrupted hours is not offered: it may never end. A chosen value."""

_S_PER_HOUR: Final = 3600.0
_GIB: Final = 2.0**30


@dataclass(frozen=True, slots=True)
class RunTable:
    """
    Whole runs as columns, one row a (plan, cloud service, spot or not); all arrays have shape (n,), times in
    seconds.

    Attributes:
        plan: row of the `CandidateTable` and `PredictionTable`.
        startup_s, training_s, validation_s, checkpoint_s: parts of the run.
        interruption_s: expected time to restart and to repeat lost work; 0 on machines that are not spot.
        hours: all parts together, the median; inf where the run cannot be expected to end.
        log_sigma: standard deviation of ln(hours).
        interruptions: expected number of interruptions.
        best_save_steps: optimizer steps between checkpoints that lose least on spot; NaN elsewhere.
    """

    plan: NDArray[np.int64]
    startup_s: Column
    training_s: Column
    validation_s: Column
    checkpoint_s: Column
    interruption_s: Column
    hours: Column
    log_sigma: Column
    interruptions: Column
    best_save_steps: Column

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.plan)


def runs_of(
    profile: JobProfile,
    shapes: MachineShapes,
    candidates: CandidateTable,
    prediction: PredictionTable,
    *,
    plan: NDArray[np.int64],
    provider: NDArray[np.str_],
    service: NDArray[np.str_],
    spot: NDArray[np.bool_],
) -> RunTable:
    """
    Time whole runs.

    A run of unknown length is timed for `UNKNOWN_LENGTH_STEPS` steps. Uncertainty of the hours is that of the
    step time and of the start-up, each by its share, and on spot machines that of a compound Poisson loss.

    Args:
        profile: the job.
        shapes: machines the candidates point into.
        candidates: plans.
        prediction: one row a plan.
        plan: plan of each run, shape (n,).
        provider: cloud of each run, shape (n,).
        service: service of each run, shape (n,).
        spot: whether the machine can be taken back, shape (n,).
    """
    step_s = prediction.step_s[plan]
    known_length = profile.plan.optimizer_steps is not None
    steps = UNKNOWN_LENGTH_STEPS if profile.plan.optimizer_steps is None else profile.plan.optimizer_steps
    training_s = steps * step_s
    restart_s = _startup_s(profile, shapes.accelerator[candidates.shape[plan]], service)
    startup_s = restart_s if known_length else np.zeros_like(restart_s)
    validation_s = (
        _validation_s(profile, shapes, candidates, prediction, plan)
        if known_length
        else np.zeros_like(step_s)
    )
    write_s = profile.plan.checkpoint_bytes / DISK_BYTES_PER_S
    checkpoint_s = np.full(len(plan), _checkpoints(profile, steps) * write_s)
    busy_s = training_s + validation_s
    losses = _Losses.of(
        rate_per_s=_interruptions_per_s(provider, candidates.nodes[plan], spot),
        busy_s=busy_s,
        saved_every_s=_saved_every_s(profile, steps, busy_s),
        write_s=write_s,
        restart_s=restart_s + write_s,
    )
    total_s = startup_s + busy_s + checkpoint_s + losses.lost_s
    fixed_s = startup_s + checkpoint_s
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total_s > 0, (total_s - fixed_s) / total_s, 0.0)
        loss_share = np.where(total_s > 0, losses.deviation_s / total_s, 0.0)
        startup_share = np.where(total_s > 0, startup_s / total_s, 0.0)
        log_sigmas = (prediction.log_sigma[plan] * share, STARTUP_LOG_SIGMA * startup_share, loss_share)
        log_sigma = np.sqrt(np.square(log_sigmas).sum(axis=0))
        best_save_steps = np.where(spot, np.maximum(1.0, losses.best_interval_s / step_s), np.nan)
    return RunTable(
        plan=plan,
        startup_s=startup_s,
        training_s=training_s,
        validation_s=validation_s,
        checkpoint_s=checkpoint_s,
        interruption_s=losses.lost_s,
        hours=total_s / _S_PER_HOUR,
        log_sigma=log_sigma,
        interruptions=losses.interruptions,
        best_save_steps=best_save_steps,
    )


def forward_share(profile: JobProfile) -> float:
    """
    Part of a step's work that a validation batch repeats, 0..1, from the trace alone.

    Each operation weighs max(FLOPs / `RIDGE_FLOP_PER_BYTE`, bytes); recomputation in backward is not forward.
    """
    weight = [
        max(group.flops / RIDGE_FLOP_PER_BYTE, float(group.bytes_moved)) for group in profile.operations
    ]
    forward = sum(
        value
        for value, group in zip(weight, profile.operations, strict=True)
        if group.phase == "forward" and not group.recomputed
    )
    total = sum(weight)
    return forward / total if total > 0 else 0.0


def storage_usd_per_hour(profile: JobProfile) -> float:
    """Dollars an hour for the disk space of the checkpoints that are kept while the run lasts."""
    kept_gib = CHECKPOINTS_KEPT * profile.plan.checkpoint_bytes / _GIB
    return kept_gib * DISK_USD_PER_GIB_MONTH / HOURS_PER_MONTH


def cost_assumptions(profile: JobProfile) -> tuple[str, ...]:
    """Return the assumptions behind the hours and dollars of a run, in sentences; equal profiles give equal text."""
    startup = ", ".join(f"{name} {service.startup_s / 60:g}" for name, service in SERVICES.items())
    torch_compile = f", torch.compile {TORCH_COMPILE_S / 60:g}" if profile.source.compiled else ""
    usual, other = interruptions_per_machine_hour("aws"), OTHER_INTERRUPTIONS_PER_MACHINE_HOUR
    plan = profile.plan
    lines = [
        (
            f"start-up before the first step, billed, in minutes: {startup}, "
            f"others {OTHER_STARTUP_S / 60:g}; then compilation: XLA {COMPILE_S['tpu'] / 60:g}, "
            f"Neuron {COMPILE_S['trainium'] / 60:g}{torch_compile}"
        ),
        (
            f"a checkpoint of {_bytes_text(plan.checkpoint_bytes)} is written and read at "
            f"{DISK_BYTES_PER_S / 1e6:g} MB/s while training waits; {CHECKPOINTS_KEPT} are kept at "
            f"{DISK_USD_PER_GIB_MONTH:g} USD per GiB and month for as long as the run lasts"
        ),
        (
            f"spot machines are taken back {usual:g} times per machine and hour (a planning figure, "
            f"{other:g} on clouds we do not know); one loss stops all machines, repeats what was "
            "not saved and starts again"
        ),
        (
            "not counted: data transfer between regions or out of a cloud, boot disks, taxes, discounts that "
            "no file of own prices names, time in a queue; quota and free capacity are not checked"
        ),
    ]
    if plan.validation_batches:
        how = (
            "the measured validation batch, scaled as the training step is"
            if _measured_validation(profile) is not None
            else f"the forward part of the step ({forward_share(profile):.0%} by the trace)"
        )
        lines.append(f"validation costs {how}, shared by all devices")
    if plan.optimizer_steps is None:
        lines.append(
            f"the length of the run is not known ({plan.unknown_because}): hours and dollars are for "
            f"{UNKNOWN_LENGTH_STEPS:,} optimizer steps, without start-up and validation"
        )
    return tuple(lines)


def _bytes_text(size: int) -> str:
    """Return a size in the unit that suits it."""
    unit, name = next(
        (u, n)
        for u, n in ((_GIB, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "bytes"))
        if size >= u or u == 1.0
    )
    return f"{size / unit:.3g} {name}"


@dataclass(frozen=True, slots=True)
class _Losses:
    """Effect of interruptions on runs, shape (n,): time lost, its spread, their number, Young's interval."""

    lost_s: Column
    deviation_s: Column
    interruptions: Column
    best_interval_s: Column

    @classmethod
    def of(
        cls, *, rate_per_s: Column, busy_s: Column, saved_every_s: Column, write_s: float, restart_s: Column
    ) -> _Losses:
        """
        Expect losses under memoryless interruptions at `rate_per_s`.

        The expected time of a run saved every t seconds is e^(rate restart) (e^(rate (t + write)) - 1) / rate
        per interval (J. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps",
        2006); to first order that is an interruption costing a restart and half an interval. The best
        interval is sqrt(2 write / rate) (J. Young, 1974).
        """
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            intervals = np.where(saved_every_s > 0, busy_s / saved_every_s, 0.0)
            each_s = (
                np.exp(rate_per_s * restart_s) * np.expm1(rate_per_s * (saved_every_s + write_s)) / rate_per_s
            )
            undisturbed_s = busy_s + intervals * write_s
            lost_s = np.where(intervals > 0, intervals * each_s - undisturbed_s, 0.0)
            lost_s = np.where(rate_per_s > 0, np.maximum(lost_s, 0.0), 0.0)
            lost_s = np.where(lost_s > (HOPELESS_SLOWDOWN - 1) * undisturbed_s, np.inf, lost_s)
            interruptions = rate_per_s * (undisturbed_s + lost_s)
            square_s2 = saved_every_s**2 / 3 + saved_every_s * restart_s + restart_s**2
            deviation_s = np.sqrt(np.where(rate_per_s > 0, interruptions * square_s2, 0.0))
            best_interval_s = np.sqrt(2 * write_s / rate_per_s)
        return cls(lost_s, deviation_s, interruptions, best_interval_s)


def _interruptions_per_s(
    provider: NDArray[np.str_], nodes: NDArray[np.int64], spot: NDArray[np.bool_]
) -> Column:
    return np.where(spot, _each(provider, interruptions_per_machine_hour) * nodes / _S_PER_HOUR, 0.0)


def _startup_s(profile: JobProfile, accelerators: NDArray[np.str_], service: NDArray[np.str_]) -> Column:
    return _each(service, service_startup_s) + _each(accelerators, lambda name: _compile_s(profile, name))


def _compile_s(profile: JobProfile, name: str) -> float:
    on_gpu_s = TORCH_COMPILE_S if profile.source.compiled else 0.0
    device = resolve_device(name)
    return on_gpu_s if device is None else COMPILE_S.get(device.kind, on_gpu_s)


def _each(names: NDArray[np.str_], value_of: Callable[[str], float]) -> Column:
    """Return the value of every name, looked up once a distinct name."""
    distinct, inverse = np.unique(names, return_inverse=True)
    return np.array([value_of(str(name)) for name in distinct], dtype=np.float64)[inverse]


def _checkpoints(profile: JobProfile, steps: int) -> float:
    """Return how many checkpoints are written: one every n steps, and at least one in a run that ends."""
    plan = profile.plan
    if not plan.checkpoint_bytes or not steps:
        return 0.0
    every = plan.checkpoint_every_n_steps
    if plan.optimizer_steps is None:
        return steps / every if every else 0.0
    return float(max(1, steps // every)) if every else 1.0


def _saved_every_s(profile: JobProfile, steps: int, busy_s: Column) -> Column:
    """Return the seconds of work between checkpoints; a run that saves nothing is one interval."""
    every = profile.plan.checkpoint_every_n_steps
    if not every or not steps:
        return busy_s
    part = every / steps
    return busy_s * (part if profile.plan.optimizer_steps is None else min(1.0, part))


def _measured_validation(profile: JobProfile) -> float | None:
    """Return a measured validation batch as a part of the measured work of one micro-batch, or None."""
    measured = profile.measured
    if measured is None or measured.validation_batch is None or measured.step.median_s <= 0:
        return None
    per_micro_batch_s = (
        measured.step.median_s / measured.work_ratio / profile.parallel.accumulate_grad_batches
    )
    return measured.validation_batch.median_s / per_micro_batch_s


def _validation_s(
    profile: JobProfile,
    shapes: MachineShapes,
    candidates: CandidateTable,
    prediction: PredictionTable,
    plan: NDArray[np.int64],
) -> Column:
    """
    Return the seconds of all validation batches.

    The device's work of a step (no communication, no waiting for data) over the profile's micro-batches in it
    gives one micro-batch; a validation batch is its forward part, and the batches are shared by all devices.
    """
    measured = _measured_validation(profile)
    part = forward_share(profile) if measured is None else measured
    work_s = prediction.compute_s[plan] + prediction.memory_s[plan] + prediction.launch_s[plan]
    micro_batches = candidates.accumulate[plan] * candidates.micro_ratio[plan]
    devices = shapes.accelerator_count[candidates.shape[plan]] * candidates.nodes[plan]
    batches = profile.plan.validation_batches * profile.parallel.world_size / devices
    return batches * part * work_s / micro_batches
