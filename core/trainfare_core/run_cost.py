"""
Stage 5: duration of the whole run on a machine, beyond its training steps, and its cost beside the machine.

Hours are the sum of start-up, training steps, validation, checkpoint writes and, on spot machines, the work
that interruptions destroy. Dollars are price x machines x hours, plus the disk that keeps the checkpoints.
Every figure that is assumed and not measured is in `CostAssumptions`, or a constant here, with its reason, and is
listed in the assumptions of the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.candidates import CandidateTable, take
from trainfare_core.clouds import HOURS_PER_MONTH, SERVICES
from trainfare_core.cost_assumptions import COMPILE_S, TORCH_COMPILE_S, CostAssumptions
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.interruptions import HAZARDS, PRIOR, SpotProcess, hazard_of_band
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.book import MachineShapes

__all__ = [
    "NOT_SPOT",
    "UNKNOWN_LENGTH_STEPS",
    "RunTable",
    "cost_assumptions",
    "forward_share",
    "machine_disk_usd_per_hour",
    "runs_of",
    "spot_process",
    "storage_usd_per_hour",
]

Column = NDArray[np.float64]

UNKNOWN_LENGTH_STEPS: Final = 1_000
"""Optimizer steps that a run of unknown length is priced for, with no start-up and no validation: a round number."""

STARTUP_LOG_SIGMA: Final = 0.5
"""Standard deviation of ln(start-up time), a planning figure: four minutes mean two to eight (central 80 %)."""

RIDGE_FLOP_PER_BYTE: Final = 100.0
"""Weighs FLOPs against bytes when forward is split from the rest: an A100's sustained bf16 ridge."""

HOPELESS_SLOWDOWN: Final = 10.0
"""A spot run expected to take ten times its uninterrupted hours is not offered: it may never end. A chosen value."""

SPOT_WAIT_S: Final = 1_800.0
"""Mean wait until a pool that took a machine back has one again. No cloud publishes it: a planning figure. The machine
is not billed meanwhile."""

USUAL_CONFIDENCE: Final = 0.9
"""Of the quantile of a spot run's hours, unless another is asked for."""

LEAST_SAVE_S: Final = 300.0
"""Advice is never to save more often: an interruption that loses less work than this costs its restart and no more. A
chosen value, about the start-up of a machine."""

NOT_SPOT: Final = -1
"""In the place of a row of `HAZARDS`: the machine is not taken back."""

_S_PER_HOUR: Final = 3600.0
_GIB: Final = 2.0**30


@dataclass(frozen=True, slots=True)
class RunTable:
    """
    Whole runs as columns, one row a (plan, cloud service, hazard); all arrays have shape (n,), times in seconds.

    Attributes:
        plan: row of the `CandidateTable` and `PredictionTable`.
        steps: optimizer steps, fewer where the plan's global batch is larger than the script's.
        startup_s, staging_s, training_s, validation_s, checkpoint_s: parts of the run; staging is the copy of the data.
        write_s: of one checkpoint.
        interruption_s: expected time to repeat lost work, to wait and to restart; 0 on machines that are not spot.
        waiting_s: of `interruption_s`, the wait for capacity, which is not billed.
        hours: all parts together: the median, with the mean of what interruptions take.
        log_sigma: standard deviation of ln(hours); on spot machines that which gives the quantile asked for.
        interruptions: expected number of interruptions.
        best_save_steps: optimizer steps between checkpoints that lose least on spot; NaN elsewhere.
        hazard: row of `HAZARDS`, or `NOT_SPOT`.
        restart_s: from new machines until the work goes on after an interruption.
        undisturbed_log_sigma: `log_sigma` without interruptions.
    """

    plan: NDArray[np.int64]
    steps: Column
    startup_s: Column
    staging_s: Column
    training_s: Column
    validation_s: Column
    checkpoint_s: Column
    write_s: Column
    interruption_s: Column
    waiting_s: Column
    hours: Column
    log_sigma: Column
    interruptions: Column
    best_save_steps: Column
    hazard: NDArray[np.int64]
    restart_s: Column
    undisturbed_log_sigma: Column

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.plan)

    @property
    def billed_hours(self) -> Column:
        """Hours without the wait for spot capacity."""
        return self.hours - self.waiting_s / _S_PER_HOUR

    @property
    def mean_billed_hours(self) -> Column:
        """Mean of the billed hours: of log-normal ones without interruptions, and what those take on average."""
        lost_s = np.where(self.hazard == NOT_SPOT, 0.0, self.interruption_s)
        undisturbed = self.hours - lost_s / _S_PER_HOUR
        return (
            undisturbed * np.exp(self.undisturbed_log_sigma**2 / 2) + (lost_s - self.waiting_s) / _S_PER_HOUR
        )

    @property
    def gets_on(self) -> NDArray[np.bool_]:
        """Whether the run is not expected to take `HOPELESS_SLOWDOWN` times its uninterrupted hours."""
        with np.errstate(invalid="ignore"):
            undisturbed_s = self.hours * _S_PER_HOUR - self.interruption_s
            return np.isfinite(self.hours) & (self.interruption_s <= (HOPELESS_SLOWDOWN - 1) * undisturbed_s)


def runs_of(
    profile: JobProfile,
    shapes: MachineShapes,
    candidates: CandidateTable,
    prediction: PredictionTable,
    *,
    plan: NDArray[np.int64],
    service: NDArray[np.str_],
    hazard: NDArray[np.int64],
    confidence: float = USUAL_CONFIDENCE,
    assumed: CostAssumptions | None = None,
    data_gb: float = 0.0,
) -> RunTable:
    """
    Time whole runs.

    A run of unknown length is timed for `UNKNOWN_LENGTH_STEPS` steps. Uncertainty of the hours is that of the
    step time and of the start-up, each by its share, and on spot machines that of `SpotProcess` as well.

    Args:
        profile: the job.
        shapes: machines the candidates point into.
        candidates: plans.
        prediction: one row a plan.
        plan: plan of each run, shape (n,).
        service: service of each run, shape (n,).
        hazard: row of `HAZARDS` of each run, or `NOT_SPOT`, shape (n,).
        confidence: quantile of a spot run's hours that `log_sigma` is to give.
        assumed: what is assumed; None: nothing is stated by the user.
        data_gb: what each machine copies to its disk before the first step.
    """
    assumed = assumed or CostAssumptions()
    step_s = prediction.step_s[plan]
    known_length = profile.plan.optimizer_steps is not None
    steps = _steps(profile, candidates)[plan]
    training_s = steps * step_s
    begin_s = _startup_s(profile, shapes.accelerator[candidates.shape[plan]], service, assumed)
    stage_s = np.full(len(plan), assumed.stage_s(data_gb))
    startup_s, staging_s = (each if known_length else np.zeros_like(each) for each in (begin_s, stage_s))
    validation_s = (
        _validation_s(profile, shapes, candidates, prediction, plan)
        if known_length
        else np.zeros_like(step_s)
    )
    write_s = profile.plan.checkpoint_bytes / assumed.disk_bytes_per_s
    checkpoint_s = _checkpoints(profile, steps) * write_s
    before_s = startup_s + staging_s
    undisturbed_s = before_s + training_s + validation_s + checkpoint_s
    with np.errstate(invalid="ignore", divide="ignore"):
        fixed = np.where(undisturbed_s > 0, (before_s + checkpoint_s) / undisturbed_s, 1.0)
        startup_share = np.where(undisturbed_s > 0, before_s / undisturbed_s, 0.0)
    log_sigma = np.hypot(prediction.log_sigma[plan] * (1 - fixed), STARTUP_LOG_SIGMA * startup_share)
    none = np.zeros_like(undisturbed_s)
    calm = RunTable(
        plan=plan,
        steps=steps,
        startup_s=startup_s,
        staging_s=staging_s,
        training_s=training_s,
        validation_s=validation_s,
        checkpoint_s=checkpoint_s,
        write_s=np.full(len(plan), write_s),
        interruption_s=none,
        waiting_s=none,
        hours=undisturbed_s / _S_PER_HOUR,
        log_sigma=log_sigma,
        interruptions=none,
        best_save_steps=np.full(len(plan), np.nan),
        hazard=hazard,
        restart_s=begin_s + stage_s + write_s,
        undisturbed_log_sigma=log_sigma,
    )
    spot = np.flatnonzero(hazard != NOT_SPOT)
    if not len(spot):
        return calm
    return _interrupted(profile, calm, spot, candidates.nodes[plan], confidence, assumed.disk_bytes_per_s)


def spot_process(profile: JobProfile, runs: RunTable, nodes: NDArray[np.int64]) -> SpotProcess:
    """
    Return what interruptions do to runs on spot machines.

    Args:
        profile: the job.
        runs: all on spot machines, n rows.
        nodes: machines of each run, shape (n,); the loss of one stops them all.
    """
    busy_s = runs.training_s + runs.validation_s
    rates = np.array([hazard.per_hour for hazard in HAZARDS]) / _S_PER_HOUR
    interval_s = _saved_every_s(profile, runs.steps, busy_s)
    with np.errstate(invalid="ignore", divide="ignore"):
        intervals = np.where(interval_s > 0, busy_s / interval_s, 0.0)
    return SpotProcess(
        rate_per_s=rates[runs.hazard] * nodes[:, None],
        interval_s=interval_s,
        write_s=float(runs.write_s.max(initial=0.0)),
        restart_s=runs.restart_s,
        wait_s=SPOT_WAIT_S,
        intervals=intervals,
    )


def _interrupted(
    profile: JobProfile,
    calm: RunTable,
    spot: NDArray[np.int64],
    nodes: NDArray[np.int64],
    confidence: float,
    disk_bytes_per_s: float,
) -> RunTable:
    """Add what interruptions take to the given rows."""
    runs = take(calm, spot)
    process = spot_process(profile, runs, nodes[spot])
    lost_s = np.maximum(process.expected_s - process.undisturbed_s, 0.0)
    hours = runs.hours + lost_s / _S_PER_HOUR
    with np.errstate(invalid="ignore", divide="ignore"):
        step_s = runs.training_s / runs.steps
        assumed = replace(process, write_s=_checkpoint_bytes(profile) / disk_bytes_per_s)
        best_save_steps = np.maximum(1.0, np.maximum(assumed.best_interval_s, LEAST_SAVE_S) / step_s)
    changed = replace(
        runs,
        interruption_s=lost_s,
        waiting_s=process.waited_s,
        hours=hours,
        interruptions=process.interruptions,
        best_save_steps=best_save_steps,
    )
    # Near the middle a quantile says nothing of the width.
    chance = confidence if confidence > 0.6 else USUAL_CONFIDENCE
    rows = np.flatnonzero(changed.gets_on)
    ends = take(runs, rows)
    late_s = (
        spot_process(profile, ends, nodes[spot][rows])
        .finish(ends.startup_s + ends.staging_s, ends.undisturbed_log_sigma)
        .quantile_s(chance)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.log(late_s / (hours[rows] * _S_PER_HOUR)) / NormalDist().inv_cdf(chance)
    log_sigma = runs.log_sigma.copy()
    log_sigma[rows] = np.fmax(width, ends.undisturbed_log_sigma)
    changed = replace(changed, log_sigma=log_sigma)
    columns: dict[str, Any] = {}
    for each in fields(calm):
        column = getattr(calm, each.name).copy()
        column[spot] = getattr(changed, each.name)
        columns[each.name] = column
    return replace(calm, **columns)


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


def storage_usd_per_hour(profile: JobProfile, assumed: CostAssumptions | None = None) -> float:
    """Dollars an hour for the disk space of the checkpoints that are kept while the run lasts."""
    assumed = assumed or CostAssumptions()
    kept_gib = assumed.checkpoints_kept * profile.plan.checkpoint_bytes / _GIB
    return kept_gib * assumed.disk_usd_per_gib_month / HOURS_PER_MONTH


def machine_disk_usd_per_hour(assumed: CostAssumptions, data_gb: float) -> float:
    """Dollars an hour for one machine's own disk: its system and its copy of the data."""
    return assumed.machine_disk_gib(data_gb) * assumed.disk_usd_per_gib_month / HOURS_PER_MONTH


def cost_assumptions(
    profile: JobProfile, assumed: CostAssumptions | None = None, data_gb: float | None = None
) -> tuple[str, ...]:
    """Return the assumptions behind the hours and dollars of a run, in sentences; equal profiles give equal text."""
    assumed = assumed or CostAssumptions()
    startup = ", ".join(f"{name} {assumed.startup_of(name) / 60:g}" for name in SERVICES)
    torch_compile = f", torch.compile {TORCH_COMPILE_S / 60:g}" if profile.source.compiled else ""
    prior, worst = HAZARDS[PRIOR], HAZARDS[hazard_of_band(">20%")]
    plan = profile.plan
    lines = [
        (
            f"start-up before the first step, billed, in minutes: {startup}, "
            f"others {assumed.startup_of('') / 60:g}; then compilation: XLA {COMPILE_S['tpu'] / 60:g}, "
            f"Neuron {COMPILE_S['trainium'] / 60:g}{torch_compile}"
        ),
        (
            f"a checkpoint of {_bytes_text(plan.checkpoint_bytes)} is written and read at "
            f"{assumed.disk_bytes_per_s / 1e6:g} MB/s while training waits; {assumed.checkpoints_kept} are kept at "
            f"{assumed.disk_usd_per_gib_month:g} USD per GiB and month for as long as the run lasts"
        ),
        (
            "spot machines are taken back as often as AWS's band of the machine and region says, where it has one "
            f"(>20% a month: {worst.low_per_hour:.1g} to {worst.high_per_hour:.1g} times per machine and hour, because "
            f"no cloud says how long its machines had run), else {prior.low_per_hour:g} to {prior.high_per_hour:g} "
            "times (a planning figure); one loss stops all machines, repeats what was not saved, waits "
            f"{SPOT_WAIT_S / 60:g} minutes for capacity on average and starts again"
        ),
        _data_assumption(assumed, data_gb),
        (
            "time is billed by the second, on Thunder Compute and Scaleway by the minute; a managed service costs its "
            "own price an hour (SageMaker) or that of its machine (Azure ML)"
        ),
        (
            f"not counted: {'' if assumed.system_disk_gib else 'system disks, '}egress of the trained model, object "
            "storage, taxes, discounts that no file of own prices names, time in a queue; free capacity is not "
            "checked, quotas only where --quota states them"
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


def _data_assumption(assumed: CostAssumptions, data_gb: float | None) -> str:
    if data_gb is None:
        return (
            "the data are on the machine or read as fast as it trains: --data-in and --data-gb count their copy and "
            "transfer"
        )
    return (
        f"each machine copies {data_gb:g} GB to its disk before the first step, at {assumed.stage_gb_per_s:g} GB/s, "
        "which is billed; they are sent to its region once"
    )


def _startup_s(
    profile: JobProfile, accelerators: NDArray[np.str_], service: NDArray[np.str_], assumed: CostAssumptions
) -> Column:
    def compile_s(name: str) -> float:
        device = resolve_device(name)
        return assumed.compile_of(None if device is None else device.kind, compiled=profile.source.compiled)

    return _each(service, assumed.startup_of) + _each(accelerators, compile_s)


def _each(names: NDArray[np.str_], value_of: Callable[[str], float]) -> Column:
    """Return the value of every name, looked up once a distinct name."""
    distinct, inverse = np.unique(names, return_inverse=True)
    return np.array([value_of(str(name)) for name in distinct], dtype=np.float64)[inverse]


def _checkpoint_bytes(profile: JobProfile) -> int:
    """Return the size of a checkpoint, of a run that writes none that of its weights and optimizer state."""
    return profile.plan.checkpoint_bytes or profile.parameter_bytes + profile.optimizer.state_bytes


def _steps(profile: JobProfile, candidates: CandidateTable) -> Column:
    """Return the optimizer steps of every plan: the same samples as the script's run, the last step whole."""
    known = profile.plan.optimizer_steps
    steps = float(UNKNOWN_LENGTH_STEPS if known is None else known)
    if candidates.batch_factor is None:
        return np.full(len(candidates), steps)
    # The slack keeps quotients that are whole in decimal whole in binary.
    return np.ceil(steps / candidates.batch_factor * (1 - 1e-12))


def _checkpoints(profile: JobProfile, steps: Column) -> Column:
    """Return how many checkpoints are written: one every n steps, and at least one in a run that ends."""
    plan = profile.plan
    if not plan.checkpoint_bytes:
        return np.zeros_like(steps)
    every = plan.checkpoint_every_n_steps
    if plan.optimizer_steps is None:
        return steps / every if every else np.zeros_like(steps)
    written = np.maximum(1.0, steps // every) if every else np.ones_like(steps)
    return np.where(steps > 0, written, 0.0)


def _saved_every_s(profile: JobProfile, steps: Column, busy_s: Column) -> Column:
    """Return the seconds of work between checkpoints; a run that saves nothing is one interval."""
    every = profile.plan.checkpoint_every_n_steps
    if not every:
        return busy_s
    part = every / np.maximum(steps, 1.0)
    return busy_s * (part if profile.plan.optimizer_steps is None else np.minimum(1.0, part))


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
    devices = candidates.devices_of(shapes)[plan] * candidates.nodes[plan]
    batches = profile.plan.validation_batches * profile.parallel.world_size / devices
    return batches * part * work_s / micro_batches
