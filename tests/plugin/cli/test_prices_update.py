"""`trainfare prices update` and `verify`: one result per cloud, last good prices kept, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builders.cli import run_main
from builders.offers import book_of, get_shipped_date, offer_row, table
from trainfare.cli.prices import verify_table
from trainfare.cli.prices_update import update_table
from trainfare.prices.lock import LockHeader, lock_text
from trainfare.prices.verify import PricesVerification, verify_prices, verify_snapshot
from trainfare_core.errors import FetchError, InputError, MissingExtraError, UnknownNameError
from trainfare_core.installation import write_install_line
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import ReasonCount
from trainfare_core.prices.sanity import BLOCK_ABOVE
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import read_book
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.progress import Step
from trainfare_providers.refresh import FetchedRows, load_last_good
from trainfare_providers.snapshot import SnapshotProvider
from trainfare_providers.update import PricesUpdate, live_sources, update_clouds

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
SECRET = "key=cAnArY"


@dataclass
class Cloud:
    """A live source that gives one answer, or fails."""

    name: str
    answer: Callable[[], tuple[FetchedRows, ...]]
    cache: BookCache
    needs: tuple[str, ...] = ()
    budget_s: float = 5.0

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        return self.answer()

    def load(self) -> PriceBook:
        return load_last_good(self.name, self.cache)


@dataclass(frozen=True)
class Entry:
    """An entry point that loads the given factory."""

    name: str
    make: Callable[[], Any]

    def load(self) -> Callable[[], Any]:
        return self.make


def gave(provider: str, **fields: Any) -> Callable[[], tuple[FetchedRows, ...]]:
    row = offer_row(provider=provider, source_class="price_api", **fields)
    notes = ("spot prices need credentials: left out",)
    return lambda: (FetchedRows(provider, "ec2", table(row), (ReasonCount("Windows", 3),), (), notes),)


def failing(error: Exception) -> Callable[[], tuple[FetchedRows, ...]]:
    def fail() -> tuple[FetchedRows, ...]:
        raise error

    return fail


def update_prices(cache: BookCache, **answers: Callable[[], tuple[FetchedRows, ...]]) -> PricesUpdate:
    sources = [(name, Cloud(name, answer, cache)) for name, answer in sorted(answers.items())]
    return update_clouds(list(sources), cache=cache, clock=lambda: NOW)


def test_each_cloud_has_its_own_result(tmp_path: Path) -> None:
    """One fails with our error, one with a foreign one; the third is updated, and no secret is printed."""
    progress: list[tuple[str, Step]] = []
    cache = BookCache(tmp_path)
    sources = [
        ("aws", Cloud("aws", gave("aws"), cache)),
        ("azure", Cloud("azure", failing(FetchError("azure", "it is down; try again later")), cache)),
        ("gcp", Cloud("gcp", failing(KeyError(SECRET)), cache)),
        ("bad", "the plug-in is broken (ImportError): update or remove it"),
        ("extra", Cloud("extra", failing(MissingExtraError("httpx", "aws")), cache)),
    ]
    answer = update_clouds(
        list(sources), cache=cache, clock=lambda: NOW, say=lambda name, step: progress.append((name, step))
    )
    clouds = {cloud.provider: cloud for cloud in answer.clouds}
    assert [name for name, cloud in clouds.items() if cloud.failed] == ["azure", "gcp", "bad", "extra"]
    assert (clouds["aws"].refreshed, clouds["aws"].rows, clouds["aws"].fetched_at) == (True, 1, NOW)
    (service,) = clouds["aws"].services
    assert (service.rows_read, service.accepted, service.filtered, service.quarantined) == (4, 1, 3, 0)
    text = update_table(answer)
    assert "aws: updated: 1 prices, fetched 2026-11-24 12:00 UTC" in text
    assert "ec2: read 4 = accepted 1 + filtered 3 + quarantined 0" in text
    assert "note: spot prices need credentials: left out" in text
    assert (
        f"azure: failed: it is down; try again later; prices of the snapshot of {get_shipped_date('azure')} are used\n"
        in text
    )
    assert (
        "gcp: failed: the plug-in is broken (KeyError): update or remove it; prices of the snapshot" in text
    )
    assert (
        "bad: failed: the plug-in is broken (ImportError): update or remove it; there are no prices of it"
        in text
    )
    assert write_install_line("aws") in text
    assert SECRET not in text + answer.to_json()
    assert {name for name, step in progress if step == Step("done")} == set(clouds)


def test_a_failed_cloud_keeps_its_last_good_prices_and_their_age(tmp_path: Path) -> None:
    """The price, the moment of its fetch and the count stay; the problem is reported."""
    cache = BookCache(tmp_path)
    update_prices(cache, aws=gave("aws"))
    later = update_clouds(
        [("aws", Cloud("aws", failing(FetchError("aws", "refused; check the key")), cache))],
        cache=cache,
        clock=lambda: datetime(2027, 3, 1, tzinfo=timezone.utc),
    )
    (cloud,) = later.clouds
    assert (cloud.refreshed, cloud.failed, cloud.rows, cloud.fetched_at) == (False, True, 1, NOW)
    assert update_table(later) == (
        "aws: failed: refused; check the key; its 1 prices, fetched 2026-11-24 12:00 UTC, are used\n"
    )


@pytest.mark.parametrize("error", [KeyError(SECRET), MissingExtraError("httpx", "aws"), SystemExit(1)])
def test_a_broken_cloud_keeps_its_last_good_prices_too(error: Exception, tmp_path: Path) -> None:
    """The line says so, whatever kind of error it was."""
    cache = BookCache(tmp_path)
    update_prices(cache, aws=gave("aws"))
    (cloud,) = update_prices(cache, aws=failing(error)).clouds
    assert (cloud.failed, cloud.rows, cloud.fetched_at) == (True, 1, NOW)
    assert update_table(update_prices(cache, aws=failing(error))).count("\n") == 1


def test_a_cloud_that_lacks_a_key_has_one_line(tmp_path: Path) -> None:
    """Nothing failed: the line says what is missing, and which prices are used."""
    keyless = FetchedRows("gcp", "gce", table(offer_row()).head(0), (), (), ("prices need an API key",))
    answer = update_prices(BookCache(tmp_path), gcp=lambda: (keyless,))
    assert not answer.clouds[0].failed
    assert update_table(answer) == (
        f"gcp: not asked: prices need an API key; prices of the snapshot of {get_shipped_date('gcp')} are used\n"
    )


def test_plugins_that_cannot_be_fetched_are_left_out_and_unknown_ones_named(tmp_path: Path) -> None:
    """The snapshot is no cloud; a name that nothing answers to is bad usage, with those that do."""
    live = Entry("aws", lambda: Cloud("aws", gave("aws"), BookCache(tmp_path)))
    shipped = Entry("snapshot", lambda: type("P", (), {"name": "snapshot", "load": PriceBook.empty})())
    broken = Entry("bad", failing(ImportError("no boto9")))
    entries = [live, shipped, broken]
    assert [name for name, _ in live_sources(None, entries)] == ["aws", "bad"]
    assert [name for name, _ in live_sources(["AWS"], entries)] == ["aws"]
    with pytest.raises(UnknownNameError, match=r"'gcpp'.*aws, bad can"):
        live_sources(["gcpp"], entries)
    with pytest.raises(InputError, match="no installed price source can be refreshed"):
        live_sources(None, [shipped])


def test_the_command_refuses_unknown_clouds(capsys: pytest.CaptureFixture[str]) -> None:
    """The error comes before any request is sent."""
    assert run_main("prices", "update", "--provider", "narnia") == 2
    assert "its prices cannot be fetched" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["option", "variable"])
def test_a_file_for_the_folder_of_the_prices_is_an_error_of_input(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is asked or said of files in it, by which name the folder may be given."""
    file = tmp_path / "hostname"
    file.write_text("mine\n", encoding="utf-8")
    if given == "variable":
        monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(file))
    option = ("--cache", file) if given == "option" else ()
    assert run_main("prices", "update", "--provider", "gcp", *option) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "file" in err
    assert "asking" not in err
    assert ".bad" not in err
    assert file.read_text(encoding="utf-8") == "mine\n"


def test_a_price_file_that_cannot_be_renamed_is_not_said_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A path below a file: nothing was set aside there."""
    (tmp_path / "file").touch()
    assert read_book(BookCache(tmp_path / "file"), "aws") is None
    (said,) = caplog.messages
    assert said.endswith("aws.parquet: not used, not a directory; `trainfare prices update` fetches again")


def test_progress_is_on_standard_error_and_not_with_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command, for the cloud that asks nothing without its key: a missing key is no failure."""
    monkeypatch.delenv("TRAINFARE_GCP_API_KEY", raising=False)
    told: dict[str, tuple[str, str]] = {}
    for form in ("table", "json"):
        asked = ("--provider", "gcp", "--cache", tmp_path, "--format", form)
        assert run_main("prices", "update", *asked) == 0
        told[form] = capsys.readouterr()
    assert told["table"][1].splitlines() == ["gcp: asking for prices", "gcp: checking them", "gcp: done"]
    assert told["table"][0].startswith("gcp: not asked: prices need an API key: set TRAINFARE_GCP_API_KEY")
    assert told["table"][0].endswith(f"prices of the snapshot of {get_shipped_date('gcp')} are used\n")
    assert told["json"][1] == ""
    (cloud,) = PricesUpdate.model_validate_json(told["json"][0]).clouds
    assert (cloud.failed, cloud.snapshot_of) == (False, get_shipped_date("gcp"))


def sound(cache: BookCache) -> list[Entry]:
    rows = book_of(offer_row(), offer_row(region="x"), origin="shop")
    shop = type("Shop", (), {"name": "shop", "load": lambda _: rows})
    return [Entry("aws", lambda: Cloud("aws", gave("aws"), cache)), Entry("shop", shop)]


def test_sound_lists(tmp_path: Path) -> None:
    """A cloud that was never fetched, one that was, a plug-in without a file, and a lock."""
    cache = BookCache(tmp_path)
    first = {verified.name: verified for verified in verify_prices(cache=cache, entries=sound(cache)).lists}
    assert (first["aws"].rows, first["aws"].findings, first["shop"].findings) == (0, (), ())
    update_prices(cache, aws=gave("aws"))
    lock = tmp_path / "trainfare.lock"
    header = LockHeader(tool_version="1", locked_on=NOW.date(), rows=1)
    lock.write_text(lock_text(header, book_of(offer_row())), encoding="ascii")
    text = verify_table(verify_prices(cache=cache, lock=lock, entries=sound(cache)))
    assert "aws: sound: 1 prices, fetched 2026-11-24T12:00:00Z, SHA-256 " in text
    assert "shop: sound: 2 prices\n" in text
    assert "trainfare.lock: sound: 1 prices, SHA-256" in text


def test_damage_and_implausible_prices_are_found(tmp_path: Path) -> None:
    """A flipped bit, an edited lock, a broken plug-in, a price in another unit: each is named, none hides another."""
    cache = BookCache(tmp_path)
    update_prices(cache, aws=gave("aws"))
    path = tmp_path / "aws.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    lock = tmp_path / "trainfare.lock"
    lock.write_text("{}\n", encoding="ascii")
    cents = book_of(offer_row(usd_per_hour=2195.0), origin="cents")
    entries = [
        *sound(cache),
        Entry("bad", failing(ImportError())),
        Entry("cents", type("Cents", (), {"name": "cents", "load": lambda _: cents})),
    ]
    answer = verify_prices(cache=cache, lock=lock, entries=entries)
    fields = {verified.name: verified.findings for verified in answer.lists if verified.findings}
    assert set(fields) == {"aws", "bad", "cents", str(lock)}
    assert "set aside as .bad" in fields["aws"][0]
    assert "broken (ImportError)" in fields["bad"][0]
    assert "USD per accelerator-hour" in fields["cents"][0]
    assert "NOT SOUND" in verify_table(answer)


def test_the_commands_end_with_the_documented_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 where all is sound, 3 where something is not; JSON stands alone on standard output."""
    assert run_main("prices", "verify", "--cache", tmp_path, "--format", "json") == 0
    answer = PricesVerification.model_validate_json(capsys.readouterr().out)
    assert {"snapshot": 6208, "other_clouds": 148}.items() <= {
        verified.name: verified.rows for verified in answer.lists
    }.items()
    (tmp_path / "aws.parquet").write_bytes(b"PAR1")
    assert run_main("prices", "verify", "--cache", tmp_path) == 3
    assert "aws: NOT SOUND" in capsys.readouterr().out


def test_the_shipped_prices_are_checked_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """`--snapshot` passes, and shows what was accepted and why; a wrong price of the snapshot is a finding."""
    assert run_main("prices", "verify", "--snapshot") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "snapshot: sound: 6,208 prices"
    assert all(line.startswith("  accepted: ") for line in lines[1:])
    assert any("g5g.metal is the whole host" in line for line in lines)
    assert run_main("prices", "verify", "--snapshot", "--lock", "trainfare.lock") == 2
    assert "leave out --lock" in capsys.readouterr().err
    rows = SnapshotProvider().load().rows
    block = (pl.col("instance_type") == "p5.48xlarge") & (pl.col("purchase_option") == "capacity_block")
    price = pl.when(block).then(pl.lit(1720.78)).otherwise(pl.col("usd_per_hour"))
    answer = verify_snapshot(PriceBook(rows.with_columns(usd_per_hour=price)))
    assert "NOT SOUND" in verify_table(answer)
    assert any(BLOCK_ABOVE in finding for finding in answer.lists[0].findings)
    assert PricesVerification.model_validate_json(answer.to_json()) == answer


def test_the_update_reads_back_as_the_published_model(tmp_path: Path) -> None:
    """Versioned JSON for the scripts that watch a nightly update."""
    answer = update_prices(BookCache(tmp_path), aws=gave("aws"))
    assert json.loads(answer.to_json())["schema_version"] == 1
    assert PricesUpdate.model_validate_json(answer.to_json()) == answer
