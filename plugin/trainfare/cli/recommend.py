"""`trainfare recommend`: the ranked machines and the Pareto front of cost and time."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from trainfare.cli.options import (
    DecisionPriceOptions,
    JobArgument,
    LoaderOptions,
    OutputFile,
    RunLimits,
    grouped,
)
from trainfare.cli.output import check_writable, warn, write_answer
from trainfare.cli.target import TargetOptions, profile_of
from trainfare_core.errors import NothingFitsError

__all__ = ["recommend"]


@grouped
def recommend(
    job: JobArgument = None,
    *,
    limits: RunLimits,
    objective: Annotated[
        Literal["cheapest", "fastest"], typer.Option(help="order of the ranking")
    ] = "cheapest",
    value_per_month: Annotated[
        float | None,
        typer.Option(
            help="value of having the model one month earlier, USD; decides whether to train now or wait"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="rows of the table, shown with its details; JSON and HTML also have the Pareto front and the best "
            "of each cloud",
        ),
    ] = None,
    all_regions: Annotated[
        bool, typer.Option("--all-regions", help="list every region, not only the cheapest of each machine")
    ] = False,
    details: Annotated[
        bool, typer.Option("--details", help="show the whole report, not only its first screen")
    ] = False,
    prices: DecisionPriceOptions,
    target: TargetOptions,
    loader: LoaderOptions,
    output: Annotated[
        Literal["table", "json", "markdown", "html"], typer.Option("--format", help="output format")
    ] = "table",
    out: OutputFile = None,
) -> None:
    """Rank every machine that could run a job, by cost or time, and show the Pareto front of both."""
    from trainfare.recommendation import ranked
    from trainfare_core.ranking.request import DEFAULT_LIMIT, Request

    constraints = limits.constraints(value_usd_per_month=value_per_month)
    check_writable(out)
    choice = prices.choice()
    with profile_of(target.required(job), target) as traced:
        profile = loader.stated(traced())
    request = Request(constraints, objective, limit or DEFAULT_LIMIT, limits.max_nodes, all_regions)
    found = ranked(profile, request, choice)
    warn(found.warnings)
    whole = details or limit is not None
    if output == "json":
        write_answer(found.answer.to_json(), out)
    elif output == "table" and out is None and sys.stdout.isatty():
        from trainfare.report.terminal import print_terminal

        print_terminal(found.answer, profile=profile, as_of=found.as_of, rows=limit, details=whole)
    elif output == "html":
        from trainfare.report.html import render_html

        write_answer(render_html(found.answer, profile=profile, as_of=found.as_of), out, references=True)
    else:
        if output == "markdown":
            from trainfare.report.markdown import render_markdown

            page = render_markdown(found.answer, profile=profile, as_of=found.as_of, rows=limit)
        else:
            from trainfare.report.terminal import render_terminal

            page = render_terminal(
                found.answer, profile=profile, as_of=found.as_of, rows=limit, details=whole
            )
        write_answer(page, out, references=output != "table")
    if not found.answer.options:
        because = found.answer.unknown_because or "no machine is left"
        # Every format but JSON begins with the reason: said once, it is read.
        raise NothingFitsError(because if output == "json" else "no machine is left; the report says why")
