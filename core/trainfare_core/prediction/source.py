"""
Correction of predictions on other devices by a step that was measured on one, and by earlier runs of a project.

Measured over predicted on the source device corrects the target: fully where it is the same accelerator, on another GPU
to a power that was fitted on measured pairs. A step that is slower than predicted waits for something beside the
device (its host, its loader), which a slower GPU hides and a faster one does not: the power falls with the target's
time. One that is faster than predicted has less work for the device: the power rises with the target's time. Neither
ever puts a device that is predicted to be slower before a faster one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.hardware.earlier_runs import EarlierRuns
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.roofline.coefficients import SourceFit

LIMITS: Final = (0.4, 3.0)
"""Measured over predicted; a ratio outside means that something else was measured: it is clipped and noted. Chosen
values, wider than the errors of nine in ten rows whose chip and model were left out (62 %)."""
OTHER_KIND_POWER: Final = 0.3
"""Exponent of the ratio on another kind of device (GPU to TPU): no measured pair has two kinds. Assumed."""


@dataclass(frozen=True, slots=True)
class SourceCorrection:
    """Measured over predicted time on the device that gave the profile; 1 where nothing was measured."""

    device: Accelerator | None = None
    ratio: float = 1.0
    note: str = ""

    def factor(self, target: Accelerator, log_slower: float, fit: SourceFit) -> float:
        """
        Return what the predicted step on `target` is multiplied by.

        Args:
            target: the other device.
            log_slower: ln of the predicted step on `target` over that on the source device, for the same work.
            fit: how much of the error carries over.
        """
        if self.device is None:
            return 1.0
        if target.name == self.device.name:
            return self.ratio
        more = fit.share_per_log_slower * log_slower
        power = min(max(fit.share + (more if self.ratio < 1.0 else -more), 0.0), 1.0)
        same = target.kind == self.device.kind and target.vendor == self.device.vendor
        return float(self.ratio ** (power if same else min(OTHER_KIND_POWER, power)))

    @classmethod
    def of(cls, device: Accelerator, measured_s: float, predicted_s: float) -> SourceCorrection:
        """
        Compare a measured step with its prediction on the same device.

        Args:
            device: what ran it.
            measured_s: the step without its wait for data.
            predicted_s: the same step as predicted; NaN where it is not.
        """
        if not (predicted_s > 0 and measured_s > 0):
            return cls()
        raw = measured_s / predicted_s
        ratio = min(max(raw, LIMITS[0]), LIMITS[1])
        note = (
            f"the step measured on {device.name} took {raw:.2f} times its prediction; "
            "the prediction for other devices is corrected by that"
        )
        if ratio != raw:
            note += f", limited to {ratio:g}"
        return cls(device, ratio, note)


def narrow_interval(runs: EarlierRuns, log_sigma: Array) -> Array:
    """
    Return standard deviations of ln(step) after earlier runs: what they show of its variance is taken away or added.

    A prediction that is surer than those of the runs were changes by the same share of its variance.
    """
    known = 1.0 - (runs.log_sigma**2 + runs.least_log_sigma**2) / runs.published_log_sigma**2
    variance = log_sigma**2 - known * np.minimum(log_sigma, runs.published_log_sigma) ** 2
    return np.asarray(np.sqrt(np.maximum(variance, runs.least_log_sigma**2)))


def source_device(profile: JobProfile) -> Accelerator | None:
    """Return the accelerator that the step was measured on; None for a CPU or a device that is not known."""
    measured = profile.measured
    if measured is None or measured.device_kind == "cpu":
        return None
    return resolve_device(measured.device_name)


def get_measured_compute_s(profile: JobProfile) -> float | None:
    """Return the profile's step as measured, without its wait for data, seconds; None where nothing was measured."""
    measured = profile.measured
    if measured is None:
        return None
    wait_s = measured.data_wait.median_s if measured.data_wait else 0.0
    remaining_s = measured.step.median_s - wait_s
    return remaining_s / measured.work_ratio if remaining_s > 0 else None
