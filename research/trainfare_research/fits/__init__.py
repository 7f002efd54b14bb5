"""
Results of fits that only benchmarks read: held-out scores, shapes of errors and costs of timing kernels.

Each file is written by the command that writes the coefficients of the same date in `trainfare_core/data`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from statistics import fmean

from trainfare_core.documents import Document, Record
from trainfare_core.prediction.roofline.coefficients import Calibration, OverheadFit, calibration

__all__ = [
    "LanguageModelRecord",
    "LinkRecord",
    "MemoryRecord",
    "OneDeviceRecord",
    "Scores",
    "SubmissionOverhead",
    "language_model_record",
    "link_record",
    "memory_record",
    "one_device_record",
    "path_of",
    "submission_calibration",
]

Scores = dict[str, dict[str, float]]
"""Errors as fractions by what was left out of the fit; see `trainfare_research.scoring.error_summary`."""


class SubmissionOverhead(OverheadFit):
    """
    Overhead of submissions to MLPerf, whose fused kernels are their vendors' own.

    Its shares of bytes take the place of what a trace says of each operation.
    """

    fused_bytes_share: float
    """Bytes that pointwise operations still move, over the eager count."""
    fused_reduction_bytes_share: float
    """The same of operations that reduce a row: normalization, softmax, sums and losses."""


class OneDeviceRecord(Document):
    """Beside calibration.json: written by `trainfare_research.runners.fit_calibration`."""

    fitted_at: str
    scores: Scores
    reaches: dict[str, dict[str, float]]
    """
    Standard deviations that hold 50, 80 and 90 % of held-out errors, whose tails are longer than a normal
    distribution's. By what a table timed: "trainer" (a trainer's loop, as a job runs), "steps" (bare steps) or
    "kernels" on a device that was measured, and with ":unseen" on one that was not; "corrected" with a step measured
    on another device.
    """
    timed_launch_s: float
    """Of a kernel timed alone: its launch and the timer's events, which a step hides."""
    submission_overhead: SubmissionOverhead
    """Instead of the shipped one for submissions."""
    trainer_factor: float
    """A published trainer's loop with its loader over a bare step, for tables that timed one."""


class LanguageModelRecord(Document):
    """Beside decoder_calibration.json: written by `trainfare_research.fitting.language_models`."""

    fitted_at: str
    scores: Scores


class LinkRecord(Document):
    """Beside link_calibration.json: written by `trainfare_research.fitting.links`."""

    fitted_at: str
    scores: Scores
    assumed: tuple[str, ...]
    """Constants that no measured row determines: planning figures."""
    data_parallel_forward_share: float
    """Of the host's forward, what each device adds to a single process (`torch.nn.DataParallel`)."""


class MemoryRecord(Document):
    """Beside memory_calibration.json: written by `trainfare_research.fitting.memory`."""

    fitted_at: str
    scores: Scores
    """By what was left out: whole sources, or whole families of models; and after one measured step."""
    without_correction: dict[str, float]
    """Mean loss of rows whose source is left out, with all corrections ("none") and without each."""


class GroupCoverage(Record):
    """
    A source, vendor or kind of work that was left out of the fits and of the table it was compared with.

    Attributes:
        left_out: "source", "vendor" or "work".
        name: of the group.
        rows: measured steps.
        bias: median of ln(measured / predicted).
        typical_error: median of the error's size.
        distance: median, to the nearest group.
        guesses: share of rows that are guesses.
        held_before, held: shares inside the 80 % interval without distance, and with constants fitted without it.
        width: median of the width over that without distance.
    """

    left_out: str
    name: str
    rows: int
    bias: float
    typical_error: float
    distance: float
    guesses: float
    held_before: float
    held: float
    width: float


class DistanceRecord(Document):
    """Beside measured_groups.csv: written by `trainfare_research.runners.fit_distance`."""

    fitted_at: str
    groups: tuple[GroupCoverage, ...]
    """The furthest from 80 % first."""
    rows_held: float
    """Share of all rows inside, a row counted once for each group it was left out with."""

    @property
    def groups_held(self) -> float:
        """Share of the groups that hold 70 to 90 %."""
        return fmean(0.7 <= group.held <= 0.9 for group in self.groups)

    @property
    def held(self) -> float:
        """Mean of the groups' shares."""
        return fmean(group.held for group in self.groups)


def path_of(name: str) -> Path:
    """Return the file of a record: "one_device", "language_models", "links", "memory" or "distance"."""
    return Path(__file__).with_name(f"{name}.json")


@lru_cache(maxsize=1)
def one_device_record() -> OneDeviceRecord:
    """Return the record of the shipped one-device fit."""
    return OneDeviceRecord.model_validate_json(path_of("one_device").read_bytes())


@lru_cache(maxsize=1)
def submission_calibration() -> Calibration:
    """Return the shipped coefficients with the overhead of submissions."""
    return calibration().model_copy(update={"overhead": one_device_record().submission_overhead})


@lru_cache(maxsize=1)
def language_model_record() -> LanguageModelRecord:
    """Return the record of the shipped fit of language models."""
    return LanguageModelRecord.model_validate_json(path_of("language_models").read_bytes())


@lru_cache(maxsize=1)
def link_record() -> LinkRecord:
    """Return the record of the shipped fit of links."""
    return LinkRecord.model_validate_json(path_of("links").read_bytes())


@lru_cache(maxsize=1)
def distance_record() -> DistanceRecord:
    """Return the record of the shipped widening by distance."""
    return DistanceRecord.model_validate_json(path_of("distance").read_bytes())


@lru_cache(maxsize=1)
def memory_record() -> MemoryRecord:
    """Return the record of the shipped fit of peak memory."""
    return MemoryRecord.model_validate_json(path_of("memory").read_bytes())
