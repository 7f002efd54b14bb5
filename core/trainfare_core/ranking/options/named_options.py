"""
The options that an answer names: cheapest, fastest, best value, the runner-up and the script's own plan (part of stage
6); and which of two options is better, where their errors are partly the same.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from trainfare_core.arrays import Rows
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.ranking.options.options import OptionMaker
from trainfare_core.recommendation import Constraints, Interval, Objective, Option, RunnerUp


def worth_usd(option: Option, hour_usd: float) -> float:
    """Return the dollars of a run with the value of its hours, at so many dollars each."""
    return option.run_usd.mid + hour_usd * option.run_hours.mid


def runner_up_of(
    options: tuple[Option, ...],
    answer: Option | None,
    objective: Objective,
    constraints: Constraints,
    *,
    object_usd_per_hour: float = 0.0,
) -> RunnerUp | None:
    """
    Return the best option on another accelerator or another cloud that needs no more porting than the answer.

    Dollars grow with the price of an hour except for what is not paid by the hour, and with the time of a step except
    for start-up, checkpoints and those; the changes that make both equal follow from the parts of the cost.

    Args:
        options: of the answer, ranked.
        answer: the best of them.
        objective: what it is best at.
        constraints: with the value of an hour, for `best_value`.
        object_usd_per_hour: of the data in object storage where they lie, while a run lasts.

    Returns:
        None where there is no answer or no other accelerator and cloud.
    """
    if answer is None:
        return None
    others = [
        option
        for option in options
        if (option.provider, option.accelerator) != (answer.provider, answer.accelerator)
        and option.needs_porting <= answer.needs_porting
    ]
    if not others:
        return None
    if objective == "fastest":
        other = min(others, key=lambda option: (option.run_hours.mid, option.rank))
    else:
        hour_usd = constraints.value_usd_per_hour or 0.0 if objective == "best_value" else 0.0
        other = min(others, key=lambda option: (worth_usd(option, hour_usd), option.rank))
    return find_changes(other, answer, objective, constraints, object_usd_per_hour=object_usd_per_hour)


def find_changes(
    other: Option,
    answer: Option,
    objective: Objective,
    constraints: Constraints,
    *,
    object_usd_per_hour: float = 0.0,
) -> RunnerUp:
    """Return the relative changes that make another option as good as the answer; arguments as of `runner_up_of`."""
    if objective == "fastest":
        gap = other.run_hours.mid - answer.run_hours.mid
        stepping_hours = (_stepping_share(option) * option.run_hours.mid for option in (answer, other))
        slower, faster = (_share(gap, hours) for hours in stepping_hours)
        return RunnerUp(rank=other.rank, step_slower=slower, runner_up_step_faster=_below_one(faster))
    hour_usd = constraints.value_usd_per_hour or 0.0 if objective == "best_value" else 0.0
    gap = worth_usd(other, hour_usd) - worth_usd(answer, hour_usd)
    higher, lower = (_share(gap, _by_the_hour_usd(option)) for option in (answer, other))
    slower, faster = (
        _share(
            gap,
            _stepping_share(option)
            * (_in_time_usd(option, object_usd_per_hour) + hour_usd * option.run_hours.mid),
        )
        for option in (answer, other)
    )
    return RunnerUp(
        rank=other.rank,
        price_higher=higher,
        step_slower=slower,
        runner_up_price_cheaper=_below_one(lower),
        runner_up_step_faster=_below_one(faster),
    )


def _by_the_hour_usd(option: Option) -> float:
    """Return the dollars that grow with the price of an hour."""
    parts = option.cost_parts
    beside_usd = parts.storage_usd + parts.transfer_usd + parts.object_storage_usd + parts.model_usd
    return option.run_usd.mid - beside_usd


def _in_time_usd(option: Option, object_usd_per_hour: float) -> float:
    """Return the dollars that grow with the hours: the machines, their disks, and the data in object storage."""
    machines_usd = _by_the_hour_usd(option)
    copies = 2 if option.cost_parts.transfer_usd > 0 else 1
    hours = machines_usd / option.usd_per_hour if option.usd_per_hour > 0 else 0.0
    objects_usd = copies * hours * object_usd_per_hour
    return machines_usd + option.cost_parts.storage_usd + objects_usd


def _stepping_share(option: Option) -> float:
    """Return the part of the hours that grows with the time of a step: training and validation."""
    parts = option.cost_parts
    paid_usd = _by_the_hour_usd(option)
    return (parts.training_usd + parts.validation_usd) / paid_usd if paid_usd > 0 else 0.0


def _share(gap: float, whole: float) -> float | None:
    """Return the relative change that closes the gap; None where none does, or both are equal already."""
    return gap / whole if gap > 0 and whole > 0 else None


def _below_one(change: float | None) -> float | None:
    """Return a relative fall; None where not even 0 would close the gap."""
    return change if change is not None and change < 1 else None


SURE: Final = 0.8
"""Probability from which one option is called better than another: that of the intervals that stand beside them."""

_AS_FAST: Final = 1.2
"""Times the fewest hours that a run called the fastest takes at most, however wide the intervals. A chosen value."""

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


def find_best(options: tuple[Option, ...], objective: Objective, constraints: Constraints) -> int | None:
    """
    Return the rank of the best drop-in; the front of the medians holds it, so no cut of the list can lose it.

    The fastest costs the fewest dollars of those that take at most a fifth longer than the one of the fewest hours, and
    are not slower with a probability of `SURE`. The best value has the fewest dollars with the stated value of each
    hour; without one the least product of dollars and hours: it costs p percent more only where it takes more than p
    percent less. Of both, one that leaves accelerators of its machine idle is named where no other is left.

    Args:
        options: ranked.
        objective: what it is best at.
        constraints: with the value of an hour.
    """
    ready = [option for option in options if not option.needs_porting]
    if not ready:
        return None
    if objective == "cheapest":
        return min(ready, key=lambda option: (option.run_usd.mid, option.run_hours.mid, option.rank)).rank
    if objective == "best_value":
        hour_usd = constraints.value_usd_per_hour

        def compute_worth(option: Option) -> tuple[float, int]:
            if hour_usd is not None:
                return worth_usd(option, hour_usd), option.rank
            return option.run_usd.mid * option.run_hours.mid, option.rank

        whole = [option for option in ready if uses_every_device(option)] if hour_usd is None else ready
        return min(whole or ready, key=compute_worth).rank
    fastest = min(ready, key=lambda option: (option.run_hours.mid, option.rank))
    ready = [option for option in ready if _may_be_as_fast(option, fastest)]
    whole = [option for option in ready if uses_every_device(option)]
    return min(
        whole or ready, key=lambda option: (option.run_usd.mid, option.run_hours.mid, option.rank)
    ).rank


def _may_be_as_fast(option: Option, fastest: Option) -> bool:
    if option.run_hours.mid > _AS_FAST * fastest.run_hours.mid:
        return False
    return option is fastest or chance_less(fastest, option, fastest.run_hours, option.run_hours) < SURE


def find_own_plan(maker: OptionMaker, runs: Rows) -> Option | None:
    """
    Return the cheapest run of the script's own plan: its devices, nodes, strategy and micro-batch.

    Args:
        maker: of the options of the ranking, whose runs are looked through.
        runs: rows of `maker.priced.runs` that may be named.

    Returns:
        None where the script trains on one device, which every machine has, or no machine runs its plan.
    """
    own, priced = maker.profile.parallel, maker.priced
    candidates, plan = priced.search.candidates, priced.runs.plan[runs]
    if own.world_size == 1 or candidates.as_scripted is None:
        return None
    devices = candidates.devices_of(priced.search.shapes)[plan]
    kept = candidates.as_scripted[plan] & (candidates.variant_or_none[plan] == 0)
    runs = runs[kept & (devices == own.devices) & (candidates.nodes[plan] == own.num_nodes)]
    if not len(runs):
        return None
    run = int(runs[np.lexsort((runs, priced.runs.hours[runs], priced.lowest_usd[runs]))[0]])
    offer = priced.cheapest_offers(priced.machine_of_run[[run]]).row(0, named=True)
    return maker.make(run, offer, rank=1, on_front=False)
