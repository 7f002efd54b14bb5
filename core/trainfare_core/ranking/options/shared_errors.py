"""Which of two options is better, where their errors are partly the same (part of stage 6)."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.recommendation import Interval, Option

SURE: Final = 0.8
"""Probability from which one option is called better than another: that of the intervals that stand beside them."""

_EQUAL: Final = 0.01
"""Quantities of one accelerator that differ by less are equal: start-up and disks, not the work. A chosen value."""


def share_devices(option: Option, other: Option) -> bool:
    """Return whether two options run the job on the same accelerators, as many of them: their steps err alike."""
    return option.accelerator == other.accelerator and _count_used(option) == _count_used(other)


def uses_every_device(option: Option) -> bool:
    """Return whether no accelerator of a machine is idle."""
    return option.trainer is None or option.trainer.devices >= math.floor(option.accelerator_count)


def chance_less(option: Option, other: Option, interval: Interval, other_interval: Interval) -> float:
    """
    Return the probability that a quantity of an option is less than the same of another.

    The job's part of the error is the same on every machine. On another accelerator that is the share of a measured
    step's error that was found to carry over (`SourceFit.share`); on the same ones it is all of it.

    Args:
        option: one option.
        other: the other.
        interval: of its quantity, log-normal, such as `Option.run_hours`.
        other_interval: of the other's.
    """
    margin = (
        math.log(other_interval.mid / interval.mid) if interval.mid > 0 and other_interval.mid > 0 else 0.0
    )
    if share_devices(option, other):
        return 0.5 if abs(margin) <= _EQUAL else float(margin > 0)
    sigma, other_sigma = _log_sigma(interval), _log_sigma(other_interval)
    shared = calibration().source.share
    variance = sigma**2 + other_sigma**2 - 2 * shared * sigma * other_sigma
    if variance <= 0:
        return 0.5 if margin == 0 else float(margin > 0)
    return NormalDist().cdf(margin / math.sqrt(variance))


def _count_used(option: Option) -> float:
    devices = option.accelerator_count if option.trainer is None else option.trainer.devices
    return devices * option.nodes


def _log_sigma(interval: Interval) -> float:
    if interval.low_80 <= 0:
        return 0.0
    return math.log(interval.high_80 / interval.low_80) / (2 * Z_80)
