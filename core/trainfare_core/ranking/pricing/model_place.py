"""What it costs to send the trained model from a run's region to the data, and to users (part of stage 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost import STATED, Sourced, text_of, trained_model_gb
from trainfare_core.run_cost_facts import Unknown, find_fact

__all__ = ["ModelRoutes", "model_usd"]

PLANNED_EGRESS_USD_PER_GB: Final = 0.12
"""Where the egress of a region is not published: the highest first tier of the regions where it is, so that no region
is cheaper because its price is unknown. A planning figure."""

PLANNED_INTER_REGION_USD_PER_GB: Final = 0.02
"""Where the transfer to other regions is not published: what the regions have where it is. A planning figure."""


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    """
    The way of the trained model from each offer's region; regions from which it costs the same are one route.

    Attributes:
        route: of each offer, shape (offers,); routes are ordered by their dollars.
        usd: dollars of each route and job, shape (routes, jobs).
    """

    route: NDArray[np.int64]
    usd: NDArray[np.float64]

    @classmethod
    def of(cls, jobs: tuple[JobProfile, ...], offers: pl.DataFrame, asked: Constraints) -> ModelRoutes:
        """
        Price the way of the model of each job.

        Args:
            jobs: those of which a run may be planned.
            offers: columns `provider` and `region`.
            asked: `data_in` and `run_cost`.
        """
        if asked.data_in is None and not asked.run_cost.model_downloads:
            return cls(np.zeros(len(offers), dtype=np.int64), np.zeros((1, len(jobs))))
        keys = ["provider", "region"]
        places = offers.select(pl.col(key).cast(pl.String) for key in keys)
        each = places.unique()
        paid = [
            [model_usd(job, asked, cloud, region).or_zero for job in jobs]
            for cloud, region in each.iter_rows()
        ]
        usd, route = np.unique(np.array(paid).reshape(len(each), len(jobs)), axis=0, return_inverse=True)
        known = each.with_columns(pl.Series("route", route.reshape(-1), dtype=pl.Int64))
        joined = places.join(known, on=keys, how="left", maintain_order="left")
        return cls(joined["route"].to_numpy(), usd)


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
    price = find_fact("egress_inter_region", cloud, region)
    if isinstance(price, Unknown):
        return Sourced(
            PLANNED_INTER_REGION_USD_PER_GB * gb,
            f"{PLANNED_INTER_REGION_USD_PER_GB:g} USD per GB, a planning figure: the transfer price of {cloud} "
            f"{region} is not known",
        )
    return Sourced(price.value * gb, text_of(price))


def _out(cloud: str, region: str, gb: float) -> Sourced:
    price = find_fact("egress_internet", cloud, region)
    if isinstance(price, Unknown):
        return Sourced(
            PLANNED_EGRESS_USD_PER_GB * gb,
            f"{PLANNED_EGRESS_USD_PER_GB:g} USD per GB, a planning figure: the egress of {cloud} {region} is not known",
        )
    return Sourced(price.usd(gb), text_of(price))
