"""
Read the quotas of cloud accounts, and read and write the file of `--quota`: what your accounts may rent, as TOML.

    [[quota]]
    provider = "aws"
    region = "us-east-1"
    family = "p"
    vcpus = 384

    [[quota]]
    provider = "gcp"
    family = ["H100", "H200"]
    purchase = "spot"
    accelerators = 16

    [[quota]]
    provider = "aws"
    family = "ml.p5.48xlarge"
    machines = 2
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from trainfare_core.errors import InputError, TrainfareError

if TYPE_CHECKING:
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.recommendation import QuotaLimit

_MAX_BYTES: Final = 2**20
"""Largest file that is read. A chosen value, against reading a wrong file."""

_LISTS: Final = ("family", "purchase")
"""Keys that take one name or several."""


def read_quotas(path: Path) -> tuple[QuotaLimit, ...]:
    """
    Read and check a file of quotas; names are kept as typed.

    Raises:
        InputError: it cannot be read, is not TOML, or has an unknown key or a bad value; the message names the table.
    """
    from trainfare_providers.disk.files import read_input
    from trainfare_providers.disk.toml_file import key_hint, parse_toml

    content = read_input(path, _MAX_BYTES, label="quota ", kind="a file of quotas")
    document = cast("dict[str, Any]", parse_toml(content, where=f"quota {path}"))
    for key in document:
        if key != "quota":
            raise InputError(f"quota {path}: unknown key {key!r}; {key_hint(key, ['quota'])}")
    tables = document.get("quota")
    if not (isinstance(tables, list) and tables):
        raise InputError(f"quota {path}: it has no [[quota]]")
    return tuple(
        _describe_quota(table, f"quota {path}: [[quota]] {number}: ")
        for number, table in enumerate(cast("list[object]", tables), start=1)
    )


def quota_text(quotas: Sequence[QuotaLimit], *, said: str) -> str:
    """
    Return the text of a file that `read_quotas` reads as these quotas.

    Args:
        quotas: at least one.
        said: first line, a comment.
    """
    lines = [f"# {said}"]
    for quota in quotas:
        # A JSON string or list of plain names is one of TOML too.
        stated = quota.model_dump(mode="json", exclude_none=True)
        lines += ["", "[[quota]]", *(f"{key} = {json.dumps(value)}" for key, value in stated.items())]
    return "\n".join(lines) + "\n"


def _describe_quota(table: object, where: str) -> QuotaLimit:
    from pydantic import ValidationError

    from trainfare_core.recommendation import QuotaLimit
    from trainfare_providers.disk.toml_file import describe_invalid

    if not isinstance(table, dict):
        raise InputError(f"{where}not a table")
    stated = cast("dict[str, object]", table)
    several = {key: [stated[key]] for key in _LISTS if isinstance(stated.get(key), str)}
    try:
        return QuotaLimit.model_validate_json(json.dumps(stated | several, default=str), strict=True)
    except ValidationError as error:
        raise InputError(f"{where}{describe_invalid(error, QuotaLimit)}") from error


_BY_HAND: Final = "its quotas cannot be read; state them by hand (docs/choosing.md)"


@dataclass(frozen=True, slots=True)
class AccountQuotas:
    """
    What accounts may rent.

    Attributes:
        quotas: about machines and regions of the prices.
        said: whose they are and when they were read, one sentence.
        left_out: why others are not there, one sentence each.
    """

    quotas: tuple[QuotaLimit, ...]
    said: str
    left_out: tuple[str, ...]


def account_quotas(
    sources: Sequence[tuple[str, object]],
    *,
    book: PriceBook | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc),
) -> AccountQuotas:
    """
    Ask the accounts of some clouds.

    Args:
        sources: clouds by name, as `live_sources` returns them; one that is no `QuotaSource` is left out and named.
        book: the prices, whose machines and regions are asked for; None loads them.
        clock: dates the answer.

    Raises:
        InputError: none of the clouds can be asked.
        CannotTellError: no cloud has an account to ask.
        FetchError: no answer of any cloud.
    """
    from trainfare.prices.sources import load_prices
    from trainfare_providers.http.client import HttpClient
    from trainfare_providers.refresh import QuotaSource

    quota_sources = [source for _, source in sources if isinstance(source, QuotaSource)]
    left_out = [
        f"{name}: {source if isinstance(source, str) else _BY_HAND}"
        for name, source in sources
        if not isinstance(source, QuotaSource)
    ]
    if not quota_sources:
        raise InputError(f"prices quotas: {'; '.join(left_out)}")
    prices = load_prices().book if book is None else book
    limits: list[QuotaLimit] = []
    elsewhere: dict[str, None] = {}
    answered: list[str] = []
    errors: list[TrainfareError] = []
    for source in quota_sources:
        there = prices.filter(providers=[source.name])
        regions, services = there.names("region"), there.names("service")
        try:
            with HttpClient(source.name, budget_s=source.budget_s) as http:
                reply = source.quotas(http, there)
        except TrainfareError as error:
            errors.append(error)
            continue
        answered.append(source.name)
        left_out += reply.notes
        for quota in reply.limits:
            if quota.service not in (None, *services):
                elsewhere[f"{source.name}:{quota.service}"] = None
            elif quota.region not in (None, *regions):
                elsewhere[f"{source.name}:{quota.region}"] = None
            else:
                limits.append(quota)
    if not answered:
        raise errors[0]
    said = f"Quotas of your account of {', '.join(answered)}, read {clock():%Y-%m-%d %H:%M} UTC."
    left_out += [str(error) for error in errors]
    left_out += _list_services_without_quota(prices.filter(providers=answered), limits)
    left_out += [f"no price of {cloud} is known: its quotas are left out" for cloud in elsewhere]
    return AccountQuotas(tuple(limits), said, tuple(left_out))


def _list_services_without_quota(prices: PriceBook, quotas: Sequence[QuotaLimit]) -> Iterator[str]:
    """Yield a sentence for each cloud service with prices that none of the quotas is about."""
    import polars as pl

    from trainfare_core.ranking.pricing.quotas import machines_allowed

    free = prices.frame.filter(pl.Series(machines_allowed(prices.frame, quotas)) == inf)
    for rows in free.partition_by("provider", "service"):
        provider, service = rows.select("provider", "service").row(0)
        there = prices.filter(providers=[provider], services=[service])
        names = (rows[name].unique().cast(pl.String).sort() for name in ("accelerator", "purchase_option"))
        yield (
            f"{provider}: no quota was read of {len(rows):,} of {len(there):,} prices of {service}, in "
            f"{rows['region'].n_unique()} of {len(there.names('region'))} regions: the file does not limit them "
            f"({'; '.join(map(', '.join, names))})"
        )
