"""`trainfare check`, the budget check of CI: exit 0 within the limits, 1 over, 2 bad usage, 3 cannot tell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainfare.cli.options import DecisionPriceOptions, JobArgument, OutputFile, RunLimits, grouped
from trainfare.cli.output import check_writable, output_width, warn, write_answer
from trainfare.cli.target import TargetOptions, profile_of
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.ranking.explain_change import PricedJob

__all__ = ["check"]


@grouped
def check(
    job: JobArgument,
    *,
    limits: RunLimits,
    prices: DecisionPriceOptions,
    target: TargetOptions,
    base: Annotated[
        Path | None,
        typer.Option(
            "--base", metavar="FILE", help="profile of the job before the change: show what it adds"
        ),
    ] = None,
    output: Annotated[
        Literal["table", "json", "markdown"], typer.Option("--format", help="output format")
    ] = "table",
    out: OutputFile = None,
) -> None:
    """Check a run against a budget and a deadline: exit 0 within, 1 over on every machine, 3 cannot tell."""
    from trainfare.prices.constraints import used_prices, with_book_names
    from trainfare.prices.sources import age_warnings, load_prices
    from trainfare.report.budget_check import check_markdown, check_table
    from trainfare_core.ranking.budget_check import DEFAULT_PURCHASE, EXIT_CODES, judge
    from trainfare_core.ranking.request import Request

    check_writable(out)
    if limits.max_usd is None and limits.deadline is None:
        raise InputError("nothing to check: give --max-usd, --deadline, or both")
    constraints = limits.constraints(default_purchase=DEFAULT_PURCHASE)
    choice = prices.choice()
    with profile_of(job, target) as profile:
        loaded = load_prices(choice=choice)
        asked = with_book_names(constraints, loaded.book)
        warn(age_warnings(loaded, used_prices(loaded.book, asked), choice))
        default = "checked at on-demand prices; add --purchase spot to include spot machines"
        notes = (*(() if limits.purchase else (default,)), *loaded.problems, *loaded.notes)
        traced = profile()
    request = Request(asked, max_nodes=limits.max_nodes, as_of=loaded.as_of)
    answer = judge(traced, loaded.book, request, base=_base(base, loaded.book), notes=notes)
    if output == "json":
        write_answer(answer.to_json(), out)
    else:
        table = partial(check_table, width=output_width())
        render = table if output == "table" else check_markdown
        write_answer(render(answer, as_of=loaded.as_of), out, references=output == "markdown")
    if EXIT_CODES[answer.verdict]:
        raise typer.Exit(EXIT_CODES[answer.verdict])


def _base(file: Path | None, book: PriceBook) -> PricedJob | None:
    """Return the job before the change, priced as the job itself."""
    if file is None:
        return None
    from trainfare.prelaunch import read_profile
    from trainfare_core.ranking.explain_change import PricedJob

    return PricedJob(read_profile(str(file)), book, str(file))
