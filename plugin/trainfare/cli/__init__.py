"""
The command line: one module for each command, registered here.

Exit codes of every command: 0 done (or within budget), 1 over budget, 2 bad usage or input, 3 cannot tell.
Answers go to standard output; progress, warnings and errors go to standard error.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Final

import typer

from trainfare.report.escape import terminal_text
from trainfare_core._version import __version__
from trainfare_core.errors import TrainfareError

__all__ = ["COMMANDS", "app_of", "main"]

COMMANDS: Final = (
    "demo",
    "profile",
    "predict",
    "recommend",
    "check",
    "offers",
    "strategy",
    "prices",
    "decline",
)
"""In the order of `--help`. `trainfare.cli.NAME` has a function NAME, or an `app` with commands of its own."""

_ALLOCATIONS_PER_COLLECTION: Final = 200_000
"""Chosen: more objects than the imports of a command make, and some tens of MB where a command makes garbage."""


def _show_version(value: bool) -> None:  # noqa: FBT001 - signature of a typer callback
    if value:
        typer.echo(f"trainfare {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(  # noqa: FBT001 - handled by its callback
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Handle the options before the command."""


def app_of(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with some of its commands; only their modules are imported."""
    app = typer.Typer(
        name="trainfare",
        help="Predict what a training run costs on every machine you could rent, with intervals.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in commands:
        module = import_module(f"trainfare.cli.{name}")
        group: object = getattr(module, "app", None)
        if isinstance(group, typer.Typer):
            app.add_typer(group, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command line and end the process with the documented exit code.

    Args:
        arguments: the arguments after `trainfare`; None takes those of the process.
    """
    # What is imported stays: collecting its thousands of objects again and again is a tenth of a short command.
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)
    given = sys.argv[1:] if arguments is None else list(arguments)
    # No option before the command takes a value, so its name is the first word without a dash.
    command = next((word for word in given if not word.startswith("-")), None)
    if command != "demo":
        # NumPy's OpenBLAS starts a thread for each core when it is imported; no command but the demo computes so much.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app_of([command] if command in COMMANDS else COMMANDS)(args=given, prog_name="trainfare")
    except TrainfareError as error:
        sys.stderr.write(f"error: {terminal_text(str(error))}\n")
        sys.exit(error.exit_code)
