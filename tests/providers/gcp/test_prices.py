"""Google Cloud as a price source: pages, the key, and a refresh from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from builders.gcp_wire import COMPUTE, TPU, page
from builders.patient_client import patient_client
from faults.server import FaultServer, Script, json_script, tls_twin
from trainfare_core.errors import FetchError
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.gcp import KEY_VARIABLE, GcpPrices
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import LiveSource, refresh

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
KEY = "canary-AIzaSyNotAKey"
COMPUTE_PATH = "/v1/services/6F81-5844-456A/skus"
TPU_PATH = "/v1/services/E000-3F24-B8AA/skus"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with FaultServer() as server:
        server.script(COMPUTE_PATH, json_script(page(COMPUTE[:30], "next")), json_script(page(COMPUTE[30:])))
        server.script(TPU_PATH, json_script(page(TPU)))
        yield server


def source(server: FaultServer, key: str | None = KEY) -> GcpPrices:
    return GcpPrices(endpoint=server.url(), key=key, clock=lambda: NOW)


def http(**changes: Any) -> HttpClient:
    return patient_client("gcp", **{"sleep": lambda _: None, **changes})


def test_it_is_a_registered_source() -> None:
    (entry,) = (point for point in entry_points(group="trainfare.providers") if point.name == "gcp")
    source = entry.load()()
    assert isinstance(source, LiveSource)
    assert source.needs == (KEY_VARIABLE,)


def test_both_services_are_read_to_their_ends(server: FaultServer) -> None:
    """Page tokens are followed, the currency is USD, and the key is sent in a header, never in a URL."""
    with http() as out:
        gce, tpu = source(server).fetch(out)
    assert (gce.service, tpu.service) == ("gce", "tpu")
    assert {"a2-highgpu-1g", "a4-highgpu-8g"} <= set(gce.rows["instance_type"])
    assert {"v2-8", "v5p-8"} <= set(tpu.rows["instance_type"])
    queries = [parse_qs(request.query) for request in server.requests]
    assert [query.get("pageToken") for query in queries] == [None, ["next"], None]
    assert all(query["currencyCode"] == ["USD"] for query in queries)
    assert {request.headers["x-goog-api-key"] for request in server.requests} == {KEY}
    assert all(KEY not in request.query + request.path for request in server.requests)
    assert gce.rows["source"].unique().to_list() == [server.url(COMPUTE_PATH)]


def test_without_a_key_nothing_is_asked_and_the_note_says_what_to_do(
    server: FaultServer, tmp_path: Path
) -> None:
    """Not a failure: the snapshot stays in use."""
    with http() as out:
        result = refresh(source(server, None), cache=BookCache(tmp_path), http=out, now=NOW)
    assert server.requests == []
    assert not result.refreshed
    assert result.problem is None
    assert KEY_VARIABLE in result.notes[0]
    assert "docs/permissions.md" in result.notes[0]


def test_key_comes_from_the_environment(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f" {KEY}\n")
    with http() as out:
        source(server, None).fetch(out)
    assert {request.headers["x-goog-api-key"] for request in server.requests} == {KEY}


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([json_script(page(COMPUTE, "again")), json_script(page(COMPUTE, "again"))], "a page came again"),
        ([json_script(page(COMPUTE, "next")), json_script({"unlike": 1})], "no skus in it"),
        ([json_script({"skus": "none", "nextPageToken": ""})], "skus is no list"),
        ([json_script({"skus": [], "nextPageToken": 7})], "next page has no token"),
        ([json_script({"error": {"code": 400, "message": KEY}})], "error message with status 200"),
        ([Script(status=403, body=KEY.encode())], "answered 403"),
    ],
)
def test_incomplete_listing_is_an_error(
    server: FaultServer, pages: list[Script], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the error repeats neither the key nor what the server said."""
    caplog.set_level("DEBUG")
    server.script(COMPUTE_PATH, *pages)
    with http() as out, pytest.raises(FetchError, match=words) as caught:
        source(server).fetch(out)
    assert KEY not in str(caught.value) + repr(caught.value.__cause__) + caplog.text


def test_refresh_over_tls_gives_a_book_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the socket to the disk and back; the key is in no file."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path))
    assert len(GcpPrices().load()) == 0
    with tls_twin() as (server, context):
        server.script(COMPUTE_PATH, json_script(page(COMPUTE)))
        server.script(TPU_PATH, json_script(page(TPU)))
        with http(verify=context) as out:
            result = refresh(source(server), cache=BookCache(tmp_path), http=out, now=NOW)
    assert result.refreshed
    assert result.problem is None
    assert {(intake.provider, intake.service) for intake in result.intakes} == {
        ("gcp", "gce"),
        ("gcp", "tpu"),
    }
    book = GcpPrices().load()
    assert len(book) == result.rows > 100
    assert book.find("gcp:a3-highgpu-8g@us-central1").usd_per_hour == pytest.approx(88.49, abs=0.005)
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in str(result) + repr(source(server).__dict__)


def test_loading_imports_no_http_client() -> None:
    code = (
        "import sys, json; from trainfare_providers.gcp import GcpPrices; GcpPrices().load(); "
        "print(json.dumps([name for name in ('httpx', 'tenacity', 'google') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
