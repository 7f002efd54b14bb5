"""The runs of a request, and the limits that can be applied to them (part of stage 6)."""

from __future__ import annotations

import sys

from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.pricing.model_place import ModelRoutes
from trainfare_core.ranking.pricing.object_storage import ObjectStorage
from trainfare_core.ranking.pricing.price_doubt import Usable
from trainfare_core.ranking.pricing.priced_runs import Predictor, PricedRuns, price_runs
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints

__all__ = ["applied", "priced_for"]


def priced_for(profile: JobProfile, usable: Usable, request: Request, predict: Predictor) -> PricedRuns:
    """
    Price every run of a request.

    Args:
        profile: the job.
        usable: the offers to rank.
        request: what is asked for.
        predict: the predictor.
    """
    asked, space = request.constraints, request.plan_space
    saved = tuple(variant.saved(profile) for variant in space.variants(profile))
    return price_runs(
        profile,
        usable.book,
        usable.log_sigma,
        transfer_usd=usable.transfer_usd,
        sent=ModelRoutes.of(saved, usable.book.frame, asked),
        stored=tuple(ObjectStorage.of(each, asked) for each in saved),
        assumed=asked.run_cost,
        data_gb=asked.data_gb or 0.0,
        space=space,
        any_plan="plan" in asked.allow,
        no_porting=asked.no_porting,
        max_accelerators=asked.max_accelerators,
        quotas=asked.quotas,
        confidence=asked.confidence,
        predict=predict,
    )


def applied(profile: JobProfile, asked: Constraints) -> Constraints:
    """Return the constraints that can be applied: a run of unknown length has no total to limit."""
    if profile.plan.optimizer_steps is not None:
        return asked
    return asked.model_copy(
        update={"max_usd": None, "deadline_hours": None, "max_run_hours": sys.float_info.max}
    )
