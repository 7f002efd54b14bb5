"""
How unlike measured runs a prediction is, and what that does to its centre and its width.

A prediction is described by where its time goes: shares of the roofline's time by kind of work, the typical length of a
kernel, and how far the host holds the step up. `data/measured_groups.csv` describes groups of measured runs (one
source, kind of work, vendor and number of devices) in the same way, with errors of predictions from fits without the
source. `trainfare_research.runners.fit_distance` writes it, and the constants of `data/distance.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from trainfare_core.arrays import Array, Flags, Rows
from trainfare_core.documents import Record, data_rows, data_text
from trainfare_core.number_format import percent, quantify
from trainfare_core.prediction.roofline.operations import Operations, Roofline

WORK: Final = ("convolution", "products", "attention", "recurrent", "lookup", "pointwise")
"""Kinds of work, whose shares of the time add up to 1."""
_WORK_OF: Final = {
    "convolution": 0, "matmul": 1, "grouped_matmul": 1, "attention": 2, "recurrent": 3, "embedding": 4, "indexing": 4,
}  # fmt: skip
_WORDS: Final = {
    "convolution": "convolutions", "products": "matrix products", "attention": "attention",
    "recurrent": "recurrent layers", "lookup": "lookups in tables", "pointwise": "pointwise operations",
}  # fmt: skip
DEVICES: Final = ("one device", "one machine", "several machines")
FEATURES: Final = (*WORK, "host", "log10_kernel_s")
LEAST_MAIN_SHARE: Final = 0.1
"""Of the time: with less of every other kind, pointwise operations name the work. A chosen value."""
_LONG_KERNEL_S: Final = 1e-3
"""Longer kernels count as these: their launch and their last wave take no part of them. A chosen value."""
_DECADES: Final = 4.0
"""Of kernels' length that count as one distance: kernels take 0.1 us to 1 ms. A chosen value."""
_OTHER_DEVICES: Final = 0.1
"""Distance between one device, one machine and several: links have widths of their own. A chosen value."""
_OTHER: Final = 1.0
"""Added where the nearest is looked for, for another vendor and for a language model beside another model: as far as
work that shares no kind of operation. A chosen value."""
GUESS: Final = 0.5
"""Distance beyond which a prediction is a guess: half of the time in work that the nearest group has not. A chosen
value: the 80 % intervals of sources left out of the fits hold clearly less often beyond it."""
LEAST_SOURCES: Final = 2
LEAST_ROWS: Final = 20
"""Independent sources and runs with which a vendor counts as measured: the error of one source may be its own, and
with fewer runs none of its chips has many. Chosen values."""
_FEW: Final = 0.3
"""Over the root of a group's runs, added where the nearest is looked for: three runs say less than a hundred that are a
little further. A chosen value."""
_LEAST_HELD: Final = 0.5
"""Share of the nearest runs below which their intervals say nothing of this one: worse than a coin. A chosen value."""
HOST_STEPS: Final = 20
"""The host's share is rounded to a twentieth: plans then share their comparison."""


def describe_work(roofline: Roofline, operations: Operations) -> Array:
    """Return shares of the roofline's time by `WORK`, and log10 of its seconds a kernel, shape (7,)."""
    time_s = np.maximum(
        operations.flops * roofline.seconds_per_flop, operations.bytes_at(1.0) * roofline.seconds_per_byte
    )
    kinds = [_WORK_OF.get(group.kind, len(WORK) - 1) for group in operations.groups]
    shares = np.bincount(np.array(kinds, dtype=np.int64), weights=time_s, minlength=len(WORK))
    total_s = max(float(time_s.sum()), 1e-30)
    kernel_s = total_s / max(float(operations.launches.sum()), 1.0)
    return np.append(shares / total_s, np.log10(min(kernel_s, _LONG_KERNEL_S)))


def name_work(shares: Array) -> str:
    """Return the kind of work that takes most of the time, but pointwise operations only where they take nearly all."""
    main = int(np.argmax(shares[:-1]))
    return WORK[main] if shares[main] >= LEAST_MAIN_SHARE else WORK[-1]


class MeasuredGroup(Record):
    """Measured runs of one source, kind of work, vendor and number of devices, with means of what describes them."""

    source: str
    work: str
    vendor: str
    language_model: bool
    devices: str
    accelerators: str
    rows: int
    features: tuple[float, ...]
    """In the order of `FEATURES`."""
    bias: float
    """Median of ln(measured / predicted), the source in no fit."""
    typical_error: float
    """Median of its size, as a share of the measured time."""
    scatter: float
    """Standard deviation of ln(measured / predicted)."""
    held: float
    """Share of the errors inside the 80 % interval as it is now, by constants fitted without this group."""

    def describe(self) -> str:
        """Return what was measured, in words."""
        work = "language models" if self.language_model else _WORDS[self.work]
        return f"{self.source}: {work} on {self.devices} ({self.accelerators}; {quantify(self.rows, 'run')})"

    def explain_guess(self) -> str:
        """Return why a prediction to which nothing is nearer is a guess, in words."""
        if self.held < _LEAST_HELD:
            return (
                f"80 % intervals held in {percent(self.held)} of the nearest measured runs: {self.describe()}"
            )
        return f"nothing like it was measured: nearest is {self.describe()}"


class DistanceFit(Record):
    """
    Constants of the widening, fitted on errors of whole groups, each counted the same.

    Attributes:
        per_distance: standard deviation of ln(measured / predicted) added for distance 1.
        other_vendor: the same where the vendor was not measured.
        host: the same where a host holds the step up all the time.
        host_language: the same of language models.
    """

    per_distance: float
    other_vendor: float
    host: float
    host_language: float


@dataclass(frozen=True, slots=True)
class Work:
    """Rows of predictions by what is compared, shape (n,) each but for `features`."""

    features: Array
    """Shape (n, features)."""
    vendor: tuple[str, ...]
    devices: Rows
    """Index of `DEVICES`."""
    language_model: bool


@dataclass(frozen=True, slots=True)
class Likeness:
    """How rows of predictions compare with measured groups, shape (n,) each."""

    distance: Array
    nearest: Rows
    """Index of the group."""
    measured_vendor: Flags
    host_sigma: Array
    """Of ln(step), for the share that a host decides."""
    is_guess: Flags
    """Whether nothing like it was measured, or intervals did not hold what was."""


@dataclass(frozen=True, slots=True)
class MeasuredGroups:
    """The table of groups with its constants."""

    groups: tuple[MeasuredGroup, ...]
    fit: DistanceFit

    def compare(self, work: Work) -> Likeness:
        """Return the likeness of rows of predictions."""
        groups = self.groups
        difference = work.features[:, None, :] - np.array([group.features for group in groups])
        shares, host, length = difference[..., :-2], difference[..., -2], difference[..., -1]
        distance = np.sqrt((np.abs(shares).sum(axis=-1) / 2) ** 2 + host**2 + (length / _DECADES) ** 2)
        devices = np.array([DEVICES.index(group.devices) for group in groups])
        distance = distance + _OTHER_DEVICES * (work.devices[:, None] != devices)
        kinds = np.array([group.language_model for group in groups]) == work.language_model
        vendors = np.array(work.vendor)[:, None] == np.array([group.vendor for group in groups])
        few = _FEW / np.sqrt(np.array([group.rows for group in groups], dtype=np.float64))
        nearest = np.argmin(distance + few + _OTHER * ~kinds + _OTHER * ~vendors, axis=1)
        of_host = self.fit.host_language if work.language_model else self.fit.host
        least = distance[np.arange(len(nearest)), nearest]
        measured = np.array([self._is_measured(row & kinds) for row in vendors], dtype=np.bool_)
        failed = np.array([group.held for group in groups])[nearest] < _LEAST_HELD
        return Likeness(
            distance=least,
            nearest=nearest,
            measured_vendor=measured,
            is_guess=(least > GUESS) | ~measured | failed,
            host_sigma=work.features[:, FEATURES.index("host")] * of_host,
        )

    def _is_measured(self, alike: Flags) -> bool:
        """Whether groups of one vendor and kind of model are of enough sources and runs."""
        groups = [self.groups[i] for i in np.flatnonzero(alike)]
        sources = {group.source for group in groups}
        return len(sources) >= LEAST_SOURCES and sum(group.rows for group in groups) >= LEAST_ROWS

    def widen(self, log_sigma: Array, likeness: Likeness, unknown_share: Array) -> Array:
        """
        Return the standard deviations of ln(step), widened.

        Args:
            log_sigma: without distance.
            likeness: of the same rows.
            unknown_share: of an error, what no measured step of the job itself took away, 0 to 1.
        """
        more = (self.fit.per_distance * likeness.distance) ** 2 + likeness.host_sigma**2
        more = more + np.where(likeness.measured_vendor, 0.0, self.fit.other_vendor**2)
        return np.asarray(np.sqrt(log_sigma**2 + more * unknown_share**2))


@lru_cache(maxsize=1)
def load_measured_groups() -> MeasuredGroups:
    """Return the table that ships with trainfare, read once per process."""
    fit = DistanceFit.model_validate_json(data_text("distance.json"))
    return MeasuredGroups(tuple(map(parse_group, data_rows("measured_groups.csv"))), fit)


def parse_group(line: dict[str, str]) -> MeasuredGroup:
    """Return a line of measured_groups.csv, whose features have columns of their own."""
    features = tuple(float(line[name]) for name in FEATURES)
    others = {name: value for name, value in line.items() if name not in FEATURES}
    return MeasuredGroup.model_validate({**others, "features": features}, strict=False)
