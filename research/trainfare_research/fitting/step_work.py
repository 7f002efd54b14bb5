"""The work of a row of the step-time table: a profile, its micro-batch and its measured time."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_research.fits import one_device_record
from trainfare_research.fitting.launched_rows import NO_PEER_ACCESS
from trainfare_research.fitting.one_plan import Answer
from trainfare_research.fitting.table_lines import (
    Line,
    host_copy_s,
    is_trainer_time,
    parse_measured_step_s,
    torch_of,
)
from trainfare_research.workloads import ProfileCache, profile_of, resolve
from trainfare_research.workloads.single_device import StepJob


@dataclass(frozen=True)
class Work:
    """A measured step: a profile, its micro-batch over the profile's, and seconds."""

    job: JobProfile
    ratio: float
    measured_s: float
    extra_s: float = 0.0
    """Timed with the step though the model does not run it: the copy of the batch to the device."""
    factor: float = 1.0
    """Of the step, for what else the row timed: a trainer's loop with its loader."""

    def answer(self, step_s: float, log_sigma: float) -> Answer:
        """Return the prediction of what the row timed, from that of its step."""
        return Answer(self.measured_s, step_s * self.factor + self.extra_s, log_sigma)


def job_of(line: Line) -> StepJob | str:
    """Return the step of one device of a row, or why none is traced."""
    if NO_PEER_ACCESS in line["notes"]:
        return "its devices exchange through the memory of their host, which no plan does"
    if not _copies_of_one_device(line):
        return "a model split over devices, or the batch of a device is not stated"
    return resolve(line)


def work_of(line: Line, cache: ProfileCache) -> Work | str:
    """Return the measured step of a row, or why it has no operation list, time of its own or device that we know."""
    job = job_of(line)
    network_profile = profile_of(job, cache)
    if isinstance(network_profile, str) or isinstance(job, str):
        return str(network_profile)
    measured_s = parse_measured_step_s(line, job)
    if measured_s is None:
        return "the row has no time of its own"
    try:
        accelerator(line["accelerator"])
    except UnknownNameError:
        return f"{line['accelerator']} is not in the catalogue"
    extra_s = host_copy_s(line, network_profile.profile, network_profile.ratio)
    factor = one_device_record().trainer_factor if is_trainer_time(line) else 1.0
    return Work(_as_run(network_profile.profile, line), network_profile.ratio, measured_s, extra_s, factor)


def _copies_of_one_device(line: Line) -> bool:
    """
    Return whether every device of a row runs the whole model on its own batch, which `resolve` may have to assume.

    Where a row states the batch of all devices alone, its gradients may be accumulated, and that of one is not known.
    """
    if line["devices"] == "1":
        return True
    split = re.search(r"tp|pp|fsdp|zero|shard|model", line["strategy"].lower())
    return not split and bool(line["batch_per_device"] or not line["global_batch"])


def _as_run(profile: JobProfile, line: Line) -> JobProfile:
    """Return the profile with the torch version that the row states: old hosts issue launches more slowly."""
    version = torch_of(line["framework"])
    if not version:
        return profile
    return profile.model_copy(update={"source": profile.source.model_copy(update={"torch_version": version})})
