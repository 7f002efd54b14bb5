"""`trainfare prices ...`: fetch, check, lock and inspect the price book, and read the quotas of an account."""

from __future__ import annotations

import sys

import typer

from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import PriceOptions
from trainfare.cli.output import output_width
from trainfare.cli.prices_lock import lock
from trainfare.cli.prices_quotas import quotas
from trainfare.cli.prices_update import update
from trainfare.cli.prices_verify import verify

app = typer.Typer(name="prices", help="Fetch, check, lock and inspect the price book.", no_args_is_help=True)


app.command("update")(update)
app.command("verify")(verify)
app.command("lock")(lock)
app.command("quotas")(quotas)


@app.callback()
def prices() -> None:
    """Inspect the prices that recommendations are made with."""


@app.command("status")
@group_options
def status(*, prices: PriceOptions, output: Format = "table") -> None:
    """Show rows, dates, ages and rejected rows of every cloud service: live, shipped or locked prices."""
    from trainfare.prices.sources import load_prices
    from trainfare.report.price_status import status_table
    from trainfare_core.prices.status import price_status

    choice = prices.choice()
    loaded = load_prices(choice=choice)
    answer = price_status(loaded.book, as_of=choice.now, problems=loaded.problems, notes=loaded.notes)
    sys.stdout.write(answer.to_json() if output == "json" else status_table(answer, width=output_width()))
