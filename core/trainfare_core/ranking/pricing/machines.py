"""Machines: offers that differ only in region, zone and price (part of stage 6)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.arrays import Rows
from trainfare_core.prices.shapes import MACHINE_KEYS, MachineShapes, distinct_numbers

__all__ = ["SPLIT_KEYS", "machines_of"]


SPLIT_KEYS: Final = ("hazard", "transfer_usd", "model_route", "disk_usd_per_gib_month", "quota_machines")
"""How often a machine is taken back, what it costs to send the data there, the way of the model back, what its disks
cost, and how many may be rented: what a region changes of a run, beside its price."""


def machines_of(offers: pl.DataFrame, shapes: MachineShapes) -> tuple[pl.DataFrame, Rows]:
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
