"""`trainfare check`, the budget check of CI: exit 0 within the limits, 1 over, 2 bad usage, 3 cannot tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainfare.cli.base import BaseOf, BaseOptions, base_of
from trainfare.cli.check_outputs import CheckOutputs, outputs_of, write_outputs
from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import Format, grouped
from trainfare.cli.options import DecisionPriceOptions, LoaderOptions
from trainfare.cli.policy_options import PolicyOptions
from trainfare.cli.target import TargetOptions, profile_of

if TYPE_CHECKING:
    from trainfare.prices.sources import LoadedPrices
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Constraints

__all__ = ["check"]


@grouped
def check(
    context: typer.Context,
    job: Annotated[
        str | None,
        typer.Argument(
            help="profile file, '-' for standard input, or a TARGET: a script with its arguments after --, or "
            "train.py:job; not given: every job of the policy in trainfare.toml or the table tool.trainfare of "
            "pyproject.toml"
        ),
    ] = None,
    *,
    limits: RunLimits,
    prices: DecisionPriceOptions,
    rules: PolicyOptions,
    target: TargetOptions,
    loader: LoaderOptions,
    base: BaseOptions,
    output: Format = "table",
    out: CheckOutputs = None,
) -> None:
    """
    Check runs against their limits: exit 0 within, 1 over on every machine, 3 cannot tell.

    Of several jobs the worst code counts: 4, 2, 1, 3, 0.
    """
    from trainfare.cli.check_answers import policy_answer, target_answer
    from trainfare_core.changes.explain_change import PricedJob

    outputs = outputs_of(output, out)
    job = target.named(job)
    if job is None:
        rules.check_alone(context)

        def traced(place: str, asked: Constraints) -> JobProfile:
            with profile_of(place, target, precisions=asked.any_precision) as profile:
                return profile()

        def before(place: str, lock: Path | None, asked: Constraints) -> BaseOf:
            def compared(loaded: LoadedPrices) -> PricedJob | UnknownJob | None:
                with base_of(place, base, target, lock, precisions=asked.any_precision) as found:
                    return found(loaded)

            return compared

        answer = policy_answer(rules, prices.choice(), traced, base.folder(), before)
    else:
        rules.check_with_target()
        limits.check_given()
        choice = prices.choice()
        with (  # both are traced while the prices are read
            profile_of(job, target, precisions=limits.any_precision) as profile,
            base_of(job, base, target, choice.lock, precisions=limits.any_precision) as compared,
        ):

            def base_stated(loaded: LoadedPrices) -> PricedJob | UnknownJob | None:
                found = compared(loaded)
                return (
                    replace(found, profile=loader.stated(found.profile))
                    if isinstance(found, PricedJob)
                    else found
                )

            answer = target_answer(
                job, limits, rules.on_unknown or "fail", choice, lambda: loader.stated(profile()), base_stated
            )
    write_outputs(outputs, answer.renderers)
    if answer.exit_code:
        raise typer.Exit(answer.exit_code)
