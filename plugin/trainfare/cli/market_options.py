"""The options about where and within what limits a run may be placed, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Deadline", "JobArgument", "OutputFile", "Providers", "Regions"]

JobArgument = Annotated[str, typer.Argument(help="profile file, '-', or a TARGET such as train.py:job")]
Providers = Annotated[list[str] | None, typer.Option("--provider", help="cloud, e.g. aws; may be repeated")]
Regions = Annotated[list[str] | None, typer.Option("--region", help="e.g. us-east-1; may be repeated")]
Deadline = Annotated[str | None, typer.Option("--deadline", help="time to finish in: 12, 12h, 2d or 90m")]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="new file to write instead of printing")
]
