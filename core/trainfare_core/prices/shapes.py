"""The machines that offers rent: their distinct shapes, and the numbers that offers carry of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.arrays import Column, Rows
from trainfare_core.hardware.hosts import number_hosts

MACHINE_KEYS: Final = ("provider", "service", "instance_type", "purchase_option")
"""Offers that agree in these and in shape rent the same machine: its region, zone and price do not matter."""

SHAPE_COLUMNS: Final = ("accelerator", "accelerator_count", "vcpus", "memory_gib", "network_gbit_per_s")


@dataclass(frozen=True, slots=True)
class MachineShapes:
    """
    Distinct machine shapes as columns, one row a shape; all arrays have shape (n,).

    Attributes:
        accelerator: canonical accelerator name.
        accelerator_count: devices in one machine; below 1 for a shared device; chips for a TPU slice.
        vcpus: NaN where not known (TPU prices include a host that is not described).
        memory_gib: host memory; NaN where not known.
        network_gbit_per_s: machine to machine, one direction; NaN where not known. A TPU slice's own links
            are inside the shape and not counted here.
        host: number of the processor (`hosts.number_hosts`), -1 where not known; None: of none is it known.
    """

    accelerator: NDArray[np.str_]
    accelerator_count: Column
    vcpus: Column
    memory_gib: Column
    network_gbit_per_s: Column
    host: Rows | None = None

    def __len__(self) -> int:
        """Return the number of shapes."""
        return len(self.accelerator)

    @classmethod
    def of(cls, offers: pl.DataFrame) -> MachineShapes:
        """Return the distinct shapes of some offers, in the order of their `shape_id`."""
        _, first = distinct_numbers(offers["shape_id"].to_numpy())
        machines = offers.select(*SHAPE_COLUMNS, "provider", "instance_type")[first]
        table, host = machines.select(SHAPE_COLUMNS), number_hosts(machines).fill_null(-1).to_numpy()
        accelerators = np.array(table["accelerator"].to_list(), dtype=np.str_)
        count, vcpus, memory, network = (
            table[name].fill_null(float("nan")).to_numpy().astype(np.float64) for name in SHAPE_COLUMNS[1:]
        )
        return cls(accelerators, count, vcpus, memory, network, host)


def with_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """Number the distinct shapes and machines in their own sorted order: the order of the rows does not matter."""
    keys = [*MACHINE_KEYS, *SHAPE_COLUMNS]
    shape = pl.struct(*SHAPE_COLUMNS, "host")
    names = (pl.col(key).cast(pl.String) for key in MACHINE_KEYS)
    distinct = rows.select(keys).unique()
    machines = (
        distinct.with_columns(number_hosts(distinct).alias("host"))
        .with_columns((shape.rank("dense").cast(pl.Int64) - 1).alias("shape_id"))
        .with_columns((pl.struct(*names, "shape_id").rank("dense").cast(pl.Int32) - 1).alias("machine_id"))
    )
    # Lazy, so that the keys are not copied beside the numbers.
    numbers = (
        rows.lazy()
        .join(machines.lazy(), on=keys, how="left", nulls_equal=True, maintain_order="left")
        .select("shape_id", "machine_id")
        .collect()
    )
    # In one piece: strings of many pieces compare several times slower.
    return rows.hstack(numbers).rechunk()


def renumber_shapes(frame: pl.DataFrame) -> pl.DataFrame:
    """Close the gaps that filtering left in `shape_id`, in O(rows)."""
    ids = frame["shape_id"].to_numpy()
    if len(ids) == 0:
        return frame
    used = np.bincount(ids) > 0
    dense = np.cumsum(used) - 1
    return frame.with_columns(pl.Series("shape_id", dense[ids], dtype=pl.Int64))


def distinct_numbers(number: Rows) -> tuple[Rows, Rows]:
    """
    Return the place of each number among the distinct ones, shape (n,), and one row of each distinct one.

    Args:
        number: not negative, shape (n,).
    """
    if not len(number):
        return number, number
    if number.max() > 8 * len(number) + 1_000_000:  # too far apart for a table of all between
        _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
        return inverse.reshape(-1), first
    row_of = np.full(number.max() + 1, -1, dtype=np.int64)
    row_of[number] = np.arange(len(number))
    used = row_of >= 0
    return (np.cumsum(used) - 1)[number], row_of[used]
