"""`trainfare check`, the budget check of CI: exit 0 within the limits, 1 over, 2 bad usage, 3 cannot tell."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainfare.cli.base import BaseOf, BaseOptions, base_of, base_tree_of, folder_of
from trainfare.cli.check_options import CheckOutputs, PolicyOptions, outputs_of, write_outputs
from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import DecisionPriceOptions, Force, JobOptions
from trainfare.cli.target import TargetOptions, profile_of

if TYPE_CHECKING:
    from trainfare.prices.sources import LoadedPrices
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Constraints


@group_options
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
    loader: JobOptions,
    base: BaseOptions,
    output: Format = "table",
    out: CheckOutputs = None,
    force: Force = False,
) -> None:
    """
    Check runs against their limits: exit 0 within, 1 over on every machine, 3 cannot tell.

    Of several jobs the worst code counts: 4, 2, 1, 3, 0.
    """
    from trainfare.cli.check_answers import choose_locks, policy_answer, target_answer
    from trainfare_core.changes.explain_change import PricedJob

    outputs, target = outputs_of(output, out, force=force), target.trace_afresh()
    job = target.find_target(job)
    if job is None:
        rules.check_alone(context)

        @cache
        def trace_once(target_text: str, precisions: bool) -> JobProfile:  # noqa: FBT001 - of this function
            with profile_of(target_text, target, precisions=precisions) as profile:
                return profile()

        def trace(target_text: str, constraints: Constraints) -> JobProfile:
            return trace_once(target_text, constraints.any_precision)

        def before(target_text: str, constraints: Constraints) -> BaseOf:
            def price_base(loaded: LoadedPrices) -> PricedJob | UnknownJob | None:
                head, precisions = partial(trace, target_text, constraints), constraints.any_precision
                with base_of(target_text, base, target, head, precisions=precisions) as price:
                    return price(loaded)

            return price_base

        profiles = base.folder()
        with base_tree_of(base, Path() if rules.policy is None else rules.policy.parent) as tree:
            answer = policy_answer(rules, prices.choice(), trace, profiles, before, tree)
    else:
        rules.check_with_target()
        limits.check_given()
        choice = prices.choice()
        with (  # both are traced while the prices are read
            profile_of(job, target, precisions=limits.any_precision) as profile,
            base_of(job, base, target, lambda: profile(), precisions=limits.any_precision) as compared,
            base_tree_of(base, folder_of(job) if base.compare_to else Path()) as tree,
        ):

            def base_stated(loaded: LoadedPrices) -> PricedJob | UnknownJob | None:
                base = compared(loaded)
                return (
                    replace(base, profile=loader.apply_to(base.profile))
                    if isinstance(base, PricedJob)
                    else base
                )

            answer = target_answer(
                job,
                limits,
                rules,
                choose_locks(choice, choice, tree),
                lambda: loader.apply_to(profile()),
                base_stated,
            )
    write_outputs(outputs, answer.renderers)
    if answer.exit_code:
        raise typer.Exit(answer.exit_code)
