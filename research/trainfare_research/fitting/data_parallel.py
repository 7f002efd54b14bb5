"""
One process that drives several devices from one Python thread: `torch.nn.DataParallel`.

Lightning 2 has no such strategy, so the product plans none; one table of measured steps has it. Before every forward
the first device sends its weights to all others, then one interpreter issues the forward of every copy and gathers
their outputs; backward runs beside Python, and its gradients are summed on the first device. Nothing of that overlaps:

    step = hold(device, host of one step and a share of a forward for every device) + (weights + gradients) / link

The share is fitted by `links.py`.
"""

from __future__ import annotations

import numpy as np

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.network.collectives import link_of
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.host import host_bound, host_launch_s
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import operation_seconds
from trainfare_research.fits import link_record


def is_data_parallel(line: dict[str, str]) -> bool:
    """Return whether a row ran several devices from one process."""
    return line["devices"] != "1" and "single process" in line["strategy"]


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
    operations = Operations.of(job)
    device_s = operation_seconds(operations, [Roofline.of(device, operations)], ratio, fit).total_s.sum()
    by_phase = host_launch_s(operations, [device], fit)[0]
    issued_s = by_phase.sum() + devices * link_record().data_parallel_forward_share * by_phase[0]
    moved_bytes = float(job.parameter_bytes + job.memory.gradient_bytes)
    held_s = host_bound(np.asarray(device_s), np.asarray(issued_s))
    return float(held_s) + moved_bytes / link_of(device, fit.communication).bytes_per_s
