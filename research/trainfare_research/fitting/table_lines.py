"""Facts that lines of throughput_train.csv state, alone or beside the job they describe."""

from __future__ import annotations

import re

from trainfare_core.job_profile import JobProfile
from trainfare_research.workloads import StepJob

Line = dict[str, str]

CEILINGS = "matmul ceilings"
"""Source of the rows of the best matrix product of a device."""
SUBMISSION = "submission"
"""What the column `measured` says of a row of time_to_train.csv: all of a training, with a vendor's own kernels."""
ZERO_2 = "gradients and optimizer in parts"
"""Strategy of a row whose devices hold all weights, and a share of gradients and optimizer (FSDP's SHARD_GRAD_OP)."""
HOST_COPY = "H2D"
"""What the column `measured` says where the timed step copies the batch to the device."""
_MARKS = ("SUSPECT", "HOST_BOUND", "LAUNCH_BOUND")
_HOST_COPY_BYTES_PER_S = 6e9
"""Pageable memory over PCIe 3, for sources whose timed step includes the copy of the batch. A usual figure."""


def chip_of(name: str) -> str:
    """Return the chip without its memory size or form: variants of one chip are left out together."""
    return re.sub(r"(-(SXM\d?|PCIE|NVL))?-\d+GB$", "", name)


def torch_of(framework: str) -> str:
    """Return the torch version that a row names, e.g. "1.13.0"; "" where it names none."""
    match = re.search(r"pytorch (\d+\.[\dx]+)", framework.lower())
    return match[1] if match else ""


def old_torch(line: Line) -> bool:
    """Return whether PyTorch 0.x or 1.x ran a row."""
    return torch_of(line["framework"])[:2] in ("0.", "1.")


def is_trainer_time(line: Line) -> bool:
    """Return whether a row's time is of a trainer's iterations, loader included, and not of bare steps."""
    return bool(re.search(r"training iterations|training loop|incl(\.|uding) data", line.get("measured", "")))


def is_suspect(line: Line) -> bool:
    """Return whether the table itself marks the reading as suspect, or as a measurement of its host."""
    return any(mark in line["notes"] for mark in _MARKS)


def accumulation_of(line: Line) -> int:
    """Return forward passes of one optimizer step, as the row's notes say; 1 where they do not."""
    match = re.search(r"grad_accum=(\d+)", line["notes"])
    return int(match[1]) if match else 1


def host_copy_s(line: Line, profile: JobProfile, ratio: float) -> float:
    """Return the seconds of the batch's copy to the device, where the source timed it with the step."""
    return (
        profile.memory.input_bytes * ratio / _HOST_COPY_BYTES_PER_S if HOST_COPY in line["measured"] else 0.0
    )


def parse_measured_step_s(line: Line, job: StepJob) -> float | None:
    """Return the seconds of one optimizer step: as the row reports it, else from its throughput."""
    if line["step_time_origin"] == "reported" and line["step_time_ms"]:
        return float(line["step_time_ms"]) / 1e3
    if not line["throughput"]:
        return None
    return job.units * int(line["devices"]) * accumulation_of(line) / float(line["throughput"])
