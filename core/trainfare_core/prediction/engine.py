"""
From a profile and a table of plans to a table of predictions, column by column.

A profile is timed by one of two models: `RooflineJob`, operation by operation, or `LanguageModelJob`. The engine finds
the devices, asks the model, and adds memory and the reasons of plans without an answer. A change of the job is a
profile of its own, which is predicted like any other (`predict`). Plans that split the model have terms of their own
for time and memory, and more doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array, Rows
from trainfare_core.candidates import SHARDINGS, CandidateTable, take
from trainfare_core.candidates.table import join_tables
from trainfare_core.errors import CannotTellError, UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.hardware.earlier_runs import Evidence, find_earlier_runs, find_figures
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import source, uncertainty
from trainfare_core.prediction.columns import Devices, PlacedPlans, Run, StepColumns
from trainfare_core.prediction.distance import load_measured_groups
from trainfare_core.prediction.input_pipeline import add_input, input_pipeline
from trainfare_core.prediction.language_model_job import language_model_steps
from trainfare_core.prediction.language_models.coefficients import DecoderFit, decoder_calibration
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.measured_step import correction_factors, correction_of
from trainfare_core.prediction.memory.calibrated import memory_peak
from trainfare_core.prediction.memory.peak import usable_memory_bytes
from trainfare_core.prediction.network import collectives
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline_job import roofline_steps
from trainfare_core.prediction.source import narrow_interval
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prediction.vendor_errors import find_vendor_error
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.variants import JobVariant, is_decoder

_NONE: Final = SHARDINGS.index("none")
_SPARSE_GRADIENTS: Final = (
    "several devices cannot add up the sparse gradients of this job (NCCL and FSDP have no sum of them): build its "
    "embeddings without sparse=True"
)


def prepare(
    profile: JobProfile,
    fit: Calibration | None = None,
    decoder: DecoderFit | None = None,
    *,
    distance: bool = True,
    earlier: tuple[Evidence, ...] = (),
) -> Run:
    """
    Read a profile and compare its measured step, where there is one, with its own prediction.

    Args:
        profile: the job.
        fit: the coefficients of one device; None: those that ship.
        decoder: the same of language models.
        distance: whether predictions are compared with measured groups; without, they have the widths of work that was.
        earlier: runs of the job's project, and figures of devices; neither counts where the profile's own step was
            measured.

    Raises:
        CannotTellError: the step generates text first, which is not a step of one phase.
    """
    if profile.rollout is not None:
        what = "its step generates text first, and only `trainfare recommend` and `trainfare estimate` predict that"
        raise CannotTellError(f"{profile.name}: {what}")
    fit, decoder = fit or calibration(), decoder or decoder_calibration()
    run = Run(
        profile,
        fit,
        Operations.of(profile),
        source.SourceCorrection(),
        input_pipeline(profile),
        decoder,
        DecoderLedger.of(profile) if is_decoder(profile) else None,
        load_measured_groups() if distance else None,
    )
    correction = correction_of(run)
    return replace(run, correction=correction, earlier=() if correction.device else earlier)


def predict_run(run: Run, shapes: MachineShapes, plans: CandidateTable) -> PredictionTable:
    """Predict every plan of a prepared profile; see `predict`."""
    names, inverse = np.unique(np.asarray(shapes.accelerator)[plans.shape], return_inverse=True)
    devices = Devices([], [], [])
    row, refused = np.zeros(len(names), dtype=np.int64), np.full(len(names), "", dtype=object)
    for i, name in enumerate(names):
        refused[i] = _refusal(run, str(name), devices)
        row[i] = max(len(devices.found) - 1, 0)
    missed = _find_vendor_errors(run, devices.found)
    factors = correction_factors(run, devices.found) * np.exp(missed[:, 0])
    placed = PlacedPlans(shapes, plans, devices, row[inverse], devices.column(factors.tolist(), row[inverse]))
    reason = _list_reasons(run, placed, refused[inverse])
    if run.ledger is None and plans.parallel is None:
        step = roofline_steps(run, placed)
        log_sigma = uncertainty.step_log_sigma(placed.uncertainty(run, step), run.fit.sigma)
    else:  # a plan that splits a model needs the terms of language models
        step, log_sigma = language_model_steps(run, placed)
    nearest, is_guess = np.full(len(plans), -1), np.zeros(len(plans), dtype=np.bool_)
    if run.groups is not None and devices.found:
        likeness = placed.compare(run, run.groups, step.host_share)
        unknown_share = placed.find_unknown_share(run)
        log_sigma = run.groups.widen(log_sigma, likeness, unknown_share)
        log_sigma = np.hypot(log_sigma, devices.column(missed[:, 1].tolist(), placed.row) * unknown_share)
        nearest, is_guess = likeness.nearest, likeness.is_guess & (unknown_share > 0)
    for index, device in enumerate(devices.found):
        if runs := find_earlier_runs(run.earlier, device.silicon):
            log_sigma = np.where(placed.row == index, narrow_interval(runs, log_sigma), log_sigma)
    log_sigma = np.hypot(log_sigma, run.profile.work_log_sigma)
    input_s, log_sigma = add_input(
        run.pipeline, placed.vcpus_per_device, placed.hosts, step.samples, step.step_s, log_sigma
    )
    return _build_table(run, placed, step, input_s, log_sigma, reason, nearest, is_guess)


def _find_vendor_errors(run: Run, devices: Sequence[Accelerator]) -> Array:
    """Return mean and standard deviation of ln(measured / predicted) by the vendor of each device, shape (n, 2)."""
    origin = run.correction.device
    found = [
        (0.0, 0.0)
        if run.groups is None or (origin is not None and origin.vendor == device.vendor)
        else find_vendor_error(run.profile, device)
        for device in devices
    ]
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def _build_table(
    run: Run,
    placed: PlacedPlans,
    step: StepColumns,
    input_s: Array,
    log_sigma: Array,
    reason: NDArray[np.str_],
    nearest: Rows,
    is_guess: NDArray[np.bool_],
) -> PredictionTable:
    plans, step_s = placed.plans, step.step_s + input_s
    cores = placed.devices.column([float(d.cores) for d in placed.devices.found], placed.row)
    peak = memory_peak(
        run.profile, plans.micro_ratio, placed.world, placed.sharded, plans.parallel, plans.accumulate,
        shards=placed.shards if plans.parallel is None else None, cores=cores,
    )  # fmt: skip
    usable = placed.devices.column([usable_memory_bytes(d) for d in placed.devices.found], placed.row)
    unknown = reason != ""
    strange = ~unknown & ~(np.isfinite(step_s) & (step_s > 0))
    if strange.any():
        reason = np.where(strange, "the operations of this profile take no finite time", reason)
        unknown = unknown | strange

    def hide_unknown(values: Array) -> Array:
        return np.where(unknown, np.nan, values)

    return PredictionTable(
        step_s=hide_unknown(step_s),
        log_sigma=hide_unknown(log_sigma),
        compute_s=hide_unknown(step.compute_s),
        memory_s=hide_unknown(step.memory_s),
        launch_s=hide_unknown(step.launch_s),
        communication_s=hide_unknown(step.communication_s),
        communication_hidden_s=hide_unknown(step.hidden_s),
        input_s=hide_unknown(input_s),
        memory_bytes=hide_unknown(peak.peak_bytes),
        memory_log_sigma=hide_unknown(peak.log_sigma),
        usable_memory_bytes=hide_unknown(usable),
        fits=~unknown & (peak.peak_bytes * np.exp(uncertainty.Z80 * peak.log_sigma) <= usable),
        unknown_because=reason,
        nearest=np.where(unknown, -1, nearest),
        is_guess=is_guess & ~unknown,
    )


def _refusal(run: Run, name: str, devices: Devices) -> str:
    """Add an accelerator to the devices and return ""; return why where it has no prediction."""
    try:
        device = accelerator(name)
    except UnknownNameError:
        return f"{name} is not in the accelerator catalogue"
    if not device.trains:
        return f"{device.name} cannot train: it is made for inference"
    roofline = Roofline.of(device, run.operations)
    if not roofline.unknown_because:
        devices.found.append(device)
        devices.rooflines.append(roofline)
        link = collectives.link_of(device, run.fit.communication)
        figures = find_figures(run.earlier, device.name)
        ratio = figures.ratios.get("all_reduce", 1.0) if figures else 1.0
        devices.links.append(replace(link, bytes_per_s=link.bytes_per_s / ratio))
    return roofline.unknown_because


def _list_reasons(run: Run, placed: PlacedPlans, refused: NDArray[np.object_]) -> NDArray[np.str_]:
    """Return why each plan has no prediction, "" where it has one; the first reason that holds."""
    plans = placed.plans
    no_link = [link.unknown_because for link in placed.devices.links] or [""]
    by_link = np.array(no_link, dtype=object)[placed.row]
    count = plans.devices_of(placed.shapes)
    network = placed.shapes.network_gbit_per_s[plans.shape]
    checks = (
        (
            np.full(len(plans), not run.profile.operations),
            "the profile has no operations, because its trace was empty: measure a step with FareMeter",
        ),
        (refused != "", refused),
        (
            ~np.isfinite(count) | (count < 1) | (count != np.floor(count)),
            "the machine rents a share of a device; how fast a share runs is not known",
        ),
        ((plans.nodes > 1) & ~(network > 0), "the network of this machine is not known"),
        ((count > 1) & (by_link != ""), by_link),
        ((count * plans.nodes > 1) & collectives.has_sparse_gradients(run.profile), _SPARSE_GRADIENTS),
        (
            (plans.sharding == _NONE) & (plans.replicas_of(placed.shapes) > 1),
            "several devices need a strategy: ddp or fsdp",
        ),
        (~(plans.micro_ratio > 0), "the micro-batch of this plan is not known"),
    )
    reason = np.full(len(plans), "", dtype=object)
    for holds, text in checks:
        reason = np.where((reason == "") & holds, text, reason)
    return np.asarray(reason.astype(np.str_)) if len(reason) else np.zeros(0, dtype="U1")


SPLIT_STEP_SIGMA: Final = 0.1
"""Of ln(step time), added where the model is split: a script that splits its model is another one than was traced, and
the exchange of a context group is not counted. A chosen value: 54 published runs of PyTorch code that splits its model
take 7 % longer than predicted in the mean, those with context groups up to 38 %
(`research/trainfare_research/runners/split_plans.py`)."""


def predict(
    profile: JobProfile,
    shapes: MachineShapes,
    candidates: CandidateTable,
    earlier: tuple[Evidence, ...] = (),
) -> PredictionTable:
    """
    Predict step time and memory of every plan.

    What a measured step says of the job as it is corrects its changes too.

    Args:
        profile: the job.
        shapes: machines, as the plans index them.
        candidates: plans, n rows.
        earlier: see `engine.prepare`.

    Returns:
        n rows; rows without an answer have NaN and a reason.
    """
    own_run = prepare(profile, earlier=earlier)
    if candidates.variant is None and candidates.parallel is None:
        return predict_run(own_run, shapes, candidates)
    count = len(candidates)
    variant = np.zeros(count, dtype=np.int64) if candidates.variant is None else candidates.variant
    whole = np.ones(count, dtype=np.bool_) if candidates.parallel is None else candidates.parallel.is_none
    rows: list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = []
    parts: list[PredictionTable] = []
    for code, job_variant in enumerate(candidates.variants):
        for split in (False, True) if candidates.parallel is not None else (False,):
            mine = np.flatnonzero((variant == code) & (whole != split))
            plans = take(candidates, mine)
            rows.append(mine)
            parts.append(
                _predict_variant(
                    own_run, job_variant, shapes, plans if split else replace(plans, parallel=None)
                )
            )
    return take(reduce(join_tables, parts), np.argsort(np.concatenate(rows)))


def _predict_variant(
    own_run: Run, variant: JobVariant, shapes: MachineShapes, plans: CandidateTable
) -> PredictionTable:
    """Return the predictions of plans that make one change of the job, all or none of which split the model."""
    changed = variant != JobVariant()
    if not changed and plans.parallel is None:
        return predict_run(own_run, shapes, plans)
    split = np.zeros(len(plans), dtype=np.bool_) if plans.parallel is None else plans.parallel.splits
    split_sigma = np.where(split, SPLIT_STEP_SIGMA, 0.0)
    run = own_run
    if changed:
        run = prepare(variant.of(own_run.profile))
        run = replace(run, correction=own_run.correction, earlier=own_run.earlier)
    table = predict_run(run, shapes, plans)
    memory_log_sigma = np.hypot(table.memory_log_sigma, variant.memory_log_sigma)
    upper_bytes = table.memory_bytes * np.exp(Z80 * memory_log_sigma)
    return replace(
        table,
        log_sigma=np.hypot(np.hypot(table.log_sigma, variant.step_log_sigma), split_sigma),
        memory_log_sigma=memory_log_sigma,
        fits=table.fits & (upper_bytes <= table.usable_memory_bytes),
    )
