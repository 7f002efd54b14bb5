"""`trainfare recommend`: the ranked machines and the cost-time front."""

from __future__ import annotations

import enum
import re
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from trainfare_core.errors import InputError, NothingFitsError

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Recommendation

__all__ = ["Objective", "OutputFormat", "check_free", "hours_of", "recommend", "write_answer"]

_DEADLINE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([mhd]?)", re.ASCII)
_HOURS = {"m": 1 / 60, "": 1.0, "h": 1.0, "d": 24.0}


class OutputFormat(str, enum.Enum):
    """How the answer is written."""

    table = "table"
    json = "json"
    markdown = "markdown"
    html = "html"


class Objective(str, enum.Enum):
    """What comes first."""

    cheapest = "cheapest"
    fastest = "fastest"


def recommend(
    job: JobArgument,
    provider: Providers = None,
    region: Regions = None,
    purchase: Annotated[
        list[str] | None,
        typer.Option(help="on_demand, spot, reserved_1y, ...; may be repeated; default: on_demand and spot"),
    ] = None,
    max_usd: Annotated[float | None, typer.Option(help="budget of the whole run, USD")] = None,
    deadline: Deadline = None,
    objective: Annotated[Objective, typer.Option(help="what comes first")] = Objective.cheapest,
    value_per_month: Annotated[
        float | None,
        typer.Option(help="what having the model a month earlier is worth, USD: train now or wait?"),
    ] = None,
    max_nodes: Annotated[int, typer.Option(min=1, max=16, help="machines in one run, at most")] = 4,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="options to list besides the front")] = 30,
    confidence: Annotated[float, typer.Option(help="chance with which the limits must be kept")] = 0.9,
    all_regions: Annotated[  # noqa: FBT002 - typer reads flags so
        bool, typer.Option("--all-regions", help="list every region, not only the cheapest of each machine")
    ] = False,
    lock: Lock = None,
    own_prices: OwnPricesOption = None,
    allow_stale: AllowStale = False,  # noqa: FBT002 - typer reads flags so
    max_price_age_days: MaxPriceAge = None,
    on_stale: OnStaleOption = None,
    as_of: AsOf = None,
    output: Annotated[
        OutputFormat, typer.Option("--format", help="table, json, markdown or html")
    ] = OutputFormat.table,
    out: OutputFile = None,
) -> None:
    """Rank every machine that could run a job, by dollars or hours, and show the cost-time front."""
    from trainfare.prices.constraints import constraints_of
    from trainfare.recommendation import profile_of, ranked
    from trainfare_core.ranking.request import Request

    constraints = constraints_of(
        max_usd=max_usd,
        deadline_hours=hours_of(deadline),
        value_usd_per_month=value_per_month,
        confidence=confidence,
        providers=provider,
        regions=region,
        purchase=purchase,
    )
    check_free(out)
    choice = price_choice(
        lock=lock,
        own_prices=own_prices,
        allow_stale=allow_stale,
        max_price_age_days=max_price_age_days,
        on_stale=on_stale,
        as_of=as_of,
    )
    profile = profile_of(job)
    found = ranked(profile, Request(constraints, objective.value, limit, max_nodes, all_regions), choice)
    warn(found.warnings)
    write_answer(_rendered(found.answer, profile, output, as_of=found.as_of, to_file=out is not None), out)
    if not found.answer.options:
        raise NothingFitsError(found.answer.unknown_because or "no machine is left")


def hours_of(text: str | None) -> float | None:
    """
    Read a deadline: a number of hours, or one with m, h or d behind it.

    Raises:
        InputError: anything else.
    """
    if text is None:
        return None
    found = _DEADLINE.fullmatch(text.strip().lower())
    if found is None:
        msg = f"--deadline {text!r}: not a time; give hours such as 12, 12h, 2d or 90m"
        raise InputError(msg)
    return float(found[1]) * _HOURS[found[2]]


def write_answer(text: str | None, out: Path | None) -> None:
    """
    Write an answer to standard output or to a new file; None was printed already.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    if text is None:
        return
    if out is None:
        sys.stdout.write(text)
        return
    from trainfare_providers.disk.files import write_text

    write_text(out, text)
    sys.stderr.write(f"wrote {out}\n")


def check_free(out: Path | None) -> None:
    """
    Make sure that an answer may be written to a file, before any work is done for it.

    Raises:
        InputError: it exists, or its folder does not.
    """
    if out is None:
        return
    if out.exists() or out.is_symlink():
        msg = f"--output {out}: exists already; move it away or name another file"
        raise InputError(msg)
    if not out.parent.is_dir():
        msg = f"--output {out}: there is no folder {out.parent}; make it first"
        raise InputError(msg)


def _rendered(
    answer: Recommendation, profile: JobProfile, output: OutputFormat, *, as_of: date, to_file: bool
) -> str | None:
    from trainfare.report import print_terminal, render_html, render_markdown, render_terminal

    if output is OutputFormat.json:
        return answer.to_json()
    if output is OutputFormat.markdown:
        return render_markdown(answer, profile=profile, as_of=as_of)
    if output is OutputFormat.html:
        return render_html(answer, profile=profile, as_of=as_of)
    if to_file or not sys.stdout.isatty():
        return render_terminal(answer, profile=profile, as_of=as_of)
    print_terminal(answer, profile=profile, as_of=as_of)
    return None
