"""`trainfare offers`: machines and their prices, with the date and the source of each price."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from trainfare.cli.options import (
    PURCHASE_HELP,
    Accelerators,
    AgedPriceOptions,
    Providers,
    Regions,
    Services,
    grouped,
)
from trainfare.cli.output import output_width, warn
from trainfare_core.prices.listing import Sort

__all__ = ["offers"]


@grouped
def offers(
    *,
    provider: Providers = None,
    region: Regions = None,
    accelerator: Accelerators = None,
    purchase: Annotated[list[str] | None, typer.Option(help=PURCHASE_HELP)] = None,
    service: Services = None,
    max_usd_per_hour: Annotated[
        float | None, typer.Option(help="highest price of one machine, USD per hour")
    ] = None,
    sort: Annotated[Sort, typer.Option(help="order of the list")] = Sort.price,
    limit: Annotated[int, typer.Option(min=0, help="offers to show; 0: all")] = 20,
    prices: AgedPriceOptions,
    output: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="output format")
    ] = "table",
) -> None:
    """List machines and their prices, with the date and the source of each price."""
    from trainfare.prices.sources import age_warnings, load_prices
    from trainfare.report.offers import offers_csv, offers_table
    from trainfare_core.prices.listing import Query, matching, select

    choice = prices.choice(allow_stale=True)  # a list shows live prices of any age, with their age
    loaded = load_prices(choice=choice)
    query = Query(
        providers=_names(provider),
        services=_names(service),
        regions=_names(region),
        accelerators=_names(accelerator),
        purchase=_names(purchase),
        max_usd_per_hour=max_usd_per_hour,
        sort=sort.value,
    )
    report = select(loaded.book, query, limit=limit, problems=loaded.problems, notes=loaded.notes)
    warn((*report.problems, *age_warnings(loaded, matching(loaded.book, report.query), choice)))
    if output == "json":
        sys.stdout.write(report.to_json())
    elif output == "csv":
        sys.stdout.write(offers_csv(report))
    else:
        sys.stdout.write(offers_table(report, as_of=loaded.as_of, width=output_width()))


def _names(names: list[str] | None) -> tuple[str, ...] | None:
    return tuple(names) if names else None
