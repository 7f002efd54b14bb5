"""
Stage 2: `PriceBook`, the hourly price of each machine with its source and date.

A price book is columns: a million offers share a few hundred machine shapes, so predictions are made once a
shape (`PriceBook.shapes`) and joined to prices by `shape_id`. Rows enter through `accept`,
which rejects what is not a price. Nothing here depends on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.documents import data_rows
from trainfare_core.errors import NoOffersError, PricesUnavailableError, UnknownNameError
from trainfare_core.prices.accept import accept
from trainfare_core.prices.facts import Intake, OfferRow, PriceBookFacts, facts_by_service
from trainfare_core.prices.intake import (
    BOOK_SCHEMA,
    KEY_COLUMNS,
    PURCHASE_OPTIONS,
    settle_overlaps,
)
from trainfare_core.prices.parquet import read_table
from trainfare_core.prices.precedence import OTHER_CLOUDS, mark_spot_ends, replace_snapshot
from trainfare_core.prices.sanity import LastPrices
from trainfare_core.prices.shapes import MachineShapes, renumber_shapes, with_ids

EXCLUDABLE: Final = ("provider", "service", "region", "instance_type", "accelerator")
"""Columns whose names can be excluded."""

SortKey: TypeAlias = Literal["price", "price-per-accelerator", "memory"]


def _is_of_family(column: str, known: str, names: str) -> bool:
    """Return whether a name of the book is one that a shorter name stands for; both in lower case."""
    if column == "accelerator":
        return known.startswith(f"{names}-")
    return column == "instance_type" and (known.startswith(f"{names}.") or known == f"standard_{names}")


def _near(name: str, known: Sequence[str]) -> list[str]:
    """Return known names like `name`: those that contain it first, then close spellings."""
    folded = name.casefold()
    by_folded = {candidate.casefold(): candidate for candidate in sorted(known)}
    inside = [text for text in by_folded if folded and folded in text]
    close = get_close_matches(folded, list(by_folded), n=5, cutoff=0.6)
    return [by_folded[text] for text in dict.fromkeys([*close, *inside])][:5]


@cache
def _read_unpriced() -> Mapping[str, str]:
    """Return why a machine or accelerator has no price in the snapshot, by name in lower case."""
    return {
        name.casefold(): row["reason"] for row in data_rows("unpriced.csv") for name in row["names"].split()
    }


def _report_unknown(what: str, name: str, known: Sequence[str]) -> UnknownNameError:
    folded, column = name.casefold(), what.replace(" ", "_")
    for unpriced, reason in _read_unpriced().items():
        if unpriced == folded or _is_of_family(column, unpriced, folded):
            return UnknownNameError(f"no price is known for {what} {name!r}: {reason}")
    near = _near(name, known)
    hint = f"near names: {', '.join(near)}" if near else f"known: {', '.join(sorted(known)[:12])}"
    return UnknownNameError(f"no price is known for {what} {name!r}; {hint}")


class PriceBook:
    """
    Offers as columns (`BOOK_SCHEMA`, `shape_id`, `machine_id`), and the count of rows rejected while reading them.

    Attributes:
        frame: accepted rows with the columns of `BOOK_SCHEMA` and two more; numbers of shapes and machines that are
            there already are kept. `shape_id` is the row of `shapes()`; `machine_id` is the same for offers of one
            machine (`MACHINE_KEYS` and shape), and a filtered book has gaps in it.
        intakes: counts of all rows read, per cloud service and origin; filtering a book does not change them.
        set_aside: rows that were read for this book and are not used as prices, with the reason; see
            `intake.set_aside`. A filtered book has none.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        intakes: tuple[Intake, ...] = (),
        set_aside: tuple[pl.DataFrame, ...] = (),
    ) -> None:
        columns = [*BOOK_SCHEMA, "shape_id", "machine_id"]
        numbered = frame if set(columns) <= set(frame.columns) else with_ids(frame.select(*BOOK_SCHEMA))
        self.frame = numbered if numbered.columns == columns else numbered.select(columns)
        self.intakes, self.set_aside = intakes, set_aside

    def __len__(self) -> int:
        """Return the number of offers."""
        return self.frame.height

    def __repr__(self) -> str:
        return f"PriceBook({len(self)} offers)"

    @property
    def rows(self) -> pl.DataFrame:
        """The offers with the columns of `BOOK_SCHEMA` alone."""
        return self.frame.select(*BOOK_SCHEMA)

    @cached_property
    def newest_date(self) -> str:
        """The latest price date, "" where there are no offers."""
        newest = self.frame["observed_on"].max()
        return newest if isinstance(newest, str) else ""

    @classmethod
    def from_rows(cls, rows: pl.DataFrame, *, origin: str, last: LastPrices | None = None) -> PriceBook:
        """
        Check rows and make a book of those that pass; `intakes` counts the others.

        Args:
            rows: the columns of `BOOK_SCHEMA`; numbers may be decimal text, optional columns may be absent.
            origin: name of the provider plug-in.
            last: what the rows of a price list are compared with; None looks at each row alone.

        Raises:
            PricesUnavailableError: a required column is missing.
        """
        judged = accept(rows, origin=origin, last=last)
        return cls(judged.rows, judged.intakes, () if judged.set_aside.is_empty() else (judged.set_aside,))

    @classmethod
    def read_parquet(cls, source: str | Path | BinaryIO, *, origin: str) -> PriceBook:
        """
        Read rows from a Parquet file and check them like any others.

        Raises:
            PricesUnavailableError: the file cannot be read, is not Parquet, or lacks a required column.
        """
        try:
            return cls.from_rows(read_table(source), origin=origin)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise PricesUnavailableError(f"{origin}: the price table cannot be read: {error}") from error

    @classmethod
    def empty(cls) -> PriceBook:
        """Return a book with no offers."""
        return cls(pl.DataFrame(schema={**BOOK_SCHEMA, "shape_id": pl.Int64, "machine_id": pl.Int32}))

    def shapes(self) -> MachineShapes:
        """Return the distinct shapes of this book's machines, in the order of `shape_id`."""
        return MachineShapes.of(self.frame)

    def filter(
        self,
        *,
        providers: Sequence[str] | None = None,
        services: Sequence[str] | None = None,
        regions: Sequence[str] | None = None,
        purchase: Sequence[str] | None = None,
        accelerators: Sequence[str] | None = None,
        max_usd_per_hour: float | None = None,
        instance_types: Sequence[str] | None = None,
        excluded: Sequence[str] = (),
        max_accelerators: int | None = None,
        min_network_gbit_per_s: float | None = None,
    ) -> PriceBook:
        """
        Return the offers that match every filter given; None is 'any'.

        Names are exact and unknown ones match nothing: put what a person typed through `resolve` first. An excluded
        name leaves out the offers that have it in any of `EXCLUDABLE`.
        """
        names_by_column = {
            "provider": providers,
            "service": services,
            "region": regions,
            "purchase_option": purchase,
            "accelerator": accelerators,
            "instance_type": instance_types,
        }
        tests = [
            pl.col(name).is_in(list(values)) for name, values in names_by_column.items() if values is not None
        ]
        if excluded:
            tests += [~pl.col(name).is_in(list(excluded)) for name in EXCLUDABLE]
        if max_accelerators is not None:
            tests.append(pl.col("accelerator_count") <= max_accelerators)
        if min_network_gbit_per_s is not None:
            tests.append(pl.col("network_gbit_per_s") >= min_network_gbit_per_s)
        if max_usd_per_hour is not None:
            tests.append(pl.col("usd_per_hour") <= max_usd_per_hour)
        if not tests:
            return self
        return self.where(
            self.frame.select(pl.all_horizontal(tests).fill_null(value=False)).to_series().to_numpy()
        )

    def where(self, marks: NDArray[np.bool_]) -> PriceBook:
        """Return the marked offers, the book itself where that is all of them; `marks` has shape (offers,)."""
        if marks.all():
            return self
        return PriceBook(renumber_shapes(self.frame.filter(pl.Series(marks))), self.intakes)

    def without_other_clouds(self) -> PriceBook:
        """Return the offers without the quotes of clouds that are listed and ranked only when asked for."""
        return self.where((self.frame["origin"] != OTHER_CLOUDS).to_numpy())

    def of_other_clouds(self) -> PriceBook:
        """Return the quotes of clouds that are listed and ranked only when asked for."""
        return self.where((self.frame["origin"] == OTHER_CLOUDS).to_numpy())

    def drop_second_names(self) -> PriceBook:
        """
        Return the offers with one name of each machine that a service has under several, at one price in one place.

        The name with the fastest network is kept: Azure rents ND96amsr and, without InfiniBand, ND96ams at one price.
        """
        machine = [
            *("provider", "service", "region", "zone", "accelerator", "accelerator_count"),
            *("accelerator_memory_gib", "vcpus", "memory_gib", "purchase_option", "usd_per_hour"),
        ]
        best_first = [-pl.col("network_gbit_per_s").fill_null(0.0), *map(pl.col, KEY_COLUMNS)]
        # Where the host is not known two names may be two machines.
        known = pl.all_horizontal(pl.col("vcpus", "memory_gib").is_not_null())
        first = pl.col("instance_type").sort_by(best_first).first().over(machine)
        return self.where(
            self.frame.select((pl.col("instance_type") == first) | ~known).to_series().to_numpy()
        )

    def sort_by(self, key: SortKey = "price") -> PriceBook:
        """Return the book sorted by a key, ties broken by `KEY_COLUMNS`: memory falls, prices rise."""
        price = pl.col("usd_per_hour")
        order = {
            "price": price,
            # Rounded so that an eighth of eight times a price ties with the price.
            "price-per-accelerator": (price / pl.col("accelerator_count")).round(9),
            "memory": -pl.col("accelerator_memory_gib") * pl.col("accelerator_count"),
        }[key]
        keys = [order, *([] if key == "price" else [price]), *(pl.col(name) for name in KEY_COLUMNS)]
        return PriceBook(self.frame.sort(keys), self.intakes)

    def head(self, rows: int) -> PriceBook:
        """Return the first offers of the book."""
        return PriceBook(renumber_shapes(self.frame.head(rows)), self.intakes)

    def names(self, column: str) -> tuple[str, ...]:
        """Return the distinct values of a name column, sorted."""
        return tuple(self.frame[column].drop_nulls().unique().sort().to_list())

    def resolve(self, column: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
        """
        Turn names that a person typed into names of this book; None stays None.

        Case does not matter. The beginning of an accelerator's name up to a dash stands for all that begin
        so: H100 is H100-SXM-80GB and H100-NVL-94GB, and L4 is not L40S. So does that of an instance type up to a dot,
        p5 for p5.48xlarge, and Azure's `Standard_` may be left out. `any` stands for every purchase option.

        Raises:
            UnknownNameError: a name that the book does not have, with near names.
        """
        if names is None:
            return None
        if column == "purchase_option" and "any" in (name.casefold() for name in names):
            return PURCHASE_OPTIONS
        known = ("any", *PURCHASE_OPTIONS) if column == "purchase_option" else self.names(column)
        names_found: list[str] = []
        for name in names:
            folded = name.casefold()
            exact = [text for text in known if text.casefold() == folded]
            family = [text for text in known if folded and _is_of_family(column, text.casefold(), folded)]
            if not (exact or family):
                raise _report_unknown(column.replace("_", " "), name, known)
            names_found.extend(exact or family)
        return tuple(dict.fromkeys(names_found))

    def resolve_excluded(self, names: Sequence[str]) -> tuple[str, ...]:
        """
        Turn names to exclude, of any of `EXCLUDABLE`, into names of this book; see `resolve`.

        Raises:
            UnknownNameError: a name that none of these columns has, with near names.
        """
        excluded: list[str] = []
        for name in names:
            folded = name.casefold()
            known = {column: self.names(column) for column in EXCLUDABLE}
            hits = [
                text
                for column, texts in known.items()
                for text in texts
                if text.casefold() == folded or (folded and _is_of_family(column, text.casefold(), folded))
            ]
            if not hits:
                raise _report_unknown(
                    "the excluded name", name, [text for texts in known.values() for text in texts]
                )
            excluded.extend(hits)
        return tuple(dict.fromkeys(excluded))

    def find(self, machine: str) -> OfferRow:
        """
        Return the on-demand offer of a machine named like aws:p4d.24xlarge@us-east-1.

        What follows the @ is a region, or a zone where a region has several prices.

        Raises:
            UnknownNameError: not of that form, a part that the book does not have, or several prices.
            NoOffersError: the machine is known there, but has no on-demand price.
        """
        provider, colon, rest = machine.partition(":")
        instance_type, at, region = rest.rpartition("@")
        if not (colon and at and provider and instance_type and region):
            form = "provider:instance_type@region, e.g. aws:p4d.24xlarge@us-east-1"
            raise UnknownNameError(f"machine {machine!r} is not of the form {form}")
        cloud = self.filter(providers=self.resolve("provider", [provider]))
        ours = cloud.filter(instance_types=cloud.resolve("instance_type", [instance_type]))
        folded = region.casefold()
        there = ours.frame.filter(
            (pl.col("region").str.to_lowercase() == folded) | (pl.col("zone").str.to_lowercase() == folded)
        )
        if there.is_empty():
            raise _report_unknown(f"{provider}:{instance_type} in", region, ours.names("region"))
        return _one_on_demand(machine, there)

    def facts(self) -> tuple[PriceBookFacts, ...]:
        """Return rows, price dates and first fetch of every cloud service and origin, sorted by name."""
        counts = {
            (intake.provider, intake.service, intake.origin): intake.counts() for intake in self.intakes
        }
        return tuple(
            PriceBookFacts.model_validate(
                {**row, **counts.get((row["provider"], row["service"], row["origin"]), {})}
            )
            for row in facts_by_service(self.frame).iter_rows(named=True)
        )

    def offers(self) -> Iterator[OfferRow]:
        """Yield the rows as objects, in the book's order: for people and JSON, not for a million rows."""
        for row in self.rows.iter_rows(named=True):
            yield OfferRow.of(row)

    @classmethod
    def concat(cls, books: Sequence[PriceBook]) -> PriceBook:
        """
        Join the books of several providers: a cloud's own list replaces the snapshot's of that service and purchase
        option (`precedence`); of one key the newer price stays; equally old and different: neither.

        What is dropped that way moves from `accepted` to `filtered` or `quarantined` in the intakes. Spot prices that
        stand at the on-demand price, or at the least that their cloud sells for, get a caveat.
        """
        filled = [book for book in books if len(book)]
        intakes = tuple(intake for book in books for intake in book.intakes)
        aside = tuple(rows for book in books for rows in book.set_aside)
        if not filled:
            return cls(cls.empty().frame, intakes, aside)
        if len(filled) == 1:
            return cls(mark_spot_ends(filled[0].frame), intakes, aside)
        frame = pl.concat([book.rows for book in filled])
        frame, intakes, replaced = replace_snapshot(frame, intakes)
        frame, intakes, settled = settle_overlaps(frame, intakes)
        more = tuple(rows for rows in (replaced, settled) if rows is not None)
        return cls(mark_spot_ends(frame), intakes, (*aside, *more))


def _one_on_demand(machine: str, there: pl.DataFrame) -> OfferRow:
    """Choose the on-demand row: the region's own before a zone's, and only if there is one price."""
    on_demand = there.filter(pl.col("purchase_option") == "on_demand")
    if on_demand.is_empty():
        has = ", ".join(there["purchase_option"].unique().sort().to_list())
        raise NoOffersError(f"{machine} has no on-demand price, only: {has}; name another machine or region")
    regional = on_demand.filter(pl.col("zone").is_null())
    rows = (on_demand if regional.is_empty() else regional).sort([pl.col(name) for name in KEY_COLUMNS])
    if rows["usd_per_hour"].n_unique() > 1:
        zones = ", ".join(rows["zone"].drop_nulls().to_list())
        raise UnknownNameError(f"{machine} has several prices; name the zone after the @, one of: {zones}")
    return next(PriceBook(rows).offers())


@runtime_checkable
class PriceProvider(Protocol):
    """Object that an entry point of the group `trainfare.providers` returns when called with no arguments."""

    name: str

    def load(self) -> PriceBook:
        """
        Return the prices of this provider, from disk or network.

        Raises:
            PricesUnavailableError: there are none to return; the message says why.
        """
        ...
