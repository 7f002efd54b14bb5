"""The price files on disk: whole after a kill, never torn, and damage costs a refresh and one warning."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builders.cli import run_python
from builders.offers import book_of, offer_row, small_market
from trainfare_core.errors import InputError
from trainfare_core.prices.facts import Intake, ReasonCount
from trainfare_providers.disk import checked_parquet
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import read_book, write_book
from trainfare_providers.disk.checked_parquet import BookFacts
from trainfare_providers.disk.folder import CACHE_VARIABLE, default_folder
from trainfare_providers.refresh import load_last_good

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
WORKER = Path(__file__).with_name("cache_worker.py")
WORKER_PATH = os.pathsep.join([str(WORKER.parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
STRESS_ROUNDS = os.environ.get("TRAINFARE_STRESS_ROUNDS", "4")


def fill(cache: BookCache, name: str = "aws", **row: Any) -> pl.DataFrame:
    book = book_of(offer_row(**row), origin=name)
    assert write_book(cache, name, book.frame, BookFacts(fetched_at=NOW, intakes=book.intakes))
    return book.frame


def run(*words: str) -> dict[str, Any]:
    environment = {"PYTHONPATH": WORKER_PATH, "PYTHONWARNINGS": "error"}
    result = run_python(WORKER, *words, environment=environment, check=True)
    return {**json.loads(result.stdout), "stderr": result.stderr}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, as pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Rows, counts, notes and the time of the fetch come back, and the file is plain Parquet for others."""
    book = small_market()
    intakes = tuple(
        Intake(
            "aws",
            intake.provider,
            intake.service,
            intake.rows_read + 3,
            intake.accepted,
            (ReasonCount("Windows", 3),),
        )
        for intake in book.intakes
    )
    facts = BookFacts(fetched_at=NOW, tool_version="1", intakes=intakes, notes=("no spot",))
    cache = BookCache(tmp_path)
    assert write_book(cache, "aws", book.frame, facts)
    cached_book = read_book(cache, "aws")
    assert cached_book is not None
    assert cached_book.facts == facts
    assert cached_book.book.intakes == intakes
    assert cached_book.book.frame.equals(book.frame)
    assert len(cached_book.sha256) == 64
    assert pl.read_parquet(tmp_path / "aws.parquet").height == len(book)
    assert pl.scan_parquet(tmp_path / "*.parquet").select(pl.len()).collect().item() == len(book)


def test_same_prices_give_the_same_bytes(tmp_path: Path) -> None:
    """A file can be compared by its sum."""
    for name in ("a", "b"):
        fill(BookCache(tmp_path / name))
    assert (tmp_path / "a" / "aws.parquet").read_bytes() == (tmp_path / "b" / "aws.parquet").read_bytes()


def test_folder_is_the_named_one_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable names it; else it is where the system keeps caches."""
    monkeypatch.setenv(CACHE_VARIABLE, "/somewhere/else")
    assert default_folder() == Path("/somewhere/else")
    monkeypatch.delenv(CACHE_VARIABLE)
    assert default_folder().parts[-2:] == ("trainfare", "prices")
    assert BookCache().folder == default_folder()


@pytest.mark.parametrize("name", ["", "../aws", "a/b", "AWS", "a.b", "aws\0", "nul:", "a" * 80, "-x", "ａ"])
def test_name_cannot_leave_the_folder(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A plug-in's name is not a path."""
    for use in (BookCache(tmp_path).read, BookCache(tmp_path).discard):
        with pytest.raises(InputError, match="price file"):
            use(name)
        record_property("{} uses of names that are paths refused", 1)
    assert list(tmp_path.iterdir()) == []


def draw_damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def has_flipped(where: float) -> Callable[[Path], None]:
    def flip(content: bytes) -> bytes:
        at = min(len(content) - 1, int(where * len(content)))
        return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]

    return draw_damaged(flip)


def other_schema(version: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        book = book_of(offer_row(), origin="aws")
        facts = BookFacts(schema_version=version, fetched_at=NOW, intakes=book.intakes)
        assert write_book(BookCache(path.parent), "aws", book.frame, facts)

    return write


def newer_facts(path: Path) -> None:
    """A later trainfare adds a field."""
    plain = pl.DataFrame({"a": [1]})
    plain.write_parquet(path)

    class Later(BookFacts):
        mood: str = "good"

    path.write_bytes(checked_parquet.with_checksum(path.read_bytes(), Later(fetched_at=NOW)))


def other_rows(path: Path) -> None:
    """The checksum is right, but the rows are no prices."""
    pl.DataFrame({"a": [1]}).write_parquet(path)
    path.write_bytes(checked_parquet.with_checksum(path.read_bytes(), BookFacts(fetched_at=NOW)))


def bad_price(path: Path) -> None:
    """The checksum is right, but a price is NaN."""
    rows = pl.read_parquet(path).with_columns(pl.lit(float("nan")).alias("usd_per_hour"))
    rows.write_parquet(path)
    path.write_bytes(checked_parquet.with_checksum(path.read_bytes(), BookFacts(fetched_at=NOW)))


def folder_in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)  # to root no file is unreadable, but this one is not root's
    else:
        path.chmod(0)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "zero bytes": (draw_damaged(lambda _: b""), "not a whole Parquet file"),
    "truncated": (draw_damaged(lambda content: content[: len(content) // 2]), "not a whole Parquet file"),
    "short of a byte": (draw_damaged(lambda content: content[:-1]), "not a whole Parquet file"),
    "bytes after it": (draw_damaged(lambda content: content + b"x"), "not a whole Parquet file"),
    "hole of zeros": (draw_damaged(lambda c: c[:99] + bytes(200) + c[299:]), "checksum is wrong"),
    "text": (draw_damaged(lambda _: b"<html>not found</html>"), "not a whole Parquet file"),
    "no checksum": (lambda path: pl.DataFrame({"a": [1]}).write_parquet(path), "not written by trainfare"),
    **{
        f"bit flipped at {part}": (has_flipped(part), "")
        for part in (0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    },
    "older schema": (other_schema(0), "schema version is 0"),
    "newer schema": (other_schema(2), "schema version is 2"),
    "newer facts": (newer_facts, "another version"),
    "other rows": (other_rows, "rows"),
    "bad price": (bad_price, "number of rows is not the one"),
    "folder": (folder_in_place, "directory|not a regular file"),
    "link": (link, "it is a link"),
    "pipe": (pipe, "not a regular file"),
    "somebody else's": (unreadable, "another user|permission"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_a_miss_with_one_warning(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is renamed, one warning is given, the answer is empty, and a refresh replaces it."""
    cache = BookCache(tmp_path)
    fill(cache)
    do, says = DAMAGE[kind]
    do(tmp_path / "aws.parquet")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="trainfare"):
        assert len(load_last_good("aws", cache)) == 0
        assert read_book(cache, "aws") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert any(words in record.getMessage() for words in says.split("|"))
    assert "trainfare prices update" in record.getMessage()
    assert os.path.lexists(tmp_path / "aws.parquet.bad")
    assert not os.path.lexists(tmp_path / "aws.parquet")
    fill(cache, usd_per_hour=2.0)
    assert load_last_good("aws", cache).frame["usd_per_hour"].to_list() == [2.0]


def test_every_flipped_bit_is_detected(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The checksum covers rows, facts, mark and footer alike."""
    fill(BookCache(tmp_path))
    content = (tmp_path / "aws.parquet").read_bytes()
    flipped = range(0, len(content), 7)
    record_property("{} bits flipped one at a time, each found", len(flipped))
    for at in flipped:
        with pytest.raises(checked_parquet.DamagedFileError):
            checked_parquet.check_content(
                content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]
            )


def test_folder_that_is_a_file_and_path_that_is_too_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing can be kept, nothing is, with a warning and no error."""
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        caplog.clear()
        cache = BookCache(folder)
        book = book_of(offer_row(), origin="aws")
        assert not write_book(cache, "aws", book.frame, BookFacts(fetched_at=NOW, intakes=book.intakes))
        assert "could not be stored" in caplog.text
        assert read_book(cache, "aws") is None
        with cache.lock("aws"):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_read_only_folder_still_answers(open_folder: Path) -> None:
    """What cannot be written can be read, and no lock is needed for it."""
    fields = run("readonly", str(open_folder))
    assert (fields["took"], fields["price"]) == (False, 1.0)
    assert "could not be stored" in fields["stderr"]


def test_full_disk_keeps_the_old_prices_at_every_byte(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Wherever the disk is full, the old file stays and no scrap is left."""
    fields = run("limit", str(tmp_path))
    assert fields["else"] == []
    record_property("a disk full at {} places of a file, the old prices kept", len(fields["kept old"]))
    assert len(fields["kept old"]) > 20
    assert fields["took new"] != []
    assert fields["files"] == [1]


def test_kill_at_200_moments_damages_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A writer that is killed leaves the old file or the new one, and at worst a scrap that is swept later."""
    fields = run("kill", str(tmp_path))
    record_property("{} writers killed, 200 promised", fields["kills"])
    record_property("{} damaged files after it", fields["damaged"])
    assert fields["damaged"] == 0
    assert fields["left"] > 0, "no kill hit a write: the test checked nothing"
    written_s = [path.stat().st_mtime for path in tmp_path.glob("*.tmp")]
    cache = BookCache(tmp_path, clock=lambda: min(written_s) + 3000)
    fill(cache)
    assert len(list(tmp_path.iterdir())) == 1 + fields["left"], (
        "younger than an hour: another process may be writing it"
    )
    fill(BookCache(tmp_path, clock=lambda: max(written_s) + 4000))
    assert [path.name for path in tmp_path.iterdir()] == ["aws.parquet"]


@pytest.mark.skipif(
    "faketime" in os.environ.get("LD_PRELOAD", ""),
    reason="faketime leaves the times of files as they are: a writer takes the new file of another for an old one",
)
def test_eight_writers_and_eight_readers_never_see_a_torn_file(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Two processes with four writers and four readers each, on one file; TRAINFARE_STRESS_ROUNDS makes it longer."""
    fill(BookCache(tmp_path))
    book = book_of(*[offer_row(region=f"r{index}", usd_per_hour=1.0) for index in range(20)], origin="aws")
    write_book(BookCache(tmp_path), "aws", book.frame, BookFacts(fetched_at=NOW, intakes=book.intakes))
    command = [sys.executable, str(WORKER), "stress", str(tmp_path), STRESS_ROUNDS]
    environment = {**os.environ, "PYTHONPATH": WORKER_PATH, "POLARS_MAX_THREADS": "1"}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [json.loads(process.communicate()[0]) for process in both]
    record_property("{} reads beside 8 writers", sum(one["reads"] for one in found))
    record_property("{} torn reads", sum(one["torn"] for one in found))
    assert [one["torn"] for one in found] == [0, 0]
    rounds = int(STRESS_ROUNDS)
    assert min(one["reads"] for one in found) >= 4 * 2 * rounds
    assert [one["writes"] for one in found] == [4 * 2 * rounds] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["aws.parquet"]


def test_power_cut_finds_content_before_name_before_folder(tmp_path: Path) -> None:
    """The order of flushes: the new content under a temporary name, then the folder."""
    cache = BookCache(tmp_path)
    fill(cache)
    steps: list[tuple[bool, bool]] = []

    def sync(handle: int) -> None:
        folder = os.path.samestat(os.fstat(handle), tmp_path.stat())
        price = pl.read_parquet(tmp_path / "aws.parquet")["usd_per_hour"][0]
        steps.append((folder, price == 2.0))
        os.fsync(handle)

    fill(BookCache(tmp_path, sync=sync), usd_per_hour=2.0)
    assert steps == [(False, False), (True, True)]


def test_least_recently_used_file_is_deleted_first(tmp_path: Path) -> None:
    """The files together stay under the cap; damaged ones go first, then what was used longest ago."""
    fill(BookCache(tmp_path), "aws")
    size = (tmp_path / "aws.parquet").stat().st_size
    for index, name in enumerate(("azure", "gcp")):
        fill(BookCache(tmp_path), name)
        os.utime(tmp_path / f"{name}.parquet", (index, index))
    (tmp_path / "old.parquet.bad").write_bytes(bytes(size))
    os.utime(tmp_path / "aws.parquet", (0, 0))
    assert read_book(BookCache(tmp_path), "aws") is not None  # used now
    fill(BookCache(tmp_path, max_bytes=3 * size + size // 2), "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aws.parquet", "gcp.parquet", "new.parquet"]
    assert not write_book(
        BookCache(tmp_path, max_bytes=10), "x", book_of(offer_row()).frame, BookFacts(fetched_at=NOW)
    )


def test_file_over_the_size_cap_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of the cap's size is read; one byte more is set aside before its content is looked at."""
    fill(BookCache(tmp_path))
    size = (tmp_path / "aws.parquet").stat().st_size
    assert read_book(BookCache(tmp_path, max_bytes=size), "aws") is not None
    with caplog.at_level(logging.WARNING, logger="trainfare"):
        assert read_book(BookCache(tmp_path, max_bytes=size - 1), "aws") is None
    assert "it is larger than the cache may be" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["aws.parquet.bad"]


def test_reading_does_not_make_prices_younger(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Only a fetch dates prices; a use, and a clock that jumps, do not."""
    fill(BookCache(tmp_path))
    for years in (-1, 1):
        later = NOW + timedelta(days=365 * years)
        book = read_book(BookCache(tmp_path, clock=later.timestamp), "aws")
        assert book is not None
        record_property(
            "at most {} s by which a failed refresh or a read makes prices younger, 0 allowed",
            (book.facts.fetched_at - NOW).total_seconds(),
        )
        assert book.facts.fetched_at == NOW
