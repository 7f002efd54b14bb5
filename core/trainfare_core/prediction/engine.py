"""
From a profile and a table of plans to a table of predictions: the parts put together, column by column.

    step = hold(device time x source correction, host launches) + exposed communication, and not faster
    than the input
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import Accelerator, accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import source, uncertainty
from trainfare_core.prediction.language_models.coefficients import DecoderFit, decoder_calibration
from trainfare_core.prediction.language_models.plans import (
    decoder_device_s,
    decoder_ledger,
    decoder_log_sigma,
    decoder_plan_times,
    spread_of_plans,
)
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.memory.calibrated import memory_peak
from trainfare_core.prediction.memory.peak import usable_memory_bytes
from trainfare_core.prediction.network import collectives
from trainfare_core.prediction.roofline.coefficients import PATHS, Calibration, calibration
from trainfare_core.prediction.roofline.operations import (
    DeviceRates,
    Operations,
    StepTime,
    device_rates,
    host_bound,
    host_launch_s,
    operation_times,
)
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.book import MachineShapes

__all__ = ["Run", "predict", "predict_run", "prepare"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

BYTES_PER_GBIT: Final = 1e9 / 8
_FSDP: Final = SHARDINGS.index("fsdp")
_NONE: Final = SHARDINGS.index("none")
_NO_DEVICE: Final = -1


@dataclass(frozen=True, slots=True)
class Devices:
    """The distinct accelerators of a table; lists of the same length."""

    found: list[Accelerator]
    rates: list[DeviceRates]
    links: list[collectives.Links]
    refused: dict[str, str]
    """Why a name has no prediction."""
    names: dict[str, int]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything about one profile that does not depend on the plan; made once by `prepare`."""

    profile: JobProfile
    fit: Calibration
    operations: Operations
    correction: source.SourceCorrection
    pipeline: source.InputPipeline
    decoder: DecoderFit
    ledger: DecoderLedger | None
    """Sums of a language model, which has terms of its own; None: another kind of model."""

    @property
    def unknown_because(self) -> str:
        """Why this profile cannot be predicted anywhere; "" where it can."""
        if not self.profile.operations:
            return "the profile has no operations, because its trace was empty: measure a step with FareMeter"
        return ""


def predict(profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable) -> PredictionTable:
    """
    Predict step time and memory of every plan.

    Args:
        profile: the job.
        shapes: machines, as the plans index them.
        candidates: plans, n rows.

    Returns:
        n rows; rows without an answer have NaN and a reason.
    """
    return predict_run(prepare(profile), shapes, candidates)


def prepare(profile: JobProfile, fit: Calibration | None = None, decoder: DecoderFit | None = None) -> Run:
    """Read a profile and compare its measured step, where there is one, with its own prediction."""
    fit, decoder = fit or calibration(), decoder or decoder_calibration()
    operations, ledger = Operations.of(profile, fit), decoder_ledger(profile)
    correction = (
        _correction(profile, operations, fit)
        if ledger is None
        else _decoder_correction(profile, ledger, decoder)
    )
    return Run(profile, fit, operations, correction, source.input_pipeline(profile), decoder, ledger)


def predict_run(run: Run, shapes: MachineShapes, plans: CandidateTable) -> PredictionTable:
    """Predict every plan of a prepared profile; see `predict`."""
    names = np.asarray(shapes.accelerator)[plans.shape]
    devices = _devices(run, tuple(str(name) for name in np.unique(names)))
    row = _rows(names, devices)
    reason = _reasons(run, shapes, plans, names, devices)
    step = _Columns.of(run, shapes, plans, devices, np.maximum(row, 0))
    unknown = reason != ""
    return step.table(run, shapes, plans, devices, np.maximum(row, 0), unknown, reason)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Seconds of every plan, shape (n,)."""

    compute_s: Array
    memory_s: Array
    launch_s: Array
    communication_s: Array
    hidden_s: Array
    input_s: Array
    network_s: Array
    host_share: Array
    world: Array

    @classmethod
    def of(
        cls, run: Run, shapes: MachineShapes, plans: CandidateTable, devices: Devices, row: NDArray[np.int64]
    ) -> _Columns:
        if run.ledger is not None or plans.parallel is not None:
            return cls.of_decoder(run, shapes, plans, devices, row)
        fit = run.fit
        per_machine = np.maximum(shapes.accelerator_count[plans.shape], 1.0)
        nodes = plans.nodes.astype(np.float64)
        world = per_machine * nodes
        sharded = plans.sharding == _FSDP
        passes = plans.accumulate / run.profile.parallel.accumulate_grad_batches
        update = np.where(sharded, 1.0 / world, 1.0)
        times = _device_times(run, devices, row, plans.micro_ratio)
        factors = np.array([run.correction.factors(d, fit.source) for d in devices.found] or [(1.0, 1.0)])[
            row
        ]
        factor = factors[:, 0]
        compute, memory_s, floor = (
            (part[0] + part[1]) * passes + part[2] * update
            for part in (times.compute_s, times.memory_s, times.floor_s)
        )
        launch = (times.launch_s[0] + times.launch_s[1]) * passes + times.launch_s[2]
        factor = _never_faster_than_roofline(factor, compute + memory_s + launch, floor, run)
        compute, memory_s, launch = compute * factor, memory_s * factor, launch * factor
        device_s = compute + memory_s + launch
        host_s = _host_s(run, devices, row, passes) * factors[:, 1]
        held = host_bound(device_s, host_s)
        total = times.total_s * factor
        gbit = shapes.network_gbit_per_s[plans.shape]
        network = np.where(gbit > 0, gbit, np.nan) * BYTES_PER_GBIT
        moved, network_s, window = _communication(
            run, devices, row, per_machine, nodes, network, sharded, plans.accumulate, total, passes
        )
        waiting = (
            fit.communication.straggler_share
            * np.log2(np.minimum(per_machine, collectives.LONGEST_RING))
            * held
        )
        exposed = collectives.exposed_s(moved, window, fit.communication)
        computed = held + exposed + waiting
        samples = plans.micro_ratio * passes
        input_s = _input_s(run, shapes.vcpus[plans.shape] / per_machine, samples, computed)
        return cls(
            compute, memory_s, held - compute - memory_s, exposed + waiting, moved - exposed, input_s,
            network_s, np.clip(host_s / np.maximum(held, 1e-30), 0.0, 1.0), world,
        )  # fmt: skip

    @classmethod
    def of_decoder(
        cls, run: Run, shapes: MachineShapes, plans: CandidateTable, devices: Devices, row: NDArray[np.int64]
    ) -> _Columns:
        """Return the columns of a language model; see `decoder_step`."""
        ledger = run.ledger or DecoderLedger.of(run.profile)
        spread = spread_of_plans(shapes, plans)
        times, floor = decoder_plan_times(ledger, devices.found, devices.links, row, spread, run.decoder)
        factors = np.array(
            [run.correction.factors(d, run.fit.source) for d in devices.found] or [(1.0, 1.0)]
        )[row]
        device_s = times.compute_s + times.memory_s
        factor = _never_faster_than_roofline(factors[:, 0], device_s, floor, run)
        launch = times.launch_s * factors[:, 1]
        exposed = times.bubble_s * factor + times.exposed_s
        computed = device_s * factor + launch + exposed
        input_s = _input_s(
            run,
            shapes.vcpus[plans.shape] / spread.per_machine,
            _samples_ratio(run, spread.ratio * spread.passes),
            computed,
        )
        share = launch / np.maximum(device_s * factor + launch, 1e-30)
        return cls(
            times.compute_s * factor, times.memory_s * factor, launch, exposed, times.hidden_s, input_s,
            times.network_s, np.clip(share, 0.0, 1.0), spread.per_machine * spread.machines,
        )  # fmt: skip

    def table(
        self, run: Run, shapes: MachineShapes, plans: CandidateTable, devices: Devices,
        row: NDArray[np.int64], unknown: Flags, reason: NDArray[np.str_],
    ) -> PredictionTable:  # fmt: skip
        step = self.compute_s + self.memory_s + self.launch_s + self.communication_s + self.input_s
        sigma = self._log_sigma(run, shapes, plans, devices, row, step)
        held = memory_peak(
            run.profile,
            plans.micro_ratio,
            self.world,
            plans.sharding == _FSDP,
            plans.parallel,
            plans.accumulate,
        )
        peak, memory_sigma = held.peak_bytes, held.log_sigma
        usable = np.array([usable_memory_bytes(d) for d in devices.found] or [np.nan])[row]
        with_reason = reason.copy()
        strange = ~unknown & ~(np.isfinite(step) & (step > 0))
        if strange.any():
            with_reason = np.where(strange, "the operations of this profile take no finite time", reason)
            unknown = unknown | strange

        def known(values: Array) -> Array:
            return np.where(unknown, np.nan, values)

        return PredictionTable(
            step_s=known(step),
            log_sigma=known(sigma),
            compute_s=known(self.compute_s),
            memory_s=known(self.memory_s),
            launch_s=known(self.launch_s),
            communication_s=known(self.communication_s),
            communication_hidden_s=known(self.hidden_s),
            input_s=known(self.input_s),
            memory_bytes=known(peak),
            memory_log_sigma=known(memory_sigma),
            usable_memory_bytes=known(usable),
            fits=~unknown & (peak * np.exp(uncertainty.Z80 * memory_sigma) <= usable),
            unknown_because=with_reason,
        )

    def _log_sigma(
        self, run: Run, shapes: MachineShapes, plans: CandidateTable, devices: Devices,
        row: NDArray[np.int64], step: Array,
    ) -> Array:  # fmt: skip
        known = self._uncertainty_factors(run, plans, devices, row, step)
        general = uncertainty.step_log_sigma(known, run.fit.sigma)
        if run.ledger is None and plans.parallel is None:
            return general
        ledger = run.ledger or DecoderLedger.of(run.profile)
        spread = spread_of_plans(shapes, plans)
        own = decoder_log_sigma(devices.found, row, ledger, spread, run.decoder)
        # The rows that these widths come from: compiled runs, and hosts that hold trainers without overlap up.
        covered = replace(
            known, compiled=False, launch_share=np.where(spread.overlap, known.launch_share, 0.0)
        )
        own = uncertainty.widened(own, covered, run.fit.sigma)
        return np.asarray(np.where(known.corrected | known.same_device, np.minimum(general, own), own))

    def _uncertainty_factors(
        self, run: Run, plans: CandidateTable, devices: Devices, row: NDArray[np.int64], step: Array
    ) -> uncertainty.UncertaintyFactors:
        found, fit = devices.found, run.fit

        def flag(values: list[bool]) -> Flags:
            return np.array(values or [False], dtype=np.bool_)[row]

        origin = run.correction.device
        seen = [any(fit.is_measured(d, path) for path in PATHS) for d in found]
        safe = np.where(step > 0, step, 1.0)
        return uncertainty.UncertaintyFactors(
            same_device=flag([origin is not None and d.name == origin.name for d in found]),
            corrected=flag([origin is not None and d.kind == origin.kind for d in found]),
            unmeasured=flag([not r.measured for r in devices.rates]),
            unseen_device=flag([not fit.is_known(d) for d in found]),
            unseen_generation=flag([not s for s in seen]),
            emulated=flag([r.emulated for r in devices.rates]),
            needs_porting=flag([d.needs_porting for d in found]),
            launch_share=self.host_share,
            communication_share=np.nan_to_num(self.communication_s / safe),
            network_share=np.nan_to_num(np.minimum(self.network_s, self.communication_s) / safe),
            several_devices=self.world > 1,
            several_nodes=plans.nodes > 1,
            compiled=run.profile.source.compiled,
            unknown_bytes_share=1.0 - run.profile.coverage,
        )


def _devices(run: Run, names: tuple[str, ...]) -> Devices:
    devices = Devices([], [], [], {}, {})
    for name in names:
        try:
            device = accelerator(name)
        except UnknownNameError:
            devices.refused[name] = f"{name} is not in the accelerator catalogue"
            continue
        rates = device_rates(device, run.operations, run.fit)
        reason = "" if device.trains else f"{device.name} cannot train: it is made for inference"
        if reason or rates.unknown_because:
            devices.refused[name] = reason or rates.unknown_because
            continue
        devices.names[name] = len(devices.found)
        devices.found.append(device)
        devices.rates.append(rates)
        devices.links.append(collectives.link_of(device, run.fit.communication))
    return devices


def _rows(names: NDArray[np.str_], devices: Devices) -> NDArray[np.int64]:
    distinct, inverse = np.unique(names, return_inverse=True)
    rows = [devices.names.get(str(name), _NO_DEVICE) for name in distinct]
    return np.array(rows, dtype=np.int64)[inverse]


def _reasons(
    run: Run, shapes: MachineShapes, plans: CandidateTable, names: NDArray[np.str_], devices: Devices
) -> NDArray[np.str_]:
    """Return why each plan has no prediction, "" where it has one; the first reason that holds."""
    distinct, inverse = np.unique(names, return_inverse=True)
    by_name = np.array([devices.refused.get(str(name), "") for name in distinct], dtype=object)[inverse]
    rows = [devices.names.get(str(name), _NO_DEVICE) for name in distinct]
    no_link = [devices.links[r].unknown_because if r >= 0 else "" for r in rows]
    by_link = np.array(no_link, dtype=object)[inverse]
    count = shapes.accelerator_count[plans.shape]
    network = shapes.network_gbit_per_s[plans.shape]
    checks = (
        (np.full(len(plans), bool(run.unknown_because)), run.unknown_because),
        (by_name != "", by_name),
        (
            ~np.isfinite(count) | (count < 1) | (count != np.floor(count)),
            "the machine rents a share of a device; how fast a share runs is not known",
        ),
        ((plans.nodes > 1) & ~(network > 0), "the network of this machine is not known"),
        ((count > 1) & (by_link != ""), by_link),
        (
            (plans.sharding == _NONE) & (count * plans.nodes > 1),
            "several devices need a strategy: ddp or fsdp",
        ),
        (~(plans.micro_ratio > 0), "the micro-batch of this plan is not known"),
    )
    reason = np.full(len(plans), "", dtype=object)
    for holds, text in checks:
        reason = np.where((reason == "") & holds, text, reason)
    return np.asarray(reason.astype(np.str_)) if len(reason) else np.zeros(0, dtype="U1")


def _device_times(run: Run, devices: Devices, row: NDArray[np.int64], ratio: Array) -> StepTime:
    """Return seconds by phase of each plan, worked out once a distinct (device, micro-batch ratio)."""
    if not devices.found:
        nothing = np.full((3, len(row)), np.nan)
        return StepTime(nothing, nothing, nothing, nothing)
    pairs, inverse = np.unique(np.stack([row.astype(np.float64), ratio]), axis=1, return_inverse=True)
    where = inverse.reshape(-1)
    times = operation_times(run.operations, devices.rates, pairs[0].astype(np.int64), pairs[1], run.fit)
    return StepTime(
        times.compute_s[:, where], times.memory_s[:, where], times.launch_s[:, where], times.floor_s[:, where]
    )


def _host_s(run: Run, devices: Devices, row: NDArray[np.int64], passes: Array) -> Array:
    """
    Return seconds that the host needs to issue the step; the optimizer's launches do not repeat with
    accumulation.
    """
    if not devices.found:
        return np.zeros(len(row))
    by_device = [host_launch_s(run.operations, device, run.fit) for device in devices.found]
    in_passes = run.operations.phase < 2
    repeated = np.array([seconds[in_passes].sum() for seconds in by_device])[row]
    once = np.array([seconds[~in_passes].sum() for seconds in by_device])[row]
    return np.asarray(repeated * passes + once)


def _never_faster_than_roofline(factor: Array, predicted_s: Array, floor_s: Array, run: Run) -> Array:
    """
    Return the correction, limited so that no step beats the roofline of its device; a compiled one may move
    less.
    """
    if run.profile.source.compiled:
        return factor
    return np.asarray(np.maximum(factor, floor_s / np.maximum(predicted_s, 1e-30)))


def _communication(
    run: Run, devices: Devices, row: NDArray[np.int64], per_machine: Array, nodes: Array, network: Array,
    sharded: Flags, accumulate: NDArray[np.int64], phase_s: Array, passes: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """
    Return seconds of all communication, of its part between machines, and of the compute it can hide
    behind.
    """
    fit, traffic = run.fit.communication, collectives.traffic_of(run.profile)
    rate = np.array([link.bytes_per_s for link in devices.links] or [np.nan])[row]
    latency = np.array([link.latency_s for link in devices.links] or [np.nan])[row]
    links = (rate, latency)

    def seconds(payload: float, rings: float, machines: Array, local: Array) -> Array:
        return collectives.collective_s(
            np.full(len(row), payload), rings, local, machines, links, network, fit
        )

    def all_kinds(machines: Array, local: Array) -> Array:
        reduce = seconds(traffic.all_reduce_bytes, 2.0, machines, local)
        shard = seconds(traffic.gather_bytes, 1.0, machines, local) + seconds(
            traffic.scatter_bytes, 1.0, machines, local
        )
        return np.where(sharded, shard * accumulate, reduce)

    # DDP reduces once, in the last backward; FSDP gathers and scatters in every micro-batch.
    last_backward_s: Array = phase_s[1] * passes / np.maximum(accumulate, 1).astype(np.float64)
    all_passes_s: Array = (phase_s[0] + phase_s[1]) * passes
    window: Array = np.where(sharded, all_passes_s, last_backward_s)
    return all_kinds(nodes, per_machine), all_kinds(nodes, np.ones_like(per_machine)), window


def _samples_ratio(run: Run, passes: Array) -> Array:
    """Return samples of one device's step over the profile's."""
    return passes / run.profile.parallel.accumulate_grad_batches


def _input_s(run: Run, vcpus_per_device: Array, samples: Array, computed_s: Array) -> Array:
    """
    Return what the input pipeline adds to the step.

    Args:
        run: the profile.
        vcpus_per_device: NaN where it is not known: then the loader keeps all its workers.
        samples: samples of one device's step over the profile's.
        computed_s: the step without it.
    """
    pipeline = run.pipeline
    if pipeline.worker_s is None:
        return np.zeros_like(samples)
    loading_s = pipeline.worker_s * samples
    if pipeline.workers == 0:
        return np.asarray(loading_s)
    workers = np.fmin(float(pipeline.workers), np.maximum(vcpus_per_device, 1.0))
    return np.asarray(np.maximum(loading_s / workers - computed_s, 0.0))


def _correction(profile: JobProfile, operations: Operations, fit: Calibration) -> source.SourceCorrection:
    """Compare the measured step with its own prediction, without the network and the loader."""
    device, measured_s = source.source_device(profile), source.measured_compute_s(profile)
    if device is None or measured_s is None or not profile.operations or profile.parallel.world_size > 1:
        return source.SourceCorrection()
    rates = device_rates(device, operations, fit)
    if rates.unknown_because:
        return source.SourceCorrection()
    times = operation_times(operations, [rates], np.zeros(1, dtype=np.int64), np.ones(1), fit)
    host_s = float(host_launch_s(operations, device, fit).sum())
    return source.SourceCorrection.of(device, measured_s, float(times.total_s.sum()), host_s)


def _decoder_correction(
    profile: JobProfile, ledger: DecoderLedger, fit: DecoderFit
) -> source.SourceCorrection:
    """Compare the measured step of a language model with its own prediction, without the network and the loader."""
    device, measured_s = source.source_device(profile), source.measured_compute_s(profile)
    if device is None or measured_s is None or profile.parallel.world_size > 1:
        return source.SourceCorrection()
    device_s, host_s = decoder_device_s(ledger, device, profile.parallel.accumulate_grad_batches, fit)
    if not np.isfinite(device_s):
        return source.SourceCorrection()
    return source.SourceCorrection.of(device, measured_s, device_s, host_s)
