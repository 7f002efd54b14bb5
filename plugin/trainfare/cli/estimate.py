"""`trainfare estimate`: what training a model costs, from its name or configuration file alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import group_options
from trainfare.cli.options import DecisionPriceOptions, ImplementationOption, JobOptions
from trainfare.cli.output import show_wait
from trainfare.cli.ranking import RankingOptions
from trainfare.estimate import EstimateRequest, RolloutRequest
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare.estimate.request import Precision
    from trainfare_core.job_profile import JobProfile


@group_options
def estimate(
    *,
    request: EstimateRequest,
    rollout: RolloutRequest,
    implementation: ImplementationOption = None,
    limits: RunLimits,
    ranking: RankingOptions,
    prices: DecisionPriceOptions,
    loader: JobOptions,
) -> None:
    """Rank every machine for training a model, from its name or configuration file: no code, no network."""
    if request.generates:
        rollout.check(request).steps()
    elif rollout.is_given():
        raise InputError("--prompts and --completion-length are for --method grpo and rloo")
    else:
        request.steps()

    def trace_rollout() -> JobProfile:
        from trainfare.estimate.profile import estimate_rollout_profile

        with show_wait(f"tracing {request.model}"):
            return estimate_rollout_profile(request, rollout)

    def trace() -> JobProfile:
        from trainfare.estimate.profile import estimate_profile
        from trainfare_core.variants import with_implementation, with_precisions

        with show_wait(f"tracing {request.model}"):
            profile = estimate_profile(request)
            if limits.any_precision:
                profile = with_precisions(
                    profile,
                    lambda name: estimate_profile(replace(request, precision=cast("Precision", name))),
                )
        return with_implementation(loader.apply_to(profile), implementation or "eager")

    # No script stands against recomputation, which may save a machine.
    limits = limits if request.recompute else limits.allowing("checkpointing")
    ranking.answer(limits, prices, trace_rollout if request.generates else trace, compare=True)
