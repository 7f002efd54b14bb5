"""Device time of a step by kind of operation, and the assumptions behind a prediction."""

from __future__ import annotations

import numpy as np

from trainfare_core.documents import Record
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import SynchronizedNorms
from trainfare_core.number_format import percent
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.measured_step import correction_factors
from trainfare_core.prediction.porting import Environment
from trainfare_core.prediction.roofline.operations import (
    PHASES,
    Operations,
    Roofline,
    bytes_share,
    launch_share,
)
from trainfare_core.prediction.roofline.times import operation_seconds


class KindTime(Record):
    """Device time of one kind of operation in one phase of the step, seconds."""

    kind: str
    phase: str
    device_s: float
    launches: int


def device_breakdown(
    run: Run, device: Accelerator, ratio: float, accumulate: int, shards: int
) -> tuple[KindTime, ...]:
    """
    Return device time by kind and phase, largest first, before the host, communication and input are added.

    Args:
        run: the profile.
        device: where it runs.
        ratio: micro-batch over the profile's.
        accumulate: forward passes of one optimizer step.
        shards: devices that share the optimizer's work.
    """
    operations = run.operations
    seconds = operation_seconds(operations, [Roofline.of(device, operations)], ratio, run.fit).total_s[0]
    passes = accumulate / run.profile.parallel.accumulate_grad_batches
    factor = float(correction_factors(run, [device])[0])
    kind_times: list[KindTime] = []
    issued = operations.launches * launch_share(operations, run.fit.overhead)
    kinds = np.array([group.kind for group in operations.groups], dtype=np.str_)
    for phase, name in enumerate(PHASES):
        times = passes if phase < 2 else 1.0 / shards
        for kind in sorted(set(kinds[operations.phase == phase].tolist())):
            chosen = (operations.phase == phase) & (kinds == kind)
            launches = round(float(issued[chosen].sum()) * max(times, 1.0))
            device_s = float(seconds[chosen].sum()) * times * factor
            kind_times.append(KindTime(kind=kind, phase=name, device_s=device_s, launches=launches))
    return tuple(sorted(kind_times, key=lambda part: (-part.device_s, part.kind, part.phase)))


def notes_of(run: Run, device: Accelerator) -> tuple[str, ...]:
    """Return the assumptions for this job on this device, as sentences."""
    profile = run.profile
    notes = list(profile.notes) + list(Roofline.of(device, run.operations).notes)
    if run.ledger is not None:
        known = "was" if device.generation in run.decoder.generations else "was not"
        notes.append(
            f"timed as a language model: terms fitted on {sum(run.decoder.fitted_on.values()):,} measured runs "
            f"({run.decoder.fitted_at}); {device.generation} {known} among them"
        )
    if run.correction.note:
        notes.append(run.correction.note)
    elif profile.measured is not None and profile.measured.device_kind == "cpu":
        notes.append("the step was measured on a CPU: its time does not correct other devices")
    elif profile.measured is not None:
        notes.append(
            f"the step was measured on {profile.measured.device_name!r}, "
            + ("on several devices" if profile.parallel.world_size > 1 else "which is not in the catalogue")
            + ": its time does not correct other devices"
        )
    if run.pipeline.note:
        notes.append(run.pipeline.note)
    if profile.batch.synchronized_norms is not None:
        notes.append(describe_synchronized_norms(profile.batch.synchronized_norms))
    if profile.source.compiled:
        left = percent(_compute_fused_bytes_share(run.operations, device))
        notes.append(
            "the step runs under torch.compile and was traced eagerly: pointwise operations are counted as fused, "
            f"which leaves {left} of their bytes, and the interval is wider"
        )
    if obstacle := Environment.of(profile).obstacle(device):
        wider = "" if device.kind == "gpu" else "; the interval is wider"
        notes.append(f"{device.name} needs porting: {obstacle}{wider}")
    if profile.coverage < 1.0:
        notes.append(
            f"{percent(1 - profile.coverage, 1)} of all bytes belong to operations without a FLOP formula"
        )
    return tuple(dict.fromkeys(notes))


def describe_synchronized_norms(norms: SynchronizedNorms) -> str:
    """Return what is counted for SyncBatchNorm, as a sentence."""
    return (
        f"on several devices {norms.modules:,} layers of SyncBatchNorm exchange their moments in every pass and wait "
        "for them, which counts as communication: planning figures, so the interval is wider"
    )


def _compute_fused_bytes_share(operations: Operations, device: Accelerator) -> float:
    """Return the share of the bytes of pointwise operations that still move where a device's compiler fuses them."""
    moved = operations.bytes_at(1.0) * operations.pointwise
    return float(moved @ bytes_share(operations, device)) / max(float(moved.sum()), 1.0)
