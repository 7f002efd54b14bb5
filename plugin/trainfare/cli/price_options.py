"""The options about prices that every pricing command takes, spelled once."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from trainfare.prices.sources import PriceChoice
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError

__all__ = [
    "AllowStale",
    "AsOf",
    "JsonOrTable",
    "Lock",
    "MaxPriceAge",
    "OnStaleOption",
    "OwnPricesOption",
    "StaleAction",
    "moment",
    "price_choice",
    "warn",
]


class JsonOrTable(str, enum.Enum):
    """How an answer is written to standard output."""

    table = "table"
    json = "json"


class StaleAction(str, enum.Enum):
    """What happens when prices are past `--max-price-age-days`."""

    warn = "warn"
    fail = "fail"


Lock = Annotated[
    Path | None,
    typer.Option("--lock", metavar="FILE", help="decide with the prices of this lock, e.g. trainfare.lock"),
]
OwnPricesOption = Annotated[
    Path | None,
    typer.Option(
        "--own-prices",
        metavar="FILE",
        help="your discounts and rates as TOML; default: the file that TRAINFARE_OWN_PRICES names",
    ),
]
AllowStale = Annotated[
    bool, typer.Option("--allow-stale", help="use live prices that were fetched more than 30 days ago too")
]
MaxPriceAge = Annotated[
    float | None,
    typer.Option(
        "--max-price-age-days", help="oldest price to decide with; default: the lock's limit, or none"
    ),
]
OnStaleOption = Annotated[
    StaleAction | None,
    typer.Option(
        "--on-stale", help="past that age: warn, or fail with exit code 3; default: as locked, or warn"
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="DATE", help="count ages to YYYY-MM-DD or YYYY-MM-DDTHH:MM in UTC; default: now"
    ),
]


def price_choice(
    *,
    lock: Path | None,
    own_prices: Path | None,
    allow_stale: bool,
    max_price_age_days: float | None,
    on_stale: StaleAction | None,
    as_of: str | None,
) -> PriceChoice:
    """
    Return what the options say.

    Raises:
        InputError: `--as-of` is no moment.
    """
    return PriceChoice(
        lock=lock,
        own_prices=own_prices,
        allow_stale=allow_stale,
        max_price_age_days=max_price_age_days,
        on_stale=None if on_stale is None else on_stale.value,
        now=moment(as_of),
    )


def moment(text: str | None) -> datetime:
    """
    Read `--as-of`: a day counts to its end, None is now.

    Raises:
        InputError: neither a day nor a day with a time.
    """
    if text is None:
        return datetime.now(tz=timezone.utc)
    from trainfare_core.prices.freshness import end_of_day  # it brings polars, which --help can do without

    try:
        if len(text) == len("2026-01-31"):
            return end_of_day(date.fromisoformat(text))
        return datetime.strptime(f"{text.removesuffix('Z')}+0000", "%Y-%m-%dT%H:%M%z")
    except ValueError as error:
        raise InputError(f"--as-of {text!r}: give a day as YYYY-MM-DD, or YYYY-MM-DDTHH:MM in UTC") from error


def warn(lines: Iterable[str]) -> None:
    """Write warnings to standard error."""
    for line in lines:
        sys.stderr.write(f"warning: {terminal_text(line)}\n")
