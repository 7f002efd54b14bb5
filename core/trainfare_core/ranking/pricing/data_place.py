"""What it costs to bring the training data from where they lie to each offer's region (part of stage 6)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost_facts import Unknown, find_fact

__all__ = ["transfer_unknown_because", "transfer_usd_of"]

_OVERRIDES: Final = "state {name} in the table run_cost of trainfare.toml"


def transfer_usd_of(offers: pl.DataFrame, asked: Constraints) -> NDArray[np.float64]:
    """
    Return the dollars of bringing the data to each offer's region once, shape (offers,); NaN where not known.

    Within a region nothing is charged; another region of the same cloud is charged by the price of the region that
    holds the data, another cloud by that region's egress. The machines of a run share one copy in their region.

    Args:
        offers: columns `provider` and `region`.
        asked: `data_in`, `data_gb` and `run_cost`.
    """
    if asked.data_in is None or not asked.data_gb:
        return np.zeros(len(offers))
    cloud, _, region = asked.data_in.partition(":")
    same_cloud = (offers["provider"].cast(pl.String) == cloud).to_numpy()
    here = same_cloud & (offers["region"].cast(pl.String) == region).to_numpy()
    between, out = _between_regions_usd(cloud, region, asked), _egress_usd(cloud, region, asked)
    return np.where(here, 0.0, np.where(same_cloud, between, out))


def transfer_unknown_because(asked: Constraints) -> str:
    """Return which prices of the transfer are not known, and where to state them."""
    cloud, _, region = (asked.data_in or "").partition(":")
    missing = [
        name
        for name, usd in (
            ("inter_region_usd_per_gb", _between_regions_usd(cloud, region, asked)),
            ("egress_usd_per_gb", _egress_usd(cloud, region, asked)),
        )
        if math.isnan(usd)
    ]
    return (
        f"what it costs to send data from {asked.data_in} there is not known; "
        f"{_OVERRIDES.format(name=' and '.join(missing))}"
    )


def _between_regions_usd(cloud: str, region: str, asked: Constraints) -> float:
    own, gb = asked.run_cost.inter_region_usd_per_gb, asked.data_gb or 0.0
    if own is not None:
        return own * gb
    price = find_fact("egress_inter_region", cloud, region)
    return math.nan if isinstance(price, Unknown) else price.value * gb


def _egress_usd(cloud: str, region: str, asked: Constraints) -> float:
    own, gb = asked.run_cost.egress_usd_per_gb, asked.data_gb or 0.0
    if own is not None:
        return own * gb
    price = find_fact("egress_internet", cloud, region)
    return math.nan if isinstance(price, Unknown) else price.usd(gb)
