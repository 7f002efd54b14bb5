"""The runner-up: the best option on another accelerator or cloud, and what would make it the answer."""

from __future__ import annotations

from trainfare_core.recommendation import Constraints, Objective, Option, RunnerUp


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
