"""`trainfare prices quotas`: what a cloud account may rent, as the file that `--quota` takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainfare.cli.limit_options import option_of
from trainfare.cli.options import Force
from trainfare.cli.output import check_writable, warn, write_answer


def quotas(
    provider: Annotated[list[str] | None, option_of("providers")] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="file to write; default: standard output")
    ] = None,
    *,
    force: Force = False,
) -> None:
    """Read what your cloud accounts may rent, and write the file that `recommend --quota` takes."""
    from trainfare.prices.quota_file import quota_text
    from trainfare.prices.quotas import account_quotas
    from trainfare_providers.update import live_sources

    check_writable(out, force=force)
    account = account_quotas(live_sources(provider))
    warn(account.left_out)
    write_answer(quota_text(account.quotas, said=account.said), out)
    if out is not None:
        sys.stderr.write(f"rank what they allow: trainfare recommend JOB --quota {out}\n")
