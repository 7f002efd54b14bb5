"""The age of a price at the time of the report, counted from the last time its source confirmed it."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Final

from trainfare_core.prices.freshness import (
    CLOCK_SLACK_HOURS,
    FRESH_HOURS,
    SPOT_FRESH_HOURS,
    end_of_day,
    fresh_hours,
)
from trainfare_core.recommendation import Option

STALE_MEANING: Final = (
    "Stale (not marked where every price is): the source has not confirmed the price within the last "
    f"{FRESH_HOURS:g} hours "
    f"(spot: {SPOT_FRESH_HOURS:g} hour); `trainfare prices update` fetches today's prices."
)

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?(?:T.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PriceDate:
    """
    When a price was last confirmed by its source.

    Attributes:
        observed_on: ISO date, as precise as the source gives it: '2026-07-20', '2026-03' or '2026'.
        fetched_at: ISO 8601 time of the fetch; where there was one, the age is counted from it.
        purchase_option: spot prices become stale sooner.
        by_contract: a negotiated rate, which does not become stale.
    """

    observed_on: str
    fetched_at: str | None = None
    purchase_option: str = "on_demand"
    by_contract: bool = False

    @property
    def text(self) -> str:
        """The day of the fetch, else the date of the price."""
        return self.observed_on if self.fetched_at is None else self.fetched_at[:10]


def price_date_of(option: Option) -> PriceDate:
    """Return when the price of a ranked option was last confirmed."""
    return PriceDate(
        option.price_observed_on,
        option.price_fetched_at,
        option.purchase_option,
        option.price_by_contract,
    )


@dataclass(frozen=True, slots=True)
class PriceAge:
    """
    The age of a price at the time of the report.

    Attributes:
        text: e.g. '3 hours old', '127 days old', '8 months old', 'age unknown'.
        stale: it may be older than `fresh_hours`, or its age is unknown.
    """

    text: str
    stale: bool


def price_age(price_date: PriceDate, as_of: date) -> PriceAge:
    """
    Return the age of a price.

    Args:
        price_date: when it was confirmed. A date without a day covers the whole month: the age shown is a range, and
            the older end decides whether it is stale.
        as_of: the time of the report; a day without a time counts to its end.
    """
    if price_date.fetched_at is not None:
        return _since_fetch(price_date, price_date.fetched_at, as_of)
    possible = _days_of(price_date.observed_on)
    if possible is None:
        return PriceAge("age unknown", stale=True)
    day = _day(as_of)
    first, last = possible
    if first > day:
        return PriceAge(f"dated after {day.isoformat()}", stale=True)
    most, least = (day - first).days, max(0, (day - last).days)
    # A date has no hour: a price of today can be a day old, and a spot price cannot be known to be fresh.
    stale = not price_date.by_contract and (most > 0 or fresh_hours(price_date.purchase_option) < FRESH_HOURS)
    if most == least:
        return PriceAge(_age(most, "day"), stale)
    # In months only where they say as much as the days: a date of one month, at least two months ago.
    months = (day.year - first.year) * 12 + day.month - first.month
    if first.year != last.year or (last - first).days > 31 or months < 2:
        return PriceAge(f"{least} to {most} days old", stale)
    return PriceAge(f"{months} months old", stale)


def day_text(as_of: date) -> str:
    """Return the day to which ages are counted, e.g. '2026-11-24'."""
    return _day(as_of).isoformat()


def _day(as_of: date) -> date:
    return as_of.date() if isinstance(as_of, datetime) else as_of


def _since_fetch(price_date: PriceDate, fetched_at: str, as_of: date) -> PriceAge:
    now = as_of if isinstance(as_of, datetime) else end_of_day(as_of)
    try:
        fetched = datetime.fromisoformat(fetched_at.replace("Z", "+00:00"))
    except ValueError:
        return PriceAge("age unknown", stale=True)
    fetched = fetched if fetched.tzinfo else fetched.replace(tzinfo=timezone.utc)
    hours = (now - fetched).total_seconds() / 3600
    if hours < -CLOCK_SLACK_HOURS:
        return PriceAge(f"dated after {now.date().isoformat()}", stale=True)
    whole = int(max(0.0, hours))
    # in days from two days on: the hour no longer matters
    text = (
        _age(whole // 24, "day") if whole >= 48 else _age(whole, "hour") if whole else "less than 1 hour old"
    )
    return PriceAge(text, stale=hours > fresh_hours(price_date.purchase_option))


def price_ages(price_dates: frozenset[PriceDate], as_of: date) -> str:
    """Return the dates and ages of a set of prices as a phrase: 'prices of 2026-07-20, 127 days old'."""
    ordered = _sort_dates(price_dates)
    if not ordered:
        return "no prices"
    oldest, newest = ordered[0], ordered[-1]
    age = price_age(oldest, as_of).text
    if oldest.text == newest.text:
        return f"prices of {oldest.text}, {age}"
    return f"prices of {oldest.text} ({age}) to {newest.text} ({price_age(newest, as_of).text})"


def oldest_price(price_dates: frozenset[PriceDate], as_of: date) -> str:
    """Return the date and age of the oldest of a set of prices: 'The oldest price is of 2026-07-20, 127 days old'."""
    oldest, *others = _sort_dates(price_dates)
    words = "The oldest price is" if any(other.text != oldest.text for other in others) else "Prices"
    return f"{words} of {oldest.text}, {price_age(oldest, as_of).text}"


def _sort_dates(price_dates: frozenset[PriceDate]) -> list[PriceDate]:
    return sorted(price_dates, key=lambda price_date: (price_date.text, price_date.fetched_at or ""))


def _age(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'} old"


def _days_of(observed_on: str) -> tuple[date, date] | None:
    match = _DATE.fullmatch(observed_on.strip())
    if match is None:
        return None
    year, last_month = int(match[1]), int(match[2] or 12)
    try:
        last_day = int(match[3] or calendar.monthrange(year, last_month)[1])
        return date(year, int(match[2] or 1), int(match[3] or 1)), date(year, last_month, last_day)
    except ValueError:
        return None
