"""The quotas of Azure's virtual machines, from a loopback Resource Manager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from builders.azure_usages import (
    SUBSCRIPTION,
    USAGES,
    azure_prices,
    compute_usage,
    usages_page,
    usages_path,
)
from builders.patient_client import patient_client
from faults.server import FaultServer, Script, json_script
from trainfare_core.errors import CannotTellError, FetchError
from trainfare_core.prices.intake import PURCHASE_OPTIONS
from trainfare_core.ranking.pricing.quotas import machines_allowed
from trainfare_core.recommendation import QuotaLimit
from trainfare_providers.azure import AzurePrices
from trainfare_providers.azure.meters import machines
from trainfare_providers.azure.sign_in import manager_token
from trainfare_providers.azure.usages import API_VERSION
from trainfare_providers.azure.workspace import Quota, Size, Workspace, WorkspaceOffer
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.http.addresses import Secret
from trainfare_providers.http.client import HttpClient
from trainfare_providers.machine_types import table_rows
from trainfare_providers.refresh import FetchedQuotas, QuotaSource

CANARY = "canary-1b9e-manager-token"
MACHINE = "Standard_NC144ds_xl_RTXPRO6000BSE_v6"
NOT_KNOWN = f"azure: in one region or more, no quota was read of the family of {MACHINE}"
NOT_SPOT = tuple(option for option in PURCHASE_OPTIONS if option != "spot")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    for name in NEEDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(NEEDS[0], f" {SUBSCRIPTION} ")
    with FaultServer() as server:
        server.script(usages_path("eastus"), json_script(usages_page(USAGES)))
        yield server


def source(server: FaultServer, **changes: Any) -> AzurePrices:
    return AzurePrices(manager=server.url(), token=lambda _: Secret(CANARY), **changes)


def http(**changes: Any) -> HttpClient:
    return patient_client("azure", **{"sleep": lambda _: None, **changes})


def ask(server: FaultServer, *regions: str, **changes: Any) -> FetchedQuotas:
    with http() as out:
        return source(server, **changes).quotas(out, azure_prices(*regions or ("eastus",)))


def vm_limit(
    family: tuple[str, ...], purchase: tuple[str, ...], vcpus: float, region: str = "eastus"
) -> QuotaLimit:
    return QuotaLimit(
        provider="azure", service="azure_vm", region=region, family=family, purchase=purchase, vcpus=vcpus
    )


def test_family_location_and_spot_have_a_quota_each(server: FaultServer) -> None:
    """Families without a machine of the prices say nothing, and a quota of 0 is one; spot counts apart."""
    quotas = ask(server)
    assert isinstance(source(server), QuotaSource)
    assert quotas.notes == (NOT_KNOWN,)
    assert quotas.limits == (
        vm_limit(("NC", "ND"), NOT_SPOT, 350.0),
        vm_limit(("NC", "ND"), ("spot",), 100.0),
        vm_limit(("Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4"), NOT_SPOT, 48.0),
        vm_limit(("Standard_ND96isr_H100_v5",), NOT_SPOT, 0.0),
    )
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert parse_qs(request.query) == {"api-version": [API_VERSION]}


def test_quotas_limit_the_machines_that_count_against_them(server: FaultServer) -> None:
    """The tightest one counts; a machine whose family is not known has that of the location alone."""
    prices = azure_prices("eastus")
    allowed = machines_allowed(prices.frame, ask(server).limits)
    offers = zip(
        *(prices.frame[name].cast(str) for name in ("instance_type", "purchase_option")), strict=True
    )
    assert dict(zip(offers, allowed, strict=True)) == pytest.approx(
        {
            ("Standard_NC24ads_A100_v4", "on_demand"): 48 / 24,
            ("Standard_NC24ads_A100_v4", "spot"): 100 / 24,
            ("Standard_NC48ads_A100_v4", "on_demand"): 1.0,
            ("Standard_NC48ads_A100_v4", "spot"): 100 / 48,
            ("Standard_ND96isr_H100_v5", "on_demand"): 0.0,
            ("Standard_ND96isr_H100_v5", "spot"): 100 / 96,
            ("Standard_NC144ds_xl_RTXPRO6000BSE_v6", "on_demand"): 350 / 144,
            ("Standard_NC144ds_xl_RTXPRO6000BSE_v6", "spot"): 100 / 144,
        }
    )


def test_pages_are_read_to_their_end(server: FaultServer) -> None:
    link = server.url(f"{usages_path('eastus')}?api-version={API_VERSION}&$skiptoken=4")
    pages = (usages_page(USAGES[:4], link), usages_page(USAGES[4:]))
    server.script(usages_path("eastus"), *map(json_script, pages))
    assert len(ask(server).limits) == 4
    assert [parse_qs(request.query).get("$skiptoken") for request in server.requests] == [None, ["4"]]
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {CANARY}"}


@pytest.mark.parametrize("status", [400, 404])
def test_location_that_the_subscription_lacks_is_named(server: FaultServer, status: int) -> None:
    """Others are still asked; a subscription that has none of them is an error."""
    server.script(usages_path("jioindiawest"), Script(status=status))
    server.script(usages_path("westus"), json_script(usages_page(USAGES)))
    quotas = ask(server, "eastus", "jioindiawest", "westus")
    assert {limit.region for limit in quotas.limits} == {"eastus", "westus"}
    assert quotas.notes == ("azure: the subscription has no quotas of jioindiawest", NOT_KNOWN)
    with pytest.raises(FetchError, match=f"answered {status}"):
        ask(server, "jioindiawest")


@pytest.mark.parametrize("limit", [-1, None, "96", True, [96], {"value": 96}, 1e300])
def test_limit_that_is_not_understood_is_said(server: FaultServer, limit: object) -> None:
    """-1 and what is no number become no quota; a fraction is one."""
    entries = [
        compute_usage("standardNDSH100v5Family", limit),
        compute_usage("StandardNCADSA100v4Family", 24.5),
        7,
    ]
    server.script(usages_path("eastus"), json_script(usages_page(entries)))
    quotas = ask(server)
    assert [limit.vcpus for limit in quotas.limits] == [24.5]
    assert quotas.notes == (
        "azure: 2 quotas of virtual machines cannot be read",
        NOT_KNOWN.replace(MACHINE, f"{MACHINE}, Standard_ND96isr_H100_v5"),
    )


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([Script(status=401, body=CANARY.encode())], "answered 401.*docs/permissions.md"),
        ([Script(status=403, body=CANARY.encode())], "answered 403.*docs/permissions.md"),
        ([Script(status=409)], "answered 409"),
        ([json_script({"value": {}})], "value is no list"),
        ([json_script({"nextLink": "x"})], "no value in it"),
        ([json_script(usages_page([], "?$skiptoken=4"))] * 2, "a page came again"),
        ([json_script(usages_page([], "?$skiptoken=4")), Script(status=404)], "answered 404"),
        ([json_script(usages_page([], "https://elsewhere.example/"))], "to an address that may not be used"),
        ([json_script({"value": [], "nextLink": 7})], "next page has no address"),
    ],
)
def test_incomplete_list_is_an_error(
    server: FaultServer, pages: list[Script], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the error repeats neither the token nor what the server said."""
    caplog.set_level("DEBUG")
    server.script(usages_path("eastus"), *pages)
    with pytest.raises(FetchError, match=words) as caught:
        ask(server)
    assert CANARY not in str(caught.value) + repr(caught.value.__cause__) + caplog.text


def test_busy_server_is_asked_again_after_the_time_it_names(server: FaultServer) -> None:
    server.script(
        usages_path("eastus"),
        Script(status=429, headers=(("Retry-After", "3"),)),
        json_script(usages_page(USAGES)),
    )
    waits: list[float] = []
    with http(sleep=waits.append) as out:
        assert len(source(server).quotas(out, azure_prices("eastus")).limits) == 4
    assert waits == [3.0]


def test_no_quota_of_a_machine_of_the_prices_is_an_answer_of_its_own(server: FaultServer) -> None:
    server.script(
        usages_path("eastus"), json_script(usages_page([compute_usage("standardDSv3Family", 8), "x"]))
    )
    with pytest.raises(
        CannotTellError, match="no quota of a machine of the prices was read; azure: 1 quotas"
    ):
        ask(server)


def workspace_offer(_: Workspace, __: float) -> WorkspaceOffer:
    size = Size("Standard_NC24ads_A100_v4", "standardNCADSA100v4Family", 24, 1, True, ("AmlCompute",), {})
    return WorkspaceOffer("eastus", (size,), (Quota("standardNCADSA100v4Family", 0, 24),))


def ask_closed_port(_: Workspace, __: float) -> WorkspaceOffer:
    raise FetchError("azure", "the workspace answered 403")


@pytest.mark.parametrize(
    ("read", "status", "services", "note"),
    [
        (workspace_offer, 200, {"azure_vm", "azure_ml"}, None),
        (ask_closed_port, 200, {"azure_vm"}, "the workspace answered 403"),
        (workspace_offer, 403, {"azure_ml"}, "answered 403"),
    ],
)
def test_virtual_machines_and_a_workspace_do_not_wait_for_each_other(
    server: FaultServer,
    read: Callable[[Workspace, float], WorkspaceOffer],
    status: int,
    services: set[str],
    note: str | None,
) -> None:
    """A part that may not be read is a note."""
    server.script(usages_path("eastus"), json_script(usages_page(USAGES), status=status))
    quotas = ask(server, workspace=Workspace(SUBSCRIPTION, "group", "space"), read=read)
    assert {limit.service for limit in quotas.limits} == services
    assert [str(note) in said for said in quotas.notes if said != NOT_KNOWN] == [True] * (note is not None)


def test_neither_part_can_be_read(server: FaultServer) -> None:
    server.script(usages_path("eastus"), Script(status=403))
    with pytest.raises(FetchError, match=r"Microsoft.Compute.*answered 403"):
        ask(server, workspace=Workspace(SUBSCRIPTION, "group", "space"), read=ask_closed_port)


def test_without_a_subscription_nothing_is_asked(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NEEDS[0])
    with pytest.raises(
        CannotTellError, match="azure: set AZURE_SUBSCRIPTION_ID to read the quotas of virtual machines"
    ):
        ask(server)
    assert server.requests == []


def test_sign_in_is_that_of_azure_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real chain, narrowed to an environment that holds nothing; no request is sent."""
    pytest.importorskip("azure.identity", reason="azure-identity, of the extra azure, is not installed")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    with pytest.raises(FetchError, match=r"no sign-in was found, or it was refused.*az login"):
        manager_token(30.0)


def test_family_table_is_about_machines_of_ours() -> None:
    """Each machine has one family, and each row its source."""
    rows = list(table_rows("azure_vm_families.csv"))
    names = [name for row in rows for name in row["instance_types"].split()]
    assert len(names) == len(set(names))
    known = {machine.instance_type for machine in machines().values()} | {"Standard_ND96asr_A100_v4"}
    assert set(names) <= known
    assert all(row["source"] for row in rows)
