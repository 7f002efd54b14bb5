"""The host's part of a step: the seconds it needs to issue launches, and the step when it does so beside the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trainfare_core.arrays import Array, Flags
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.prediction.roofline.coefficients import Calibration, OverheadFit
from trainfare_core.prediction.roofline.features import release_years
from trainfare_core.prediction.roofline.operations import Operations, compiles_graphs, launch_share

_WAITED_LAUNCHES: Final = 20
"""Launches of one forward of SyncBatchNorm that nothing hides: it selects the devices that have samples by a mask,
three times, and the host waits for each result's size. Counted in `torch/nn/modules/_functions.py` of PyTorch 2."""


def host_bound(device_s: Array, host_s: Array) -> Array:
    """
    Return the step when a host issues its launches while the device works.

    The larger of the two, rounded off where they are close (a 4-norm): launches come in bursts, so a
    device that is busy just as long as its host waits now and then.
    """
    return np.asarray((device_s**4 + host_s**4) ** 0.25)


def host_phase_s(launches: Array, old_host: Flags, years: Array, overhead: OverheadFit) -> Array:
    """
    Return seconds that a host needs to issue launches, shape (..., 3).

    Backward costs less than forward: its thread runs no Python. Hosts of PyTorch 0.x and 1.x are slower.

    Args:
        launches: of forward, backward and optimizer, shape (..., 3).
        old_host: whether PyTorch 0.x or 1.x runs them, shape (...).
        years: `release_years` of the device, shape (...).
        overhead: the coefficients.
    """
    old = overhead.old_host_factor * np.exp(overhead.old_host_year_slope * years)
    each_s = overhead.host_launch_s * np.where(old_host, old, 1.0)
    by_phase = np.array([1.0, overhead.host_backward_share, 1.0])
    return np.asarray(launches * by_phase * np.expand_dims(each_s, -1))


def host_launch_s(operations: Operations, devices: Sequence[Accelerator], fit: Calibration) -> Array:
    """Return the host's seconds to issue each phase's launches once, shape (devices, 3); 0 behind a graph compiler."""
    launches = operations.by_phase(operations.launches * launch_share(operations, fit.overhead))
    years = np.array([release_years(device) for device in devices])
    issued = np.array([not compiles_graphs(device) for device in devices], dtype=np.bool_)
    each_s = host_phase_s(launches, np.asarray(operations.old_host), years, fit.overhead)
    return np.asarray(each_s * issued[:, None])


def compute_synchronized_forward_s(
    operations: Operations, devices: Sequence[Accelerator], fit: Calibration
) -> Array:
    """Return what one forward of a SyncBatchNorm waits for its host, shape (devices,); 0 behind a graph compiler."""
    launches = np.array([_WAITED_LAUNCHES, 0.0, 0.0])
    years = np.array([release_years(device) for device in devices])
    issued = np.array([not compiles_graphs(device) for device in devices], dtype=np.bool_)
    waited_s = host_phase_s(launches, np.asarray(operations.old_host), years, fit.overhead)[..., 0]
    return np.asarray(waited_s * issued)
