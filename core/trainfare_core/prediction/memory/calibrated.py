"""
Peak memory with the corrections and intervals that published peaks give.

Two quantities: the allocator's peak (`torch.cuda.max_memory_allocated`), and what the process uses of its device, which
is more by blocks that the allocator holds without a tensor in them, by the context and by the buffers of the collective
library. Whether a job fits is decided by the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainfare_core.arrays import Array
from trainfare_core.candidates import ModelParallel
from trainfare_core.documents import Record, data_text
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.memory.peak import CONTEXT_BYTES, MemoryParts, memory_parts
from trainfare_core.prediction.memory.sharding import Shards
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.variants import is_in_8_bits

MemoryClass = Literal["one_device", "one_device_adapters", "several_devices", "model_parallel", "quantised"]
_WORDS: dict[str, str] = {
    "one_device": "of one device", "one_device_adapters": "of adapters on one device",
    "several_devices": "of several devices", "model_parallel": "of models split over devices",
    "quantised": "of models with weights in 8 or 4 bits",
}  # fmt: skip
EIGHT_BIT_HALF_80 = 0.6
"""
Least end of the central 80 % of ln(measured / predicted), for steps with products in fp8 whose peak was not measured.

Five fine-tuning runs of torchao in fp8 took 1.8 times what was predicted, ln(1.8) = 0.59 (docs/choosing.md).
"""
ADAPTER_SHARE = 0.1
"""Share of trained weights below which a job counts as adapters. A chosen value."""

NotNegative = Annotated[float, Field(ge=0)]


class SpreadFit(Record, allow_inf_nan=False):
    """How far ln(measured / predicted) reaches around 0, for jobs of sources and models that the fit did not see."""

    half_50: float
    """Either end of the central 50 %."""
    half_80: float
    half_90: float
    rows: int
    sources: int


class Corrections(Record, allow_inf_nan=False):
    """What published peaks hold beside the parts of a trace; the same numbers for every job."""

    quantised_bytes: NotNegative
    """Of the allocator, where frozen weights are in 8 or 4 bits: workspaces and weights on their way to 16 bits."""
    convolution_bytes: NotNegative
    """Of the allocator, where a step has convolutions: their workspaces."""
    split_gradient_factor: NotNegative
    """Of gradients, where the model is split over devices: buffers that reduce them, and copies in fp32."""
    cached_share: NotNegative
    """Of the allocator's peak: blocks that it holds without a tensor in them."""


class MemoryFit(Record, allow_inf_nan=False):
    """The shipped fit, with date, hash of the data and rows by source."""

    schema_version: Literal[4]
    fitted_at: str
    data_sha256: str
    """Of the tables of measurements, one after the other."""
    fitted_on: dict[str, int]
    """Rows a source."""
    corrections: Corrections
    allocated: dict[MemoryClass, SpreadFit]
    """Intervals of the allocator's peak."""
    device: dict[MemoryClass, SpreadFit]
    """Intervals of what the process uses of its device."""
    corrected: SpreadFit
    """Of a prediction for another batch of a job, after one measured step."""
    carried_share: float
    """Power of measured over predicted, of a measured step, that other batches and layouts of the job have too."""
    measured_sigma: float
    """Of the peak of a step that was measured, at the same micro-batch on one device."""


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """
    The peak of one device, with its intervals; arrays of shape (columns,).

    Attributes:
        parts: they add up to `peak_bytes`, and all but the overhead to `allocated_bytes`.
        allocated_bytes: the allocator's peak.
        allocated_log_sigma: 1.2816 of it reach either end of the central 80 %.
        peak_bytes: what the process uses of its device.
        log_sigma: the same of `peak_bytes`.
    """

    parts: MemoryParts
    allocated_bytes: Array
    allocated_log_sigma: Array
    peak_bytes: Array
    log_sigma: Array


def memory_classes(
    profile: JobProfile, world: Array, parallel: ModelParallel | None = None
) -> NDArray[np.str_]:
    """Return the `MemoryClass` of each column, shape (columns,)."""
    if profile.has_quantised_weights:
        return np.full(world.shape, "quantised", dtype="U20")
    total = sum(group.count for group in profile.parameters)
    few = profile.trainable_parameters < ADAPTER_SHARE * total
    alone = "one_device_adapters" if few else "one_device"
    classes = np.where(world > 1, "several_devices", alone)
    if parallel is not None:
        split = (parallel.tensor > 1) | (parallel.pipeline > 1) | (parallel.context > 1)
        classes = np.where(split, "model_parallel", classes)
    return classes.astype("U20")


def has_convolutions(profile: JobProfile) -> bool:
    """Return whether a step has convolutions, whose library takes workspaces from the allocator."""
    return any(group.kind == "convolution" for group in profile.operations)


def correct_parts(
    parts: MemoryParts, classes: NDArray[np.str_], corrections: Corrections, *, convolutions: bool
) -> MemoryParts:
    """
    Return the parts with what published peaks hold beside them.

    Args:
        parts: of `memory_parts`.
        classes: of `memory_classes`, shape (columns,).
        corrections: of the fit.
        convolutions: of `has_convolutions`.
    """
    more = np.where(classes == "quantised", corrections.quantised_bytes, 0.0)
    more = more + (corrections.convolution_bytes if convolutions else 0.0)
    split = np.where(classes == "model_parallel", corrections.split_gradient_factor, 1.0)
    corrected = replace(
        parts, gradients_bytes=np.asarray(split * parts.gradients_bytes),
        temporary_bytes=np.asarray(parts.temporary_bytes + more),
    )  # fmt: skip
    overhead = parts.overhead_bytes + corrections.cached_share * corrected.allocated_bytes
    return replace(corrected, overhead_bytes=np.asarray(overhead))


def memory_peak(
    profile: JobProfile, ratio: Array, world: Array, sharded: NDArray[np.bool_],
    parallel: ModelParallel | None = None, passes: NDArray[np.int64] | None = None,
    shards: Shards | None = None, cores: Array | None = None,
) -> MemoryPeak:  # fmt: skip
    """
    Return the peak memory of one device, allocated and used, and its intervals.

    Args:
        profile: the job, with one micro-batch; a measured peak in it, on one device, corrects every column.
        ratio: micro-batch over the profile's, shape (columns,).
        world: devices of the whole run.
        sharded: whether weights, gradients and optimizer state are sharded over them.
        parallel: how plans split the model; None: none does.
        passes: forward passes of one optimizer step; None: the profile's own.
        shards: see `memory_parts`.
        cores: of a device, each with its own share of the memory and of the samples: a replica, or a shard, on each.
            The peak is the sum over them. None: one. Plans that split the model use a device as a whole.
    """
    fit = memory_fit()
    cores = np.ones_like(ratio) if cores is None or parallel is not None else cores
    # A core has whole samples: a device's micro-batch of one on two cores holds one on each.
    fewest = np.minimum(ratio, 1.0 / (profile.batch.micro_batch_size or math.inf))
    ratio, world = np.maximum(ratio / cores, fewest), world * cores
    shards = None if shards is None else shards.times(cores)
    classes = memory_classes(profile, world, parallel)
    parts = memory_parts(profile, ratio, world, sharded, parallel, passes, shards=shards)
    convolutions = has_convolutions(profile)
    parts = correct_parts(parts, classes, fit.corrections, convolutions=convolutions)
    allocated, peak = parts.allocated_bytes, parts.total_bytes
    allocated_sigma, sigma = _sigmas(classes, fit.allocated), _sigmas(classes, fit.device)
    if is_in_8_bits(profile):
        allocated_sigma, sigma = (
            np.maximum(part_sigma, EIGHT_BIT_HALF_80 / Z80) for part_sigma in (allocated_sigma, sigma)
        )
    measured = profile.measured
    if measured is not None and measured.peak_memory_bytes and profile.parallel.world_size == 1:
        ones, whole = np.ones(1), np.zeros(1, dtype=np.bool_)
        own_class = memory_classes(profile, ones)
        own_parts = memory_parts(profile, ones, ones, whole)
        own_parts = correct_parts(own_parts, own_class, fit.corrections, convolutions=convolutions)
        seen = measured.peak_memory_bytes + CONTEXT_BYTES
        corrected = correct_peak_bytes(peak, seen, float(own_parts.total_bytes[0]), fit)
        same = (world == 1) & (ratio == 1.0)
        fixed_bytes = parts.weights_bytes + parts.optimizer_bytes
        known = np.maximum(np.where(same, seen, corrected), fixed_bytes)
        parts = _scale_parts(parts, (known - fixed_bytes) / np.maximum(peak - fixed_bytes, 1.0))
        allocated, peak = parts.allocated_bytes, parts.total_bytes
        alike, narrow = classes == own_class, fit.corrected.half_80 / Z80
        sigma = np.where(same, fit.measured_sigma, np.where(alike, narrow, sigma))
        allocated_sigma = np.where(alike, narrow, allocated_sigma)
    parts = replace(parts, **{part.name: getattr(parts, part.name) * cores for part in fields(parts)})
    return MemoryPeak(
        parts,
        np.asarray(allocated * cores),
        np.asarray(allocated_sigma),
        np.asarray(peak * cores),
        np.asarray(sigma),
    )


def memory_note(profile: JobProfile, world: int) -> str:
    """Return a sentence on the measurements behind the interval of a device's use."""
    name = str(memory_classes(profile, np.array([float(world)]))[0])
    spread = memory_fit().device[cast("MemoryClass", name)]
    measured = profile.measured
    is_measured_here = (
        measured is not None and bool(measured.peak_memory_bytes) and profile.parallel.world_size == 1
    )
    return (
        f"memory: interval from {spread.rows} published figures of device use {_WORDS[name]}, of {spread.sources} "
        "sources, each predicted without its source"
        + (
            "; this job's own measured peak corrects it"
            if is_measured_here
            else "; wider for products in fp8, whose published peaks were up to 1.8 times the predicted ones"
            if is_in_8_bits(profile)
            else ""
        )
    )


def correct_peak_bytes(predicted: Array, measured: float, predicted_there: float, fit: MemoryFit) -> Array:
    """Return a prediction after one measured step of the same job, which shares most of that step's error in ln."""
    return np.asarray(predicted * (measured / predicted_there) ** fit.carried_share)


def _scale_parts(parts: MemoryParts, factor: Array) -> MemoryParts:
    """Return the parts with all but weights and optimizer state so many times as large."""
    names = ("gradients_bytes", "activations_bytes", "temporary_bytes", "overhead_bytes")
    return replace(parts, **{name: np.asarray(getattr(parts, name) * factor) for name in names})


def _sigmas(classes: NDArray[np.str_], spreads: dict[MemoryClass, SpreadFit]) -> Array:
    sigma = np.zeros(classes.shape)
    for name, spread in spreads.items():
        sigma[classes == name] = spread.half_80 / Z80
    return sigma


@lru_cache(maxsize=1)
def memory_fit() -> MemoryFit:
    """Return the fit that ships with trainfare, read once per process."""
    return MemoryFit.model_validate_json(data_text("memory_calibration.json"))
