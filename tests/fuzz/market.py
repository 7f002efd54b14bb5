"""The prices, the moment and the job that the targets use what they read with."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache

from builders.offers import small_market
from trainfare.prices.sources import PriceChoice
from trainfare.recommendation import Ranked, rank_job
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.request import Request

NOW = datetime(2026, 8, 2, 12, tzinfo=timezone.utc)
TODAY = "2026-08-02"


@cache
def book() -> PriceBook:
    """Return seven offers of three clouds."""
    return small_market()


def choice() -> PriceChoice:
    """Return the choice of those prices, at `NOW`."""
    return PriceChoice(now=NOW)


def ranking_of(profile: JobProfile) -> Ranked:
    """Rank the machines of the small market for a job."""
    return rank_job(profile, Request(limit=3, max_nodes=2), choice(), price_book=book())
