"""A canary in every credential variable, header and query occurs in nothing that anybody can read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest

from builders.offers import offer_row, table
from faults.canary import CANARY, format_told, witness
from faults.server import FaultServer, Script
from faults.table import FAULT_CASES, FaultCase, faulty_client
from trainfare_core.errors import FetchError
from trainfare_core.prices.book import PriceBook
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.http.addresses import Secret
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import FetchedRows, refresh

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)

ECHOES = (
    FaultCase("echo with 403", "403", script=Script(status=403, echo=True)),
    FaultCase("echo with 500", "500", script=Script(status=500, echo=True)),
    FaultCase("echo with 200", "not the JSON", script=Script(echo=True)),
    FaultCase("echo too large", "larger", script=Script(body=CANARY.encode() * 20_000)),
    FaultCase("echo in pieces", "ended early", script=Script(body=CANARY.encode() * 900, cut_at=9_000)),
    FaultCase("echo as an error object", "error message", script=Script(body=b'{"error": "%s"}' % CANARY.encode())),
    FaultCase("echo of another object", "no items", script=Script(body=b'{"a": "%s"}' % CANARY.encode())),
    FaultCase("echo in a length", "not valid HTTP", script=Script(raw=b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % CANARY.encode())),
    FaultCase("echo in a redirect", "redirects", script=Script(status=302, headers=(("Location", f"https://evil.org/?q={CANARY}"),))),
    FaultCase("echo in headers", "not the JSON", script=Script(headers=(("Content-Type", f"text/{CANARY}"), ("Retry-After", CANARY)), body=b"<")),
    FaultCase("echo in damaged gzip", "unpacked", script=Script(headers=(("Content-Encoding", "gzip"),), body=CANARY.encode())),
    FaultCase("echo in an encoding", "unpacked", script=Script(headers=(("Content-Encoding", CANARY),), body=b"x")),
)  # fmt: skip


@dataclass
class Keyed:
    """A source that sends its secrets the three ways there are."""

    url: str
    name: str = "gcp"
    needs: tuple[str, ...] = ()
    budget_s: float = 15.0

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        key = Secret(CANARY)
        headers = {"Authorization": Secret(f"Bearer {CANARY}"), "X-Goog-Api-Key": key}
        params = {"key": key, "page": "1"}
        http.get_json(f"{self.url}/skus", params=params, headers=headers, must_have=["items"])
        return (FetchedRows("gcp", "gce", table(offer_row(provider="gcp", service="gce"))),)

    def load(self) -> PriceBook:
        return PriceBook.empty()


@pytest.mark.parametrize("case", [*FAULT_CASES, *ECHOES], ids=str)
def test_fault_shows_no_secret(
    case: FaultCase,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Not in the error, a traceback with locals, a log at DEBUG, the result or the cache, whatever the server echoes."""
    with witness(monkeypatch, tmp_path) as seen, faulty_client(case, "gcp") as (out, url, _, _):
        with pytest.raises(FetchError) as caught:
            Keyed(url).fetch(out)
        seen.text(caught.value, out, *caught.value.args)
        result = refresh(Keyed(url), cache=BookCache(tmp_path / "cache"), now=NOW, http=out)
        assert result.problem
        seen.text(result)
    seen.record(record_property)


def test_success_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """What is kept and logged of an answer that came; the secrets did go where they were meant to."""
    with FaultServer() as server, witness(monkeypatch, tmp_path) as seen:
        server.everywhere(Script(body=b'{"items": []}'))
        with HttpClient("gcp") as out:
            result = refresh(Keyed(server.url()), cache=BookCache(tmp_path / "cache"), now=NOW, http=out)
        assert result.refreshed
        seen.text(result, out)
        (request,) = server.requests
        assert CANARY in request.query
        assert request.headers["x-goog-api-key"] == CANARY
        assert CANARY not in request.headers["user-agent"]
    seen.record(record_property)


def test_our_own_log_names_the_address_without_its_key(caplog: pytest.LogCaptureFixture) -> None:
    """There is one line at DEBUG; the libraries' own lines about our requests are dropped."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(b"{}")))
    with caplog.at_level(logging.DEBUG), HttpClient("gcp", transport=transport) as out:
        out.get_json("https://h.example.com/skus", params={"key": CANARY, "page": "2"})
    assert [record.name for record in caplog.records] == ["trainfare"]
    assert caplog.records[0].getMessage() == "GET https://h.example.com/skus?key=***&page=2: 200"


def test_logs_of_other_users_of_httpx_stay(caplog: pytest.LogCaptureFixture) -> None:
    """Only the lines about our requests are dropped."""
    HttpClient("aws").close()
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with caplog.at_level(logging.DEBUG), httpx.Client(transport=transport) as client:
        client.get("https://h.example.com/theirs")
    assert "theirs" in caplog.text


@pytest.mark.parametrize("status", [407, 502])
def test_password_of_a_proxy_is_not_shown(
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """A proxy that refuses and echoes: its password stays out of everything."""
    with FaultServer() as proxy, witness(monkeypatch, tmp_path) as seen:
        proxy.everywhere(Script(status=status, echo=True))
        monkeypatch.setenv("HTTP_PROXY", proxy.url().replace("http://", f"http://me:{CANARY}@"))
        monkeypatch.setenv("http_proxy", proxy.url().replace("http://", f"http://me:{CANARY}@"))
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        with HttpClient("aws", sleep=lambda _: None) as out, pytest.raises(FetchError) as caught:
            out.get_json("http://127.0.0.1:9/prices")
        assert proxy.requests, "the proxy was not asked"
        assert "proxy-authorization" in proxy.requests[0].headers
        seen.text(caught.value, out)
    seen.record(record_property)


@pytest.mark.parametrize(
    "proxy", [f"gopher://me:{CANARY}@h:1", f"http://me:{CANARY}@h:notaport", f"socks5://me:{CANARY}@h:1"]
)
def test_unusable_proxy_setting_is_not_shown(
    proxy: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """A mistake in the setting is named without the setting."""
    with witness(monkeypatch, tmp_path) as seen:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy)
        with (
            HttpClient("aws", sleep=lambda _: None) as out,
            pytest.raises(FetchError, match="proxy") as caught,
        ):
            out.get_json("https://prices.example.com/")
        seen.text(caught.value)
    seen.record(record_property)


def test_witness_finds_a_planted_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret in a log, a message, a file or a local variable is found."""

    def in_a_log() -> None:
        logging.getLogger("another").debug("key=%s", CANARY)

    def in_a_file() -> None:
        (tmp_path / "a.json").write_text(CANARY)

    for number, leak in enumerate((in_a_log, in_a_file)):
        with pytest.raises(AssertionError), witness(monkeypatch, tmp_path / str(number)) as seen:  # noqa: PT012
            seen = replace(seen, folder=tmp_path) if leak is in_a_file else seen
            leak()
            seen.check()
    with HttpClient("aws") as out, pytest.raises(FetchError) as caught:
        out.get_json("ftp://h.example.com/", headers={"X": "y"})
    assert "request = " in format_told(caught.value) or "url = " in format_told(caught.value)
