"""`trainfare check`, the CI gate: exit 0 within budget and deadline, 1 over, 2 bad usage, 3 cannot tell."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from trainfare.cli.market_options import Deadline, JobArgument, OutputFile, Providers, Regions
from trainfare.cli.price_options import (
    AllowStale,
    AsOf,
    Lock,
    MaxPriceAge,
    OnStaleOption,
    OwnPricesOption,
    price_choice,
    warn,
)
from trainfare.cli.recommend import check_free, hours_of, write_answer
from trainfare_core.errors import InputError

__all__ = ["OutputFormat", "check"]


class OutputFormat(str, enum.Enum):
    """How the answer is written."""

    table = "table"
    json = "json"
    markdown = "markdown"


def check(
    job: JobArgument,
    max_usd: Annotated[float | None, typer.Option(help="budget of the whole run, USD")] = None,
    deadline: Deadline = None,
    confidence: Annotated[float, typer.Option(help="how sure the verdict must be, 0.5 to 1")] = 0.9,
    provider: Providers = None,
    region: Regions = None,
    purchase: Annotated[
        list[str] | None,
        typer.Option(help="spot, reserved_1y, ...; may be repeated; default: on_demand, whose prices hold"),
    ] = None,
    max_nodes: Annotated[int, typer.Option(min=1, max=16, help="machines in one run, at most")] = 4,
    lock: Lock = None,
    own_prices: OwnPricesOption = None,
    allow_stale: AllowStale = False,  # noqa: FBT002 - typer reads flags so
    max_price_age_days: MaxPriceAge = None,
    on_stale: OnStaleOption = None,
    as_of: AsOf = None,
    output: Annotated[
        OutputFormat, typer.Option("--format", help="table, json or markdown")
    ] = OutputFormat.table,
    out: OutputFile = None,
) -> None:
    """Hold a run against a budget and a deadline: exit 0 within, 1 over on every machine, 3 cannot tell."""
    from trainfare.prices.constraints import constraints_of, used_prices, with_book_names
    from trainfare.recommendation import age_warnings, load_prices, profile_of
    from trainfare.report.budget_check import check_markdown, check_table
    from trainfare_core.ranking.budget_check import DEFAULT_PURCHASE, EXIT_CODES, judge
    from trainfare_core.ranking.request import Request

    check_free(out)
    deadline_hours = hours_of(deadline)
    if max_usd is None and deadline_hours is None:
        msg = "nothing to check: give --max-usd, --deadline, or both"
        raise InputError(msg)
    constraints = constraints_of(
        max_usd=max_usd,
        deadline_hours=deadline_hours,
        confidence=confidence,
        providers=provider,
        regions=region,
        purchase=purchase or DEFAULT_PURCHASE,
    )
    choice = price_choice(
        lock=lock,
        own_prices=own_prices,
        allow_stale=allow_stale,
        max_price_age_days=max_price_age_days,
        on_stale=on_stale,
        as_of=as_of,
    )
    loaded = load_prices(choice=choice)
    asked = with_book_names(constraints, loaded.book)
    warn(age_warnings(loaded, used_prices(loaded.book, asked), choice))
    terms = (
        () if purchase else ("judged at on-demand prices: name --purchase spot to count spot machines too",)
    )
    notes = (*terms, *loaded.problems, *loaded.notes)
    answer = judge(profile_of(job), loaded.book, Request(asked, max_nodes=max_nodes), notes=notes)
    if output is OutputFormat.json:
        write_answer(answer.to_json(), out)
    else:
        render = check_table if output is OutputFormat.table else check_markdown
        write_answer(render(answer, as_of=loaded.as_of), out)
    if EXIT_CODES[answer.verdict]:
        raise typer.Exit(EXIT_CODES[answer.verdict])
