"""
The conformance kit: checks that a price plug-in keeps the contract and that its prices are credible.

In a test of your own distribution, the whole kit is one line:

    def test_conforms() -> None:
        assert_conforms(ExampleProvider)

By hand: `python -m trainfare_providers.conformance package.module:Class`. `tests/integrity/` applies `check_book` to
the snapshot and to the clouds of trainfare itself.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from trainfare_core.errors import PricesUnavailableError
from trainfare_core.hardware.accelerators import accelerators
from trainfare_core.prices.book import PriceBook, PriceProvider
from trainfare_core.prices.intake import KEY_COLUMNS
from trainfare_core.prices.sanity import MACHINE, LastPrices

MIN_SPOT_SHARE: Final = 0.99
"""Share of machines and regions whose spot price must be at most the on-demand price. A chosen value."""
USD_PER_ACCELERATOR_HOUR: Final = (0.005, 100.0)
"""Outside this range a price is a sentinel, in another unit or in another currency. A chosen range: the snapshot's
prices are between 0.05 and 40."""

_ROUNDING: Final = 1e-4  # USD: some lists round to 4 decimals


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule, and what was found."""

    rule: str
    detail: str


def check_provider(make: Callable[[], Any]) -> tuple[Finding, ...]:
    """
    Apply the kit to a plug-in.

    Args:
        make: what its entry point names: a class or function that makes a `PriceProvider`.

    Returns:
        the findings, in the order of the rules; none where it conforms.
    """
    provider, first = _make_provider(make)
    if isinstance(first, Finding):
        return (first,)
    findings: list[Finding] = []
    name = provider.name
    if not (isinstance(name, str) and name and name == name.strip().lower()):
        findings.append(Finding("name", f"{name!r} is no lower-case name"))
    origins = first.names("origin")
    if len(first) and origins != (name,):
        findings.append(Finding("origin", f"rows say they are of {', '.join(origins)}, and not of {name}"))
    _, again = _make_provider(make)
    if isinstance(again, Finding) or not first.sort_by().frame.equals(again.sort_by().frame):
        findings.append(Finding("same twice", "loading twice gave two different books"))
    if not len(first) and not hasattr(provider, "fetch"):
        findings.append(Finding("no prices", "the book is empty: raise PricesUnavailableError and say why"))
    return (*findings, *check_book(first))


def _make_provider(make: Callable[[], Any]) -> tuple[Any, PriceBook | Finding]:
    """Make the provider and load it."""
    try:
        provider = make()
    except Exception as error:  # noqa: BLE001 - foreign code under test
        return None, Finding("constructor", f"raised {type(error).__name__}: {error}")
    if not isinstance(provider, PriceProvider):
        return None, Finding("contract", "it has no `name` and `load()`")
    return provider, load_for_check(provider)


def load_for_check(provider: Any, *, may_connect: bool = False) -> PriceBook | Finding:
    """
    Return a provider's book, or what is wrong with the way it loads.

    Args:
        provider: a `PriceProvider`.
        may_connect: using the network is allowed, as for a team's shared book.
    """
    with _ConnectionWatch() as watch:
        try:
            book: object = provider.load()
        except PricesUnavailableError as error:
            return Finding("no prices", f"load() raised: {error}")
        except Exception as error:  # noqa: BLE001 - foreign code under test
            text = f"load() raised {type(error).__name__}, and not PricesUnavailableError: {error}"
            return Finding("errors", text)
    if watch.event and not may_connect:
        return Finding("offline", f"load() went out to the network ({watch.event}): fetch apart from load")
    if not isinstance(book, PriceBook):
        return Finding("contract", f"load() returned {type(book).__name__}, and not a PriceBook")
    return book


class _ConnectionWatch:
    """Notices network connections while it is open; an audit hook cannot be removed, so there is only one."""

    event: str = ""
    _open: _ConnectionWatch | None = None

    def __enter__(self) -> _ConnectionWatch:  # noqa: PYI034 - typing.Self is of Python 3.11
        _ConnectionWatch._add_hook()
        _ConnectionWatch._open = self
        return self

    def __exit__(self, *_: object) -> None:
        _ConnectionWatch._open = None

    @staticmethod
    @functools.cache
    def _add_hook() -> None:
        sys.addaudithook(_ConnectionWatch._notice)

    @staticmethod
    def _notice(event: str, _arguments: tuple[Any, ...]) -> None:
        if _ConnectionWatch._open is not None and event in {"socket.connect", "socket.getaddrinfo"}:
            _ConnectionWatch._open.event = event


def check_book(book: PriceBook) -> tuple[Finding, ...]:
    """
    Check a book's rows and counts.

    Prices are finite, positive, unique per key and of a credible size; accelerators are known, with the maker's memory
    and count; every row has a source and a date; spot is at most on-demand for 99 % of the pairs; more accelerators are
    never cheaper; accepted + filtered + quarantined = read, and no service is degraded.
    """
    frame = book.frame
    findings = [
        *_check_counts(book),
        *_provenance(frame),
        *_check_sizes(frame),
        *_unknown_accelerators(frame),
    ]
    repeated = frame.height - frame.select(pl.struct(KEY_COLUMNS).n_unique()).item() if frame.height else 0
    if repeated:
        findings.append(
            Finding("one price a key", f"{repeated:,} rows repeat a machine, region, zone and option")
        )
    pairs, above = spot_above_on_demand(book)
    if pairs and 1 - above / pairs < MIN_SPOT_SHARE:
        findings.append(Finding("spot", f"{above:,} of {pairs:,} spot prices are above the on-demand price"))
    judged = PriceBook.from_rows(book.rows, origin="conformance", last=LastPrices())
    refused = [tally for intake in judged.intakes for tally in intake.quarantined]
    if sum(tally.rows for tally in refused) > 0.01 * frame.height:
        findings += [Finding("sanity", f"{tally.rows:,} rows: {tally.reason}") for tally in refused]
    return tuple(findings)


def spot_above_on_demand(book: PriceBook) -> tuple[int, int]:
    """Return how many machines and regions have both prices, and in how many the best spot price is higher."""
    best = book.frame.group_by(*MACHINE, "purchase_option").agg(pl.col("usd_per_hour").min())
    spot = best.filter(pl.col("purchase_option") == "spot")
    both = spot.join(
        best.filter(pl.col("purchase_option") == "on_demand"), on=list(MACHINE), suffix="_on_demand"
    )
    above = both.filter(pl.col("usd_per_hour") > pl.col("usd_per_hour_on_demand") + _ROUNDING)
    return both.height, above.height


def _check_counts(book: PriceBook) -> list[Finding]:
    findings = [
        Finding(
            "degraded",
            f"{intake.provider}/{intake.service}: {intake.quarantined_rows:,} rows are quarantined: {why}",
        )
        for intake in book.intakes
        if intake.degraded
        for why in ["; ".join(tally.reason for tally in intake.quarantined)]
    ]
    accepted = sum(intake.accepted for intake in book.intakes)
    if accepted != len(book):
        findings.append(
            Finding("counts", f"{accepted:,} rows were accepted and {len(book):,} are in the book")
        )
    return findings


def _provenance(frame: pl.DataFrame) -> list[Finding]:
    live = pl.col("source_class") == "price_api"
    missing = (
        (pl.col("source_class") == "unstated", "do not say what kind of source they have"),
        (live & pl.col("fetched_at").is_null(), "of a price API do not say when they were fetched"),
    )
    counted = [(frame.filter(holds).height, what) for holds, what in missing]
    return [Finding("provenance", f"{rows:,} rows {what}") for rows, what in counted if rows]


def _check_sizes(frame: pl.DataFrame) -> list[Finding]:
    usd_each = pl.col("usd_per_hour") / pl.col("accelerator_count")
    low, high = USD_PER_ACCELERATOR_HOUR
    odd = frame.filter(~(usd_each.is_finite() & usd_each.is_between(low, high)).fill_null(value=False))
    if odd.is_empty():
        return []
    row = odd.row(0, named=True)
    text = f"{odd.height:,} rows are outside {low:g} to {high:g} USD per accelerator-hour, e.g. {row['instance_type']}"
    return [Finding("credible", f"{text} at {row['usd_per_hour']:g} USD per hour")]


def _unknown_accelerators(frame: pl.DataFrame) -> list[Finding]:
    unknown = sorted({*frame["accelerator"]} - {device.name for device in accelerators()})
    text = f"not in trainfare's catalogue, so never predicted: {', '.join(unknown)}"
    return [Finding("accelerators", text)] if unknown else []


def assert_conforms(make: Callable[[], Any]) -> None:
    """
    Fail with every finding, for use in a test.

    Raises:
        AssertionError: the plug-in does not conform.
    """
    findings = check_provider(make)
    if findings:
        raise AssertionError("\n".join(f"{finding.rule}: {finding.detail}" for finding in findings))


def _run_main(arguments: list[str]) -> int:
    module, _, name = arguments[0].partition(":") if len(arguments) == 1 else ("", "", "")
    if not (module and name):
        sys.stderr.write("usage: python -m trainfare_providers.conformance package.module:Class\n")
        return 2
    findings = check_provider(getattr(importlib.import_module(module), name))
    sys.stdout.write("".join(f"{finding.rule}: {finding.detail}\n" for finding in findings) or "conforms\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(_run_main(sys.argv[1:]))
