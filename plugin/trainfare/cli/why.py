"""`trainfare why`: why a machine is not the answer."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from trainfare.cli.limit_options import RunLimits, option_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import DecisionPriceOptions, JobArgument, JobOptions, LedgerOptions, Objectives
from trainfare.cli.output import output_width, warn
from trainfare.cli.target import TargetOptions, profile_of


@group_options
def why(
    machine: Annotated[
        str,
        typer.Argument(
            help="instance type, family or accelerator: p4d.24xlarge, p5, A100, aws:p5.48xlarge@us-east-1"
        ),
    ],
    job: JobArgument = None,
    *,
    limits: RunLimits,
    objective: Annotated[
        Objectives | None,
        typer.Option(help="what the machine is compared with; default: as in recommend"),
    ] = None,
    value_per_hour: Annotated[float | None, option_of("value_usd_per_hour")] = None,
    prices: DecisionPriceOptions,
    target: TargetOptions,
    loader: JobOptions,
    ledger: LedgerOptions,
    output: Format = "table",
) -> None:
    """Say why a machine is not the answer: what rejects it, with figures, or by how much it loses."""
    from trainfare.recommendation import why_not
    from trainfare.report.why import why_text
    from trainfare_core.ranking.pricing.request import Request, objective_of

    constraints = limits.constraints(value_usd_per_hour=value_per_hour)
    request = Request(constraints, objective_of(objective, constraints), max_nodes=limits.max_nodes)
    choice = prices.choice()
    with profile_of(target.require_target(job), target, precisions=limits.any_precision) as traced:
        profile = loader.apply_to(traced())
    request = replace(request, earlier_runs=ledger.read_runs(profile, locked=choice.lock is not None))
    result = why_not(profile, request, choice, machine)
    warn(result.warnings)
    sys.stdout.write(
        result.answer.to_json() if output == "json" else why_text(result.answer, width=output_width())
    )
