"""Duration of whole runs: start-up, copy of the data, steps, validation, checkpoint writes and interruptions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.batch_scaling import CriticalBatch, ScaledRun, scale_run
from trainfare_core.candidates import CandidateTable
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.interruptions.ends import RunEnds
from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.run_cost.billing import rounding_s
from trainfare_core.run_cost.interrupted import (
    STARTUP_LOG_SIGMA,
    add_ends,
    add_interruptions,
    interruption_rates,
)
from trainfare_core.run_cost.model import checkpoint_bytes
from trainfare_core.run_cost.table import NOT_SPOT, S_PER_HOUR, RunTable

UNKNOWN_LENGTH_STEPS: Final = 1_000
"""Optimizer steps that a run of unknown length is priced for, with no start-up and no validation: a round number."""

DISK_LOG_SIGMA: Final = 0.55
"""Standard deviation of ln(time of a checkpoint's write), a planning figure: gp3 volumes are sold from 0.125 GB/s, and
local NVMe disks write 2 and more; half to twice the assumed 1 GB/s at 80 %."""

RIDGE_FLOP_PER_BYTE: Final = 100.0
"""Weighs FLOPs against bytes when forward is split from the rest: an A100's sustained bf16 ridge."""

_CHIPS_PER_TPU_HOST: Final = {"tpu-v5e": 8, "tpu-v6e": 8}
"""Other generations have 4. By Google's pages: v5p-512 has 256 chips on 64 hosts (https://docs.cloud.google.com/tpu/docs/v5p),
and v5e and v6e have "chips per host: 8" (the same, v5e and v6e)."""


@dataclass(frozen=True, slots=True)
class Rentals:
    """
    What the machines of runs are rented as, as columns; all arrays have shape (n,).

    Attributes:
        service: of the cloud, which decides how long a machine starts.
        hazard: row of `HAZARDS`, or `NOT_SPOT`.
        billing_step_s: of the service; 0 where not known.
        billing_minimum_s: least billed time of a start there; 0 where not known.
        in_block: capacity blocks.
    """

    service: NDArray[np.str_]
    hazard: NDArray[np.int64]
    billing_step_s: Column
    billing_minimum_s: Column
    in_block: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RunTimer:
    """
    Times whole runs of a job with its predicted plans.

    A run of unknown length is timed for `UNKNOWN_LENGTH_STEPS` steps. Uncertainty of the hours is that of the
    step time, of the start-up and of writes to disk, each by its share, and on spot machines that of `SpotProcess` as
    well.

    Attributes:
        profile: the job.
        shapes: machines the candidates point into.
        candidates: plans.
        prediction: one row a plan.
        assumed: what is assumed; as given here nothing is stated by the user.
        data_gb: what each machine copies to its disk before the first step.
        critical_batch: runs with a larger global batch take the samples that give the same quality; None: all see as
            many samples as their steps have.
    """

    profile: JobProfile
    shapes: MachineShapes
    candidates: CandidateTable
    prediction: PredictionTable
    assumed: CostAssumptions = field(default_factory=CostAssumptions)
    data_gb: float = 0.0
    critical_batch: CriticalBatch | None = None

    def runs(self, plan: NDArray[np.int64], rentals: Rentals) -> RunTable:
        """
        Time runs with their interruptions.

        Args:
            plan: row of `candidates` of each run, shape (n,).
            rentals: of each run, n rows.
        """
        calm = self.time_undisturbed(plan, rentals)
        spot = np.flatnonzero(rentals.hazard != NOT_SPOT)
        if not len(spot):
            return calm
        saved_bytes = checkpoint_bytes(self.profile, self.candidates, if_none_written=True)[plan]
        save_s = saved_bytes / self.assumed.disk_bytes_per_s
        runs = add_interruptions(self.profile, calm, spot, save_s)
        rates = interruption_rates(rentals.hazard, calm.machines)
        runs = _add_billed_time(self.profile, runs, rates, rentals)
        return add_ends(self.profile, runs, spot, calm.rounding_s)

    def time_undisturbed(self, plan: NDArray[np.int64], rentals: Rentals) -> RunTable:
        """Time runs as if no machine were taken back; arguments as for `runs`."""
        profile, candidates, prediction = self.profile, self.candidates, self.prediction
        step_s = prediction.step_s[plan]
        known_length = profile.plan.optimizer_steps is not None
        more, more_log_sigma = self._samples_to_quality(plan)
        steps = np.ceil(steps_of(profile, candidates)[plan] * more * (1 - 1e-12))
        training_s = steps * step_s
        accelerators = self.shapes.accelerator[candidates.shape[plan]]
        begin_s = _startup_s(profile, accelerators, rentals.service, self.assumed)
        stage_s = np.full(len(plan), self.assumed.stage_s(self.data_gb))
        startup_s, staging_s = (part if known_length else np.zeros_like(part) for part in (begin_s, stage_s))
        validation_s = self._validation_s(plan) if known_length else np.zeros_like(step_s)
        write_s = checkpoint_bytes(profile, candidates)[plan] / self.assumed.disk_bytes_per_s
        save_steps = self._count_save_steps(plan)
        checkpoint_s = _count_checkpoints(profile, steps, save_steps) * write_s
        before_s = startup_s + staging_s
        undisturbed_s = before_s + training_s + validation_s + checkpoint_s
        with np.errstate(invalid="ignore", divide="ignore"):
            fixed = np.where(undisturbed_s > 0, (before_s + checkpoint_s) / undisturbed_s, 1.0)
            startup_share = np.where(undisturbed_s > 0, before_s / undisturbed_s, 0.0)
            write_share = np.where(undisturbed_s > 0, checkpoint_s / undisturbed_s, 0.0)
        assumed_log_sigma = np.hypot(STARTUP_LOG_SIGMA * startup_share, self._disk_log_sigma * write_share)
        step_log_sigma = np.hypot(prediction.log_sigma[plan], more_log_sigma)
        log_sigma = np.hypot(step_log_sigma * (1 - fixed), assumed_log_sigma)
        none = np.zeros_like(undisturbed_s)
        calm = RunTable(
            plan=plan,
            steps=steps,
            startup_s=startup_s,
            staging_s=staging_s,
            training_s=training_s,
            validation_s=validation_s,
            checkpoint_s=checkpoint_s,
            write_s=write_s,
            interruption_s=none,
            waiting_s=none,
            rounding_s=none,
            hours=undisturbed_s / S_PER_HOUR,
            billed_hours=undisturbed_s / S_PER_HOUR,
            log_sigma=log_sigma,
            interruptions=none,
            save_steps=save_steps,
            best_save_steps=np.full(len(plan), np.nan),
            hazard=rentals.hazard,
            in_block=rentals.in_block,
            restart_s=begin_s + stage_s + write_s,
            step_log_sigma=prediction.log_sigma[plan],
            machines=candidates.nodes[plan] * _count_hosts(self.shapes)[candidates.shape[plan]],
            ends=RunEnds(np.zeros((0, 3, 0))),
            ends_row=np.full(len(plan), -1),
        )
        return _add_billed_time(profile, calm, np.zeros((len(plan), 1)), rentals)

    def _samples_to_quality(self, plan: NDArray[np.int64]) -> tuple[Column, Column]:
        """
        Return how many times the samples each run takes, and the standard deviation of its logarithm.

        A smaller batch is never counted as a saving. Where a ratio is not known, it is NaN.
        """
        own, factor = self.profile.global_samples_per_step, self.candidates.batch_factor
        if self.critical_batch is None or not own or factor is None:
            return np.ones(len(plan)), np.zeros(len(plan))
        ratio = self.critical_batch.samples_ratio(own, np.maximum(factor[plan], 1.0) * own)
        return ratio.median, np.log(ratio.high / ratio.low) / (2 * Z80)

    @property
    def _disk_log_sigma(self) -> float:
        """Standard deviation of ln(time of a write to disk); 0 where the user states the rate."""
        return 0.0 if "disk_gb_per_s" in self.assumed.model_fields_set else DISK_LOG_SIGMA

    def _validation_s(self, plan: NDArray[np.int64]) -> Column:
        """
        Return the seconds of all validation batches.

        The device's work of a step (no communication, no waiting for data) over the profile's micro-batches in it
        gives one micro-batch; a validation batch is its forward part, and the batches are shared by all replicas of the
        model.
        """
        profile, candidates, prediction = self.profile, self.candidates, self.prediction
        measured = get_measured_validation(profile)
        part = forward_share(profile) if measured is None else measured
        work_s = prediction.compute_s[plan] + prediction.memory_s[plan] + prediction.launch_s[plan]
        micro_batches = candidates.accumulate[plan] * candidates.micro_ratio[plan]
        replicas = candidates.replicas_of(self.shapes)[plan]
        batches = profile.plan.validation_batches * profile.parallel.data_parallel_size / replicas
        scaled = scale_plans(profile, candidates)
        if scaled is not None:
            batches = np.where(candidates.weak_or_not[plan], scaled.validation_batches[plan], batches)
        return batches * part * work_s / micro_batches

    def _count_save_steps(self, plan: NDArray[np.int64]) -> Column:
        """Return the optimizer steps between two checkpoints, NaN for none; weak scaling has fewer in an epoch."""
        own = np.full(len(plan), float(self.profile.plan.checkpoint_every_n_steps or np.nan))
        scaled = scale_plans(self.profile, self.candidates)
        if scaled is None:
            return own
        return np.where(self.candidates.weak_or_not[plan], scaled.checkpoint_every_n_steps[plan], own)


def _count_checkpoints(profile: JobProfile, steps: Column, save_steps: Column) -> Column:
    """Return how many checkpoints are written: one every n steps, and at least one in a run that ends."""
    if not profile.plan.checkpoint_bytes:
        return np.zeros_like(steps)
    if profile.plan.optimizer_steps is None:
        return np.nan_to_num(steps / save_steps)
    written = np.where(np.isnan(save_steps), 1.0, np.maximum(1.0, steps // save_steps))
    return np.where(steps > 0, written, 0.0)


def _add_billed_time(profile: JobProfile, runs: RunTable, rate_per_s: Column, rentals: Rentals) -> RunTable:
    """Add what is billed and not used; the steps of a run of unknown length end no run."""
    if profile.plan.optimizer_steps is None:
        return runs
    beyond_s = rounding_s(runs, rate_per_s, rentals.billing_step_s, rentals.billing_minimum_s)
    return replace(runs, rounding_s=beyond_s, billed_hours=runs.hours + beyond_s / S_PER_HOUR)


def _count_hosts(shapes: MachineShapes) -> NDArray[np.int64]:
    """Return how many hosts a machine of each shape has: one, but for a TPU slice."""

    def chips_per_host(name: str) -> float:
        device = resolve_device(name)
        if device is None or device.kind != "tpu":
            return math.inf
        return _CHIPS_PER_TPU_HOST.get(device.generation, 4)

    hosts = np.ceil(shapes.accelerator_count / _each(shapes.accelerator, chips_per_host))
    return np.maximum(hosts, 1).astype(np.int64)


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


def steps_of(profile: JobProfile, candidates: CandidateTable) -> Column:
    """Return the optimizer steps of every plan: the same samples as the script's run, the last step whole."""
    known = profile.plan.optimizer_steps
    steps = float(UNKNOWN_LENGTH_STEPS if known is None else known)
    if candidates.batch_factor is None:
        return np.full(len(candidates), steps)
    # The slack keeps quotients that are whole in decimal whole in binary.
    shared = np.ceil(steps / candidates.batch_factor * (1 - 1e-12))
    scaled = scale_plans(profile, candidates)
    return shared if scaled is None else np.where(candidates.weak_or_not, scaled.steps, shared)


def scale_plans(profile: JobProfile, candidates: CandidateTable) -> ScaledRun | None:
    """Return the length of the run under weak scaling for every plan; None where no plan scales so."""
    if candidates.batch_factor is None or not candidates.weak_or_not.any():
        return None
    if profile.plan.optimizer_steps is None:
        return None
    replicas = np.rint(candidates.batch_factor * profile.parallel.data_parallel_size).astype(np.int64)
    return scale_run(profile, np.maximum(replicas, 1))


def get_measured_validation(profile: JobProfile) -> float | None:
    """Return a measured validation batch as a part of the measured work of one micro-batch, or None."""
    measured = profile.measured
    if measured is None or measured.validation_batch is None or measured.step.median_s <= 0:
        return None
    per_micro_batch_s = (
        measured.step.median_s / measured.work_ratio / profile.parallel.accumulate_grad_batches
    )
    return measured.validation_batch.median_s / per_micro_batch_s
