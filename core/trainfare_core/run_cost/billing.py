"""
Time that is billed beyond what a run takes: a service rounds up to its billing step, and each start of a machine costs
its least billed time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.run_cost.sourced import Sourced, choose_sourced
from trainfare_core.run_cost.table import S_PER_HOUR, RunTable
from trainfare_core.run_cost_facts import find_fact

_WHOLE: Final = 1e-9
"""Of a number of steps: what is within it of a whole number is whole, on every processor."""

_DAY_HOURS: Final = 24.0
_DAYS_BY_ONE: Final = 14.0
_WEEK_DAYS: Final = 7.0
_ENDS_EARLY_HOURS: Final = 0.5
"""EC2 user guide, "Capacity Blocks for ML": 1 to 14 days by days, to 182 days by weeks, and instances begin to be
terminated 30 minutes before the end."""


@dataclass(frozen=True, slots=True)
class BillingClock:
    """
    How a service bills the time of a machine.

    Attributes:
        step_s: seconds to whose whole number time is rounded up.
        minimum_s: seconds that each start of a machine costs at least.
    """

    step_s: Sourced
    minimum_s: Sourced

    @classmethod
    def of(cls, assumed: CostAssumptions, cloud: str, service: str) -> BillingClock:
        """
        Return the clock of a service: the user's own figures, else what is published.

        Args:
            assumed: with the user's own figures.
            cloud: as in the price book.
            service: as in the price book.

        Example:
            >>> BillingClock.of(CostAssumptions(), "aws", "ec2").minimum_s.value
            60.0
        """
        return cls(
            choose_sourced(assumed.billing_step_s, find_fact("billing_step", cloud, service=service)),
            choose_sourced(assumed.billing_minimum_s, find_fact("billing_minimum", cloud, service=service)),
        )


def rounding_s(runs: RunTable, rate_per_s: Column, step_s: Column, minimum_s: Column) -> NDArray[np.float64]:
    """
    Return the seconds that are billed and not used, of each machine of a run, shape (n,).

    Without interruptions the run is one start, of known length. Each interruption ends a start after a time that is
    exponential with the rate of the interruptions: half a step is lost on average, and of the least billed time m
    what is missing to it, m - (1 - exp(-rate m)) / rate. Rates of a range are weighted by how many starts they end.
    Beside them two starts miss as much: times between interruptions up to the one that the end of the run cuts are one
    more than interruptions (Wald's equation), and what is left of that one is as long as they are.

    Args:
        runs: n of them.
        rate_per_s: of the interruptions of all machines of a run, shape (n, rates); 0 where there are none.
        step_s: shape (n,); 0 where none is known.
        minimum_s: shape (n,); 0 where none is known.
    """
    used_s = runs.undisturbed_s
    with np.errstate(invalid="ignore", divide="ignore"):  # a run that never ends has infinite interruptions
        whole_s = np.where(step_s > 0, np.ceil(used_s / step_s * (1 - _WHOLE)) * step_s, used_s)
        whole_s = np.where(runs.in_block, book_block_hours(used_s / S_PER_HOUR) * S_PER_HOUR, whole_s)
        last_s = np.maximum(np.maximum(whole_s, minimum_s) - used_s, 0.0)
        missing_s = minimum_s[:, None] + np.expm1(-rate_per_s * minimum_s[:, None]) / rate_per_s
        weight = rate_per_s / rate_per_s.sum(axis=1, keepdims=True)
        each_s = step_s / 2 + (missing_s * weight).sum(axis=1)
        calm = np.exp(-rate_per_s * used_s[:, None])
        end_s = (calm * last_s[:, None] + (1 - calm) * step_s[:, None] / 2 + 2 * missing_s).mean(axis=1)
        return np.where(runs.interruptions > 0, end_s + runs.interruptions * each_s, last_s)


def book_block_hours(hours: Column) -> Column:
    """
    Return the hours of the shortest capacity block in which runs end, shape of `hours`.

    >>> book_block_hours(np.array([1.0, 93.0, 23.6, 350.0])).tolist()
    [24.0, 96.0, 48.0, 504.0]
    """
    days = np.ceil((hours + _ENDS_EARLY_HOURS) / _DAY_HOURS)
    weeks = np.ceil(days / _WEEK_DAYS) * _WEEK_DAYS
    block_hours: Column = np.where(days > _DAYS_BY_ONE, weeks, days) * _DAY_HOURS
    return block_hours


def find_block_use(paid_hours: Column) -> Column:
    """
    Return the longest run that ends in the longest block of so many paid hours, hours; 0 where none is paid.

    >>> find_block_use(np.array([20.0, 100.0, 400.0])).tolist()
    [0.0, 95.5, 335.5]
    """
    with np.errstate(invalid="ignore"):
        days = np.floor(paid_hours / _DAY_HOURS * (1 + 1e-12))  # a budget of whole days pays them all
        weeks = np.maximum(np.floor(days / _WEEK_DAYS) * _WEEK_DAYS, _DAYS_BY_ONE)
        longest = np.where(days > _DAYS_BY_ONE, weeks, days) * _DAY_HOURS - _ENDS_EARLY_HOURS
    use_hours: Column = np.maximum(np.where(np.isfinite(paid_hours), longest, np.inf), 0.0)
    return use_hours
