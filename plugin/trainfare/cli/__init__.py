"""
The command line: one module for each command, registered here.

Exit codes of every command: 0 done (or within budget), 1 over budget, 2 bad usage or input, 3 cannot tell.
Answers go to standard output; progress, warnings and errors go to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from trainfare.cli.check import check
from trainfare.cli.decline import app as decline_app
from trainfare.cli.demo import demo
from trainfare.cli.offers import offers
from trainfare.cli.predict import predict
from trainfare.cli.prices import app as prices_app
from trainfare.cli.profile import profile
from trainfare.cli.recommend import recommend
from trainfare.cli.strategy import strategy
from trainfare.report.escape import terminal_text
from trainfare_core._version import __version__
from trainfare_core.errors import TrainfareError

__all__ = ["app", "main"]

app = typer.Typer(
    name="trainfare",
    help="Predict what a training run costs on every machine you could rent, with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo)
app.command("profile")(profile)
app.command("predict")(predict)
app.command("recommend")(recommend)
app.command("check")(check)
app.command("offers")(offers)
app.command("strategy")(strategy)
app.add_typer(prices_app, name="prices")
app.add_typer(decline_app, name="decline")


def _show_version(value: bool) -> None:  # noqa: FBT001 - signature of a typer callback
    if value:
        typer.echo(f"trainfare {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(  # noqa: FBT001 - handled by its callback
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Handle the options before the command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command line and end the process with the documented exit code.

    Args:
        arguments: the arguments after `trainfare`; None takes those of the process.
    """
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="trainfare")
    except TrainfareError as error:
        sys.stderr.write(f"error: {terminal_text(str(error))}\n")
        sys.exit(error.exit_code)
