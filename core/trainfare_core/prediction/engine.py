"""
From a profile and a table of plans to a table of predictions, column by column.

A profile is timed by one of two models: `RooflineJob`, operation by operation, or `LanguageModelJob`. The engine finds
the devices, asks the model, and adds memory and the reasons of plans without an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import source, uncertainty
from trainfare_core.prediction.columns import Devices, JobModel, PlacedPlans, StepColumns
from trainfare_core.prediction.language_model_job import LanguageModelJob, decoder_correction
from trainfare_core.prediction.language_models.coefficients import DecoderFit, decoder_calibration
from trainfare_core.prediction.language_models.plans import decoder_ledger
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.memory.calibrated import memory_peak
from trainfare_core.prediction.memory.peak import usable_memory_bytes
from trainfare_core.prediction.network import collectives
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline_job import RooflineJob, source_correction
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.book import MachineShapes

__all__ = ["Run", "predict", "predict_run", "prepare"]

Array = NDArray[np.float64]

_NONE: Final = SHARDINGS.index("none")
_NO_DEVICE: Final = -1


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

    def model(self, plans: CandidateTable) -> JobModel:
        """Return what times these plans; a plan that splits a model needs the terms of language models."""
        if self.ledger is None and plans.parallel is None:
            return RooflineJob(self.profile, self.fit, self.operations, self.correction, self.pipeline)
        ledger = self.ledger or DecoderLedger.of(self.profile)
        return LanguageModelJob(self.profile, self.fit, self.decoder, ledger, self.correction, self.pipeline)


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
    operations, ledger = Operations.of(profile), decoder_ledger(profile)
    correction = (
        source_correction(profile, operations, fit)
        if ledger is None
        else decoder_correction(profile, ledger, decoder)
    )
    return Run(profile, fit, operations, correction, source.input_pipeline(profile), decoder, ledger)


def predict_run(run: Run, shapes: MachineShapes, plans: CandidateTable) -> PredictionTable:
    """Predict every plan of a prepared profile; see `predict`."""
    names = np.asarray(shapes.accelerator)[plans.shape]
    devices = _devices(run, tuple(str(name) for name in np.unique(names)))
    row = _rows(names, devices)
    reason = _reasons(run, shapes, plans, names, devices)
    placed = PlacedPlans(shapes, plans, devices, np.maximum(row, 0))
    model = run.model(plans)
    step = model.step(placed)
    return _table(run, placed, step, model.log_sigma(placed, step), reason)


def _table(
    run: Run, placed: PlacedPlans, step: StepColumns, log_sigma: Array, reason: NDArray[np.str_]
) -> PredictionTable:
    plans, step_s = placed.plans, step.step_s
    held = memory_peak(
        run.profile, plans.micro_ratio, placed.world, placed.sharded, plans.parallel, plans.accumulate
    )
    usable = placed.devices.column([usable_memory_bytes(d) for d in placed.devices.found], placed.row)
    unknown = reason != ""
    strange = ~unknown & ~(np.isfinite(step_s) & (step_s > 0))
    if strange.any():
        reason = np.where(strange, "the operations of this profile take no finite time", reason)
        unknown = unknown | strange

    def known(values: Array) -> Array:
        return np.where(unknown, np.nan, values)

    return PredictionTable(
        step_s=known(step_s),
        log_sigma=known(log_sigma),
        compute_s=known(step.compute_s),
        memory_s=known(step.memory_s),
        launch_s=known(step.launch_s),
        communication_s=known(step.communication_s),
        communication_hidden_s=known(step.hidden_s),
        input_s=known(step.input_s),
        memory_bytes=known(held.peak_bytes),
        memory_log_sigma=known(held.log_sigma),
        usable_memory_bytes=known(usable),
        fits=~unknown & (held.peak_bytes * np.exp(uncertainty.Z80 * held.log_sigma) <= usable),
        unknown_because=reason,
    )


def _devices(run: Run, names: tuple[str, ...]) -> Devices:
    devices = Devices([], [], [], {}, {})
    for name in names:
        try:
            device = accelerator(name)
        except UnknownNameError:
            devices.refused[name] = f"{name} is not in the accelerator catalogue"
            continue
        roofline = Roofline.of(device, run.operations)
        reason = "" if device.trains else f"{device.name} cannot train: it is made for inference"
        if reason or roofline.unknown_because:
            devices.refused[name] = reason or roofline.unknown_because
            continue
        devices.names[name] = len(devices.found)
        devices.found.append(device)
        devices.rooflines.append(roofline)
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
