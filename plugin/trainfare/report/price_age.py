"""How old a price is on the day of the report: never younger than its source can prove."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date
from typing import Final

__all__ = ["STALE_AFTER_DAYS", "PriceAge", "price_age", "price_ages"]

STALE_AFTER_DAYS: Final = 30
"""A price that may be older than this many days is marked stale."""

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?(?:T.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PriceAge:
    """
    How old a price is on the day of the report.

    Attributes:
        text: e.g. '127 days old', '8 months old', 'age unknown'.
        days: the least it can be, never negative; None where the date cannot be read.
        stale: it may be older than STALE_AFTER_DAYS, or its age cannot be told.
    """

    text: str
    days: int | None
    stale: bool


def price_age(observed_on: str, as_of: date) -> PriceAge:
    """
    Return the age of a price.

    Args:
        observed_on: ISO date as precise as its source: '2026-07-20', '2026-03' or '2026'. A month counts from
            its first day to its last: the age shown is the range, and the older end decides what is stale.
        as_of: the day of the report.
    """
    possible = _days_of(observed_on)
    if possible is None:
        return PriceAge("age unknown", None, stale=True)
    first, last = possible
    if first > as_of:
        return PriceAge(f"dated after {as_of.isoformat()}", 0, stale=True)
    most, least = (as_of - first).days, max(0, (as_of - last).days)
    stale = most > STALE_AFTER_DAYS
    if most == least:
        return PriceAge(_days(most), least, stale)
    months = (as_of.year - first.year) * 12 + as_of.month - first.month
    if first.year != last.year or (last - first).days > 31 or months < 2:
        return PriceAge(f"{least} to {most} days old", least, stale)
    return PriceAge(f"{months} months old", least, stale)


def price_ages(dates: frozenset[str], as_of: date) -> str:
    """Return the dates and ages of a set of prices as a phrase: 'prices from 2026-07-20, 127 days old'."""
    ordered = sorted(dates)
    if not ordered:
        return "no prices"
    oldest, newest = ordered[0], ordered[-1]
    age = price_age(oldest, as_of).text
    if oldest == newest:
        return f"prices from {oldest}, {age}"
    return f"prices from {oldest} ({age}) to {newest} ({price_age(newest, as_of).text})"


def _days(days: int) -> str:
    return "1 day old" if days == 1 else f"{days} days old"


def _days_of(observed_on: str) -> tuple[date, date] | None:
    found = _DATE.fullmatch(observed_on.strip())
    if found is None:
        return None
    year, month, day = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    try:
        if found[2] is None:
            return date(year, 1, 1), date(year, 12, 31)
        if found[3] is None:
            return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
        return date(year, month, day), date(year, month, day)
    except ValueError:
        return None
