"""What it costs to send the trained model from a run's region to the data, and to users (part of stage 6)."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost import STATED, Sourced, text_of, trained_model_gb
from trainfare_core.run_cost_facts import Unknown, egress_price, inter_region_usd_per_gb

__all__ = ["model_usd", "model_usd_of"]

PLANNED_EGRESS_USD_PER_GB: Final = 0.12
"""Where the egress of a region is not published: the highest first tier of the regions where it is, so that no region
is cheaper because its price is unknown. A planning figure."""

PLANNED_INTER_REGION_USD_PER_GB: Final = 0.02
"""Where the transfer to other regions is not published: what the regions have where it is. A planning figure."""


def model_usd_of(profile: JobProfile, offers: pl.DataFrame, asked: Constraints) -> NDArray[np.float64]:
    """
    Return the dollars of sending the trained model from each offer's region, shape (offers,).

    Args:
        profile: the job.
        offers: columns `provider` and `region`.
        asked: `data_in` and `run_cost`.
    """
    if asked.data_in is None and not asked.run_cost.model_downloads:
        return np.zeros(len(offers))
    keys = ["provider", "region"]
    places = offers.select(pl.col(key).cast(pl.String) for key in keys)
    each = places.unique()
    usd = [model_usd(profile, asked, cloud, region).or_zero for cloud, region in each.iter_rows()]
    known = each.with_columns(pl.Series("usd", usd, dtype=pl.Float64))
    return places.join(known, on=keys, how="left", maintain_order="left")["usd"].to_numpy()


def model_usd(profile: JobProfile, asked: Constraints, cloud: str, region: str) -> Sourced:
    """
    Return the dollars of sending the trained model from one region.

    It is sent once to the region of the data, unless that is the same, and as often over the internet as
    `CostAssumptions.model_downloads` says. A run of unknown length has no trained model.

    Args:
        profile: the job.
        asked: `data_in` and `run_cost`.
        cloud: as in the price book.
        region: the cloud's own name.
    """
    assumed, gb = asked.run_cost, trained_model_gb(profile)
    to_cloud, _, to_region = (asked.data_in or f"{cloud}:{region}").partition(":")
    between_gb = gb if to_cloud == cloud and to_region != region else 0.0
    out_gb = gb * (assumed.model_downloads + (to_cloud != cloud))
    own = assumed.model_usd_per_gb
    if own is not None:
        return Sourced(own * (between_gb + out_gb), STATED)
    if not between_gb + out_gb:
        return Sourced(
            0.0, "it stays in the region of the data" if gb else "the length of the run is not known"
        )
    between, out = _between(cloud, region, between_gb), _out(cloud, region, out_gb)
    sources = [each.source for each, sent_gb in ((between, between_gb), (out, out_gb)) if sent_gb]
    return Sourced(between.or_zero + out.or_zero, "; ".join(sources))


def _between(cloud: str, region: str, gb: float) -> Sourced:
    price = inter_region_usd_per_gb(cloud, region)
    if isinstance(price, Unknown):
        return Sourced(
            PLANNED_INTER_REGION_USD_PER_GB * gb,
            f"{PLANNED_INTER_REGION_USD_PER_GB:g} USD per GB, a planning figure: the transfer price of {cloud} "
            f"{region} is not known",
        )
    return Sourced(price.value * gb, text_of(price))


def _out(cloud: str, region: str, gb: float) -> Sourced:
    price = egress_price(cloud, region)
    if isinstance(price, Unknown):
        return Sourced(
            PLANNED_EGRESS_USD_PER_GB * gb,
            f"{PLANNED_EGRESS_USD_PER_GB:g} USD per GB, a planning figure: the egress of {cloud} {region} is not known",
        )
    return Sourced(price.usd(gb), text_of(price))
