"""A large file over a bad connection: what may go on where it stopped, what must start anew, and what is kept for later."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults.server import FaultServer, Script
from trainfare_core.errors import FetchCancelledError, FetchError, PricesUnavailableError
from trainfare_providers.disk.part_files import PartFile, part_file
from trainfare_providers.http.answer import BULK_LIMITS, Limits
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.download import Download
from trainfare_providers.http.progress import Step

BODY = b"".join(b"sku-%06d,21.95,USD\n" % row for row in range(20_000))
OTHER = BODY.replace(b"21.95", b"99.99")
HALF = len(BODY) // 2
LATER = BODY[:HALF]
OLD = "Tue, 24 Nov 2026 10:00:00 GMT"
NOW = "Tue, 24 Nov 2026 12:00:00 GMT"


def headers(tag: str = '"v1"', **more: str) -> tuple[tuple[str, str], ...]:
    fields = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        **{name.replace("_", "-"): text for name, text in more.items()},
    }
    return tuple((name, text) for name, text in fields.items() if text)


WHOLE = Script(headers=headers(), body=BODY)
CUT = replace(WHOLE, cut_at=HALF)


def rest(start: int = HALF, said: str = "", body: bytes = BODY, tag: str = '"v1"', **more: Any) -> Script:
    """The rest of a file from a byte, with a true or another Content-Range."""
    range_ = said or f"bytes {start}-{len(body) - 1}/{len(body)}"
    return Script(status=206, headers=headers(tag, Content_Range=range_), body=body[start:], **more)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def http(folder: Path | None = None, **changes: Any) -> HttpClient:
    parts = None if folder is None else lambda url: part_file(folder, url)
    settings = {"sleep": lambda _: None, "limits": BULK_LIMITS, "budget_s": 900.0, "part_of": parts}
    return HttpClient("aws", **{**settings, **changes})


def read(server: FaultServer, client: HttpClient) -> bytes:
    with client as out:
        return out.read(server.url("/f.csv"), lambda file: b"".join(file.chunks()))


def make_request(server: FaultServer) -> list[tuple[str, str]]:
    """Range and If-Range of every request."""
    return [
        (request.headers.get("range", ""), request.headers.get("if-range", "")) for request in server.requests
    ]


AGAIN = ("", "")
ON = (f"bytes={HALF}-", '"v1"')


def test_cut_connection_goes_on_where_it_stopped(server: FaultServer) -> None:
    """Three cuts, one of them a reset; every byte comes once."""
    third = len(BODY) // 3
    server.script(
        "/f.csv",
        replace(WHOLE, cut_at=third),
        rest(third, cut_at=1000),
        rest(third + 1000, cut_at=HALF - third - 1000),
        rest(HALF),
    )
    assert read(server, http()) == BODY
    assert make_request(server) == [
        AGAIN,
        (f"bytes={third}-", '"v1"'),
        (f"bytes={third + 1000}-", '"v1"'),
        ON,
    ]
    assert all(request.headers["accept-encoding"] == "identity" for request in server.requests[1:])


def test_packed_file_goes_on_in_its_packed_form(server: FaultServer) -> None:
    """Offsets count packed bytes; the unpacker does not notice the cut."""
    packed = gzip.compress(BODY)
    half = len(packed) // 2
    form = headers(Content_Encoding="gzip")
    more = headers(Content_Encoding="gzip", Content_Range=f"bytes {half}-{len(packed) - 1}/{len(packed)}")
    server.script(
        "/f.csv",
        Script(headers=form, body=packed, cut_at=half),
        Script(status=206, headers=more, body=packed[half:]),
    )
    assert read(server, http()) == BODY
    assert server.requests[1].headers["accept-encoding"] == "gzip"


def test_settled_date_does_for_a_version(server: FaultServer) -> None:
    """A server without ETag; a file that has just changed, or a weak ETag, is not trusted."""
    dated = headers("", Last_Modified=OLD, Date=NOW)
    on = headers("", Last_Modified=OLD, Content_Range=f"bytes {HALF}-{len(BODY) - 1}/{len(BODY)}")
    server.script(
        "/f.csv",
        Script(headers=dated, body=BODY, cut_at=HALF),
        Script(status=206, headers=on, body=BODY[HALF:]),
    )
    assert read(server, http()) == BODY
    assert make_request(server)[1] == (f"bytes={HALF}-", OLD)


@pytest.mark.parametrize(
    "fields",
    [
        headers("", Last_Modified=NOW, Date=NOW),
        headers("", Last_Modified=OLD),
        headers('W/"v1"', Last_Modified=OLD, Date=NOW),
        headers(""),
        (("ETag", '"v1"'),),
        (("ETag", '"v1"'), ("Accept-Ranges", "none")),
    ],
    ids=["just changed", "no date of the answer", "weak", "no version", "no ranges", "ranges: none"],
)
def test_file_whose_rest_cannot_be_asked_for_is_an_error(
    fields: tuple[tuple[str, str], ...], server: FaultServer
) -> None:
    """As before: half a file is no file, and nothing more is asked."""
    server.script("/f.csv", Script(headers=fields, body=BODY, cut_at=HALF), WHOLE)
    with pytest.raises(FetchError, match="answer ended early"):
        read(server, http())
    assert len(server.requests) == 1


NEW = Script(headers=headers('"v2"'), body=OTHER)


@pytest.mark.parametrize(
    ("second", "later"),
    [
        (NEW, (NEW,)),
        (rest(tag='"v2"'), (NEW,)),
        (rest(tag=""), (NEW,)),
        (rest(said=f"bytes {HALF - 10}-{len(BODY) - 1}/{len(BODY)}"), (NEW,)),
        (rest(said=f"bytes {HALF}-{len(BODY) - 2}/{len(BODY)}"), (NEW,)),
        (rest(said=f"bytes {HALF}-{len(BODY) - 1}/{len(BODY) + 5}"), (NEW,)),
        (rest(said=f"bytes {HALF}-{len(BODY) - 1}/*"), (NEW,)),
        (rest(said="nonsense"), (NEW,)),
        (Script(status=206, headers=headers(), body=BODY[HALF:]), (NEW,)),
        (rest(HALF, body=BODY, length=len(BODY) - HALF - 3), (NEW,)),
        (Script(status=416, headers=headers()), (NEW,)),
    ],
    ids=[
        "another ETag, whole",
        "another ETag, rest",
        "no ETag",
        "earlier start",
        "earlier end",
        "another total",
        "unknown total",
        "unreadable",
        "no Content-Range",
        "another length",
        "416",
    ],
)
def test_any_other_answer_than_the_rest_starts_the_file_anew(
    second: Script, later: tuple[Script, ...], server: FaultServer
) -> None:
    """Never half of one version and half of another: what comes out is one whole file."""
    server.script("/f.csv", CUT, second, *later)
    assert read(server, http()) == OTHER
    assert make_request(server) == [AGAIN, ON, AGAIN]


def test_server_that_ignores_ranges_is_read_from_the_beginning(server: FaultServer) -> None:
    """The same version: what is here already is left out, and nothing is parsed twice."""
    parses: list[int] = []

    def parse(file: Download) -> bytes:
        parses.append(1)
        return b"".join(file.chunks())

    server.script("/f.csv", CUT, replace(WHOLE, cut_at=1000), WHOLE)
    with http() as out:
        assert out.read(server.url("/f.csv"), parse) == BODY
    assert parses == [1]
    assert make_request(server) == [AGAIN, ON, ON]


def test_file_that_changes_again_and_again_is_given_up(server: FaultServer) -> None:
    """Three starts, then an error that says so."""
    other = Script(headers=headers('"v2"'), body=OTHER)
    server.script("/f.csv", *[CUT, other] * 5)
    with pytest.raises(
        FetchError, match=r"^aws: http.*: the file changed while it was read; try again later$"
    ):
        read(server, http())
    assert len(server.requests) == 6


def test_cuts_have_an_end(server: FaultServer) -> None:
    """A server that gives a byte at a time is not asked for ever."""
    server.script("/f.csv", replace(WHOLE, cut_at=1), *(rest(at, cut_at=1) for at in range(1, 60)))
    with pytest.raises(FetchError, match="answer ended early"):
        read(server, http())
    assert len(server.requests) == 21


def test_seconds_without_a_byte_count_and_those_of_a_good_download_do_not(server: FaultServer) -> None:
    """Half an hour of a good download before the cut is no failure; the cloud's limit of failures stays whole."""
    now = [0.0]

    def parse(file: Download) -> bytes:
        content = b""
        for chunk in file.chunks():
            content += chunk
            now[0] = 600.0
        return content

    server.script("/f.csv", CUT, Script(status=503), rest())
    with http(clock=lambda: now[0]) as out:
        assert out.read(server.url("/f.csv"), parse) == BODY
        assert out._failed_s < 15.0


@pytest.mark.parametrize("fault", [Script(status=404), Script(status=500), Script(hang_up=True)], ids=str)
def test_what_the_server_says_then_is_the_error(fault: Script, server: FaultServer) -> None:
    """A resume is retried like any request, and no more."""
    server.script("/f.csv", CUT, fault)
    with pytest.raises(FetchError, match=r"answered (404|500)|ended early"):
        read(server, http())
    assert len(server.requests) == (2 if fault.status == 404 else 5)


def test_update_that_is_cut_off_goes_on_in_the_next_one(server: FaultServer, tmp_path: Path) -> None:
    """What came is kept beside its ETag, and checked before it is used; nothing is left when the file is whole."""
    server.script("/f.csv", CUT, Script(status=404))
    with pytest.raises(FetchError, match="answered 404"):
        read(server, http(tmp_path))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".part"]
    server.script("/f.csv", rest(cut_at=500), rest(HALF + 500))
    steps: list[Step] = []
    assert read(server, http(tmp_path, tell=steps.append)) == BODY
    assert make_request(server)[2:] == [ON, (f"bytes={HALF + 500}-", '"v1"')]
    assert list(tmp_path.iterdir()) == []
    assert steps[-1].bytes_read == steps[-1].bytes_total == len(BODY)


def test_part_grows_over_several_updates(server: FaultServer, tmp_path: Path) -> None:
    """Each goes on where the last one stopped."""
    for start, more in ((0, 1000), (1000, 2000), (3000, 500)):
        first = replace(WHOLE, cut_at=more) if not start else rest(start, cut_at=more)
        server.script("/f.csv", first, Script(status=404))
        with pytest.raises(FetchError, match="answered 404"):
            read(server, http(tmp_path))
    server.script("/f.csv", rest(3500))
    assert read(server, http(tmp_path)) == BODY


@pytest.mark.parametrize(
    "second",
    [NEW, rest(tag='"v2"'), rest(said=f"bytes {HALF + 1}-{len(BODY) - 1}/{len(BODY)}"), Script(status=416)],
    ids=["new whole file", "rest of another", "another range", "416"],
)
def test_part_of_an_older_version_is_not_used(second: Script, server: FaultServer, tmp_path: Path) -> None:
    """A changed ETag starts anew."""
    server.script("/f.csv", CUT, Script(status=404))
    with pytest.raises(FetchError):
        read(server, http(tmp_path))
    server.script("/f.csv", second, NEW)
    assert read(server, http(tmp_path)) == OTHER
    assert list(tmp_path.iterdir()) == []


def test_damaged_part_is_not_used(server: FaultServer, tmp_path: Path) -> None:
    """One bit is enough."""
    server.script("/f.csv", CUT, Script(status=404))
    with pytest.raises(FetchError):
        read(server, http(tmp_path))
    (part,) = tmp_path.glob("*.part")
    damaged = bytearray(part.read_bytes())
    damaged[HALF // 2] ^= 1
    part.write_bytes(bytes(damaged))
    server.script("/f.csv", WHOLE)
    assert read(server, http(tmp_path)) == BODY
    assert make_request(server)[-1] == AGAIN


def test_cancelled_download_keeps_what_it_has(server: FaultServer, tmp_path: Path) -> None:
    """Ctrl-C is a pause."""
    server.script("/f.csv", replace(WHOLE, length=len(BODY) * 2), Script(status=404))
    stop = threading.Event()

    def parse(file: Download) -> int:
        count = 0
        for chunk in file.chunks():
            count += len(chunk)
            if count == len(BODY):
                stop.set()
        return count

    with http(tmp_path, cancelled=stop.is_set) as out, pytest.raises(FetchCancelledError):
        out.read(server.url("/f.csv"), parse)
    facts = part_file(tmp_path, server.url("/f.csv")).read_kept()
    assert facts is not None
    assert (facts.size_bytes, facts.total_bytes) == (len(BODY), 2 * len(BODY))


def test_file_that_is_none_of_ours_is_not_kept(server: FaultServer, tmp_path: Path) -> None:
    """A parser that refuses it would refuse it again."""
    server.script("/f.csv", WHOLE)

    def parse(file: Download) -> None:
        next(file.chunks())
        raise PricesUnavailableError("not an offer file")

    with http(tmp_path) as out, pytest.raises(PricesUnavailableError, match="not an offer file"):
        out.read(server.url("/f.csv"), parse)
    assert list(tmp_path.iterdir()) == []


def test_progress_has_bytes_rows_and_region(server: FaultServer) -> None:
    """The total is the server's own; rows are told by the thousand."""
    steps: list[Step] = []
    server.script("/f.csv", CUT, rest())

    def parse(file: Download) -> int:
        lines = b"".join(file.chunks()).splitlines()
        return sum(1 for _ in file.count_items(lines))

    with http(tell=steps.append) as out:
        assert out.read(server.url("/f.csv"), parse, what="reading AmazonEC2", region="us-east-1") == 20_000
    assert steps[-1] == Step("reading AmazonEC2", "us-east-1", len(BODY), len(BODY), 20_000)
    sizes = [step.bytes_read for step in steps]
    assert sizes == sorted(sizes)
    assert any(0 < size < len(BODY) for size in sizes)


def test_limit_of_size_holds_over_the_parts(server: FaultServer) -> None:
    server.script("/f.csv", CUT, rest())
    with pytest.raises(FetchError, match="larger than allowed"):
        read(server, http(limits=Limits(max_body_bytes=HALF + 10)))


def test_part_file_without_room_or_disk_keeps_nothing(tmp_path: Path) -> None:
    """A download must not fill the disk, and a disk that refuses must not end the download."""
    full = PartFile(tmp_path / "a.part", free_bytes=lambda _: 10**9)
    full.begin('"v1"', 10**9, "")
    full.append(b"1")
    full.keep()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    nowhere = PartFile(tmp_path / "file" / "a.part")
    nowhere.begin('"v1"', 10, "")
    nowhere.append(b"1")
    nowhere.keep()
    assert nowhere.read_kept() is None


def test_part_file_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    """Nor one of which the facts say more than there is."""
    part = PartFile(tmp_path / "a.part")
    part.begin('"v1"', 10, "")
    part.append(b"12345")
    part.keep()
    again = PartFile(tmp_path / "a.part")
    assert again.read_kept() is not None
    (tmp_path / "a.part").rename(tmp_path / "b")
    (tmp_path / "a.part").symlink_to(tmp_path / "b")
    assert PartFile(tmp_path / "a.part").read_kept() is None
    (tmp_path / "a.part").unlink()
    (tmp_path / "a.part").write_bytes(b"1234")
    assert PartFile(tmp_path / "a.part").read_kept() is None


def test_old_parts_are_deleted(tmp_path: Path) -> None:
    """Three days after, when another download begins."""
    old = PartFile(tmp_path / "old.part")
    old.begin('"v1"', 10, "")
    old.append(b"12345")
    old.keep()
    (tmp_path / "aws.parquet").write_bytes(b"")
    later = (tmp_path / "old.part").stat().st_mtime + 4 * 86400
    new = PartFile(tmp_path / "new.part", clock=lambda: later)
    new.begin('"v1"', 10, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aws.parquet", "new.part"]
    new.keep()
    assert [path.name for path in tmp_path.iterdir()] == ["aws.parquet"]  # nothing came
