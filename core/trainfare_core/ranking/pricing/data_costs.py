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

from trainfare_core.clouds import CLOUDS, HOURS_PER_MONTH
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost.model import compute_trained_model_gb, describe_trained_model
from trainfare_core.run_cost.sourced import STATED, Sourced, choose_sourced, text_of
from trainfare_core.run_cost_facts import Amount, TieredPrice, Unknown, find_fact, find_transfer

PLANNED_EGRESS_USD_PER_GB: Final = 0.12
"""Where the way of the model out of a region is not published: the highest first tier of egress where it is, so that no
region is cheaper because its price is unknown. A planning figure."""


def price_transfer(offers: pl.DataFrame, asked: Constraints) -> NDArray[np.float64]:
    """
    Return the dollars of bringing the data to each offer's region once, shape (offers,); NaN where not known.

    Args:
        offers: columns `provider` and `region`.
        asked: `data_in`, `data_gb` and `run_cost`.
    """
    if asked.data_in is None or not asked.data_gb:
        return np.zeros(len(offers))
    regions, row = _list_regions(offers)
    return np.array([price_way_of_data(asked, *region).value for region in regions], dtype=np.float64)[row]


def _list_regions(offers: pl.DataFrame) -> tuple[list[list[str]], NDArray[np.int64]]:
    """Return cloud and name of each distinct region, and the row of each offer's region, shape (offers,)."""
    keys = [pl.col(key).cast(pl.String).fill_null("") for key in ("provider", "region")]
    texts = offers.select(pl.concat_str(keys, separator=":")).to_series().to_numpy().astype(np.str_)
    distinct, row = np.unique(texts, return_inverse=True)
    return [str(text).split(":", 1) for text in distinct], row


def explain_unknown_transfer(asked: Constraints) -> str:
    """Return that prices of the transfer are not known, and where to state them."""
    return (
        f"what it costs to send data from {asked.data_in} there is not known; state what applies of "
        "inter_region_usd_per_gb and egress_usd_per_gb in the table run_cost of trainfare.toml"
    )


def price_way_of_data(asked: Constraints, cloud: str, region: str) -> Sourced:
    """
    Return the dollars of sending the data to a region once; None where that is not known.

    Within a region nothing is charged; another region of the same cloud is charged by the price of the two regions,
    another cloud by the egress of the region that holds the data. The machines of a run share one copy in their region.
    """
    source, _, start = (asked.data_in or "").partition(":")
    own, gb = asked.run_cost, asked.data_gb or 0.0
    if (source, start) == (cloud, region):
        return Sourced(0.0, "the data lie there")
    if source == cloud:
        return _price_gb(own.inter_region_usd_per_gb, find_transfer(cloud, start, region), gb, cloud)
    return _price_gb(own.egress_usd_per_gb, find_fact("egress_internet", source, start), gb, source)


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
        regions, row = _list_regions(offers)
        paid = [[price_model(job, constraints, *region).or_zero for job in jobs] for region in regions]
        usd, route = np.unique(np.array(paid).reshape(len(regions), len(jobs)), axis=0, return_inverse=True)
        return cls(route.reshape(-1)[row], usd)


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
        find_transfer(cloud, region, to_region),
        find_fact("egress_internet", cloud, region),
    )
    ways = (
        _plan_gb(between, between_gb, cloud, f"transfer price of {cloud} {region} to {to_region}"),
        _plan_gb(out, out_gb, cloud, f"egress of {cloud} {region}"),
    )
    sources = "; ".join(
        way.source for way, sent_gb in zip(ways, (between_gb, out_gb), strict=True) if sent_gb
    )
    return Sourced(ways[0].or_zero + ways[1].or_zero, f"{describe_trained_model(profile)}; {sources}")


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """
    Object storage in the place where the data lie: the same for every machine that could run the job.

    Attributes:
        usd_per_hour: of the data set while the run lasts.
        kept_usd: of the data set and the trained model in the months after the run.
        read_usd: of the requests with which one machine reads the data set.
        usd_per_gb_month: price of 10^9 bytes of the data set, on average over its tiers.
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
    return _price_gb(own, find_fact("object_storage", cloud, region, item="standard"), gb, cloud)


def _price_gb(own: float | None, price: Amount | TieredPrice | Unknown, gb: float, cloud: str) -> Sourced:
    """Return the dollars of so many times 10^9 bytes at the user's own price, else at the published one of a cloud."""
    if own is not None:
        return Sourced(own * gb, STATED)
    if isinstance(price, Unknown):
        return Sourced(None, price.because)
    billed_gb = _convert_gb(cloud, gb)
    usd = price.usd(billed_gb) if isinstance(price, TieredPrice) else price.value * billed_gb
    return Sourced(usd, text_of(price))


def _convert_gb(cloud: str, gb: float) -> float:
    """Return so many times 10^9 bytes in the GB of a cloud's bill."""
    return gb * 1e9 / CLOUDS[cloud].gb_bytes if cloud in CLOUDS else gb


def _plan_gb(price: Amount | TieredPrice | Unknown, gb: float, cloud: str, name: str) -> Sourced:
    """Return the dollars of so many GB of a model at the published price, else at a planning figure."""
    if isinstance(price, Unknown):
        usd = PLANNED_EGRESS_USD_PER_GB
        source = f"{usd:g} USD per GB, a planning figure: the {name} is not known"
        return Sourced(usd * _convert_gb(cloud, gb), source)
    return _price_gb(None, price, gb, cloud)
