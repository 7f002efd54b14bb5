"""From a cloud's answer to the prices kept on disk: what is replaced, and what stays when something fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from builders.offers import offer_row, table
from builders.patient_client import patient_client
from trainfare_core.errors import FetchError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import ReasonCount
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import FetchedRows, LiveSource, RefreshResult, load_last_good, refresh

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@dataclass
class Cloud:
    """A source that returns the given answers in turn; an exception among them is raised."""

    answers: list[tuple[FetchedRows, ...] | Exception]
    cache: BookCache
    name: str = "aws"
    needs: tuple[str, ...] = ()
    budget_s: float = 15.0
    clients: list[HttpClient] = field(default_factory=list)

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        self.clients.append(http)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def load(self) -> PriceBook:
        return load_last_good(self.name, self.cache)


def gave(*rows: dict[str, Any], service: str = "ec2", **more: Any) -> tuple[FetchedRows, ...]:
    return (FetchedRows("aws", service, table(*rows), **more),)


def once(cloud: Cloud, now: datetime = NOW) -> RefreshResult:
    with patient_client(cloud.name) as http:
        return refresh(cloud, cache=cloud.cache, now=now, http=http)


def count_judgements(do: Callable[[], object]) -> int:
    """How often a column of reasons was made for rows while a function ran."""
    judged = 0

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal judged
        judged += event == "call" and frame.f_code.co_name == "_quarantine_reason"

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        do()
    finally:
        sys.setprofile(before)
    return judged


def test_each_row_is_judged_once(tmp_path: Path) -> None:
    """When it is fetched; not when it is stored, waits for confirmation, is compared with or is read."""
    cache = BookCache(tmp_path)
    answers = [gave(*(offer_row(region=name, usd_per_hour=usd) for name in "abc")) for usd in (10, 60, 60)]
    cloud = Cloud([*answers], cache)
    assert [count_judgements(lambda: once(cloud)) for _ in answers] == [1, 1, 1]
    assert count_judgements(cloud.load) == 0
    assert cloud.load().frame["usd_per_hour"].to_list() == [60.0] * 3


def test_first_refresh_is_stored_with_its_counts_and_dates(tmp_path: Path) -> None:
    """Accepted, filtered and quarantined add up to what the cloud sent; each price says when it was fetched."""
    cloud = Cloud(
        [
            gave(
                offer_row(sku="ABC", source_class="price_api"),
                offer_row(region="x", usd_per_hour=-1.0),
                filtered=(ReasonCount("Windows", 7),),
                quarantined=(ReasonCount("no unit", 2),),
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
    assert intake.degraded
    book = cloud.load()
    assert book.intakes == result.intakes
    (offer,) = book.offers()
    assert (offer.sku, offer.fetched_at, offer.origin) == ("ABC", "2026-11-24T12:00:00Z", "aws")


def test_failed_refresh_keeps_the_last_good_prices_and_their_age(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """An error costs nothing that was there, and never makes it look younger."""
    cloud = Cloud(
        [gave(offer_row()), FetchError("aws", "gone"), gave(offer_row(usd_per_hour=0.0))], BookCache(tmp_path)
    )
    once(cloud)
    before = (tmp_path / "aws.parquet").read_bytes()
    for problem in ("aws: gone", "not one usable price"):
        result = once(cloud, NOW + timedelta(days=3))
        assert (result.refreshed, result.rows, result.fetched_at) == (False, 1, NOW)
        record_property(
            "at most {} s by which a failed refresh or a read makes prices younger, 0 allowed",
            (result.fetched_at - NOW).total_seconds(),
        )
        assert problem in str(result.problem)
        assert (tmp_path / "aws.parquet").read_bytes() == before


def test_nothing_fetched_is_an_empty_book_without_a_warning(tmp_path: Path) -> None:
    """A user who never updated has no live prices and no warning."""
    assert len(load_last_good("aws", BookCache(tmp_path / "none"))) == 0
    assert list(tmp_path.iterdir()) == []


def test_part_that_was_not_asked_keeps_its_prices_and_their_age(tmp_path: Path) -> None:
    """Without credentials spot does not come, with another list of regions others do not: both stay, dated as they were."""
    spot = offer_row(purchase_option="spot", usd_per_hour=9.5)
    cloud = Cloud(
        [gave(offer_row(), spot, offer_row(region="x")), gave(offer_row(usd_per_hour=20.0))],
        BookCache(tmp_path),
    )
    once(cloud)
    result = once(cloud, NOW + timedelta(days=1))
    assert (result.refreshed, result.rows, result.problem) == (True, 3, None)
    assert result.notes == ("aws/ec2: 2 prices were not asked for now and keep their date",)
    texts_by_key = {
        (o.region, o.purchase_option): (o.usd_per_hour, str(o.fetched_at)[:10]) for o in cloud.load().offers()
    }
    assert texts_by_key == {
        ("us-east-1", "on_demand"): (20.0, "2026-11-25"),
        ("us-east-1", "spot"): (9.5, "2026-11-24"),
        ("x", "on_demand"): (21.957642, "2026-11-24"),
    }
    assert [(intake.rows_read, intake.accepted) for intake in result.intakes] == [(3, 3)]


def test_machine_that_is_no_longer_listed_is_kept_for_a_while(tmp_path: Path) -> None:
    """
    A machine that is missing from a part that was requested keeps its price and date, marked, and goes after 180 days.

    The mark names the newest list, once. Prices that were kept are no part of the list that the next one must match.
    """
    rows = [offer_row(instance_type=f"p{index}.x") for index in range(4)]
    cloud = Cloud([gave(*rows), *[gave(*rows[:2])] * 2, gave(rows[0]), gave(rows[0])], BookCache(tmp_path))
    once(cloud)
    for days in (1, 40):
        result = once(cloud, NOW + timedelta(days=days))
        assert (result.rows, result.problem) == (4, None)
        assert result.notes == (
            "aws/ec2: 2 prices of machines that the list lacks keep their date, for 180 days",
        )
        assert sum(intake.accepted for intake in result.intakes) == 4
        offers = {offer.instance_type: offer for offer in cloud.load().offers()}
        newest = f"{NOW + timedelta(days=days):%Y-%m-%d}"
        assert {name: (str(offer.fetched_at)[:10], offer.caveat) for name, offer in offers.items()} == {
            "p0.x": (newest, None),
            "p1.x": (newest, None),
            "p2.x": ("2026-11-24", f"no price in the newest list of {newest}"),
            "p3.x": ("2026-11-24", f"no price in the newest list of {newest}"),
        }
    assert once(cloud, NOW + timedelta(days=180)).rows == 4
    assert once(cloud, NOW + timedelta(days=181)).rows == 2


def test_service_that_shrinks_too_much_keeps_its_last_good_prices(tmp_path: Path) -> None:
    """Half an answer does not replace a whole one; the other service of the cloud is refreshed all the same."""
    rows = [offer_row(instance_type=f"p{index}.x") for index in range(4)]
    ml = [offer_row(instance_type=f"ml.p{index}.x", service="sagemaker") for index in range(4)]
    first = (*gave(*rows), *gave(*ml, service="sagemaker"))
    later = (*gave(*rows), *gave(*ml[:1], service="sagemaker"))
    cloud = Cloud([first, later], BookCache(tmp_path))
    once(cloud)
    result = once(cloud, NOW + timedelta(days=1))
    assert (result.refreshed, result.rows) == (True, 8)
    assert result.problem == "aws/sagemaker: only 1 prices came, 4 were there; the last good prices stay"
    days = {(o.service, str(o.fetched_at)[:10]) for o in cloud.load().offers()}
    assert days == {("ec2", "2026-11-25"), ("sagemaker", "2026-11-24")}
    assert sum(intake.accepted for intake in result.intakes) == 8


def test_prices_that_all_move_too_far_replace_nothing(tmp_path: Path) -> None:
    """An answer in another unit is refused, and refused again when it is said again."""
    rows = [offer_row(instance_type=f"p{index}.x") for index in range(4)]
    odd = [{**row, "usd_per_hour": 2195.7} for row in rows]
    cloud = Cloud([gave(*rows), gave(*odd), gave(*odd)], BookCache(tmp_path))
    once(cloud)
    for why in ("not one usable price came", "4 of 4 prices moved by more than a factor of 10"):
        result = once(cloud, NOW + timedelta(days=1))
        assert (result.refreshed, result.rows, result.fetched_at) == (False, 4, NOW)
        assert why in str(result.problem)


def test_jump_is_quarantined_until_a_second_fetch_confirms_it(tmp_path: Path) -> None:
    """Between the two fetches the machine has no price, rather than a doubtful one."""
    rows = [offer_row(instance_type=f"p{index}.x") for index in range(4)]
    jumped = [*rows[:3], {**rows[3], "usd_per_hour": 150.0}]
    cloud = Cloud([gave(*rows), gave(*jumped), gave(*jumped)], BookCache(tmp_path))
    once(cloud)
    first = once(cloud, NOW + timedelta(hours=1))
    assert (first.rows, first.intakes[0].quarantined_rows) == (3, 1)
    second = once(cloud, NOW + timedelta(hours=2))
    assert (second.rows, second.intakes[0].quarantined_rows) == (4, 0)
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["aws.parquet"]


def test_source_without_its_key_is_no_failure(tmp_path: Path) -> None:
    """A cloud that needs a key and has none says so; nothing is lost and nothing failed."""
    note = "prices need an API key: set TRAINFARE_GCP_API_KEY"
    cloud = Cloud([gave(notes=(note,)), gave(), ()], BookCache(tmp_path))
    result = once(cloud)
    assert (result.refreshed, result.problem, result.notes) == (False, None, (note,))
    assert "no price list came" in str(once(cloud).problem)
    assert "no price list" in str(once(cloud).problem)


def test_prices_that_cannot_be_written_are_a_problem_that_is_named(tmp_path: Path) -> None:
    """A full or read-only disk does not pass for a refresh."""
    (tmp_path / "file").touch()
    result = once(Cloud([gave(offer_row())], BookCache(tmp_path / "file" / "cache")))
    assert (result.refreshed, result.rows) == (False, 0)
    assert "could not be written" in str(result.problem)


def test_refresh_reports_progress(tmp_path: Path) -> None:
    """A person who waits sees why."""
    said: list[str] = []
    cloud = Cloud([gave(offer_row())], BookCache(tmp_path))
    with patient_client(cloud.name) as http:
        refresh(cloud, cache=cloud.cache, now=NOW, http=http, progress=said.append)
    assert said == ["asking for prices", "checking them", "storing them"]
