"""One optimizer step of a row of time_to_train.csv: its devices, its operations, and its share of the clock."""

from __future__ import annotations

import math
import statistics

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import (
    POINTWISE_KINDS,
    REDUCTION_KINDS,
    USUAL_FUSED_BYTES_SHARE,
    JobProfile,
    OperationGroup,
)
from trainfare_core.prediction.roofline.coefficients import OverheadFit
from trainfare_core.prediction.roofline.operations import compiles_graphs
from trainfare_research.fits import SubmissionOverhead
from trainfare_research.workloads import ProfileCache, profile_of
from trainfare_research.workloads.cache import Traced
from trainfare_research.workloads.language.decoder_plans import MOST_IN_A_MACHINE, network_of
from trainfare_research.workloads.mlperf import TRACED_BATCH, mlperf_job, share_update, update_shares
from trainfare_research.workloads.mlperf_precisions import in_8_bits, in_16_bits
from trainfare_research.workloads.vision.flux import flux_job

Submission = dict[str, str]
"""A row of time_to_train.csv."""

_OWN_BATCH = ("dlrm", "rgat")
"""Benchmarks whose step is not linear in its samples: the rows of a table that an update touches, and the nodes of a
graph that a batch leads to."""
_EVALUATES_ELSEWHERE = ("maskrcnn", "ssd300", "retinanet", "stable_diffusion")
"""Detectors: their submissions evaluate while training goes on, and training steps fill 97 to 99 % of the clock. Images
of Stable Diffusion are scored outside the clock, by the rules of its benchmark."""


def evaluation_shares(lines: list[Submission]) -> dict[str, float]:
    """Return the median share of the clock that evaluation takes, by benchmark."""
    stated: dict[str, list[float]] = {}
    for line in lines:
        if line["eval_time_fraction"]:
            stated.setdefault(line["benchmark"], []).append(float(line["eval_time_fraction"]))
    return {name: statistics.median(shares) for name, shares in stated.items()}


def training_share(line: Submission, shares: dict[str, float], devices: int) -> float:
    """
    Return the share of the measured clock that training takes.

    Args:
        line: whose clock it is.
        shares: of evaluation by benchmark, for rows that do not state theirs.
        devices: that train; where there are more, the others evaluate meanwhile.
    """
    if line["benchmark"] in _EVALUATES_ELSEWHERE or devices < int(line["accelerators_total"]):
        return 1.0
    return 1.0 - float(line["eval_time_fraction"] or shares.get(line["benchmark"], 0.0))


def machines_of(line: Submission) -> int:
    """
    Return the number of machines that a network joins: racks where direct links reach beyond a node (NVL72).

    1 for a TPU slice, whose chips share one interconnect.
    """
    devices, nodes = int(line["accelerators_total"]), int(line["nodes"] or 1)
    if line["accelerator"].startswith("TPU"):
        return 1
    try:
        racks = network_of({"notes": ""}, accelerator(line["accelerator"]), devices, nodes)[0]
    except UnknownNameError:
        return nodes
    return racks if devices // racks > MOST_IN_A_MACHINE else nodes


def training_devices(line: Submission) -> tuple[int, int]:
    """
    Return the number of devices that train, and of their machines.

    GPUs in excess of the samples are taken to evaluate (`DEDICATED_EVALUATION_RANKS` in the submissions' launch
    scripts), if they are fewer than the training ones and fill whole machines. With two or more GPUs per sample, a
    sample is split over a power of two of them (`SPATIAL_GROUP_SIZE`), and the rest evaluates.
    """
    global_batch = float(line["global_batch_size"])
    devices, nodes = int(line["accelerators_total"]), machines_of(line)
    if line["accelerator"].startswith("TPU") or devices <= global_batch:
        return devices, nodes
    training = round(global_batch) * 2 ** int(math.log2(devices / global_batch))
    per_machine = devices // nodes
    return (devices, nodes) if training % per_machine else (training, training // per_machine)


def _samples_of_a_device(line: Submission) -> int:
    """Return the samples that one device has in a step."""
    return round(float(line["global_batch_size"]) / training_devices(line)[0])


def as_submitted(profile: JobProfile, overhead: OverheadFit, device: Accelerator) -> JobProfile:
    """Return the profile with the bytes that its vendor's kernels leave; as it is where another fit predicts it."""
    if not isinstance(overhead, SubmissionOverhead):
        return profile

    def fuse(group: OperationGroup) -> OperationGroup:
        if group.kind not in POINTWISE_KINDS:
            return group
        reduces = group.kind in REDUCTION_KINDS
        share = overhead.fused_reduction_bytes_share if reduces else overhead.fused_bytes_share
        if not compiles_graphs(device):
            return group.model_copy(update={"fused_bytes_share": share})
        names = ("bytes_read", "bytes_written", "bytes_fixed")
        moved = {name: int(getattr(group, name) * share / USUAL_FUSED_BYTES_SHARE) for name in names}
        return group.model_copy(update=moved)  # of which the prediction takes the usual share

    return profile.model_copy(update={"operations": tuple(fuse(group) for group in profile.operations)})


def build_submitted_step(line: Submission, cache: ProfileCache, devices_per_machine: int) -> Traced | str:
    """Return the step of one device, with the ratio of one sample to its batch, or why there is none."""
    flux = line["benchmark"] == "flux1"
    batch = _samples_of_a_device(line) if line["benchmark"] in _OWN_BATCH else TRACED_BATCH
    job = flux_job(line, batch) if flux else mlperf_job(in_16_bits(line), batch)
    work = profile_of(job, cache)
    if isinstance(work, str):
        return work
    shares = update_shares(line, devices_per_machine)
    return Traced(in_8_bits(share_update(work.profile, shares), line), work.ratio / batch)
