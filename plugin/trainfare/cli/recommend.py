"""`trainfare recommend`: the ranked machines and the Pareto front of cost and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import group_options
from trainfare.cli.options import DecisionPriceOptions, JobArgument, JobOptions
from trainfare.cli.ranking import RankingOptions
from trainfare.cli.target import TargetOptions, profile_of

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile


@group_options
def recommend(
    job: JobArgument = None,
    *,
    limits: RunLimits,
    ranking: RankingOptions,
    prices: DecisionPriceOptions,
    target: TargetOptions,
    loader: JobOptions,
) -> None:
    """Rank every machine that could run a job, by cost or time, and show the Pareto front of both."""
    source = target.require_target(job)

    def trace() -> JobProfile:
        with profile_of(source, target, precisions=limits.any_precision) as trace:
            return loader.apply_to(trace())

    ranking.answer(limits, prices, trace, target=source)
