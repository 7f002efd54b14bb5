"""Prediction of one job on one machine with all its parts, as `trainfare predict` prints it."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainfare_core.candidates import (
    SHARDINGS,
    USUAL,
    CandidateTable,
    list_accumulations,
    own_micro_batch,
    own_sharding,
)
from trainfare_core.documents import Document, Interval, Record
from trainfare_core.errors import CannotTellError, InputError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.hardware.earlier_runs import (
    DeviceFigures,
    EarlierRuns,
    Evidence,
    find_earlier_runs,
    find_figures,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.prediction.breakdown import KindTime, device_breakdown, notes_of
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.distance import MeasuredGroup, load_measured_groups
from trainfare_core.prediction.engine import predict_run, prepare
from trainfare_core.prediction.input_pipeline import input_pipeline
from trainfare_core.prediction.memory.calibrated import memory_note, memory_peak
from trainfare_core.prediction.memory.sharding import Shards
from trainfare_core.prediction.porting import Environment
from trainfare_core.prediction.roofline.features import PATHS
from trainfare_core.prediction.roofline.operations import Roofline
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prices.shapes import MachineShapes

Sharding = Literal["auto", "none", "ddp", "fsdp", "zero1", "zero2", "hybrid"]


Verdict = Literal["fits", "may not fit", "does not fit"]


class MemoryBreakdown(Record):
    """
    Bytes on one device at its peak; they add up to `MachinePrediction.memory_bytes`.

    `overhead_bytes` is what the device uses beyond the allocator's peak: blocks that the allocator holds without a
    tensor in them, the context of the process, and the buffers of the collective library.
    """

    weights_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: float
    temporary_bytes: float
    overhead_bytes: float


class MachinePrediction(Document):
    """One job on one machine or several alike; times are seconds of one optimizer step of the whole run."""

    class StepParts(Record):
        """Parts of the step, seconds; they add up to it. `communication_hidden_s` runs beside them."""

        compute_bound_s: float
        memory_bound_s: float
        launch_s: float
        communication_s: float
        input_s: float
        communication_hidden_s: float

    schema_version: Literal[1] = 1
    job: str
    accelerator: str
    devices: int
    nodes: int
    strategy: str
    micro_batch: float | None
    accumulate: int
    needs_porting: bool
    step_s: Interval
    samples_per_s: Interval | None
    tokens_per_s: Interval | None
    parts: StepParts
    input_known: bool = Field(
        default=True,
        description="the input pipeline was measured or stated, or takes nothing; else published rates count",
    )
    operations: tuple[KindTime, ...]
    mfu: float | None
    """Model FLOP/s over the dense peak of the type that most FLOPs use."""
    hfu: float | None
    """The same with recomputed operations counted."""
    memory_bytes: Interval
    """What the process uses of one device at its peak, as nvidia-smi shows it; the verdict is about this."""
    allocated_bytes: Interval
    """The allocator's peak, as `torch.cuda.max_memory_allocated` counts: tensors alone."""
    memory_parts: MemoryBreakdown
    usable_memory_bytes: float
    fits: bool
    """The upper end of the interval of `memory_bytes` is within `usable_memory_bytes`."""
    verdict: Verdict
    """"may not fit" where `usable_memory_bytes` is between the expected figure and the upper end of its interval."""
    missing_bytes: float
    """By which the upper end of the interval of `memory_bytes` exceeds `usable_memory_bytes`."""
    device_measured: bool
    """Whether devices of this generation were in the fit."""
    device_known: bool
    """Whether this very device was, and not only others of its generation."""
    dtype_measured: bool
    """Whether every arithmetic path that this job uses was, on that generation."""
    calibrated: str
    guess_because: str = ""
    """Why the time is a guess, and which measured runs are nearest; "" where it is none."""
    nearest_measured: str = ""
    """The measured runs that are most like it, how far predictions of them are off, and how often intervals held."""
    earlier_runs: EarlierRuns | None = Field(
        default=None, description="of this project in the ledger, by which the step is corrected"
    )
    device_figures: DeviceFigures | None = Field(
        default=None, description="measured on this accelerator, by which the step is corrected"
    )
    notes: tuple[str, ...]


def predict_machine(
    profile: JobProfile,
    accelerator_name: str,
    devices: int = 1,
    nodes: int = 1,
    sharding: Sharding = "auto",
    *,
    micro_batch: int | None = None,
    accumulate: int | None = None,
    network_gbit_per_s: float | None = None,
    vcpus: float | None = None,
    earlier: tuple[Evidence, ...] = (),
) -> MachinePrediction:
    """
    Predict one job on `nodes` machines with `devices` accelerators each; the global batch stays what it is.

    What is not given of the plan is the script's own where that fits, as in a ranking, else the fastest that does.

    Args:
        profile: the job.
        accelerator_name: a name or alias of the catalogue.
        devices: in one machine.
        nodes: machines.
        sharding: "auto" takes the script's own strategy where it fits; the others as in `SHARDINGS`.
        micro_batch: samples of one forward pass of a device; None: the script's own where it fits.
        accumulate: forward passes of an optimizer step; None: what the batch leaves.
        network_gbit_per_s: of one machine; needed for more than one.
        vcpus: of one machine, for the input pipeline; None: the loader keeps its workers.
        earlier: see `engine.prepare`.

    Raises:
        UnknownNameError: the accelerator is in no catalogue.
        InputError: `micro_batch` and `accumulate` do not make the batch.
        CannotTellError: there is no prediction; the message has the reason.
    """
    device = accelerator(accelerator_name)
    shapes = MachineShapes(
        accelerator=np.array([device.name]),
        accelerator_count=np.array([float(devices)]),
        vcpus=np.array([math.nan if vcpus is None else vcpus]),
        memory_gib=np.array([math.nan]),
        network_gbit_per_s=np.array([math.nan if network_gbit_per_s is None else network_gbit_per_s]),
    )
    splits = _splits(profile, devices * nodes, micro_batch, accumulate)
    plans = _list_plans(profile, devices, nodes, sharding, splits)
    run = prepare(profile, earlier=earlier)
    table = predict_run(run, shapes, plans)
    row = _find_best(table, plans)
    if table.unknown_because[row]:
        what = f"{profile.name} on {devices * nodes} x {device.name}"
        msg = f"no prediction for {what}: {table.unknown_because[row]}"
        raise CannotTellError(msg)
    return _answer(run, device, plans, table, row, devices)


def _list_plans(
    profile: JobProfile,
    devices: int,
    nodes: int,
    sharding: Sharding,
    splits: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> CandidateTable:
    """Return every strategy with every micro-batch and accumulation of `splits`, the script's own marked."""
    world, own = devices * nodes, own_sharding(profile, nodes)
    kinds: list[str] = [sharding]
    if sharding == "auto":
        several = ["ddp", "fsdp", *(["hybrid"] if nodes > 1 and devices > 1 else [])]
        kinds = ["none"] if world == 1 else [*several, *([] if own in several else [own])]
    if world > 1 and sharding == "none":
        msg = f"strategy none means one device, and this run has {world}: use ddp, fsdp or auto"
        raise CannotTellError(msg)
    micro, accumulate = splits
    rows = len(micro) * len(kinds)
    profiled = float(profile.batch.micro_batch_size or math.nan)
    ratio = micro / profiled if profile.batch.micro_batch_size else np.ones(len(micro))
    scripted = np.isnan(micro) | (micro == np.minimum(own_micro_batch(profile), micro * accumulate))
    own_kinds = [sharding != "auto" or kind in ("none", own) for kind in kinds]
    return CandidateTable(
        shape=np.zeros(rows, dtype=np.int64),
        nodes=np.full(rows, nodes, dtype=np.int64),
        sharding=np.repeat(np.array([SHARDINGS.index(kind) for kind in kinds], dtype=np.int64), len(micro)),
        micro_batch=np.tile(micro, len(kinds)),
        micro_ratio=np.tile(ratio, len(kinds)),
        accumulate=np.tile(accumulate, len(kinds)),
        as_scripted=np.repeat(own_kinds, len(micro)) & np.tile(scripted, len(kinds)),
    )


def _splits(
    profile: JobProfile, world: int, micro_batch: int | None, accumulate: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return micro-batches and accumulations that keep the global batch, of those asked for."""
    own_accumulate = profile.parallel.accumulate_grad_batches
    total, micro = profile.global_samples_per_step, profile.batch.micro_batch_size
    if not total or not micro:
        if world != profile.parallel.world_size or micro_batch or accumulate not in (None, own_accumulate):
            msg = f"{profile.name}: the batch size is not known, so it cannot be shared by {world} devices"
            raise CannotTellError(msg)
        return np.array([math.nan]), np.array([own_accumulate], dtype=np.int64)
    share, left = divmod(total, world)
    if left or not share:
        msg = f"{profile.name}: a global batch of {total} cannot be shared evenly by {world} devices"
        raise CannotTellError(msg)
    if micro_batch is None and accumulate is None:
        # What a ranking does not plan, fewer samples under BatchNorm, is at least not made worse by accumulation.
        least = min(float(USUAL.least_micro_batch(profile, np.array([world]))[0]), share)
        passes = np.array(list_accumulations(share, own_micro_batch(profile), least), dtype=np.int64)
        return share / passes, passes
    count = accumulate or share / (micro_batch or 1)
    if share % count or count != int(count) or (micro_batch or share / count) * count != share:
        asked = (("micro-batch", micro_batch), ("accumulate", accumulate))
        said = " and ".join(f"{name} {value}" for name, value in asked if value)
        whole = f"the {share} samples that each of {world} has of a global batch of {total}"
        raise InputError(f"{said}: not a way to split {whole}")
    return np.array([share / count]), np.array([count], dtype=np.int64)


def _find_best(table: PredictionTable, plans: CandidateTable) -> int:
    """Return the script's own plan if it fits, else the fastest that does, else the one that misses the least."""
    if table.fits.any():
        own = table.fits if plans.as_scripted is None else table.fits & plans.as_scripted
        return int(np.argmin(np.where(own if own.any() else table.fits, table.step_s, np.inf)))
    return int(np.argmin(np.where(np.isnan(table.missing_bytes), np.inf, table.missing_bytes)))


def _answer(
    run: Run, device: Accelerator, plans: CandidateTable, table: PredictionTable, row: int, devices: int
) -> MachinePrediction:
    profile = run.profile
    nodes, accumulate = int(plans.nodes[row]), int(plans.accumulate[row])
    world = devices * nodes
    step_s, log_sigma = float(table.step_s[row]), float(table.log_sigma[row])
    ratio = plans.micro_ratio[row : row + 1]
    passes = plans.accumulate[row : row + 1]
    all_devices = np.array([float(world)])
    shards = Shards.of(plans.sharding[row : row + 1], np.array([float(devices)]), all_devices)
    cores = np.array([float(device.cores)])
    peak = memory_peak(
        profile, ratio, all_devices, shards.weights > 1, passes=passes, shards=shards, cores=cores
    )
    memory = _make_interval(float(table.memory_bytes[row]), float(table.memory_log_sigma[row]))
    scale = float(ratio[0]) * accumulate / profile.parallel.accumulate_grad_batches
    micro = float(plans.micro_batch[row])
    samples = profile.batch.samples_per_step
    tokens = profile.batch.tokens_per_step
    breakdown = device_breakdown(run, device, float(ratio[0]), accumulate, int(shards.state[0]))
    nearest = load_measured_groups().groups[int(table.nearest[row])]
    if run.ledger is not None:  # its terms are sums over the step: the split by kind follows the operations
        device_s = float(table.compute_s[row] + table.memory_s[row] + table.launch_s[row])
        scale_s = device_s / max(sum(part.device_s for part in breakdown), 1e-30)
        breakdown = tuple(part.model_copy(update={"device_s": part.device_s * scale_s}) for part in breakdown)
    return MachinePrediction(
        job=profile.name,
        accelerator=device.name,
        devices=devices,
        nodes=nodes,
        strategy=SHARDINGS[int(plans.sharding[row])],
        micro_batch=None if math.isnan(micro) else micro,
        accumulate=accumulate,
        needs_porting=bool(Environment.of(profile).obstacle(device)),
        step_s=_make_interval(step_s, log_sigma),
        samples_per_s=_make_interval(samples * scale * world / step_s, log_sigma) if samples else None,
        tokens_per_s=_make_interval(tokens * scale * world / step_s, log_sigma) if tokens else None,
        parts=MachinePrediction.StepParts(
            compute_bound_s=float(table.compute_s[row]),
            memory_bound_s=float(table.memory_s[row]),
            launch_s=float(table.launch_s[row]),
            communication_s=float(table.communication_s[row]),
            input_s=float(table.input_s[row]),
            communication_hidden_s=float(table.communication_hidden_s[row]),
        ),
        input_known=input_pipeline(profile).is_known,
        operations=breakdown,
        mfu=device.compute_utilisation(profile.operations, profile.model_step_flops * scale / step_s),
        hfu=device.compute_utilisation(profile.operations, profile.step_flops * scale / step_s),
        memory_bytes=memory,
        allocated_bytes=_make_interval(float(peak.allocated_bytes[0]), float(peak.allocated_log_sigma[0])),
        memory_parts=MemoryBreakdown(
            **{field.name: float(getattr(peak.parts, field.name)[0]) for field in fields(peak.parts)}
        ),
        usable_memory_bytes=float(table.usable_memory_bytes[row]),
        fits=bool(table.fits[row]),
        verdict=_judge_memory(memory, float(table.usable_memory_bytes[row])),
        missing_bytes=float(table.missing_bytes[row]),
        device_measured=any(run.fit.is_measured(device, path) for path in PATHS),
        device_known=run.fit.is_known(device),
        dtype_measured=Roofline.of(device, run.operations).is_measured(run.fit),
        calibrated=_describe_calibration(run, device),
        guess_because=nearest.explain_guess() if table.is_guess[row] else "",
        nearest_measured=_describe_nearest(nearest),
        earlier_runs=(runs := find_earlier_runs(run.earlier, device.silicon)),
        device_figures=(figures := find_figures(run.earlier, device.name)),
        notes=(
            *notes_of(run, device),
            *(evidence.describe() for evidence in (runs, figures) if evidence),
            memory_note(profile, world),
            *_note_batch_norm(profile, world, micro),
        ),
    )


def _note_batch_norm(profile: JobProfile, world: int, micro: float) -> tuple[str, ...]:
    """Return what a ranking would not plan unasked: fewer samples under BatchNorm."""
    if not micro < USUAL.least_micro_batch(profile, np.array([world]))[0]:
        return ()
    changed = f"micro-batch {micro:g} instead of {own_micro_batch(profile):g}"
    return (f"{changed}: BatchNorm sees fewer samples; a ranking plans that only with --allow batch-norm",)


def _judge_memory(memory: Interval, usable_bytes: float) -> Verdict:
    if memory.high_80 <= usable_bytes:
        return "fits"
    return "may not fit" if memory.mid <= usable_bytes else "does not fit"


def _make_interval(mid: float, log_sigma: float) -> Interval:
    spread = math.exp(Z80 * log_sigma)
    return Interval(mid=mid, low_80=mid / spread, high_80=mid * spread)


def _describe_nearest(group: MeasuredGroup) -> str:
    return (
        f"{group.describe()}, predicted without that source {percent(group.typical_error)} off in the median; "
        f"the 80 % interval held in {percent(group.held)}"
    )


def _describe_calibration(run: Run, device: Accelerator) -> str:
    """Return a sentence on which measurements of this device the coefficients were fitted on."""
    fit = run.fit
    seen = [path for path in PATHS if fit.is_measured(device, path)]
    words = {"vector": "fp32 arithmetic", "tensor": "tensor arithmetic (tf32, fp16, bf16, fp8)"}
    if not seen:
        return (
            f"device unseen, dtype unseen: {device.generation} devices were never measured: efficiencies come "
            f"from the device's power, peak and age alone (fit of {fit.fitted_at})"
        )
    missing = [words[path] for path in PATHS if path not in seen]
    itself = (
        f"{device.name} itself was measured"
        if fit.is_known(device)
        else f"no step of {device.name} was measured"
    )
    text = f"{itself}; {device.generation} was measured with {' and '.join(words[path] for path in seen)}"
    text += f", never with {missing[0]}" if missing else ""
    dtype = "seen" if Roofline.of(device, run.operations).is_measured(fit) else "unseen"
    state = "seen" if fit.is_known(device) else "unseen"
    return f"device {state}, dtype {dtype}: {text} (fit of {fit.fitted_at})"
