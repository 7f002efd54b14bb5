"""A dated series of costs of one quantity, and dates as decimal years."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias

from trainfare_core.decline.records import DeclineError

Kind: TypeAlias = Literal["price", "record", "estimate"]
_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?", re.ASCII)
_DECIMAL = re.compile(r"\d{4}\.\d+", re.ASCII)


def decimal_year(when: float | str) -> float:
    """
    Return a date as a decimal year.

    Args:
        when: a decimal year, or an ISO date, month or year: '2022' and '2022-09' mean their first day, '2022-09-29'
            the start of that day.

    Raises:
        DeclineError: text that is not a date, or a number that is not finite.
    """
    if not isinstance(when, str):
        if math.isfinite(when):
            return float(when)
        raise DeclineError(f"date: {when} is not finite")
    if _DECIMAL.fullmatch(when.strip()):
        return float(when)
    match = _DATE.fullmatch(when.strip())
    try:
        day = date(int(match[1]), int(match[2] or 1), int(match[3] or 1)) if match else None
    except ValueError:
        day = None
    if day is None:
        raise DeclineError(f"date: {when!r} is not one such as 2022, 2022-09, 2022-09-29 or 2022.75")
    days = 366 if calendar.isleap(day.year) else 365
    return day.year + (day - date(day.year, 1, 1)).days / days


@dataclass(frozen=True, slots=True)
class Series:
    """
    Costs of one quantity over time.

    Attributes:
        times: decimal years, strictly rising; length n.
        costs: above 0, one unit of money throughout (nominal USD unless `deflated`); length n.
        production: units made in each period, above 0, for Wright's law; length n, or None.
        kind: "price" (what was paid or listed), "record" (best so far: never rises by construction, so that
            early trends are too fast) or "estimate".
        quality: what is held constant, e.g. "93 % top-5 on ImageNet".

    Raises:
        DeclineError: lengths differ, fewer than 2 points, times that do not rise, a value that is not above 0.
    """

    times: tuple[float, ...]
    costs: tuple[float, ...]
    production: tuple[float, ...] | None = None
    kind: Kind = "price"
    quality: str = ""

    def __post_init__(self) -> None:
        counts = self.production if self.production is not None else self.costs
        if not len(self.times) == len(self.costs) == len(counts) or len(self.times) < 2:
            msg = f"series: {len(self.times)} times, {len(self.costs)} costs, {len(counts)} amounts; at least 2 each"
            raise DeclineError(msg)
        if any(not later > earlier for earlier, later in pairwise(self.times)):
            raise DeclineError("series: the times do not rise strictly")
        if any(not (math.isfinite(value) and value > 0) for value in (*self.costs, *counts)):
            raise DeclineError("series: every cost and amount must be a finite number above 0")

    @classmethod
    def of(
        cls,
        times: Sequence[float | str],
        costs: Sequence[float],
        *,
        production: Sequence[float] | None = None,
        kind: Kind = "price",
        quality: str = "",
    ) -> Series:
        """
        Make a series from decimal years or ISO dates; see the attributes for units and errors.

        Raises:
            DeclineError: an invalid date, or values that the class refuses.
        """
        amounts = None if production is None else tuple(production)
        return cls(tuple(decimal_year(when) for when in times), tuple(costs), amounts, kind, quality)

    @property
    def logs(self) -> tuple[float, ...]:
        """ln(cost) at each time."""
        return tuple(math.log(cost) for cost in self.costs)

    @property
    def step_years(self) -> float | None:
        """Years between neighbours where they are all the same (to 1 in a million), else None."""
        steps = [later - earlier for earlier, later in pairwise(self.times)]
        mean = (self.times[-1] - self.times[0]) / len(steps)
        return mean if all(abs(step - mean) <= 1e-6 * mean for step in steps) else None

    @property
    def is_record(self) -> tuple[bool, ...]:
        """Whether each point is lower than all earlier ones; the first is."""
        best_before = [math.inf, *accumulate(self.costs, min)]
        return tuple(cost < best for cost, best in zip(self.costs, best_before, strict=False))

    def records(self) -> Series:
        """
        Return only the best-so-far points, as a series of kind "record".

        Raises:
            DeclineError: fewer than two records.
        """
        indices = [index for index, mark in enumerate(self.is_record) if mark]
        return replace(self._only(indices), kind="record")

    def last(self, points: int) -> Series:
        """Return the last `points` points (at least 2, at most all)."""
        return self._only(range(len(self.times) - points, len(self.times)))

    def _only(self, indices: Sequence[int]) -> Series:
        times, costs = (tuple(values[index] for index in indices) for values in (self.times, self.costs))
        amounts = None if self.production is None else tuple(self.production[index] for index in indices)
        return replace(self, times=times, costs=costs, production=amounts)
