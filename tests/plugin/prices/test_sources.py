"""Where prices come from: live over shipped, own over listed, and too old to decide with is said, not used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from builders.cli import run_main
from builders.offers import book_of, offer_row
from builders.profiles import gpt_profile, write_profile
from trainfare.cli.options import moment
from trainfare.prices.lock import LockHeader
from trainfare.prices.sources import LoadedPrices, PriceChoice, age_warnings, load_prices
from trainfare.recommendation import recommend
from trainfare_core.errors import InputError, PricesUnavailableError
from trainfare_core.prices.book import PriceBook
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import write_book
from trainfare_providers.disk.checked_parquet import BookFacts

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Entry:
    """An entry point of one book."""

    name: str
    book: PriceBook

    def load(self) -> Callable[[], Any]:
        """Return something that makes a provider."""
        book = self.book
        return type("Provider", (), {"name": self.name, "load": lambda _: book})


def live(age: timedelta, **fields: Any) -> Entry:
    fetched = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    row = offer_row(fetched_at=fetched, observed_on="2025-06-05", source_class="price_api", **fields)
    return Entry("aws", book_of(row, origin="aws"))


SHIPPED = Entry("snapshot", book_of(offer_row(provider="gcp", service="gce"), origin="snapshot"))


def list_warnings(loaded: LoadedPrices, **choice: Any) -> tuple[str, ...]:
    return age_warnings(loaded, loaded.book, PriceChoice(**{"now": NOW, **choice}))


@pytest.mark.parametrize(
    ("age", "usable"),
    [(timedelta(hours=1), True), (timedelta(days=30), True), (timedelta(days=31), False), (timedelta(days=-365), False)],
)  # fmt: skip
def test_live_prices_past_thirty_days_need_leave(age: timedelta, usable: bool) -> None:
    """So do prices from the future, whose age is unknown; the message names the service and three ways out."""
    loaded = load_prices([live(age), SHIPPED], PriceChoice(now=NOW))
    if usable:
        assert list_warnings(loaded) == ()
        return
    with pytest.raises(
        PricesUnavailableError,
        match=r"aws/ec2 on_demand.*prices update.*--provider or --purchase.*--allow-stale",
    ):
        list_warnings(loaded)
    (warning,) = list_warnings(loaded, allow_stale=True)
    assert "more than 30 days ago" in warning


def test_a_part_that_is_no_longer_asked_is_named_with_its_purchase_option() -> None:
    """Spot prices of a time with credentials do not stop a question about on-demand prices of today."""
    today, then = ((NOW - timedelta(days=days)).isoformat() for days in (0, 40))
    book = book_of(
        offer_row(fetched_at=today),
        offer_row(fetched_at=then, purchase_option="spot", usd_per_hour=9.0),
        origin="aws",
    )
    loaded = load_prices([Entry("aws", book)], PriceChoice(now=NOW))
    with pytest.raises(PricesUnavailableError, match="live prices of aws/ec2 spot were"):
        list_warnings(loaded)
    assert age_warnings(loaded, book.filter(purchase=["on_demand"]), PriceChoice(now=NOW)) == ()


def test_only_the_prices_of_the_question_are_held_against_the_limit() -> None:
    """An old list of a cloud that was not asked for stops no answer."""
    loaded = load_prices([live(timedelta(days=99)), SHIPPED], PriceChoice(now=NOW))
    assert age_warnings(loaded, loaded.book.filter(providers=["gcp"]), PriceChoice(now=NOW)) == ()


def test_the_shipped_snapshot_is_used_at_any_age_and_says_so() -> None:
    """It is dated openly: out of the box there is an answer, with its date and what brings a newer one."""
    loaded = load_prices([SHIPPED], PriceChoice(now=NOW + timedelta(days=5000)))
    assert list_warnings(loaded, now=NOW + timedelta(days=5000)) == ()
    (note,) = loaded.notes
    assert note == (
        "prices of gcp/gce are those of the snapshot that trainfare ships, dated 2026-07-20 to 2026-07-20: "
        "run `trainfare prices update` for today's"
    )
    assert load_prices([live(timedelta(0))], PriceChoice(now=NOW)).notes == ()


def test_a_shipped_price_that_the_newest_list_lacks_is_no_reason_to_update() -> None:
    """The list is newer already; what it lacks says so in its own row."""
    shipped = Entry("snapshot", book_of(offer_row(instance_type="p3.2xlarge"), origin="snapshot"))
    loaded = load_prices([live(timedelta(0)), shipped], PriceChoice(now=NOW))
    assert (len(loaded.book), loaded.notes) == (2, ())


def test_a_limit_of_days_warns_or_fails_without_a_lock_too() -> None:
    """--max-price-age-days holds for every price, the snapshot's included."""
    loaded = load_prices([SHIPPED], PriceChoice(now=NOW))
    assert list_warnings(loaded, max_price_age_days=127) == ()
    (warning,) = list_warnings(loaded, max_price_age_days=126)
    assert warning.startswith("1 of 1 prices (gcp/gce) are past the limit of 126 days: up to 127 days old")
    with pytest.raises(PricesUnavailableError, match="past the limit"):
        list_warnings(loaded, max_price_age_days=0, on_stale="fail")
    with pytest.raises(InputError, match="--max-price-age-days"):
        list_warnings(loaded, max_price_age_days=-1)


def test_a_limit_that_is_asked_for_replaces_the_lock_s() -> None:
    """In days and in what follows; without one the lock's own holds."""
    header = LockHeader(
        tool_version="0", locked_on=NOW.date(), rows=1, max_price_age_days=126, on_stale="fail"
    )
    loaded = replace(load_prices([SHIPPED], PriceChoice(now=NOW)), lock=header)
    with pytest.raises(PricesUnavailableError, match="past the limit of 126 days"):
        list_warnings(loaded)
    assert list_warnings(loaded, max_price_age_days=127) == ()
    (warning,) = list_warnings(loaded, max_price_age_days=125, on_stale="warn")
    assert "past the limit of 125 days" in warning


def test_python_callers_are_held_to_the_same_limit(tmp_path: Path) -> None:
    """`recommend` refuses a book and a lock at once, and takes the file of own prices that the variable names."""
    from builders.toy_market import book, small_job

    with pytest.raises(InputError, match="price_book"):
        recommend(small_job(), price_book=book(), lock=tmp_path / "trainfare.lock")


def test_own_prices_reach_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By argument or by TRAINFARE_OWN_PRICES: the price is yours, marked, and named in the assumptions."""
    from builders.toy_market import small_job

    path = tmp_path / "own.toml"
    path.write_text('[[discount]]\nname = "half"\nprovider = "gcp"\npercent = 50\n', encoding="utf-8")
    listed = recommend(small_job(), providers="gcp", purchase="on_demand", now=NOW)
    mine = recommend(small_job(), providers="gcp", purchase="on_demand", now=NOW, own_prices=path)
    monkeypatch.setenv("TRAINFARE_OWN_PRICES", str(path))
    assert recommend(small_job(), providers="gcp", purchase="on_demand", now=NOW) == mine
    assert mine.options[0].price_source_class == "own"
    assert min(o.usd_per_hour for o in mine.options) == pytest.approx(
        min(o.usd_per_hour for o in listed.options) / 2
    )
    assert any("own discount 'half': 50 % off" in line for line in mine.assumptions)
    assert [text.partition(":")[0] for text in mine.own_prices] == ["discount 'half'"]


def test_own_prices_with_a_lock_are_refused(tmp_path: Path) -> None:
    """The lock holds them already."""
    with pytest.raises(InputError, match="--own-prices with --lock"):
        load_prices([], PriceChoice(lock=tmp_path / "a.lock", own_prices=tmp_path / "own.toml"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-24", datetime(2026, 11, 24, 23, 59, 59, tzinfo=timezone.utc)),
        ("2026-11-24T12:00", NOW),
        ("2026-11-24T12:00Z", NOW),
    ],
)
def test_as_of_is_a_day_or_a_moment(text: str, found: datetime) -> None:
    """A day counts to its end, so that no age is too young."""
    assert moment(text) == found


def test_the_default_moment_is_now() -> None:
    """An aware one, between two that are asked for before and after it."""
    before, result, after = datetime.now(tz=timezone.utc), moment(None), datetime.now(tz=timezone.utc)
    assert before <= result <= after


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A live list of AWS on disk, fetched at NOW, cheaper than anything shipped; returns a job."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path / "cache"))
    row = offer_row(
        usd_per_hour=5.0,
        fetched_at="2026-11-24T12:00:00Z",
        observed_on="2025-06-05",
        source_class="price_api",
    )
    book = book_of(row, origin="aws")
    assert write_book(BookCache(), "aws", book.frame, BookFacts(fetched_at=NOW, intakes=book.intakes))
    return write_profile(tmp_path, gpt_profile(batch_size=32))


AWS = ("--provider", "aws", "--region", "us-east-1", "--purchase", "on_demand")


@pytest.mark.parametrize(
    ("as_of", "age", "code"),
    [
        ("2026-11-24T20:00", "8 hours old", 0),
        ("2026-11-26T00:00", "36 hours old", 0),
        ("2026-12-24T12:00", "30 days old", 0),
        ("2026-12-24T13:00", "", 3),
        ("2027-11-24T12:00", "", 3),
        ("2025-11-24T12:00", "", 3),
    ],
)
def test_commands_hold_old_live_prices_back(
    kept: str,
    as_of: str,
    age: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    """Fresh, stale, and not ranked: by the hour, with the age beside the total, and whatever the clock says."""
    for command in (("recommend", kept, "--details"), ("check", kept, "--max-usd", "1000000")):
        assert run_main(*command, *AWS, "--as-of", as_of) == code
        captured = capsys.readouterr()
        if code:
            assert captured.out == ""
            assert "aws/ec2" in captured.err
            assert "--allow-stale" in captured.err
            assert run_main(*command, *AWS, "--as-of", as_of, "--allow-stale") == 0
            assert "warning: live prices of aws/ec2" in capsys.readouterr().err
            record_property("{} answers refused for the age of a price until --allow-stale", 1)
        else:
            assert age in captured.out
            if command[0] == "check":  # a ranking does not mark what every row has
                assert ("stale" in captured.out) == (age != "8 hours old")
            record_property("{} answers with the age of their price", 1)


def test_an_old_list_stops_only_the_cloud_that_it_is_of(
    kept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Azure is ranked from the snapshot, and the prices of AWS can be read, with their age."""
    late = ("--as-of", "2027-11-24")
    assert run_main("recommend", kept, "--provider", "azure", *late) == 0
    capsys.readouterr()
    assert (
        run_main("offers", *AWS, "--service", "ec2", "--machines", "--accelerator", "A100-SXM-40GB", *late)
        == 0
    )
    assert "365 days" in capsys.readouterr().out
    assert run_main("prices", "status", *late) == 0
    assert "aws, fetched 2026-11-24T12:00:00Z" in capsys.readouterr().out
    assert run_main("prices", "verify") == 0


def test_azure_ml_has_the_machine_s_price_that_is_used() -> None:
    """The fetched one where there is one; in other regions the shipped one, each with its own date."""
    fields = {"provider": "azure", "service": "azure_vm", "instance_type": "Standard_ND96asr_v4"}
    shipped = book_of(
        *(offer_row(**fields, region=region, usd_per_hour=27.2) for region in ("eastus", "westeurope")),
        origin="snapshot",
    )
    fetched = replace(live(timedelta(hours=1), **fields, region="eastus", usd_per_hour=28.5), name="azure")
    fetched = replace(fetched, book=book_of(*fetched.book.rows.iter_rows(named=True), origin="azure"))
    loaded = load_prices([Entry("snapshot", shipped), fetched], PriceChoice(now=NOW))
    rows = loaded.book.filter(services=["azure_ml"]).frame.sort("region")
    assert rows.select("region", "usd_per_hour", "origin").rows() == [
        ("eastus", 28.5, "azure"),
        ("westeurope", 27.2, "snapshot"),
    ]
    assert age_warnings(loaded, loaded.book, PriceChoice(now=NOW)) == ()
