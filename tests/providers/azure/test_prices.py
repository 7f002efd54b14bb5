"""Azure as a price source: pages, the query, what a workspace adds, and a refresh from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from builders.azure_ml import WORKSPACE
from builders.azure_wire import ITEMS, item, page
from builders.patient_client import patient_client
from faults.server import FaultServer, Script, json_script, tls_twin
from trainfare_core.errors import FetchError, MissingExtraError
from trainfare_providers.azure import AzurePrices
from trainfare_providers.azure.workspace import Size, Workspace, WorkspaceOffer
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import LiveSource, refresh

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
PATH = "/api/retail/prices"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    for name in NEEDS:
        monkeypatch.delenv(name, raising=False)
    with FaultServer() as server:
        yield server


def source(server: FaultServer, **changes: Any) -> AzurePrices:
    return AzurePrices(endpoint=server.url(PATH), clock=lambda: NOW, **changes)


def http(**changes: Any) -> HttpClient:
    return patient_client("azure", **{"sleep": lambda _: None, "budget_s": 300.0, **changes})


def script(server: FaultServer, *pages: Script) -> None:
    """Answer with one page after the other: the API distinguishes them by the query."""
    server.script(PATH, *pages)


def link(server: FaultServer, skip: int) -> str:
    return f"{server.url(PATH)}?api-version=2023-01-01-preview&$skip={skip}"


def test_it_is_a_registered_source() -> None:
    (entry,) = (point for point in entry_points(group="trainfare.providers") if point.name == "azure")
    source = entry.load()()
    assert isinstance(source, LiveSource)
    assert source.name == "azure"


def test_pages_are_followed_to_the_last(server: FaultServer) -> None:
    """Every page's items count; page sizes of 100 and 1000 both occur; a null link is the end."""
    items = [*ITEMS, *(item("Standard_D2s_v3", 0.1) for _ in range(100))]
    script(
        server,
        json_script(page(items[:100], link(server, 100))),
        json_script(page(items[100:120], link(server, 120))),
        json_script(page(items[120:])),
    )
    with http() as out:
        (rows,) = source(server).fetch(out)
    counted = rows.rows.height + sum(tally.rows for tally in (*rows.filtered, *rows.quarantined))
    assert counted == len(items) + 2
    assert server.make_request(PATH) == 3
    assert "at the prices of virtual machines; set AZURE_SUBSCRIPTION_ID" in rows.notes[0]


def test_version_and_filter_are_the_ones_with_savings_plans(server: FaultServer) -> None:
    """Only this version has savings plans, and with it the values of a filter are case-sensitive."""
    script(server, json_script(page(ITEMS)))
    with http() as out:
        source(server).fetch(out)
    query = parse_qs(server.requests[0].query)
    assert query["api-version"] == ["2023-01-01-preview"]
    assert query["$filter"] == ["serviceName eq 'Virtual Machines' and contains(armSkuName, 'Standard_N')"]


def test_answer_without_any_savings_plan_says_so(server: FaultServer) -> None:
    script(server, json_script(page([item("Standard_NC24ads_A100_v4", 3.673)])))
    with http() as out:
        (rows,) = source(server).fetch(out)
    assert any("no savings plan" in note for note in rows.notes)


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        (lambda s: [json_script(page(ITEMS, link(s, 1)))], "a page came again"),
        (
            lambda s: [json_script(page(ITEMS, "https://prices.example/next"))],
            "to an address that may not be used",
        ),
        (lambda s: [json_script(page([]))], "list of prices that came is empty"),
        (
            lambda s: [json_script({"Message": "Too many requests", "StatusCode": 429, "Items": []})],
            "list of prices that came is empty",
        ),
        (lambda s: [json_script({"Items": [1], "Count": 2, "NextPageLink": None})], "ended early"),
        (lambda s: [json_script({"Items": {}, "NextPageLink": None})], "Items is no list"),
        (lambda s: [json_script({"Items": [], "NextPageLink": 7})], "next page has no address"),
        (lambda s: [json_script({"Error": {"Code": "BadRequest"}})], "error message with status 200"),
        (lambda s: [json_script(page(ITEMS, link(s, 100))), Script(status=404)], "answered 404"),
    ],
)
def test_incomplete_listing_is_an_error(server: FaultServer, pages: Any, words: str) -> None:
    """Half of a price list is none: the last good prices stay."""
    script(server, *pages(server))
    with http() as out, pytest.raises(FetchError, match=words):
        source(server).fetch(out)


def test_too_many_questions_are_asked_again_later(server: FaultServer) -> None:
    """429 happens on this API; the pages read so far are not read again."""
    waits: list[float] = []
    script(
        server,
        json_script(page(ITEMS[:5], link(server, 5))),
        Script(status=429, headers=(("Retry-After", "2"),)),
        json_script(page(ITEMS[5:])),
    )
    with http(sleep=waits.append) as out:
        (rows,) = source(server).fetch(out)
    assert waits == [2.0]
    assert rows.rows.height == 14


def test_refresh_over_tls_gives_a_book_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the socket to the disk and back: every price with its meter, its day and its time of fetching."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path))
    for name in NEEDS:
        monkeypatch.delenv(name, raising=False)
    assert len(AzurePrices().load()) == 0
    with tls_twin() as (server, context):
        server.script(PATH, json_script(page(ITEMS)))
        with http(verify=context) as out:
            result = refresh(source(server), cache=BookCache(tmp_path), http=out, now=NOW)
    assert result.refreshed
    assert result.problem is None
    (intake,) = result.intakes
    assert intake.rows_read == len(ITEMS) + 2
    assert not intake.degraded or intake.quarantined_rows == 3
    book = AzurePrices().load()
    assert len(book) == 12
    assert book.find("azure:Standard_ND96isr_H100_v5@eastus").usd_per_hour == 98.32
    row = book.frame.filter(book.frame["instance_type"] == "Standard_NC40ads_H100_v5").row(0, named=True)
    assert (row["origin"], row["source_class"], row["observed_on"]) == ("azure", "price_api", "2023-06-01")
    assert row["fetched_at"].startswith("2026-11-24T12:00:00")
    assert row["sku"] == "meter-NC40ads.H100.v5--centralus"


def an_offer(*_: object) -> WorkspaceOffer:
    size = Size(
        "Standard_NC24ads_A100_v4",
        "x",
        24,
        1,
        False,
        ("AmlCompute",),
        {("Linux", "Standard"): Decimal("3.67")},
    )
    return WorkspaceOffer("eastus", (size,), ())


def test_workspace_of_the_environment_adds_a_service(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(NEEDS, ("sub", "group", "space"), strict=True):
        monkeypatch.setenv(name, value)
    script(server, json_script(page(ITEMS)))
    workspaces: list[Workspace] = []

    def read(workspace: Workspace, seconds: float) -> WorkspaceOffer:
        workspaces.append(workspace)
        assert 0 < seconds <= 300
        return an_offer()

    with http() as out:
        machines, learning = source(server, read=read).fetch(out)
    assert workspaces == [Workspace("sub", "group", "space")]
    assert (machines.service, learning.service) == ("azure_vm", "azure_ml")
    assert learning.rows["usd_per_hour"].to_list() == ["3.673"]


@pytest.mark.parametrize(
    "error",
    [FetchError("azure", "Azure Resource Manager answered 403"), MissingExtraError("azure-ai-ml", "azure")],
)
def test_workspace_that_cannot_be_read_is_a_note(server: FaultServer, error: Exception) -> None:
    """Machine prices do not wait for it; a missing package is named with its extra."""
    script(server, json_script(page(ITEMS)))

    def read(*_: object) -> WorkspaceOffer:
        raise error

    with http() as out:
        (rows,) = source(server, workspace=WORKSPACE, read=read).fetch(out)
    assert rows.rows.height == 14
    assert rows.notes == (f"Azure ML: the workspace was not read: {error}",)


def test_loading_imports_no_cloud_package() -> None:
    """Making the source and reading its file from disk is cheap, and works without httpx or the SDK."""
    code = (
        "import sys, json; from trainfare_providers.azure import AzurePrices; AzurePrices().load(); "
        "print(json.dumps([name for name in ('azure.ai.ml', 'azure.identity', 'azure.core', 'httpx', 'tenacity') "
        "if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
