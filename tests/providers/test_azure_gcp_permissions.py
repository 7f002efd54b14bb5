"""docs/permissions.md against the calls that Azure's and Google's sources make, in both directions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import pytest

from builders.azure_ml import WORKSPACE, FakeCredential, arm, cloud_of, size
from builders.azure_usages import SUBSCRIPTION, USAGES, azure_prices, usages_page, usages_path
from builders.gcp_quotas import PATHS, PROJECT, gcp_prices, script_quotas
from builders.gcp_wire import COMPUTE, TPU, page
from builders.patient_client import patient_client
from faults.server import FaultServer, json_script
from trainfare_providers.azure.usages import read_limits
from trainfare_providers.azure.workspace import ml_client, offer_of
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.gcp import ENDPOINT, KEY_VARIABLE, GcpPrices
from trainfare_providers.gcp.quotas import QuotaSites
from trainfare_providers.gcp.quotas import read_limits as quota_limits
from trainfare_providers.gcp.sign_in import SignIn
from trainfare_providers.http.addresses import Secret

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"

pytestmark = pytest.mark.sources


def record_permissions(record: Callable[[str, object], None], documented: set[str], made: list[str]) -> None:
    record("{} permissions documented", len(documented))
    record("{} calls made", len(made))
    record("{} permissions documented or called for alone, 0 allowed", len(documented ^ set(made)))


def section(cloud: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    match = re.search(rf"^## {cloud}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def action_of(path: str) -> str:
    """The action that a GET of Azure Resource Manager needs: its path without the names."""
    kinds = path.partition("/providers/")[2].split("/")
    named = kinds[1::2] if len(kinds) % 2 else [*kinds[1:-1:2], kinds[-1]]
    return "/".join([kinds[0], *named, "read"])


def test_azure_role_and_calls_are_the_same_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """No action that nothing needs, none missing."""
    (block,) = re.findall(r"```json\n(.*?)```", section("Azure"), re.DOTALL)
    role = json.loads(block)
    with arm(tmp_path, sizes=[size("Standard_NC24ads_A100_v4", 1, 24, 3.67)]) as (server, bundle):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        offer_of(ml_client(WORKSPACE, FakeCredential(), cloud_of(server.url())), WORKSPACE, lambda _: None)
        texts = [action_of(request.path) for request in server.requests]
    with FaultServer() as server, patient_client("azure") as http:
        server.script(usages_path("eastus"), json_script(usages_page(USAGES)))
        prices = azure_prices("eastus").frame.select("instance_type", "region").rows()
        read_limits(http, server.url(), SUBSCRIPTION, Secret("a-token"), prices)
        texts += [action_of(request.path) for request in server.requests]
    record_permissions(record_property, set(role["Actions"]), texts)
    assert set(texts) == set(role["Actions"])
    assert role["NotActions"] == []


def test_variables_of_azure_are_named() -> None:
    assert all(f"`{name}`" in section("Azure") for name in NEEDS)


def test_key_of_google_is_for_the_one_host_that_is_asked() -> None:
    """The key that the page describes is limited to the one service that is called."""
    with FaultServer() as server:
        for path, skus in (("6F81-5844-456A", COMPUTE), ("E000-3F24-B8AA", TPU)):
            server.script(f"/v1/services/{path}/skus", json_script(page(skus)))
        with patient_client("gcp") as http:
            GcpPrices(endpoint=server.url(), key="k").fetch(http)
        assert {request.path.rpartition("/")[2] for request in server.requests} == {"skus"}
    text = section("Google Cloud")
    host = ENDPOINT.removeprefix("https://")
    assert re.findall(r"--api-target=service=(\S+)", text) == [host]
    assert f"`{KEY_VARIABLE}`" in text


def test_role_of_google_and_calls_are_the_same_set(record_property: Callable[[str, object], None]) -> None:
    """No permission that nothing needs, none missing, and the two APIs that are asked."""
    permissions = {
        "regions": "compute.regions.list",
        "project": "compute.projects.get",
        "families": "cloudquotas.quotas.get",
    }
    with FaultServer() as server, patient_client("gcp") as http:
        sites = script_quotas(server)
        machines = gcp_prices("us-east5").frame.select("instance_type", "region").rows()
        quota_limits(http, sites, SignIn(PROJECT, {}), machines)
        named = {path: permissions[name] for name, path in PATHS.items()}
        texts = [named[request.path] for request in server.requests]
    text = section("Google Cloud")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    documented = set(re.findall(r"^  - (\S+)$", block, re.MULTILINE))
    record_permissions(record_property, documented, texts)
    assert documented == set(texts) == set(permissions.values())
    hosts = [address.removeprefix("https://") for address in astuple(QuotaSites())]
    assert f"gcloud services enable {' '.join(hosts)}\n" in text
