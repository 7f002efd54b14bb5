"""Calibration of peak memory: medians and intervals of measured peaks over the sum of their parts, by class of job."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from trainfare_core.candidates import ModelParallel
from trainfare_core.documents import Record, data_text
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.memory.peak import CONTEXT_BYTES, MemoryParts, memory_parts
from trainfare_core.prediction.memory.sharding import Shards
from trainfare_core.prediction.uncertainty import Z80

__all__ = [
    "MemoryClass",
    "MemoryFit",
    "MemoryPeak",
    "SpreadFit",
    "corrected_peak_bytes",
    "memory_classes",
    "memory_fit",
    "memory_note",
    "memory_peak",
]

Array = NDArray[np.float64]

MemoryClass = Literal[
    "one_device", "one_device_adapters", "several_devices", "model_parallel", "quantised", "corrected"
]
_WORDS: dict[str, str] = {
    "one_device": "of one device", "one_device_adapters": "of adapters on one device",
    "several_devices": "of several devices", "model_parallel": "of models split over devices",
    "quantised": "of models with weights in 8 or 4 bits",
}  # fmt: skip
ADAPTER_SHARE = 0.1
"""Share of trained weights below which a job counts as adapters. A chosen value."""
QUANTISED_BYTES = 1.5
"""Bytes a frozen weight below which it is stored in 8 or 4 bits: between 1 and 2 bytes."""


class SpreadFit(Record, allow_inf_nan=False):
    """Fit of one class: the median of ln(measured / sum), and the reach of errors around it."""

    location: float
    """Of ln(measured / sum of parts); never below 0: a peak is not less than what is alive."""
    half_50: float
    """Either end of the central 50 % of ln(measured / predicted)."""
    half_80: float
    half_90: float
    rows: int
    sources: int


class MemoryFit(Record, allow_inf_nan=False):
    """The shipped fit: one spread a class, with date, hash of the data and rows by source."""

    schema_version: Literal[1]
    fitted_at: str
    data_sha256: str
    fitted_on: dict[str, int]
    """Rows a source."""
    classes: dict[MemoryClass, SpreadFit]
    carried_share: float
    """Share of a measured peak's error, in bytes, that other batches and layouts of the job have too."""
    measured_sigma: float
    """Of the peak of a step that was measured, at the same micro-batch on one device."""
    scores: dict[str, dict[str, float]]
    """Held out by source, without a run and after one measured step."""


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """The peak of one device, with its interval; arrays of shape (columns,)."""

    parts: MemoryParts
    peak_bytes: Array
    log_sigma: Array
    """1.2816 of it reach either end of the central 80 %."""


def memory_classes(
    profile: JobProfile, world: Array, parallel: ModelParallel | None = None
) -> NDArray[np.str_]:
    """Return the `MemoryClass` of each column, shape (columns,)."""
    total = sum(group.count for group in profile.parameters)
    few = profile.trainable_parameters < ADAPTER_SHARE * total
    small = any(
        g.count and g.parameter_bytes < QUANTISED_BYTES * g.count
        for g in profile.parameters
        if not g.trainable
    )
    if small:
        return np.full(world.shape, "quantised", dtype="U20")
    alone = "one_device_adapters" if few else "one_device"
    found = np.where(world > 1, "several_devices", alone)
    if parallel is not None:
        split = (parallel.tensor > 1) | (parallel.pipeline > 1) | (parallel.context > 1)
        found = np.where(split, "model_parallel", found)
    return found.astype("U20")


def memory_peak(
    profile: JobProfile, ratio: Array, world: Array, sharded: NDArray[np.bool_],
    parallel: ModelParallel | None = None, passes: NDArray[np.int64] | None = None, fit: MemoryFit | None = None,
    shards: Shards | None = None,
) -> MemoryPeak:  # fmt: skip
    """
    Return the peak memory of one device and its interval.

    Args:
        profile: the job, with one micro-batch; a measured peak in it, on one device, corrects every column.
        ratio: micro-batch over the profile's, shape (columns,).
        world: devices of the whole run.
        sharded: whether weights, gradients and optimizer state are sharded over them.
        parallel: how plans split the model; None: none does.
        passes: forward passes of one optimizer step; None: the profile's own.
        fit: None: the shipped one.
        shards: see `memory_parts`.
    """
    fit = fit or memory_fit()
    parts = memory_parts(profile, ratio, world, sharded, parallel, passes, shards=shards)
    classes = memory_classes(profile, world, parallel)
    location, sigma = _of_classes(classes, fit)
    total = parts.total_bytes
    peak = total * np.exp(location)
    measured = profile.measured
    if measured is not None and measured.peak_memory_bytes and profile.parallel.world_size == 1:
        one, whole = np.ones(1), np.zeros(1, dtype=np.bool_)
        own = memory_parts(profile, one, one, whole).total_bytes
        own_class = memory_classes(profile, one)
        own_location, _ = _of_classes(own_class, fit)
        seen = measured.peak_memory_bytes + CONTEXT_BYTES
        corrected = corrected_peak_bytes(peak, seen, float((own * np.exp(own_location))[0]), fit)
        same = (world == 1) & (ratio == 1.0)
        peak = np.where(same, seen, np.maximum(corrected, parts.weights_bytes + parts.optimizer_bytes))
        narrow = np.minimum(sigma, fit.classes["corrected"].half_80 / Z80)
        sigma = np.where(same, fit.measured_sigma, np.where(classes == own_class, narrow, sigma))
    more = np.asarray(peak - total)
    return MemoryPeak(replace(parts, overhead_bytes=parts.overhead_bytes + more), np.asarray(peak), sigma)


def memory_note(profile: JobProfile, world: int, fit: MemoryFit | None = None) -> str:
    """Return a sentence on the measurements behind a peak and its interval."""
    fit = fit or memory_fit()
    name = str(memory_classes(profile, np.array([float(world)]))[0])
    spread = fit.classes[cast("MemoryClass", name)]
    more = f", which are {np.expm1(spread.location):.0%} above the sum of their parts (in the overhead)"
    measured = profile.measured
    own = measured is not None and bool(measured.peak_memory_bytes) and profile.parallel.world_size == 1
    return (
        f"memory: interval from {spread.rows} published peaks {_WORDS[name]}, of {spread.sources} sources"
        + (more if spread.location else "")
        + ("; this job's own measured peak corrects it" if own else "")
    )


def corrected_peak_bytes(predicted: Array, measured: float, predicted_there: float, fit: MemoryFit) -> Array:
    """Return a prediction after one measured step of the same job: its error is mostly of fixed size."""
    return np.asarray(predicted + fit.carried_share * (measured - predicted_there))


def _of_classes(classes: NDArray[np.str_], fit: MemoryFit) -> tuple[Array, Array]:
    location, sigma = np.zeros(classes.shape), np.zeros(classes.shape)
    for name, spread in fit.classes.items():
        here = classes == name
        location[here], sigma[here] = spread.location, spread.half_80 / Z80
    return location, sigma


@lru_cache(maxsize=1)
def memory_fit() -> MemoryFit:
    """Return the fit that ships with trainfare, read once per process."""
    return MemoryFit.model_validate_json(data_text("memory_calibration.json"))
