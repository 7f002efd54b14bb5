"""Machines: offers that differ only in region, zone and price (part of stage 6)."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.prices.book import MachineShapes

__all__ = ["MACHINE_KEYS", "SPLIT_KEYS", "machines_of"]

Rows = NDArray[np.int64]

MACHINE_KEYS: Final = ("provider", "service", "instance_type", "purchase_option")
"""Offers that agree in these, in shape and in `SPLIT_KEYS` are one machine, whatever their region, zone and price."""

SPLIT_KEYS: Final = ("hazard", "transfer_usd", "model_usd", "disk_usd_per_gib_month", "quota_machines")
"""How often a machine is taken back, what it costs to send the data there and the model back, what its disks cost, and
how many may be rented: what a region changes of a run, beside its price."""


def machines_of(offers: pl.DataFrame, shapes: MachineShapes) -> tuple[pl.DataFrame, Rows]:
    """
    Return the distinct machines in an order that no permutation of offers changes, and each offer's row of them.

    Args:
        offers: with the columns of `MACHINE_KEYS` and `SPLIT_KEYS`, and `shape_id`.
        shapes: what `shape_id` points into.
    """
    keys = [*MACHINE_KEYS, "shape_id", *SPLIT_KEYS]
    of_shape = pl.DataFrame(
        {
            "shape_id": pl.Series(np.arange(len(shapes)), dtype=offers.schema["shape_id"]),
            "shape_accelerator": pl.Series(shapes.accelerator.tolist(), dtype=pl.String),
            "shape_count": shapes.accelerator_count,
            "shape_vcpus": shapes.vcpus,
            "shape_memory_gib": shapes.memory_gib,
            "shape_network": shapes.network_gbit_per_s,
        }
    )
    machines = (
        offers.select(keys)
        .unique()
        .join(of_shape, on="shape_id", how="left")
        .sort(*(pl.col(key).cast(pl.String) for key in MACHINE_KEYS), *of_shape.columns[1:], *SPLIT_KEYS)
        .select(keys)
        .with_row_index("machine")
    )
    joined = offers.select(keys).join(machines, on=keys, how="left", maintain_order="left")
    return machines, joined["machine"].to_numpy().astype(np.int64)
