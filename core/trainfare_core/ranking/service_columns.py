"""What each machine's service adds to its price an hour: how time is billed, and disks (part of stage 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.clouds import CLOUDS
from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.run_cost import (
    PLANNED_USD_PER_GIB_MONTH,
    BillingClock,
    disk_usd_per_gib_month,
    regions_of_disk_prices,
    system_disk_gib,
)

__all__ = ["ServiceColumns", "disk_prices_of"]

Column = NDArray[np.float64]


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
            machines: columns `provider` and `service`.
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
        return cls(*(joined[name].to_numpy() for name in cls.__slots__))


def disk_prices_of(offers: pl.DataFrame, assumed: CostAssumptions) -> Column:
    """
    Return the dollars per GiB and month of disk space beside each offer's machine, shape (offers,).

    Args:
        offers: columns `service` and `region`.
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
    known = sorted({region for each in regions.values() for region in each})
    rows = np.flatnonzero(offers["region"].is_in(known).to_numpy())
    there = offers.select("service", "region")[rows]
    for names, each in regions.items():
        here = (there["service"] == names[1]).to_numpy()
        for region in each:
            published = disk_usd_per_gib_month(assumed, *names, region).or_zero
            prices[rows[here & (there["region"] == region).to_numpy()]] = published
    return prices
