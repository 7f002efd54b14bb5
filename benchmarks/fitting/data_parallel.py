"""
One process that drives several devices from one Python thread: `torch.nn.DataParallel`.

Lightning 2 has no such strategy, so that the product plans none; a table of measured steps has it. Before every forward
the first device sends its weights to all others, then one interpreter issues the forward of every copy and gathers
their outputs; backward runs beside Python, and its gradients are summed on the first device. Nothing of that overlaps:

    step = hold(device, host of one step and a share of a forward for every device) + (weights + gradients) / link

The share is fitted by `fit_links.py`.
"""

from __future__ import annotations

import numpy as np

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.network.coefficients import link_calibration
from trainfare_core.prediction.network.collectives import link_of
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import (
    Operations,
    device_rates,
    host_bound,
    host_launch_s,
    operation_times,
)

__all__ = ["data_parallel_s", "is_data_parallel"]


def is_data_parallel(line: dict[str, str]) -> bool:
    """Return whether a row ran several devices from one process."""
    return "single process" in line["strategy"] and line["devices"] != "1"


def data_parallel_s(job: JobProfile, name: str, devices: int, ratio: float) -> float:
    """
    Return predicted seconds of one step.

    Args:
        job: the micro-batch of one device.
        name: of the accelerator.
        devices: two or more.
        ratio: micro-batch of one device over the profile's.

    Raises:
        UnknownNameError: the accelerator is not in the catalogue.
    """
    fit, device = calibration(), accelerator(name)
    operations = Operations.of(job, fit)
    rates = [device_rates(device, operations, fit)]
    times = operation_times(operations, rates, np.zeros(1, dtype=np.int64), np.array([ratio]), fit)
    host_s = host_launch_s(operations, device, fit)
    forward_s = float(host_s[operations.phase == 0].sum())
    issued_s = float(host_s.sum()) + devices * link_calibration().data_parallel_forward_share * forward_s
    held_s = host_bound(times.total_s.sum(axis=0), np.array([issued_s]))
    moved_bytes = float(job.parameter_bytes + job.memory.gradient_bytes)
    return float(held_s[0]) + moved_bytes / link_of(device, fit.communication).bytes_per_s
