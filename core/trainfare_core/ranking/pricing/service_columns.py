"""What each machine's service adds to its price an hour: how time is billed, and disks (part of stage 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.clouds import CLOUDS
from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.run_cost.billing import BillingClock
from trainfare_core.run_cost.disks import (
    PLANNED_USD_PER_GIB_MONTH,
    disk_usd_per_gib_month,
    machines_with_volume,
    regions_of_disk_prices,
    system_disk_gib,
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
