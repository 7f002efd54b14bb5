"""
The prices that the integrity tests check, and the checks, which are the same for every cloud.

CI checks the shipped snapshot. With TRAINFARE_INTEGRITY=live the prices that `trainfare prices update` has just fetched
are checked; a cloud without live prices is then skipped with that reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache

import polars as pl
import pytest

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prices.book import PriceBook
from trainfare_providers.conformance import check_book, spot_above_on_demand
from trainfare_providers.plugins import provider_entries
from trainfare_providers.snapshot import SnapshotProvider

LIVE = os.environ.get("TRAINFARE_INTEGRITY") == "live"


@cache
def book_of_cloud(provider: str) -> PriceBook:
    """Return the prices of a cloud to look at."""
    if not LIVE:
        return _alone(SnapshotProvider().load(), provider)
    for entry in provider_entries():
        if entry.name == provider:
            book = entry.load()().load()
            if len(book):
                return _alone(book, provider)
    pytest.skip(f"{provider} has no live prices here: its update failed, or needs a key that is not set")


def _alone(book: PriceBook, provider: str) -> PriceBook:
    """Return one cloud's rows with one cloud's counts."""
    intakes = tuple(intake for intake in book.intakes if intake.provider == provider)
    return PriceBook(book.filter(providers=[provider]).frame, intakes)


def no_findings(provider: str) -> None:
    """The conformance kit's rules for rows and counts."""
    assert check_book(book_of_cloud(provider)) == ()


def prices_are_prices(provider: str) -> None:
    """Gpuhunt's first invariant: above 0, and finite besides."""
    price = book_of_cloud(provider).frame["usd_per_hour"]
    assert len(price) > 0
    assert (price.is_finite() & (price > 0)).all()


def resources_are_there(provider: str) -> None:
    """Gpuhunt's second: vCPUs and memory above 0 wherever they are said, and said for nearly every VM."""
    vms = book_of_cloud(provider).frame.filter(pl.col("service") != "tpu")
    for column in ("vcpus", "memory_gib"):
        said = vms[column].drop_nulls()
        assert (said > 0).all(), column
        assert len(said) > 0.9 * vms.height, column


def accelerators_are_consistent(provider: str) -> None:
    """Gpuhunt's third: a name, a count and a memory each, the maker's memory, one shape a machine and region."""
    frame = book_of_cloud(provider).frame
    assert (frame["accelerator_count"] > 0).all()
    for name, memory_gib in frame.select("accelerator", "accelerator_memory_gib").unique().iter_rows():
        assert accelerator(name).memory_bytes / 2**30 == pytest.approx(memory_gib, rel=0.1), name
    shapes = frame.select("service", "instance_type", "accelerator", "accelerator_count").unique()
    assert shapes.height == frame.select("service", "instance_type").unique().height


def these_are_offered(provider: str, column: str, names: Iterable[str]) -> None:
    """Gpuhunt's fourth and fifth: the regions and GPUs that a catalogue of this cloud must have."""
    assert set(names) <= set(book_of_cloud(provider).names(column))


def spot_is_cheaper(provider: str, *, least_pairs: int) -> None:
    """Spot costs at most what on demand costs for 99 % of the machines and regions that have both."""
    pairs, above = spot_above_on_demand(book_of_cloud(provider))
    if not pairs and LIVE:
        pytest.skip(f"{provider} has no live spot prices here: they need credentials")
    assert pairs >= (1 if LIVE else least_pairs)
    assert above <= 0.01 * pairs


def every_row_is_accounted_for(provider: str) -> None:
    """Accepted + filtered + quarantined = rows read, for each service, and the accepted ones are in the book."""
    book = book_of_cloud(provider)
    for intake in book.intakes:
        assert intake.accepted + intake.filtered_rows + intake.quarantined_rows == intake.rows_read
        assert not intake.degraded
    assert sum(intake.accepted for intake in book.intakes) == len(book)


def list_price_is(machine: str, usd_per_hour: float, source: str) -> None:
    """A price that was checked by hand, to the cent; the snapshot's row names the source that it was read from."""
    offer = book_of_cloud(machine.partition(":")[0]).find(machine)
    assert offer.usd_per_hour == pytest.approx(usd_per_hour, abs=0.01 if LIVE else 0.005)
    if not LIVE:
        assert source in offer.source
