"""`trainfare offers`: machines and their prices, with the date and the source of each price."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trainfare.cli.limit_options import OfferFilters
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import AgedPriceOptions
from trainfare.cli.output import output_width, warn
from trainfare_core.errors import InputError
from trainfare_core.prices.listing import Sort


@group_options
def offers(
    *,
    filters: OfferFilters,
    max_usd_per_hour: Annotated[
        float | None, typer.Option(help="highest price of one machine, USD per hour")
    ] = None,
    why: Annotated[
        str | None,
        typer.Option(
            metavar="MACHINE",
            help="show every price read for a machine such as aws:p5.48xlarge@us-east-1, and which one is used",
        ),
    ] = None,
    machines: Annotated[
        bool,
        typer.Option(
            "--machines",
            help="list every machine and price, as JSON, CSV and --instance-type do, not each accelerator",
        ),
    ] = False,
    sort: Annotated[Sort, typer.Option(help="order of the list")] = Sort.price,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="rows to show; 0: all; default: every accelerator, or 20 machines"),
    ] = None,
    prices: AgedPriceOptions,
    output: Format = "table",
) -> None:
    """List the lowest prices of each accelerator, or machines and their prices with date and source of each."""
    from trainfare.prices.sources import age_warnings, load_prices
    from trainfare.report.offers import accelerators_table, offers_csv, offers_table, why_table
    from trainfare_core.prices.explain import explain_prices
    from trainfare_core.prices.listing import Query, list_accelerators, matching, select

    choice = prices.choice(allow_stale=True)  # a list shows live prices of any age, with their age
    loaded = load_prices(choice=choice)
    if why is not None:
        if output == "csv":
            raise InputError("--why with --format csv: choose table or json")
        explanation = explain_prices(loaded.book, why, as_of=loaded.as_of, problems=loaded.problems)
        warn(explanation.problems)
        as_table = output == "table"
        sys.stdout.write(why_table(explanation, width=output_width()) if as_table else explanation.to_json())
        return
    query = Query(
        **filters.keywords(),
        max_usd_per_hour=max_usd_per_hour,
        sort=sort.value,
    )
    rows = 20 if limit is None else limit
    report = select(loaded.book, query, limit=rows, problems=loaded.problems, notes=loaded.notes)
    warn((*report.problems, *age_warnings(loaded, matching(loaded.book, report.query), choice)))
    if output == "json":
        sys.stdout.write(report.to_json())
    elif output == "csv":
        sys.stdout.write(offers_csv(report))
    elif not (machines or query.instance_types):
        prices_shown = list_accelerators(loaded.book, report.query)
        sys.stdout.write(accelerators_table(prices_shown, width=output_width(), limit=limit or 0))
    else:
        sys.stdout.write(offers_table(report, as_of=loaded.as_of, width=output_width()))
