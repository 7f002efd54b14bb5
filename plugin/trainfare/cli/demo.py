"""`trainfare demo`: train a small model with FareMeter, rank machines for it, and write the report."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from trainfare_core.errors import InputError, MissingExtraError


def demo(
    directory: Annotated[
        Path, typer.Option("--directory", "-d", help="existing folder for trainfare-report.html and .json")
    ] = Path(),
) -> None:
    """Train a small model with Lightning and FareMeter, print the answer and write the report."""
    if not directory.is_dir():
        raise InputError(f"--directory {directory}: no such folder; make it first, or name another")
    try:
        from trainfare.demo_training import train_and_meter
    except ImportError as error:
        raise MissingExtraError(error.name or "a package of the demo", "demo") from error
    sys.stderr.write("demo: training a few steps of a planned 300 epochs on this machine's CPU\n")
    with warnings.catch_warnings():
        # Lightning warns about loader workers and missing validation, which this small demo leaves out.
        warnings.simplefilter("ignore")
        train_and_meter(directory)
    page, data = directory / "trainfare-report.html", directory / "trainfare-report.json"
    typer.echo(f"trainfare demo: wrote {page} (open it in a browser) and {data}")
