"""From a cloud's answer to the prices kept on disk: what is replaced, and what stays when something fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from builders.offers import offer_row, table
from trainfare_core.errors import FetchError
from trainfare_core.offers import PriceBook
from trainfare_core.price_intake import Tally
from trainfare_providers.cache import BookCache
from trainfare_providers.http import Outlet
from trainfare_providers.refresh import FetchedRows, LiveSource, RefreshResult, load_last_good, refresh

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@dataclass
class Cloud:
    """A source that gives what it is told, in turn; an error is raised."""

    answers: list[tuple[FetchedRows, ...] | Exception]
    cache: BookCache
    name: str = "aws"
    needs: tuple[str, ...] = ()
    budget_s: float = 15.0
    outlets: list[Outlet] = field(default_factory=list)

    def fetch(self, outlet: Outlet) -> tuple[FetchedRows, ...]:
        self.outlets.append(outlet)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def load(self) -> PriceBook:
        return load_last_good(self.name, self.cache)


def gave(*rows: dict[str, Any], service: str = "ec2", **more: Any) -> tuple[FetchedRows, ...]:
    return (FetchedRows("aws", service, table(*rows), **more),)


def once(cloud: Cloud, now: datetime = NOW) -> RefreshResult:
    return refresh(cloud, cache=cloud.cache, now=now)


def test_first_refresh_is_kept_with_its_counts_and_birth(tmp_path: Path) -> None:
    """Accepted, filtered and quarantined add up to what the cloud sent; each price says when it was fetched."""
    cloud = Cloud(
        [
            gave(
                offer_row(sku="ABC", source_class="price_api"),
                offer_row(region="x", usd_per_hour=-1.0),
                filtered=(Tally("Windows", 7),),
                quarantined=(Tally("no unit", 2),),
                notes=("spot prices need credentials: left out",),
            )
        ],
        BookCache(tmp_path),
    )
    assert isinstance(cloud, LiveSource)
    result = once(cloud)
    assert (result.refreshed, result.rows, result.fetched_at, result.problem) == (True, 1, NOW, None)
    (intake,) = result.intakes
    assert (intake.rows_read, intake.accepted, intake.filtered_rows, intake.quarantined_rows) == (11, 1, 7, 3)
    assert result.degraded
    book = cloud.load()
    assert book.intakes == result.intakes
    (offer,) = book.offers()
    assert (offer.sku, offer.fetched_at, offer.origin) == ("ABC", "2026-11-24T12:00:00Z", "aws")


def test_failed_refresh_keeps_the_last_good_prices_and_their_age(tmp_path: Path) -> None:
    """An error costs nothing that was there, and never makes it look younger."""
    cloud = Cloud(
        [gave(offer_row()), FetchError("aws", "gone"), gave(offer_row(usd_per_hour=0.0))], BookCache(tmp_path)
    )
    once(cloud)
    before = (tmp_path / "aws.parquet").read_bytes()
    for problem in ("aws: gone", "not one usable price"):
        result = once(cloud, NOW + timedelta(days=3))
        assert (result.refreshed, result.rows, result.fetched_at) == (False, 1, NOW)
        assert problem in str(result.problem)
        assert (tmp_path / "aws.parquet").read_bytes() == before


def test_nothing_fetched_is_an_empty_book_in_silence(tmp_path: Path) -> None:
    """A user who never updated has no live prices and no warning."""
    assert len(load_last_good("aws", BookCache(tmp_path / "none"))) == 0
    assert list(tmp_path.iterdir()) == []
