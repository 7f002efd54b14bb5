"""Which price of a machine is used, and why the others are not: the report of `trainfare offers --why`."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import Field

from trainfare_core.documents import Document, Finite, Interval, Record
from trainfare_core.errors import UnknownNameError
from trainfare_core.installation import __version__

if TYPE_CHECKING:
    import polars as pl

    from trainfare_core.prices.book import PriceBook


_KEY: Final = ("service", "purchase_option", "zone")
"""What of a machine in one region has one price."""


class PriceReading(Record):
    """One row that was read for a machine; the interval says what its price may be at the time of the report."""

    service: str = Field(default="", description="of the cloud; empty in documents of older versions")
    purchase_option: str
    zone: str | None
    usd_per_hour: Finite | None = Field(description="as the source stated it; None: it is no number above 0")
    usd_per_hour_now: Interval | None = Field(description="by the age of the reading; None: not used")
    used: bool
    because: str = Field(description="why it is used, or the rule that set it aside")
    observed_on: str
    observed_on_estimated: bool
    fetched_at: str | None
    age_days: float | None = Field(description="since its source confirmed it; None: not known")
    chance_changed: float | None = Field(description="that the price has changed since; None: not used")
    origin: str
    source: str
    source_class: str
    caveat: str | None


class PriceExplanation(Document):
    """Every row read for one machine, by purchase option and zone, the used one first."""

    schema_version: Literal[1] = 1
    tool_version: str
    machine: str
    as_of: datetime
    readings: tuple[PriceReading, ...]
    not_kept: tuple[str, ...] = Field(
        description="rows of the same service that were refused when a live list was fetched: counts by rule only"
    )
    problems: tuple[str, ...] = ()


def explain_prices(
    book: PriceBook, machine: str, *, as_of: datetime, problems: tuple[str, ...] = ()
) -> PriceExplanation:
    """
    Return every row that was read for a machine, and why each is used or not.

    Args:
        book: all prices, as loaded: a filtered book has forgotten what was set aside.
        machine: provider:instance_type@region (or a zone), e.g. aws:p5.48xlarge@us-east-1.
        as_of: an aware moment; ages are counted to the end of its day in UTC, as in the ranking.
        problems: price sources that gave nothing.

    Raises:
        UnknownNameError: not of that form, or no source has a row of it.
    """
    import polars as pl

    from trainfare_core.prices.age_doubt import Z_80, price_log_sigma, too_old_to_rank
    from trainfare_core.prices.freshness import end_of_day, with_ages

    provider, instance_type, region = _split_machine(machine)
    here = (
        (pl.col("provider").str.to_lowercase() == provider.casefold())
        & (pl.col("instance_type").str.to_lowercase() == instance_type.casefold())
        & pl.any_horizontal(pl.col("region", "zone").str.to_lowercase() == region.casefold())
    )
    used = book.rows.filter(here)
    aside = [rows.filter(here) for rows in book.set_aside]
    rows = pl.concat([used.with_columns(pl.lit(None, dtype=pl.String).alias("set_aside")), *aside])
    if rows.is_empty():
        book.find(machine)  # raises with near names: it looks at the same columns
    # As in the ranking, ages count to the end of the day.
    day = as_of.astimezone(timezone.utc).date()
    aged = with_ages(rows, end_of_day(day)).sort(
        "purchase_option", "zone", "set_aside", "observed_on", "service", nulls_last=False
    )
    log_sigma = price_log_sigma(aged)
    old = too_old_to_rank(aged["purchase_option"].to_numpy().astype(np.str_), log_sigma)
    others = aged.filter(pl.col("set_aside").is_not_null())
    counts = {
        (service, option, zone): count
        for service, option, zone, count in others.group_by(_KEY).len().iter_rows()
    }
    readings = tuple(
        _reading(row, counts.get(tuple(row[name] for name in _KEY), 0), reach, too_old=too_old)
        for row, reach, too_old in zip(
            aged.iter_rows(named=True), (Z_80 * log_sigma).tolist(), old.tolist(), strict=True
        )
    )
    first = rows.row(0, named=True)
    return PriceExplanation(
        tool_version=__version__,
        machine=f"{first['provider']}:{first['instance_type']}@{first['region']}",
        as_of=as_of,
        readings=readings,
        not_kept=_not_kept(book, str(first["provider"]), str(first["service"]), others),
        problems=problems,
    )


def _split_machine(machine: str) -> tuple[str, str, str]:
    provider, colon, rest = machine.partition(":")
    instance_type, at, region = rest.rpartition("@")
    if not (colon and at and provider and instance_type and region):
        msg = f"--why {machine!r}: write provider:instance_type@region, e.g. aws:p5.48xlarge@us-east-1"
        raise UnknownNameError(msg)
    return provider, instance_type, region


def _reading(row: dict[str, Any], others: int, reach: float, *, too_old: bool) -> PriceReading:
    """
    Return a row with its reason.

    Args:
        row: by column.
        others: rows of the same key that were set aside.
        reach: from the price to either end of its 80 % interval, in ln.
        too_old: see `too_old_to_rank`.
    """
    from trainfare_core.prices.age_doubt import moves_of
    from trainfare_core.prices.precedence import OWN_RATES

    usd, hours = float(row["usd_per_hour"]), row["age_hours"]
    age_days = None if hours is None else float(hours) / 24
    reason, interval, chance = row["set_aside"], None, None
    if reason is None:
        moves = moves_of(row["provider"], row["service"], row["purchase_option"])
        by_contract = row["origin"] == OWN_RATES
        chance = 0.0 if by_contract else moves.chance_changed(math.inf if age_days is None else age_days)
        interval = Interval(mid=usd, low_80=usd * math.exp(-reach), high_80=usd * math.exp(reach))
        reason = "used: the only row" if not others else f"used: {others} other rows are set aside"
        if too_old:
            reason += f"; too old to rank, its interval spans a factor of {math.exp(2 * reach):.1f}"
    names = (*_KEY, "observed_on", "observed_on_estimated", "fetched_at", "origin")
    return PriceReading(
        **{name: row[name] for name in (*names, "source", "source_class", "caveat")},
        usd_per_hour=usd if math.isfinite(usd) and usd >= 0 else None,
        usd_per_hour_now=interval,
        used=row["set_aside"] is None,
        because=reason,
        age_days=age_days,
        chance_changed=chance,
    )


def _not_kept(book: PriceBook, provider: str, service: str, shown: pl.DataFrame) -> tuple[str, ...]:
    """Count the rows of a service that were set aside and are not held as rows."""
    reasons = set(shown["set_aside"].to_list())
    return tuple(
        f"{intake.origin}: {tally.rows:,} rows of {provider}/{service}: {tally.reason}"
        for intake in book.intakes
        if (intake.provider, intake.service) == (provider, service)
        for tally in (*intake.quarantined, *intake.filtered)
        if tally.reason not in reasons
    )
