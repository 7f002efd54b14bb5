"""Offers and machines: offers that differ only in region, zone and price are one machine (part of stage 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.arrays import Column, Flags, Rows
from trainfare_core.prices.shapes import MACHINE_KEYS, MachineShapes, distinct_numbers

SPLIT_KEYS: Final = ("hazard", "transfer_usd", "model_route", "disk_usd_per_gib_month", "quota_machines")
"""How often a machine is taken back, what it costs to send the data there, the way of the model back, what its disks
cost, and how many may be rented: what a region changes of a run, beside its price."""


@dataclass(frozen=True, slots=True)
class PricedOffers:
    """
    The offers of a price book, n of them.

    Attributes:
        frame: the price book's rows, with the columns of `SPLIT_KEYS` and `price_log_sigma`.
        machine: row of `PricedMachines` that each rents, shape (n,).
        usd_per_hour: price of one machine, shape (n,).
        log_sigma: of ln(price now / price seen), shape (n,).
    """

    frame: pl.DataFrame
    machine: Rows
    usd_per_hour: Column
    log_sigma: Column

    @classmethod
    def of(cls, frame: pl.DataFrame, machine: Rows) -> PricedOffers:
        """Return the offers of a table with the row of the machine of each."""
        price, log_sigma = (
            frame[name].to_numpy().astype(np.float64) for name in ("usd_per_hour", "price_log_sigma")
        )
        return cls(frame, machine, price, log_sigma)


@dataclass(frozen=True, slots=True)
class PricedMachines:
    """
    The machines that the offers rent, m of them; arrays have shape (m,).

    Attributes:
        frame: one row a machine, in the total order of `MACHINE_KEYS`, shape and `SPLIT_KEYS`.
        lowest_usd_per_hour: the lowest price.
        lowest_log_sigma: of the surest offer at that price.
        over_quota: how few machines could run the job where a quota allows fewer, else 0.
        spot_refused: spot machines that could run the job if they were never interrupted.
        no_spot_because: why those are refused; "" where none is.
    """

    frame: pl.DataFrame
    lowest_usd_per_hour: Column
    lowest_log_sigma: Column
    over_quota: Rows
    spot_refused: Flags
    no_spot_because: str

    def __len__(self) -> int:
        """Return the number of machines."""
        return len(self.frame)

    @property
    def kind(self) -> Rows:
        """Number of machines that differ only in `SPLIT_KEYS`, shape (m,)."""
        return self.frame["machine_id"].to_numpy().astype(np.int64)


def group_machines(offers: pl.DataFrame, shapes: MachineShapes) -> tuple[pl.DataFrame, Rows]:
    """
    Return the distinct machines in an order that no permutation of offers changes, and each offer's row of them.

    Args:
        offers: with the columns of `MACHINE_KEYS` and `SPLIT_KEYS`, `machine_id` and `shape_id`; the offers of one
            machine of the price book that differ in `SPLIT_KEYS` are several machines here.
        shapes: what `shape_id` points into.
    """
    number = offers["machine_id"].to_numpy().astype(np.int64)
    for key in SPLIT_KEYS:
        number = _split(number, offers[key].to_numpy())
    place, first = distinct_numbers(number)
    keys = [*MACHINE_KEYS, "shape_id", "machine_id", *SPLIT_KEYS]
    machines = offers.select(keys)[first]
    shape = machines["shape_id"].to_numpy()
    ordered = (
        machines.select(
            *(pl.col(key).cast(pl.String) for key in MACHINE_KEYS),
            pl.Series("accelerator", shapes.accelerator[shape].tolist(), dtype=pl.String),
            pl.Series("count", shapes.accelerator_count[shape]),
            pl.Series("vcpus", shapes.vcpus[shape]),
            pl.Series("memory_gib", shapes.memory_gib[shape]),
            pl.Series("network", shapes.network_gbit_per_s[shape]),
            *SPLIT_KEYS,
        )
        .select(pl.struct(pl.all()).rank("ordinal"))
        .to_series()
    )
    row = ordered.to_numpy().astype(np.int64) - 1
    return machines[np.argsort(row)].with_row_index("machine"), row[place]


def _split(number: Rows, values: NDArray[Any]) -> Rows:
    """Return numbers that are equal where `number` and `values` are; all arrays have shape (n,)."""
    if not len(values) or (values == values[0]).all():
        return number
    distinct = pl.Series(values).unique().sort().to_numpy()
    return distinct_numbers(number)[0] * len(distinct) + np.searchsorted(distinct, values)


def sort_offers(offers: pl.DataFrame) -> pl.DataFrame:
    """Sort offers of equal price: the surest first, then region, zone, date (newest first), source, SKU."""
    return offers.sort(
        pl.col("price_log_sigma"),
        pl.col("region").cast(pl.String),
        pl.col("zone").cast(pl.String),
        pl.col("observed_on").cast(pl.String),
        pl.col("source").cast(pl.String),
        pl.col("sku").cast(pl.String),
        descending=[False, False, False, True, False, False],
        nulls_last=False,
    )
