"""
The faults of reliability item 7 as a table, and `put_through`, which puts any price source through one of them.

    @pytest.mark.parametrize("case", FAULT_CASES, ids=str)
    def test_fault_leaves_the_last_good_prices(case, tmp_path):
        put_through(case, lambda url: AwsPrices(endpoint=url), tmp_path, record_property)
"""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from builders.offers import book_of, offer_row
from builders.patient_client import PATIENT
from builders.processes import HANG_S
from faults.server import FaultServer, Script, tls_twin
from trainfare_core.errors import FetchError
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import read_book, write_book
from trainfare_providers.disk.checked_parquet import BookFacts
from trainfare_providers.http.answer import Limits
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import LiveSource, RefreshResult, refresh

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
SMALL = replace(PATIENT, max_body_bytes=100_000)
SOON_SILENT = replace(SMALL, read_s=0.1)
"""For a server that says nothing: however busy the machine, that is seen in the end."""
SOON_OVER = replace(SMALL, total_s=0.9)
"""For an answer that is never complete: over after three looks at `Steps`."""

JSON = (("Content-Type", "application/json"),)
GZIP = (*JSON, ("Content-Encoding", "gzip"))
HALF = b'{"items": [1, 2,'
WHOLE = b'{"items": [1, 2, 3]}'


class Waits:
    """Sleeps by noting how long."""

    def __init__(self) -> None:
        self.all: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.all.append(seconds)


class Steps:
    """
    A clock that moves by a step at every look, so that a limit is reached after some looks and not after some time.

    Args:
        step_s: by how much.
        begun: from when on it moves; None is at once.
    """

    def __init__(self, step_s: float, begun: Callable[[], bool] | None = None) -> None:
        self.now, self.step_s, self.begun = 0.0, step_s, begun

    def __call__(self) -> float:
        if self.begun is None or self.begun():
            self.now += self.step_s
        return self.now


@dataclass(frozen=True)
class FaultCase:
    """
    One fault.

    Attributes:
        says: what the error's message holds.
        tries: how often a client asks; None where no server counts, or where a source may ask otherwise.
        waits: seconds between tries with the longest jitter; None is not checked.
        script: what every path answers, plain or over TLS.
        via: how the server is met.
    """

    name: str
    says: str
    tries: int | None = 1
    script: Script | None = None
    via: Literal["plain", "tls", "untrusted", "expired", "wrong host", "closed port", "transport"] = "plain"
    transport: Callable[[httpx.Request], httpx.Response] | None = None
    waits: tuple[float, ...] | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def limits(self) -> Limits:
        """Short ones where the fault is silence, or an answer that drips."""
        if self.is_endless:
            return SOON_OVER
        return SOON_SILENT if self.script is not None and self.script.before_head_s else SMALL

    @property
    def is_endless(self) -> bool:
        """Whether only the client's clock ends it."""
        return self.transport is _hangs or (self.script is not None and bool(self.script.drip_s))


def status(code: int, tries: int, **changes: Any) -> FaultCase:
    return FaultCase(
        changes.pop("name", str(code)),
        f"answered {code}",
        tries,
        Script(status=code, **{k: v for k, v in changes.items() if k == "headers"}),
        waits=changes.get("waits"),
    )


def fault(name: str, says: str, tries: int | None = 1, /, via: Any = "plain", **script: Any) -> FaultCase:
    return FaultCase(name, says, tries, Script(**{"headers": JSON, **script}), via)


def redirect(name: str, says: str, location: str, tries: int, via: Any = "plain") -> FaultCase:
    return FaultCase(name, says, tries, Script(status=302, headers=(("Location", location),)), via)


def fails(
    cause: Exception, kind: type[httpx.TransportError] = httpx.ConnectError
) -> Callable[[httpx.Request], httpx.Response]:
    """A transport that fails as httpx does: its own error, with the system's as the cause."""

    def handle(request: httpx.Request) -> httpx.Response:
        try:
            raise cause
        except Exception as error:
            raise kind("no", request=request) from error

    return handle


def failing(
    name: str,
    says: str,
    waits: tuple[float, ...],
    cause: Exception,
    kind: type[httpx.TransportError] = httpx.ConnectError,
) -> FaultCase:
    return FaultCase(name, says, None, via="transport", transport=fails(cause, kind), waits=waits)


def _hangs(request: httpx.Request) -> httpx.Response:
    """A name lookup that no timeout reaches."""
    threading.Event().wait(HANG_S)
    raise httpx.ConnectError("no", request=request)


JITTERED = (0.5, 1.0, 2.0)
SOON = format_datetime(NOW + timedelta(seconds=3), usegmt=True)

FAULT_CASES: tuple[FaultCase, ...] = (
    # Errors of the request: never retried.
    status(400, 1),
    status(401, 1),
    status(402, 1),
    status(403, 1),
    status(404, 1),
    status(405, 1),
    status(409, 1),
    status(410, 1),
    status(418, 1),
    status(501, 1),
    status(505, 1),
    status(204, 1),
    status(206, 1),
    status(304, 1),
    # What asks for another try.
    status(408, 4, waits=JITTERED),
    status(429, 4, waits=JITTERED),
    status(500, 4, waits=JITTERED),
    status(502, 4, waits=JITTERED),
    status(503, 4, waits=JITTERED),
    status(504, 4, waits=JITTERED),
    status(429, 4, name="429 in seconds", headers=(("Retry-After", "2"),), waits=(2.0, 2.0, 2.0)),
    status(429, 4, name="429 by date", headers=(("Retry-After", SOON),), waits=(3.0, 3.0, 3.0)),
    status(503, 4, name="503 in seconds", headers=(("Retry-After", "1"),), waits=(1.0, 1.0, 1.0)),
    status(429, 1, name="429 absurd", headers=(("Retry-After", "1000000000"),), waits=()),
    status(429, 1, name="429 longer", headers=(("Retry-After", "12"),), waits=()),
    status(429, 4, name="429 unreadable", headers=(("Retry-After", "-5 or so"),), waits=JITTERED),
    status(429, 4, name="429 other digits", headers=(("Retry-After", "+1_0"),), waits=JITTERED),
    # Connections.
    FaultCase("refused", "connection was refused", None, via="closed port", waits=JITTERED),
    fault("reset", "connection was cut", 4, reset=True),
    fault("instant close", "answer ended early", 4, hang_up=True),
    fault("slow headers", "server went silent", None, before_head_s=HANG_S),
    fault("dripping headers", "not complete within the time", None, drip_s=1.0, drips="head", body=WHOLE),
    fault("slow body", "not complete within the time", None, drip_s=1.0, body=WHOLE + b" " * 1200),
    fault("reset in the body", "connection was cut", 4, body=WHOLE, cut_at=8, reset=True),
    failing("no such host", "name is not known", (), socket.gaierror(socket.EAI_NONAME, "no")),
    failing("no resolver", "could not be looked up", JITTERED, socket.gaierror(socket.EAI_AGAIN, "no")),
    failing("no route", "cannot be reached", JITTERED, OSError(errno.ENETUNREACH, "no")),
    failing("no connection in time", "no connection in time", JITTERED, TimeoutError(), httpx.ConnectTimeout),
    failing("no TLS there", "no secure connection", (), ssl.SSLError(1, "WRONG_VERSION_NUMBER")),
    failing("TLS cut off", "connection was cut", JITTERED, ssl.SSLEOFError(8, "EOF")),
    failing("proxy", "the proxy refused", (), OSError(), httpx.ProxyError),
    FaultCase(
        "lookup hangs", "not complete within the time", None, via="transport", transport=_hangs, waits=()
    ),
    # Answers that are none.
    fault("cut with length", "answer ended early", 4, body=WHOLE, cut_at=8),
    fault("cut in chunks", "answer ended early", 4, body=WHOLE, cut_at=8, length="chunked"),
    fault("cut without length", "not the JSON asked for", 4, body=HALF, length="none"),
    fault("half with its length", "not the JSON asked for", 1, body=HALF),
    fault("empty", "not the JSON asked for", 1),
    fault(
        "HTML with 200",
        "text/html",
        1,
        headers=(("Content-Type", "text/html"),),
        body=b"<html>Sign in</html>",
    ),
    fault("error object with 200", "error message with status 200", 1, body=b'{"error": {"code": 500}}'),
    fault("error word with 200", "error message with status 200", 1, body=b'{"__type": "Throttling"}'),
    fault("a bare value", "bare value", 1, body=b"5"),
    fault("wrong charset", "not UTF-8", 1, body='{"a": "é"}'.encode("latin-1")),
    fault("NaN", "NaN", 1, body=b'{"a": NaN}'),
    fault("Infinity", "Infinity", 1, body=b'{"a": -Infinity}'),
    fault("nested deep", "nested deeper", 1, body=b"[" * 20_000 + b"]" * 20_000),
    fault("a name twice", "name twice", 1, body=b'{"price": 1, "price": 2}'),
    fault("endless number", "too long", 1, body=b'{"a": ' + b"9" * 5_000 + b"}"),
    fault("not gzip", "cannot be unpacked", 1, body=b"plain", headers=GZIP),
    fault("damaged gzip", "cannot be unpacked", 1, body=gzip.compress(WHOLE)[:-6] + b"123456", headers=GZIP),
    fault("cut gzip", "answer ended early", 4, body=gzip.compress(WHOLE)[:-9], headers=GZIP),
    fault("gzip bomb", "larger than allowed", 1, body=gzip.compress(bytes(50_000_000)), headers=GZIP),
    fault(
        "unknown packing", "cannot be unpacked", 1, body=WHOLE, headers=(*JSON, ("Content-Encoding", "br"))
    ),
    fault("too large", "larger than allowed", 1, body=b" " * 200_000),
    fault("not HTTP", "not valid HTTP", 1, raw=b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    # Redirects.
    redirect("redirect loop", "more than 5 times", "/round", 6),
    redirect("ten redirects", "more than 5 times", "deeper/", 6),
    redirect("redirect to a file", "to an address that may not be used", "file:///etc/passwd", 1),
    redirect("redirect elsewhere", "to an address that may not be used", "https://example.com/", 1),
    redirect("redirect nowhere", "to an address that may not be used", "http://[", 1),
    redirect("redirect with a user", "to an address that may not be used", "http://me:pw@127.0.0.1/", 1),
    redirect("redirect to http", "to an address that may not be used", "http://127.0.0.1/", 1, "tls"),
    # Identity.
    FaultCase("untrusted", "certificate cannot be trusted", None, via="untrusted", waits=()),
    FaultCase("expired", "certificate cannot be trusted", None, via="expired", waits=()),
    FaultCase("wrong host", "certificate cannot be trusted", None, via="wrong host", waits=()),
)


@contextmanager
def faulty_client(
    case: FaultCase, cloud: str = "aws", **changes: Any
) -> Iterator[tuple[HttpClient, str, FaultServer | None, Waits]]:
    """The way out to a server that has this fault everywhere: http, base URL, server if any, waits."""
    waits = Waits()
    settings: dict[str, Any] = {
        "limits": case.limits,
        "sleep": waits,
        "jitter": lambda most: most if case.waits is not None else 0.0,
        "wall_clock": NOW.timestamp,
        "clock": Steps(0.3 if case.is_endless else 0.0),
        **changes,
    }
    with _meet_case(case) as (url, server, more):
        if server is not None and case.script is not None:
            server.everywhere(case.script)
        with HttpClient(cloud, **{**settings, **more}) as out:
            yield out, url, server, waits


@contextmanager
def _meet_case(case: FaultCase) -> Iterator[tuple[str, FaultServer | None, dict[str, Any]]]:
    if case.via == "transport":
        assert case.transport is not None
        yield "https://prices.example", None, {"transport": httpx.MockTransport(case.transport)}
    elif case.via == "plain":
        with FaultServer() as server:
            yield server.url(), server, {}
    elif case.via == "closed port":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{closed.getsockname()[1]}", None, {}
    else:
        names = ("elsewhere.example",) if case.via == "wrong host" else ("127.0.0.1",)
        twin = tls_twin(names, expired=case.via == "expired", trusted=case.via != "untrusted")
        with twin as (server, context):
            assert context.verify_mode is ssl.CERT_REQUIRED
            yield server.url(), server, {"verify": context}


def error_of(
    case: FaultCase, ask: Callable[[HttpClient, str], object]
) -> tuple[FetchError, int | None, Waits]:
    """Make one request under a fault; return the error, the number of requests, and the waits."""
    with faulty_client(case) as (out, url, server, waits):
        try:
            answer = ask(out, url)
        except FetchError as error:
            return error, None if server is None else len(server.requests), waits
    raise AssertionError(f"{case}: answered {answer!r}")


def put_through(
    case: FaultCase,
    make_source: Callable[[str], LiveSource],
    folder: Path,
    record: Callable[[str, object], None],
    *,
    seconds: float = 15.0,
) -> RefreshResult:
    """
    Refresh a source whose server has a fault, and check that it costs nothing that was there.

    The last good price stays, with its date; the problem is a sentence; it is over within `seconds` by the client's clock.
    """
    clock = Steps(0.3 if case.is_endless else 0.0)
    with faulty_client(case, make_source("http://127.0.0.1").name, clock=clock) as (out, url, _, waits):
        source = make_source(url)
        cache = BookCache(folder)
        last = book_of(offer_row(), origin=source.name)
        assert write_book(cache, source.name, last.frame, BookFacts(fetched_at=NOW, intakes=last.intakes))
        result = refresh(source, cache=cache, now=NOW + timedelta(days=2), http=out)
    took_s = clock.now + sum(waits.all)
    record(f"at most {{}} s for a cloud under a fault, by its client's clock, {seconds:g} allowed", took_s)
    assert took_s < seconds
    assert not result.refreshed
    assert result.problem
    assert result.problem.startswith(source.name)
    assert (result.rows, result.fetched_at) == (1, NOW)
    book = read_book(cache, source.name)
    assert book is not None
    assert book.book.frame.equals(last.frame)
    assert book.facts.fetched_at == NOW
    return result
