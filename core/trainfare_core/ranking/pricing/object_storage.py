"""What the data set and the trained model cost in object storage, and the reading of the data (part of stage 6)."""

from __future__ import annotations

from dataclasses import dataclass

from trainfare_core.clouds import HOURS_PER_MONTH
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost import STATED, Sourced, sourced, text_of, trained_model_gb
from trainfare_core.run_cost_facts import Unknown, find_fact

__all__ = ["ObjectStorage"]


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
    def of(cls, profile: JobProfile, asked: Constraints) -> ObjectStorage:
        """
        Price what is stored and read; a price that is not known charges nothing and says why.

        Args:
            profile: the job.
            asked: `data_in`, `data_gb` and `run_cost`.
        """
        assumed, data_gb, model_gb = asked.run_cost, asked.data_gb or 0.0, trained_model_gb(profile)
        stored = _month_usd(asked, data_gb)
        kept = _month_usd(asked, data_gb + model_gb).or_zero * assumed.storage_months
        average = Sourced(
            None if stored.value is None else _month_usd(asked, data_gb or 1.0).or_zero / (data_gb or 1.0),
            stored.source,
        )
        cloud, _, region = (asked.data_in or "").partition(":")
        request_usd = find_fact("object_storage_request", cloud, region, item="read")
        reading = sourced(assumed.read_request_usd, request_usd)
        ends = profile.plan.optimizer_steps is not None
        return cls(
            usd_per_hour=stored.or_zero / HOURS_PER_MONTH,
            kept_usd=kept if ends else 0.0,
            read_usd=(assumed.data_objects or 0) * reading.or_zero if ends else 0.0,
            usd_per_gb_month=average,
            usd_per_read=reading,
        )


def _month_usd(asked: Constraints, gb: float) -> Sourced:
    """Return the dollars of a month of so many GB."""
    own = asked.run_cost.object_storage_usd_per_gb_month
    if own is not None:
        return Sourced(own * gb, STATED)
    if asked.data_in is None:
        return Sourced(None, "where the data lie is not stated: --data-in names it")
    cloud, _, region = asked.data_in.partition(":")
    price = find_fact("object_storage", cloud, region, item="standard")
    return (
        Sourced(None, price.because) if isinstance(price, Unknown) else Sourced(price.usd(gb), text_of(price))
    )
