"""A team's price book by URL: a path, a real S3 client against moto, and storage that does not answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import boto3
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from builders.offers import book_of, offer_row
from builders.processes import HANG_S
from faults.canary import CANARY
from faults.server import FaultServer, Script
from trainfare_core.errors import PricesUnavailableError
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import write_book
from trainfare_providers.disk.checked_parquet import BookFacts
from trainfare_providers.plugins import BOOK_VARIABLE
from trainfare_providers.shared_book import SharedBook

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def price_file(folder: Path, name: str = "aws", price: float = 9.0) -> Path:
    """What `trainfare prices update` leaves for one cloud."""
    book = book_of(
        offer_row(provider=name, usd_per_hour=price, fetched_at="2026-11-20T00:00:00Z"), origin=name
    )
    assert write_book(BookCache(folder), name, book.frame, BookFacts(fetched_at=NOW, intakes=book.intakes))
    return folder / f"{name}.parquet"


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Moto's S3 with a bucket `team`; the environment points every S3 client at it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    point_at(monkeypatch, f"http://{host}:{port}")
    with closing(boto3.client("s3")) as client:
        client.create_bucket(Bucket="team")
    yield f"http://{host}:{port}"
    server.stop()


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    settings = {
        "ENDPOINT_URL": url,
        "ACCESS_KEY_ID": "AKIATEST",
        "SECRET_ACCESS_KEY": CANARY,
        "ALLOW_HTTP": "true",
    }
    for name, value in {**settings, "REGION": "us-east-1", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_no_variable_is_an_empty_book(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who has no team's book pays nothing for it."""
    monkeypatch.delenv(BOOK_VARIABLE, raising=False)
    assert len(SharedBook(cache=BookCache(tmp_path / "c")).load()) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["file", "folder", "pattern", "variable"])
def test_book_at_a_path(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of `prices update`, as they are; each cloud's prices count as that cloud's own."""
    file = price_file(tmp_path)
    price_file(tmp_path, "gcp")
    url = {"file": str(file), "folder": str(tmp_path), "pattern": str(tmp_path / "*.parquet")}.get(what)
    monkeypatch.setenv(BOOK_VARIABLE, str(tmp_path))
    book = SharedBook(url).load()
    assert book.names("provider") == (("aws",) if what == "file" else ("aws", "gcp"))
    assert all(offer.origin == offer.provider for offer in book.offers())
    assert {offer.fetched_at for offer in book.offers()} == {"2026-11-20T00:00:00Z"}
    assert [(intake.origin, intake.rows_read) for intake in book.intakes] == [
        (name, 1) for name in book.names("provider")
    ]


def test_row_of_a_shared_book_is_checked_like_any_other(tmp_path: Path) -> None:
    """Nobody's file is trusted."""
    rows = book_of(offer_row()).frame
    rows.vstack(
        rows.with_columns(usd_per_hour=-rows["usd_per_hour"], region=rows["region"] + "x")
    ).write_parquet(tmp_path / "a.parquet")
    book = SharedBook(str(tmp_path)).load()
    assert (len(book), book.intakes[0].quarantined_rows) == (1, 1)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.com/a.parquet", "https:// is not read"),
        ("ftp://example.com/a.parquet", "give s3://"),
        ("/nowhere/a.parquet", "nothing is there"),
    ],
)
def test_address_that_cannot_be_read_is_an_error(url: str, says: str) -> None:
    """A wish that cannot be met is said, not passed over."""
    with pytest.raises(PricesUnavailableError, match=f"{BOOK_VARIABLE}: .*{says}"):
        SharedBook(url).load()


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"<html>"])
def test_file_that_is_not_parquet_is_an_error(content: bytes, tmp_path: Path) -> None:
    """Damage in a team's book is the team's to mend: it is not set aside, only named."""
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(PricesUnavailableError, match="cannot be read"):
        SharedBook(str(tmp_path / "a.parquet")).load()
    assert (tmp_path / "a.parquet").read_bytes() == content


def test_damage_that_ends_the_process_that_reads_it_is_an_error(tmp_path: Path) -> None:
    """A page that states -1 values makes polars ask for 2**61 bytes, and Rust then ends the process."""
    file = tmp_path / "a.parquet"
    book_of(offer_row(), offer_row(region="eu-west-1")).frame.write_parquet(file, compression="uncompressed")
    whole = file.read_bytes()
    damaged = re.sub(rb"(?<=[\x2c\x4c]\x15)\x04", b"\x01", whole)  # of a page of data, or of a dictionary
    file.write_bytes(damaged)
    assert damaged != whole
    with pytest.raises(PricesUnavailableError, match=r"it cannot be read \(.*\); check the address"):
        SharedBook(str(tmp_path)).load()


def test_book_in_s3(storage: str, tmp_path: Path) -> None:
    """The same files, by a real client over a socket; a copy is kept for when the storage does not answer."""
    with closing(boto3.client("s3")) as client:
        for name in ("aws", "gcp"):
            client.upload_file(str(price_file(tmp_path / "out", name)), "team", f"prices/{name}.parquet")
    cache = BookCache(tmp_path / "cache")
    for url in ("s3://team/prices", "s3://team/prices/", "s3://team/prices/*.parquet"):
        book = SharedBook(url, cache=cache, limit_s=HANG_S, now=lambda: NOW)
        assert book.load().names("provider") == ("aws", "gcp")
    shared_book = SharedBook("s3://team/prices/gcp.parquet", cache=cache, limit_s=HANG_S)
    assert shared_book.load().names("provider") == ("gcp",)
    with pytest.raises(PricesUnavailableError, match=r"nothing|cannot") as caught:
        SharedBook("s3://team/elsewhere/aws.parquet", cache=cache, limit_s=HANG_S).load()
    assert CANARY not in str(caught.value)


def test_unreachable_storage_falls_back_to_the_copy_in_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last copy answers, with its dates and a warning; a copy of another book does not."""
    cache = BookCache(tmp_path)
    kept = book_of(offer_row(fetched_at="2026-11-20T00:00:00Z")).rows
    SharedBook("s3://team/prices", cache=cache, now=lambda: NOW, read=lambda *_: kept).load()
    with FaultServer() as server:
        server.everywhere(Script(before_head_s=HANG_S))
        point_at(monkeypatch, server.url())
        book = SharedBook("s3://team/prices", cache=cache, limit_s=0.2).load()
        with pytest.raises(PricesUnavailableError, match=r"no answer within 0\.2 s"):
            SharedBook("s3://other/prices", cache=cache, limit_s=0.2).load()
    (offer,) = book.offers()
    assert (offer.origin, offer.fetched_at) == ("aws", "2026-11-20T00:00:00Z")
    assert "no answer within 0.2 s" in caplog.text
    assert "the copy of 2026-11-24 is used" in caplog.text


def test_copy_says_what_became_of_the_rows_that_were_refused(tmp_path: Path) -> None:
    """The rows are judged when the book is read; its copy has the same prices and the same counts."""
    rows = pl.concat([book_of(offer_row(provider=name)).rows for name in ("aws", "gcp")])
    bad = rows.with_columns(pl.lit(-1.0).alias("usd_per_hour"), pl.lit("nowhere").alias("region"))

    def fail(*_: object) -> pl.DataFrame:
        raise PricesUnavailableError("no answer")

    first, copy = (
        SharedBook("s3://team/prices", cache=BookCache(tmp_path), now=lambda: NOW, read=read).load()
        for read in (lambda *_: pl.concat([rows, bad]), fail)
    )
    assert [(intake.origin, intake.quarantined_rows) for intake in copy.intakes] == [("aws", 1), ("gcp", 1)]
    assert copy.intakes == first.intakes
    assert copy.frame.equals(first.frame)


def test_book_that_is_no_price_table_is_an_error(tmp_path: Path) -> None:
    """Somebody's other Parquet file is not taken for prices."""
    book_of(offer_row()).frame.drop("provider").write_parquet(tmp_path / "a.parquet")
    with pytest.raises(
        PricesUnavailableError, match="TRAINFARE_PRICE_BOOK: not a price table, it has no column provider"
    ):
        SharedBook(str(tmp_path)).load()


def test_a_column_of_another_kind_is_an_error(tmp_path: Path) -> None:
    """As other programs write them: the clouds are texts in bytes."""
    rows = book_of(offer_row()).frame.with_columns(provider=pl.lit(b"aws"))
    rows.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(PricesUnavailableError, match="provider has neither text nor numbers"):
        SharedBook(str(tmp_path)).load()
