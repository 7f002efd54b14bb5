"""From plans to the rows of `decoder_step`: one profile of a language model on every device and machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array
from trainfare_core.candidates import take
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerators
from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_core.prediction.language_models.step import (
    DecoderTimes,
    DeviceRows,
    Spread,
    decoder_times,
    doublings_of,
    host_launches,
)
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.network.collectives import Links

PORTING_SIGMA = 0.05
"""Added where a script must be ported (TPU, Trainium, Gaudi). A chosen value."""


def decoder_plan_times(
    ledger: DecoderLedger, devices: Sequence[Accelerator], links: Sequence[Links], row: NDArray[np.int64],
    spread: Spread, passes: int, fit: DecoderFit,
) -> tuple[DecoderTimes, Array]:  # fmt: skip
    """
    Return the parts of every plan's step, and the seconds of its kernels that no correction may go below.

    Args:
        ledger: of the profile.
        devices: the distinct ones, with their `links`.
        links: one a device.
        row: index into `devices` of each plan.
        spread: of the plans.
        passes: of the profile's own step.
        fit: the coefficients.
    """
    if not devices:
        nothing = np.full(len(row), np.nan)
        return DecoderTimes(nothing, nothing, nothing, nothing, nothing, nothing, nothing), nothing
    rows = replace(DeviceRows.of(devices, links, fit), slower=_slower(ledger, devices, passes, fit))
    times = decoder_times(ledger, take(rows, row), spread, fit)
    ideal = fit.roofline()
    least = decoder_times(ledger, take(DeviceRows.of(devices, links, ideal), row), spread, ideal)
    return times, np.maximum(least.compute_s, least.memory_s)


def decoder_device_s(
    ledger: DecoderLedger, devices: Sequence[Accelerator], passes: int, fit: DecoderFit
) -> tuple[Array, Array, Array]:
    """Return seconds of arithmetic and of memory of the profile's own step on one of each device, and of its host."""
    times, slower = _alone(ledger, devices, passes, fit), _slower(ledger, devices, passes, fit)
    has_host = np.array([device.kind == "gpu" for device in devices])
    return (
        times.compute_s * slower,
        times.memory_s * slower,
        passes * float(host_launches(ledger)) * fit.host_launch_s * has_host,
    )


def _alone(
    ledger: DecoderLedger, devices: Sequence[Accelerator], passes: int, fit: DecoderFit
) -> DecoderTimes:
    ones = np.ones(len(devices))
    spread = Spread(
        ones,
        ones * passes,
        ones,
        ones,
        ones * np.nan,
        ones,
        ones,
        ones,
        ones,
        ones,
        ones < 0,
        ones < 0,
        ones > 0,
    )
    return decoder_times(
        ledger, DeviceRows.of(devices, [Links(np.inf, 0.0)] * len(devices), fit), spread, fit
    )


def _slower(ledger: DecoderLedger, devices: Sequence[Accelerator], passes: int, fit: DecoderFit) -> Array:
    """
    Return what multiplies the seconds of each device, 1 where it has rows.

    A device without rows reaches at most the share of its roofline that the best device of its maker with rows reaches
    for the same work. The fitted efficiency of PyTorch falls with a chip's peak, so without this limit a slow chip
    without rows would be predicted more efficient than every measured one.
    """
    slower = np.ones(len(devices))
    without = np.array([not fit.has_rows(device) for device in devices])
    if not without.any():
        return slower
    measured = [device for device in accelerators() if fit.has_rows(device)]
    share, own_share = (_roofline_share(ledger, some, passes, fit) for some in (measured, devices))
    for vendor in {device.vendor for device in devices}:
        best = max(
            (device_share for d, device_share in zip(measured, share, strict=True) if d.vendor == vendor),
            default=np.inf,
        )
        mine = without & np.array([device.vendor == vendor for device in devices])
        slower[mine] = np.fmax(own_share[mine] / best, 1.0)
    return slower


def _roofline_share(
    ledger: DecoderLedger, devices: Sequence[Accelerator], passes: int, fit: DecoderFit
) -> Array:
    times, least = (_alone(ledger, devices, passes, coefficients) for coefficients in (fit, fit.roofline()))
    return np.asarray(np.maximum(least.compute_s, least.memory_s) / (times.compute_s + times.memory_s))


def decoder_log_sigma(
    devices: Sequence[Accelerator],
    row: NDArray[np.int64],
    ledger: DecoderLedger,
    spread: Spread,
    fit: DecoderFit,
) -> Array:
    """
    Return the standard deviation of ln(step time) of every plan, from rows that were never fitted.

    The groups are facts that are known beforehand: whether the generation and its maker had rows and its best matrix
    product was measured, whether the model has experts, whether the accelerator is a GPU, whether gradients travel only
    after backward, and whether PyTorch runs it without a library of kernels, there or on a faster chip than an A100.
    """
    experts = float(ledger.expert_weight_bytes) > 0
    label = "moe" if experts else "dense" if float(ledger.library) else "framework"
    usual: Array = np.array([_sigma_of(device, label, fit) for device in devices] or [np.nan])
    late: Array = np.array([_sigma_of(device, "unfused", fit) for device in devices] or [np.nan])
    own_sigma: Array = np.where(~spread.overlap & (not experts), late[row], usual[row])
    world = spread.per_machine * spread.machines
    near = np.where(world > 1, fit.sigma["several devices"], 0.0)
    far = np.where(spread.machines > 1, fit.sigma["several machines"], 0.0)
    return np.asarray(np.sqrt(own_sigma**2 + near**2 + far**2))


def _sigma_of(device: Accelerator, label: str, fit: DecoderFit) -> float:
    seen = "seen" if device.generation in fit.generations else "unseen"
    if label == "framework" and device.kind == "gpu" and doublings_of(device) <= 0:
        label = "pytorch"
    rows = "dense" if label == "framework" and device.kind != "gpu" else label
    sigma = fit.sigma.get(f"{device.kind} {seen} {rows}", fit.sigma["unseen"])
    if device.vendor not in fit.vendors:
        sigma = max(sigma, fit.sigma["other vendor"])
    if device.kind == "gpu":
        return sigma if fit.knows_ceiling(device) else math.hypot(sigma, fit.sigma["unmeasured ceiling"])
    # The published runs are of JAX; a port of PyTorch code has at least the width of a drop-in GPU.
    return max(sigma, fit.sigma.get(f"gpu {seen} {label}", sigma)) + PORTING_SIGMA
