"""What measured steps, of the profile or of earlier runs, say of predictions: its own step on each device, factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.earlier_runs import find_earlier_runs
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.language_models.plans import decoder_device_s
from trainfare_core.prediction.roofline.host import host_bound
from trainfare_core.prediction.roofline.operations import Roofline
from trainfare_core.prediction.roofline_job import own_device_s
from trainfare_core.prediction.source import SourceCorrection, get_measured_compute_s, source_device


def own_steps_s(run: Run, devices: Sequence[Accelerator]) -> Array:
    """Return seconds of the profile's own step on one of each device, NaN where they are not known."""
    if run.ledger is None:
        rooflines = [Roofline.of(device, run.operations) for device in devices]
        device_s, host_s = own_device_s(run.operations, rooflines, run.fit)
    else:
        passes = run.profile.parallel.accumulate_grad_batches
        device_s, host_s = decoder_device_s(run.ledger, devices, passes, run.decoder)
    return host_bound(device_s, host_s)


def correction_of(run: Run) -> SourceCorrection:
    """Compare the measured step with its own prediction, without the network and the loader."""
    profile = run.profile
    device, measured_s = source_device(profile), get_measured_compute_s(profile)
    if device is None or measured_s is None or profile.parallel.world_size > 1:
        return SourceCorrection()
    return SourceCorrection.of(device, measured_s, float(own_steps_s(run, [device])[0]))


def correction_factors(run: Run, devices: Sequence[Accelerator]) -> Array:
    """Return what measured steps multiply the predicted step of each device by; ones where nothing was measured."""
    origin = run.correction.device
    if run.earlier:
        earlier = [find_earlier_runs(run.earlier, device.silicon) for device in devices]
        return np.array([1.0 if runs is None else runs.factor for runs in earlier])
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
