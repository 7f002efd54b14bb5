"""What a row of the step-time table ran, as a candidate plan for the engine."""

from __future__ import annotations

import re

from benchmarks.fitting.collective_rows import job_of
from benchmarks.fitting.one_device_held_out import Work
from benchmarks.fitting.one_device_rows import host_copy_s, measured_step_s, timed_a_trainer, torch_of
from benchmarks.workloads import ProfileCache, StepJob, profile_of, resolve
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.roofline.coefficients import calibration

__all__ = ["work_of"]


def work_of(line: dict[str, str], cache: ProfileCache | None) -> Work | str:
    """Return what a row measured, or why there is no operation list or no time of its own."""
    job = resolve(line) if cache is not None and _copies_of_one_device(line) else "not traced here"
    if cache is not None and (isinstance(job, StepJob) or line["devices"] == "1"):
        found = profile_of(job, cache)
        if isinstance(found, str) or isinstance(job, str):
            return str(found)
        measured_s = measured_step_s(line, job)
        if measured_s is None:
            return "the row has no time of its own"
        extra_s = host_copy_s(line, found.profile, found.ratio)
        factor = calibration().overhead.trainer_factor if timed_a_trainer(line) else 1.0
        return Work(_as_run(found.profile, line), found.ratio, measured_s, extra_s, factor)
    made = job_of(line)
    if isinstance(made, str):
        return made
    return "the row has no time of its own" if made[1] is None else Work(made[0], 1.0, made[1])


def _copies_of_one_device(line: dict[str, str]) -> bool:
    """Return whether every device of a row runs the whole model on a batch that the row states."""
    if line["devices"] == "1":
        return True
    split = re.search(r"tp|pp|fsdp|zero|shard|model", line["strategy"].lower())
    return bool(line["batch_per_device"]) and not split and "megatron" not in line["task"]


def _as_run(profile: JobProfile, line: dict[str, str]) -> JobProfile:
    """Return the profile with the torch version that the row says ran it: old hosts issue launches more slowly."""
    version = torch_of(line["framework"])
    if not version:
        return profile
    return profile.model_copy(update={"source": profile.source.model_copy(update={"torch_version": version})})
