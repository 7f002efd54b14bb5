"""What a measured profile adds to a record: the job, and the prediction of its step without the measured times."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from trainfare_core.documents import Interval
from trainfare_core.errors import CannotTellError, InputError
from trainfare_core.installation import __version__
from trainfare_core.job_profile import JobProfile, ParallelFacts
from trainfare_core.ledger.run_record import (
    Compared,
    RunMachine,
    RunPrediction,
    RunRecord,
    RunSoftware,
    RunWords,
    identify_job,
    identify_weights,
    name_kind,
)

_PRICED: Final = re.compile(r"priced as ([0-9a-f]{12})(?:: (.*))?")
"""In the note that FareMeter writes into the profile of a run that was priced; see `trainfare.meter.priced_plan`."""


def add_profile(record: RunRecord, profile: JobProfile, *, predict: bool = True) -> RunRecord:
    """
    Return a record with its job, and with the prediction of its trace; of memory too, where none was made before.

    Args:
        record: of the run.
        profile: of its traced step.
        predict: predict it, which imports polars.
    """
    update: dict[str, object] = {
        "job_fingerprint": identify_job(profile),
        "model_fingerprint": identify_weights(profile),
        "kind": name_kind(profile),
    }
    if measured := profile.measured:
        wait_s = measured.data_wait.median_s if measured.data_wait else 0.0
        update |= {"step_wait_s": wait_s, "work_ratio": measured.work_ratio}
    record = record.model_copy(update=update)
    if profile.batch.noise_scale_samples is not None:
        noise = {
            "noise_scale_samples": profile.batch.noise_scale_samples,
            "noise_scale_of": identify_weights(profile),
        }
        record = record.model_copy(update=noise)
    if record.prediction.made == "after" or not predict:
        return record
    predicted = _predict_again(profile)
    if predicted is None:
        return record
    step_s, memory_bytes = predicted
    if record.prediction.made:
        prediction = record.prediction.model_copy(update={"traced_step_s": step_s})
        return record.model_copy(update={"prediction": prediction})
    return record.model_copy(
        update={
            "prediction": record.prediction.model_copy(update={"made": "after", "tool_version": __version__}),
            "step_s": record.step_s.model_copy(update={"predicted": step_s}),
            "memory_bytes": record.memory_bytes.model_copy(update={"predicted": memory_bytes}),
        }
    )


def _predict_again(profile: JobProfile) -> tuple[Interval, Interval] | None:
    """Return seconds of a step and bytes of a device as they are predicted without the measured times, if they are."""
    from trainfare_core.candidates import own_sharding
    from trainfare_core.prediction import predict_machine
    from trainfare_core.prediction.source import source_device

    device, parallel = source_device(profile), profile.parallel
    if device is None or not profile.operations:
        return None
    try:
        answer = predict_machine(
            profile.model_copy(update={"measured": None}),
            device.name,
            parallel.devices,
            parallel.num_nodes,
            "none" if parallel.world_size == 1 else own_sharding(profile, parallel.num_nodes),  # type: ignore[arg-type]
            micro_batch=profile.batch.micro_batch_size,
            accumulate=parallel.accumulate_grad_batches,
        )
    except (CannotTellError, InputError):
        return None
    return answer.step_s, answer.memory_bytes


def describe_setup(
    parallel: ParallelFacts,
    precision: str,
    software: str,
    accelerator: str,
    micro_batch: int | None,
    machine: str = "",
) -> dict[str, object]:
    """
    Return where and how a run runs, as fields of its record.

    Args:
        parallel: its devices and strategy.
        precision: the word of its loop.
        software: "torch VERSION, LOOP VERSION".
        accelerator: its name.
        micro_batch: samples of one forward pass of a device.
        machine: as `FareMeter(machine=...)` takes it.
    """
    cloud, _, rest = machine.partition(":")
    instance_type, _, region = rest.rpartition("@")
    version, _, loop = software.partition(", ")
    devices, nodes = parallel.devices, parallel.num_nodes
    return {
        "machine": RunMachine(
            cloud=cloud, instance_type=instance_type, region=region,
            accelerator=accelerator, accelerators=devices, nodes=nodes,
        ),
        "software": RunSoftware(torch=version.removeprefix("torch "), loop=loop),
        "plan": RunWords(
            strategy=parallel.strategy, precision=precision, devices=devices, nodes=nodes,
            accumulate=parallel.accumulate_grad_batches, micro_batch=micro_batch or None,
        ),
    }  # fmt: skip


def record_profile(profile: JobProfile, ended_at: datetime, project: str, file: Path = Path()) -> RunRecord:
    """
    Return the record of a run that FareMeter measured before it kept a ledger.

    The id is a digest of the profile and its path: a second import of the file is the same record, and a run that
    measured the same to the last digit is another one.

    Args:
        profile: with a measured step.
        ended_at: when the profile was written.
        project: name of the project.
        file: of the profile.

    Raises:
        InputError: the profile holds no measured step.
    """
    measured = profile.measured
    if measured is None:
        raise InputError(
            f"{profile.name}: a profile without measured times; a ledger has runs that FareMeter measured"
        )
    from trainfare_core.prediction.source import source_device

    device = source_device(profile)
    priced = next((match for note in profile.notes if (match := _PRICED.search(note))), None)
    record = RunRecord(
        tool_version=profile.source.tool_version,
        run_id=hashlib.sha256(f"{file.resolve()}\n{profile.to_json()}".encode()).hexdigest()[:12],
        state="failed" if any("ended early" in note for note in profile.notes) else "finished",
        started_at=ended_at, ended_at=ended_at, project=project, job=profile.name,
        step_s=Compared(measured=measured.step.median_s),
        step_p10_s=measured.step.p10_s, step_p90_s=measured.step.p90_s,
        memory_bytes=Compared(measured=measured.peak_memory_bytes),
        steps_measured=measured.steps, steps_done=measured.steps, steps_planned=profile.plan.optimizer_steps,
    )  # fmt: skip
    update: dict[str, object] = describe_setup(
        profile.parallel, profile.precision, measured.software,
        measured.device_name if device is None else device.name, profile.batch.micro_batch_size,
    )  # fmt: skip
    if priced is not None:
        differences = tuple(filter(None, (priced[2] or "").split("; ")))
        update["prediction"] = RunPrediction(id=priced[1], differences=differences)
    return add_profile(record.model_copy(update=update), profile)
