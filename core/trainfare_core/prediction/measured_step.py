"""What measured steps and kernels say of predictions: the profile's own step on each device, and factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.earlier_runs import DeviceFigures, find_earlier_runs, find_figures
from trainfare_core.job_profile import OperationGroup
from trainfare_core.prediction.columns import SMALLEST_S, Run
from trainfare_core.prediction.language_models.plans import decoder_device_s
from trainfare_core.prediction.loop_time import find_pass_s
from trainfare_core.prediction.roofline.features import TENSOR_KINDS
from trainfare_core.prediction.roofline.host import host_bound, host_launch_s
from trainfare_core.prediction.roofline.operations import Roofline
from trainfare_core.prediction.roofline.times import operation_seconds
from trainfare_core.prediction.roofline_job import own_device_s
from trainfare_core.prediction.source import SourceCorrection, get_measured_compute_s, source_device


def own_steps_s(run: Run, devices: Sequence[Accelerator]) -> Array:
    """Return seconds of the profile's own step on one of each device, NaN where they are not known."""
    passes = run.profile.parallel.accumulate_grad_batches
    if run.ledger is None:
        rooflines = [Roofline.of(device, run.operations) for device in devices]
        device_s, host_s = own_device_s(run.operations, rooflines, run.fit)
    else:
        compute_s, memory_s, host_s = decoder_device_s(run.ledger, devices, passes, run.decoder)
        device_s = compute_s + memory_s
    return host_bound(device_s, host_s + find_pass_s(run.profile) * passes)


def correction_of(run: Run) -> SourceCorrection:
    """Compare the measured step with its own prediction, without the network and the loader."""
    profile = run.profile
    device, measured_s = source_device(profile), get_measured_compute_s(profile)
    if device is None or measured_s is None or profile.parallel.world_size > 1:
        return SourceCorrection()
    return SourceCorrection.of(device, measured_s, float(own_steps_s(run, [device])[0]))


def correction_factors(run: Run, devices: Sequence[Accelerator]) -> Array:
    """Return what measurements multiply the predicted step of each device by; ones where nothing was measured."""
    origin = run.correction.device
    if run.earlier:
        return np.array([_find_factor(run, device) for device in devices])
    if origin is None or not run.profile.operations:
        return np.ones(len(devices))
    steps_s = own_steps_s(run, [origin, *devices])
    log_slower = np.nan_to_num(np.log(steps_s[1:] / steps_s[0]))
    return np.array(
        [
            run.correction.factor(device, float(slower), run.fit.source)
            for device, slower in zip(devices, log_slower, strict=True)
        ]
    )


def _find_factor(run: Run, device: Accelerator) -> float:
    """Return what earlier runs on a device's die, or else its own figures, multiply the predicted step by."""
    if runs := find_earlier_runs(run.earlier, device.silicon):
        return runs.factor
    figures = find_figures(run.earlier, device.name)
    if figures is None or not len(run.operations):
        return 1.0
    roofline = Roofline.of(device, run.operations)
    seconds = operation_seconds(run.operations, [roofline], 1.0, run.fit)
    ratios = np.array([_find_ratio(figures, group) for group in run.operations.groups])
    compute_s, memory_s, launch_s = (
        part.sum(axis=-1) for part in (seconds.compute_s, seconds.memory_s, seconds.launch_s)
    )
    host_s = host_launch_s(run.operations, [device], run.fit).sum(axis=1)
    # Of arithmetic of several types, weighed by the time of each.
    ratio = 1.0 + seconds.compute_s @ (ratios - 1.0) / np.maximum(compute_s, SMALLEST_S)
    if run.ledger is not None:  # whose terms are other ones
        passes, launch_s = run.profile.parallel.accumulate_grad_batches, np.zeros(1)
        compute_s, memory_s, host_s = decoder_device_s(run.ledger, [device], passes, run.decoder)
    before_s = host_bound(compute_s + memory_s + launch_s, host_s)
    compute_s, memory_s = compute_s * ratio, memory_s * figures.ratios.get("memory", 1.0)
    after_s = host_bound(compute_s + memory_s + launch_s, host_s * figures.ratios.get("launch", 1.0))
    return float((after_s / before_s)[0])


def _find_ratio(figures: DeviceFigures, group: OperationGroup) -> float:
    """Return measured over predicted seconds of arithmetic; of products where no other of the kind was measured."""
    names = (f"{group.kind} {group.dtype}", f"matmul {group.dtype}") if group.kind in TENSOR_KINDS else ()
    return next((figures.ratios[name] for name in names if name in figures.ratios), 1.0)
