"""
What data and trained models cost beside the machines (part of stage 6).

The data are brought from where they lie to the run's region, the trained model is sent back there and to users, and
both lie in object storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.clouds import HOURS_PER_MONTH
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost import STATED, Sourced, choose_sourced, compute_trained_model_gb, text_of
from trainfare_core.run_cost_facts import (
    Amount,
    TieredPrice,
    Unknown,
    find_fact,
)

PLANNED_EGRESS_USD_PER_GB: Final = 0.12
"""Where the egress of a region is not published: the highest first tier of the regions where it is, so that no region
is cheaper because its price is unknown. A planning figure."""

PLANNED_INTER_REGION_USD_PER_GB: Final = 0.02
"""Where the transfer to other regions is not published: what the regions have where it is. A planning figure."""


def price_transfer(offers: pl.DataFrame, asked: Constraints) -> NDArray[np.float64]:
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
    between, out = (np.nan if way.value is None else way.value for way in _transfer_ways(asked))
    return np.where(here, 0.0, np.where(same_cloud, between, out))


def explain_unknown_transfer(asked: Constraints) -> str:
    """Return which prices of the transfer are not known, and where to state them."""
    names = ("inter_region_usd_per_gb", "egress_usd_per_gb")
    ways = zip(names, _transfer_ways(asked), strict=True)
    missing = " and ".join(name for name, way in ways if way.value is None)
    return (
        f"what it costs to send data from {asked.data_in} there is not known; "
        f"state {missing} in the table run_cost of trainfare.toml"
    )


def _transfer_ways(asked: Constraints) -> tuple[Sourced, Sourced]:
    """Return the dollars of sending the data to another region of their cloud, and to another cloud."""
    cloud, _, region = (asked.data_in or "").partition(":")
    own, gb = asked.run_cost, asked.data_gb or 0.0
    return (
        _price_gb(own.inter_region_usd_per_gb, find_fact("egress_inter_region", cloud, region), gb),
        _price_gb(own.egress_usd_per_gb, find_fact("egress_internet", cloud, region), gb),
    )


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
    def of(cls, jobs: tuple[JobProfile, ...], offers: pl.DataFrame, constraints: Constraints) -> ModelRoutes:
        """
        Price the way of the model of each job.

        Args:
            jobs: those of which a run may be planned.
            offers: columns `provider` and `region`.
            constraints: `data_in` and `run_cost`.
        """
        if constraints.data_in is None and not constraints.run_cost.model_downloads:
            return cls(np.zeros(len(offers), dtype=np.int64), np.zeros((1, len(jobs))))
        keys = ["provider", "region"]
        regions = offers.select(pl.col(key).cast(pl.String) for key in keys)
        distinct = regions.unique()
        paid = [
            [price_model(job, constraints, cloud, region).or_zero for job in jobs]
            for cloud, region in distinct.iter_rows()
        ]
        usd, route = np.unique(np.array(paid).reshape(len(distinct), len(jobs)), axis=0, return_inverse=True)
        known = distinct.with_columns(pl.Series("route", route.reshape(-1), dtype=pl.Int64))
        joined = regions.join(known, on=keys, how="left", maintain_order="left")
        return cls(joined["route"].to_numpy(), usd)


def price_model(profile: JobProfile, asked: Constraints, cloud: str, region: str) -> Sourced:
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
    assumed, gb = asked.run_cost, compute_trained_model_gb(profile)
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
    between, out = (
        find_fact("egress_inter_region", cloud, region),
        find_fact("egress_internet", cloud, region),
    )
    ways = (
        _plan_gb(between, between_gb, PLANNED_INTER_REGION_USD_PER_GB, f"transfer price of {cloud} {region}"),
        _plan_gb(out, out_gb, PLANNED_EGRESS_USD_PER_GB, f"egress of {cloud} {region}"),
    )
    sources = "; ".join(
        way.source for way, sent_gb in zip(ways, (between_gb, out_gb), strict=True) if sent_gb
    )
    return Sourced(ways[0].or_zero + ways[1].or_zero, sources)


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """
    Object storage in the place where the data lie: the same for every machine that could run the job.

    Attributes:
        usd_per_hour: of the data set while the run lasts.
        kept_usd: of the data set and the trained model in the months after the run.
        read_usd: of the requests with which one machine reads the data set.
        usd_per_gb_month: price of the data set, on average over its tiers.
        usd_per_read: price of a request.
    """

    usd_per_hour: float
    kept_usd: float
    read_usd: float
    usd_per_gb_month: Sourced
    usd_per_read: Sourced

    @classmethod
    def of(cls, profile: JobProfile, constraints: Constraints) -> ObjectStorage:
        """
        Price what is stored and read; a price that is not known charges nothing and says why.

        Args:
            profile: the job.
            constraints: `data_in`, `data_gb` and `run_cost`.
        """
        assumed, data_gb, model_gb = (
            constraints.run_cost,
            constraints.data_gb or 0.0,
            compute_trained_model_gb(profile),
        )
        stored = _price_month(constraints, data_gb)
        kept_usd = _price_month(constraints, data_gb + model_gb).or_zero * assumed.storage_months
        average = Sourced(
            None
            if stored.value is None
            else _price_month(constraints, data_gb or 1.0).or_zero / (data_gb or 1.0),
            stored.source,
        )
        cloud, _, region = (constraints.data_in or "").partition(":")
        reading = choose_sourced(
            assumed.read_request_usd, find_fact("object_storage_request", cloud, region, item="read")
        )
        ends = profile.plan.optimizer_steps is not None
        return cls(
            usd_per_hour=stored.or_zero / HOURS_PER_MONTH,
            kept_usd=kept_usd if ends else 0.0,
            read_usd=(assumed.data_objects or 0) * reading.or_zero if ends else 0.0,
            usd_per_gb_month=average,
            usd_per_read=reading,
        )


def _price_month(asked: Constraints, gb: float) -> Sourced:
    """Return the dollars of a month of so many GB in object storage."""
    own = asked.run_cost.object_storage_usd_per_gb_month
    if own is None and asked.data_in is None:
        return Sourced(None, "where the data lie is not stated: --data-in names it")
    cloud, _, region = (asked.data_in or "").partition(":")
    return _price_gb(own, find_fact("object_storage", cloud, region, item="standard"), gb)


def _price_gb(own: float | None, price: Amount | TieredPrice | Unknown, gb: float) -> Sourced:
    """Return the dollars of so many GB at the user's own price, else at the published one; None: not known."""
    if own is not None:
        return Sourced(own * gb, STATED)
    if isinstance(price, Unknown):
        return Sourced(None, price.because)
    return Sourced(price.usd(gb) if isinstance(price, TieredPrice) else price.value * gb, text_of(price))


def _plan_gb(price: Amount | TieredPrice | Unknown, gb: float, planned: float, name: str) -> Sourced:
    """Return the dollars of so many GB at the published price, else at a planning figure."""
    if isinstance(price, Unknown):
        return Sourced(planned * gb, f"{planned:g} USD per GB, a planning figure: the {name} is not known")
    return _price_gb(None, price, gb)
