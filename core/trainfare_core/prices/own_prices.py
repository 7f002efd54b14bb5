"""
Prices that the user pays instead of list prices: discounts, reservations and negotiated rates (part of stage 2).

A discount takes a percentage off every list price that it matches; a rate is the price of one machine. Both are
marked in the book (`source_class` "own") with their name and what they replace, and hold only between their dates.
Two discounts that match one price are an error, because only the contract says whether they add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Final

import polars as pl
from pydantic import Field, field_validator, model_validator

from trainfare_core.documents import Record
from trainfare_core.errors import InputError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.intake import KEY_COLUMNS, PURCHASE_OPTIONS, move_out, set_aside
from trainfare_core.prices.precedence import OWN_RATES

_FACTS: Final = (
    "accelerator",
    "accelerator_count",
    "accelerator_memory_gib",
    "vcpus",
    "memory_gib",
    "network_gbit_per_s",
)

_Amount = Annotated[Decimal, Field(gt=0, le=10**9, allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Names = tuple[_Name, ...]


class _Dated(Record):
    name: _Name
    valid_from: date | None = None
    valid_until: date | None = Field(default=None, description="the last day on which it holds")

    @model_validator(mode="after")
    def _in_order(self) -> _Dated:
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise ValueError("valid_until lies before valid_from")
        return self

    def holds_on(self, day: date) -> bool:
        """Return whether it is in force on a day."""
        return (self.valid_from is None or self.valid_from <= day) and (
            self.valid_until is None or day <= self.valid_until
        )


class Discount(_Dated):
    """A percentage off list prices; a list of names left out matches any."""

    percent: Annotated[Decimal, Field(gt=0, lt=100, allow_inf_nan=False)]
    provider: _Name
    services: _Names | None = None
    regions: _Names | None = None
    accelerators: _Names | None = None
    instance_types: _Names | None = None
    purchase_options: _Names = ("on_demand",)

    @field_validator("purchase_options")
    @classmethod
    def _known(cls, options: _Names) -> _Names:
        return tuple(_purchase(option) for option in options)


class Rate(_Dated):
    """
    What one hour of one machine costs you: `usd_per_hour`, or `total_usd` for `term_hours`.

    The machine's accelerators are taken from the book where it is listed; else they must be given.
    """

    provider: _Name
    service: _Name
    instance_type: _Name
    region: _Name
    zone: _Name | None = None
    purchase_option: str = "on_demand"
    usd_per_hour: _Amount | None = None
    total_usd: _Amount | None = None
    term_hours: _Amount | None = None
    agreed_on: date
    accelerator: _Name | None = None
    accelerator_count: _Amount | None = None
    accelerator_memory_gib: _Amount | None = None
    vcpus: _Amount | None = None
    memory_gib: _Amount | None = None
    network_gbit_per_s: _Amount | None = None

    @field_validator("purchase_option")
    @classmethod
    def _known(cls, option: str) -> str:
        return _purchase(option)

    @model_validator(mode="after")
    def _one_price(self) -> Rate:
        whole = (self.total_usd is None, self.term_hours is None)
        if (self.usd_per_hour is None) == (whole == (True, True)) or whole[0] != whole[1]:
            raise ValueError("give usd_per_hour, or total_usd together with term_hours")
        return self

    @property
    def hourly_usd(self) -> float:
        """USD per hour of the whole machine."""
        if self.usd_per_hour is not None:
            return float(self.usd_per_hour)
        return float((self.total_usd or Decimal(0)) / (self.term_hours or Decimal(1)))


class OwnPrices(Record):
    """Content of a file of own prices."""

    discount: tuple[Discount, ...] = ()
    rate: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class AppliedPrices:
    """Book with own prices in it, and a sentence for each of them that was, or was not, applied."""

    book: PriceBook
    notes: tuple[str, ...]


def _purchase(option: str) -> str:
    if option not in PURCHASE_OPTIONS:
        raise ValueError(f"{option!r} is not one of {', '.join(PURCHASE_OPTIONS)}")
    return option


def apply_own(book: PriceBook, own_prices: OwnPrices, *, day: date) -> AppliedPrices:
    """
    Put discounts and rates into a book.

    Args:
        book: list prices.
        own_prices: discounts and rates.
        day: the day on which they must be in force.

    Raises:
        InputError: two discounts match one price, two rates one machine, a name that the book does not have, or a
            rate for a machine of unknown accelerators.
    """
    notes = [
        f"price {entry.name!r} is not in force (it holds from {entry.valid_from or 'the start'} "
        f"to {entry.valid_until or 'no end'})"
        for entry in (*own_prices.discount, *own_prices.rate)
        if not entry.holds_on(day)
    ]
    discounts = [discount for discount in own_prices.discount if discount.holds_on(day)]
    rates = [rate for rate in own_prices.rate if rate.holds_on(day)]
    book, discount_notes = _apply_discounts(book, discounts)
    notes += discount_notes
    if rates:
        book = _with_rates(book, rates)
        notes += [
            f"rate {rate.name!r}: {rate.hourly_usd:.6g} USD per hour for "
            f"{rate.provider}:{rate.instance_type}@{rate.zone or rate.region}, {rate.purchase_option}"
            for rate in rates
        ]
    return AppliedPrices(book, tuple(notes))


def _apply_discounts(book: PriceBook, discounts: Sequence[Discount]) -> tuple[PriceBook, list[str]]:
    frame, notes = book.frame, list[str]()
    taken = pl.Series("taken", [False]).new_from_index(0, frame.height)
    for discount in discounts:
        matches = frame.select(_matching(book, discount).alias("m")).to_series()
        twice = frame.filter(matches & taken)
        if not twice.is_empty():
            row = twice.row(0, named=True)
            machine = f"{row['provider']}:{row['instance_type']}@{row['region']} ({row['purchase_option']})"
            raise InputError(
                f"own discount {discount.name!r}: an earlier discount matches {machine} too; narrow one of the two"
            )
        taken = taken | matches
        count = int(matches.sum())
        notes.append(
            f"discount {discount.name!r}: {discount.percent.normalize():f} % off {count:,} list prices"
        )
        frame = _mark_discounted(frame, matches, discount)
    return PriceBook(frame, book.intakes, book.set_aside), notes


def _mark_discounted(frame: pl.DataFrame, matches: pl.Series, discount: Discount) -> pl.DataFrame:
    left = float((100 - discount.percent) / 100)
    text = f"own discount {discount.name!r}, {discount.percent.normalize():f} % off the list price of "
    addition = pl.concat_str(pl.lit(text), pl.col("usd_per_hour").round(6), pl.lit(" USD"))
    caveat = pl.concat_str([pl.col("caveat"), addition], separator="; ", ignore_nulls=True)

    def where(value: pl.Expr, name: str) -> pl.Expr:
        return pl.when(matches).then(value).otherwise(pl.col(name)).alias(name)

    return frame.with_columns(
        where((pl.col("usd_per_hour") * left).round(9), "usd_per_hour"),
        where(pl.lit("own"), "source_class"),
        where(caveat, "caveat"),
    )


def _matching(book: PriceBook, discount: Discount) -> pl.Expr:
    """Return the test for the prices that a discount is for, its names as the book spells them."""
    provider = book.resolve("provider", [discount.provider]) or ()
    cloud = book.filter(providers=provider)
    tests = [
        pl.col("provider").is_in(list(provider)),
        pl.col("purchase_option").is_in(list(discount.purchase_options)),
    ]
    for column, names in (
        ("service", discount.services),
        ("region", discount.regions),
        ("accelerator", discount.accelerators),
        ("instance_type", discount.instance_types),
    ):
        resolved = cloud.resolve(column, names)
        if resolved is not None:
            tests.append(pl.col(column).is_in(list(resolved)))
    return pl.all_horizontal(tests)


def _with_rates(book: PriceBook, rates: Sequence[Rate]) -> PriceBook:
    """Return the book with each rate in place of the list price of the same key."""
    keys = [tuple(getattr(rate, name) for name in KEY_COLUMNS) for rate in rates]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise InputError(f"own rate {rates[index].name!r}: an earlier rate is for the same machine")
    own_book = PriceBook.from_rows(
        pl.DataFrame([_build_row(book, rate) for rate in rates], infer_schema_length=None), origin=OWN_RATES
    )
    for intake in own_book.intakes:
        for tally in intake.quarantined:
            raise InputError(f"own rates of {intake.provider} {intake.service}: {tally.reason}")
    theirs, columns = book.rows, list(KEY_COLUMNS)
    replaced = theirs.join(own_book.frame, on=columns, how="semi", nulls_equal=True, maintain_order="left")
    remaining = theirs.join(own_book.frame, on=columns, how="anti", nulls_equal=True, maintain_order="left")
    reason = "replaced by an own rate"
    intakes = move_out(book.intakes, replaced, reason)
    return PriceBook(
        pl.concat([remaining, own_book.rows]),
        (*intakes, *own_book.intakes),
        (*book.set_aside, set_aside(replaced, pl.lit(reason))),
    )


def _build_row(book: PriceBook, rate: Rate) -> dict[str, object]:
    """Return a rate as a row of a price table."""
    listed = book.filter(
        providers=[rate.provider], services=[rate.service], instance_types=[rate.instance_type]
    )
    known = listed.frame.select(_FACTS).unique().rows(named=True)
    facts: dict[str, object] = {name: None for name in _FACTS}  # noqa: C420 - its keys are any text
    if len(known) == 1:
        facts.update(known[0])
    for name in _FACTS:
        value: object = getattr(rate, name)
        if value is not None:
            facts[name] = float(value) if isinstance(value, Decimal) else value
    missing = [name for name in _FACTS[:3] if facts[name] is None]
    if missing:
        raise InputError(
            f"own rate {rate.name!r}: {rate.provider} {rate.service} {rate.instance_type} is "
            f"{'listed with several sizes' if known else 'in no price list'}; give {', '.join(missing)} too"
        )
    return {
        **{name: getattr(rate, name) for name in KEY_COLUMNS},
        **facts,
        "usd_per_hour": rate.hourly_usd,
        "observed_on": rate.agreed_on.isoformat(),
        "source": f"own rate: {rate.name}",
        "source_class": "own",
        "currency": "USD",
        "caveat": None
        if rate.valid_until is None
        else f"your rate, valid until {rate.valid_until.isoformat()}",
    }
