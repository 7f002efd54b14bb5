"""
Offers and machines: offers that differ only in region, zone and price are one machine; and what each machine's service
adds to its price an hour: how time is billed, and disks (part of stage 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.arrays import Column, Flags, Rows
from trainfare_core.clouds import CLOUDS
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prices.shapes import MACHINE_KEYS, MachineShapes, distinct_numbers
from trainfare_core.run_cost.billing import BillingClock
from trainfare_core.run_cost.disks import (
    PLANNED_USD_PER_GIB_MONTH,
    disk_usd_per_gib_month,
    machines_with_volume,
    regions_of_disk_prices,
    system_disk_gib,
)

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


@dataclass(frozen=True, slots=True)
class ServiceColumns:
    """
    Figures of each machine's service, shape (machines,); 0 where not known.

    Attributes:
        billing_step_s: time is billed in whole numbers of it.
        billing_minimum_s: of each start of a machine.
        system_disk_gib: billed beside the machine.
    """

    billing_step_s: Column
    billing_minimum_s: Column
    system_disk_gib: Column

    @classmethod
    def of(cls, machines: pl.DataFrame, assumed: CostAssumptions) -> ServiceColumns:
        """
        Look up each service once.

        Args:
            machines: columns `provider`, `service` and `instance_type`.
            assumed: with the user's own figures.
        """
        keys = ["provider", "service"]
        services = machines.select(keys).unique()
        rows = [
            (clock.step_s.or_zero, clock.minimum_s.or_zero, system_disk_gib(assumed, *names).or_zero)
            for names in services.iter_rows()
            for clock in [BillingClock.of(assumed, *names)]
        ]
        figures = pl.DataFrame(rows, schema=dict.fromkeys(cls.__slots__, pl.Float64), orient="row")
        known = pl.concat([services, figures], how="horizontal")
        joined = machines.select(keys).join(known, on=keys, how="left", maintain_order="left")
        columns = cls(*(joined[name].to_numpy(writable=True) for name in cls.__slots__))
        for cloud, service, machine, places in _with_volume(machines):
            columns.system_disk_gib[places] = system_disk_gib(assumed, cloud, service, machine).or_zero
        return columns


def disk_prices_of(offers: pl.DataFrame, assumed: CostAssumptions) -> Column:
    """
    Return the dollars per GiB and month of disk space beside each offer's machine, shape (offers,).

    Args:
        offers: columns `provider`, `service`, `instance_type` and `region`.
        assumed: with the user's own figure.
    """
    usd = assumed.disk_usd_per_gib_month
    if usd is not None:
        return np.full(len(offers), usd)
    prices = np.full(len(offers), PLANNED_USD_PER_GIB_MONTH)
    services = [(cloud.name, service.name) for cloud in CLOUDS.values() for service in cloud.services]
    for names in services:
        anywhere = disk_usd_per_gib_month(assumed, *names, "").or_zero
        if anywhere != PLANNED_USD_PER_GIB_MONTH:
            prices[(offers["service"] == names[1]).to_numpy()] = anywhere
    regions = {names: regions_of_disk_prices(*names) for names in services}
    # Few offers lie in a region whose price is known: only those are compared with each of them.
    known = sorted({region for row_of_region in regions.values() for region in row_of_region})
    rows = np.flatnonzero(offers["region"].is_in(known).to_numpy())
    there = offers.select("service", "region")[rows]
    for names, regions_of_names in regions.items():
        here = (there["service"] == names[1]).to_numpy()
        for region in regions_of_names:
            published = disk_usd_per_gib_month(assumed, *names, region).or_zero
            prices[rows[here & (there["region"] == region).to_numpy()]] = published
    for cloud, service, machine, rows in _with_volume(offers):
        regions_there = offers["region"].gather(rows).cast(pl.String).to_numpy()
        for region in np.unique(regions_there):
            usd = disk_usd_per_gib_month(assumed, cloud, service, str(region), machine).or_zero
            prices[rows[regions_there == region]] = usd
    return prices


def _with_volume(table: pl.DataFrame) -> Iterator[tuple[str, str, str, NDArray[np.int64]]]:
    """Yield cloud, service, one machine and all rows of the machines whose service gives them a volume."""
    for cloud in CLOUDS.values():
        for service in cloud.services:
            machines = machines_with_volume(cloud.name, service.name)
            if not machines:
                continue
            here = (table["service"] == service.name) & table["instance_type"].is_in(machines)
            rows = np.flatnonzero(here.to_numpy())
            if len(rows):
                yield cloud.name, service.name, machines[0], rows
