"""Azure ML: the real client against a loopback Resource Manager over TLS, and the join with machine prices."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from builders.azure_ml import CANARY, PATHS, WORKSPACE, FakeCredential, arm, cloud_of, size, usage
from builders.azure_usages import azure_prices
from builders.azure_wire import item
from builders.patient_client import patient_client
from faults.server import FaultServer, Script, json_script
from trainfare_core.errors import CannotTellError, FetchError
from trainfare_core.prices.book import PriceBook
from trainfare_providers.azure import AzurePrices, vm_rows
from trainfare_providers.azure.ml_rows import ml_rows
from trainfare_providers.azure.sign_in import within
from trainfare_providers.azure.workspace import (
    Quota,
    Size,
    Workspace,
    WorkspaceOffer,
    ml_client,
    offer_of,
    parse_offer,
    read_workspace,
)
from trainfare_providers.derived_rows import NEEDS
from trainfare_providers.refresh import FetchedRows

# On Python 3.12 and newer azure-ai-ml's own telemetry asks for the time in a deprecated way.
pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:azure\.ai\.ml")

A100 = size("Standard_NC24ads_A100_v4", 1, 24, 3.67, 0.73)
SIZES = (A100, size("Standard_DS1_v2", 0, 1, 0.07))
USAGES = (usage("NCADSA100v4", 8, 24), usage("NCSv3", 0, 0))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with arm(tmp_path, sizes=SIZES, usages=USAGES) as (server, bundle):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        yield server


def ask(server: FaultServer, waits: list[float] | None = None) -> WorkspaceOffer:
    client = ml_client(WORKSPACE, FakeCredential(), cloud_of(server.url()))
    return offer_of(client, WORKSPACE, ([] if waits is None else waits).append)


def test_values_that_the_client_misnames_are_read(server: FaultServer) -> None:
    """The client's attributes for vCPUs, prices and current usage are None; nothing here is."""
    offer = ask(server)
    assert offer.location == "eastus"
    assert [(size.name, size.vcpus, size.gpus, size.low_priority_capable) for size in offer.sizes] == [
        ("Standard_NC24ads_A100_v4", 24, 1, True),
        ("Standard_DS1_v2", 1, 0, False),
    ]
    assert offer.sizes[0].compute_types == ("AmlCompute", "ComputeInstance")
    assert offer.sizes[0].estimates[("Linux", "Standard")] == Decimal("3.67")
    assert offer.sizes[0].estimates[("Linux", "LowPriority")] == Decimal("0.73")
    assert offer.quotas[0] == Quota("Standard NCADSA100v4 Family Cluster Dedicated vCPUs", 8, 24)


def test_quotas_are_about_the_machines_of_a_family_with_prices(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In vCPUs of Azure ML alone, low priority apart; a family without a machine of the prices says nothing."""
    monkeypatch.delenv(NEEDS[0], raising=False)
    offer = ask(server)
    source = AzurePrices(workspace=WORKSPACE, read=lambda _, __: offer)
    with patient_client("azure") as http:
        (quota,) = source.quotas(http, azure_prices("eastus")).limits
        assert (quota.service, quota.region, quota.family) == (
            "azure_ml",
            "eastus",
            ("Standard_NC24ads_A100_v4",),
        )
        assert quota.count() == ("vcpus", 24.0)
        assert quota.purchase is not None
        assert "on_demand" in quota.purchase
        assert "spot" not in quota.purchase
        with pytest.raises(CannotTellError, match="no quota of a machine of the prices"):
            source.quotas(http, PriceBook.empty())


def test_quota_that_is_not_set_is_none() -> None:
    """-1 says that no limit is set; the next entry of a family is used."""
    usages = (SimpleNamespace(**usage("NCADSA100v4", 0, -1)), SimpleNamespace(**usage("NCADSA100v4", 0, 48)))
    assert [quota.vcpus_allowed for quota in parse_offer("eastus", (), usages).quotas] == [48]


def test_no_telemetry_is_sent(server: FaultServer) -> None:
    """One workspace, its region's sizes and usages, each once and with the token; no telemetry."""
    client = ml_client(WORKSPACE, FakeCredential(), cloud_of(server.url()))
    assert client._operation_config.enable_telemetry is False  # in a notebook it would report home
    offer_of(client, WORKSPACE, lambda _: None)
    assert sorted(request.path for request in server.requests) == sorted(PATHS.values())
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {CANARY}"}


def test_each_endpoint_of_a_process_gets_its_own_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client keeps the first addresses that a cloud name was given; ours is made from the addresses."""
    for number, region_sizes in enumerate((SIZES, SIZES[:1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        with arm(folder, sizes=region_sizes) as (server, bundle):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))  # read by the client's transport
            assert len(ask(server).sizes) == len(region_sizes)
            assert server.make_request(PATHS["sizes"]) == 1


def test_busy_server_is_asked_again_after_the_time_it_names(server: FaultServer) -> None:
    body = json_script({"value": list(SIZES)})
    server.script(
        PATHS["sizes"], Script(status=429, headers=(("Retry-After", "3"),)), Script(status=503), body
    )
    waits: list[float] = []
    assert len(ask(server, waits).sizes) == 2
    assert waits == [3.0, 1.0]


@pytest.mark.parametrize(
    ("script", "tries", "words"),
    [
        (Script(status=403, body=CANARY.encode()), 1, "answered 403"),
        (Script(status=404), 1, "answered 404"),
        (Script(status=500), 4, "answered 500"),
        (Script(status=429, headers=(("Retry-After", "1000000000"),)), 1, "answered 429"),
        (Script(hang_up=True), 1, "could not be asked"),
        (json_script(b"<html>"), 1, "answer that cannot be read"),
    ],
)
def test_refusal_is_one_sentence_without_the_token(
    server: FaultServer, script: Script, tries: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What to check is named; neither the token nor what the server said is in the message or its causes."""
    server.script(PATHS["sizes"], script)
    with pytest.raises(FetchError, match=words) as caught:
        ask(server)
    assert server.make_request(PATHS["sizes"]) == tries
    assert "docs/permissions.md" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert capfd.readouterr().err == ""  # the client's own log says what the server said


def test_unknown_authority_is_refused(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(FetchError, match="could not be asked"):
        ask(server)
    assert server.requests == []


def test_missing_sign_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real chain of `azure-identity`, narrowed to an environment that holds nothing; no request is sent."""
    pytest.importorskip("azure.ai.ml", reason="azure-ai-ml, of the extra azure, is not installed")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    with pytest.raises(FetchError, match="no sign-in was found, or it was refused") as caught:
        read_workspace(WORKSPACE, 30.0)
    assert "az login" in str(caught.value)


def test_hanging_client_is_abandoned() -> None:
    """The client has no deadline of its own: a server that sends a byte now and then keeps it waiting for ever."""
    released = threading.Event()
    with pytest.raises(FetchError, match="did not answer within 0 s"):
        within(0.05, released.wait)
    released.set()


@pytest.mark.parametrize(
    ("error", "becomes"), [(ValueError(CANARY), FetchError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_unexpected_error_of_the_client_is_not_quoted(
    error: BaseException, becomes: type[BaseException]
) -> None:
    """Its text is not repeated, since it may quote the server. KeyboardInterrupt passes through."""

    def fail() -> None:
        raise error

    with pytest.raises(becomes) as caught:
        within(5.0, fail)
    assert CANARY not in str(caught.value)


def join_rows(offer: WorkspaceOffer, *items: object) -> tuple[FetchedRows, tuple[str, ...]]:
    _, meters = vm_rows(list(items), source="x", today="2026-11-24")
    sink, notes = ml_rows(offer, meters, source="x")
    return sink.finish(), notes


def one_size(**changes: object) -> Size:
    said: dict[str, object] = {
        "name": "Standard_NC24ads_A100_v4",
        "family": "standardNCADSA100v4Family",
        "vcpus": 24,
        "gpus": 1,
        "low_priority_capable": True,
        "compute_types": ("AmlCompute",),
        "estimates": {("Linux", "Standard"): Decimal("3.67"), ("Linux", "LowPriority"): Decimal("0.73")},
    }
    return Size(**{**said, **changes})  # type: ignore[arg-type]


def wire(price: str, **changes: object) -> dict[str, object]:
    fields = item("Standard_NC24ads_A100_v4", 1, **changes)
    return {**fields, "retailPrice": Decimal(price), "unitPrice": Decimal(price), "tierMinimumUnits": 0}


METERS = (wire("3.673"), wire("0.7346", suffix=" Low Priority"), wire("1.1", suffix=" Spot"))


def test_workspace_pays_the_machine_s_price() -> None:
    """
    No surcharge, and quota is said beside it. A cluster of the tier low_priority pays "the current Spot rate for the VM
    size in the region" (https://github.com/MicrosoftDocs/azure-ai-docs/pull/806), not the low-priority meter.
    """
    quotas = (Quota("Standard NCADSA100v4 Family Cluster Dedicated vCPUs", 8, 24),)
    rows, notes = join_rows(WorkspaceOffer("eastus", (one_size(),), quotas), *METERS)
    assert [
        (row["service"], row["purchase_option"], row["usd_per_hour"], row["caveat"])
        for row in rows.rows.iter_rows(named=True)
    ] == [
        (
            "azure_ml",
            "on_demand",
            "3.673",
            "beyond this subscription's Azure ML quota: 8 of 24 vCPUs are used, it needs 24",
        ),
        ("azure_ml", "spot", "1.1", None),
    ]
    assert notes == ("Azure ML in eastus: 1 of 2 prices are beyond the quota",)


def test_a_part_of_an_accelerator_is_one_to_the_workspace() -> None:
    """A sixth of an A10 has one GPU by the service's count, and is priced."""
    name = "Standard_NV6ads_A10_v5"
    size = one_size(
        name=name, family="NVADSA10v5", vcpus=6, estimates={("Linux", "Standard"): Decimal("0.454")}
    )
    meter = {
        **item(name, 1),
        "retailPrice": Decimal("0.454"),
        "unitPrice": Decimal("0.454"),
        "tierMinimumUnits": 0,
    }
    rows, _ = join_rows(WorkspaceOffer("eastus", (size,), ()), meter)
    assert rows.rows["usd_per_hour"].to_list() == ["0.454"]


def test_quota_with_room_adds_no_caveat() -> None:
    """The name of a size's family is written without spaces, that of its quota with them."""
    rows, notes = join_rows(
        WorkspaceOffer("eastus", (one_size(),), (Quota("standardNCADSA100v4Family", 0, 24),)), *METERS
    )
    assert rows.rows["caveat"].null_count() == 2
    assert notes == ()


@pytest.mark.parametrize(
    ("changes", "reason", "count"),
    [
        ({"gpus": 12}, "number of GPUs is not what our table says", 1),
        ({"vcpus": 12}, "number of vCPUs is not what our table says", 1),
        ({"gpus": 0}, "machine without an accelerator", 1),
        ({"compute_types": ("ComputeInstance",)}, "size that no training cluster can have", 1),
        ({"name": "Standard_NC6"}, "size that is not in our table of machines to train on", 1),
        (
            {"name": "Standard_NC48ads_A100_v4", "gpus": 2, "vcpus": 48},
            "no price of this virtual machine and tier in the workspace's region",
            2,
        ),
        (
            {"estimates": {("Linux", "Standard"): Decimal(9), ("Linux", "Spot"): Decimal(9)}},
            "the workspace's own estimate says another price",
            2,
        ),
    ],
)
def test_size_that_does_not_fit_is_counted(changes: dict[str, object], reason: str, count: int) -> None:
    rows, _ = join_rows(WorkspaceOffer("eastus", (one_size(**changes),), ()), *METERS)
    assert rows.rows.is_empty()
    assert {tally.reason: tally.rows for tally in (*rows.filtered, *rows.quarantined)} == {reason: count}


def test_other_regions_and_two_prices_are_no_price() -> None:
    offer = WorkspaceOffer("westeurope", (one_size(low_priority_capable=False),), (), unreadable=1)
    rows, _ = join_rows(offer, *METERS)
    assert {tally.reason for tally in rows.quarantined} == {
        "no price of this virtual machine and tier in the workspace's region",
        "size that cannot be read",
    }
    twice, _ = join_rows(
        WorkspaceOffer("eastus", (one_size(low_priority_capable=False),), ()), wire("3.673"), wire("3.7")
    )
    assert [tally.reason for tally in twice.quarantined] == ["two different prices of the virtual machine"]


def test_workspace_is_named_by_three_variables() -> None:
    assert Workspace.from_environment({}) is None
    assert Workspace.from_environment(dict.fromkeys(NEEDS[:2], "x")) is None
    assert Workspace.from_environment(dict(zip(NEEDS, "abc", strict=True))) == Workspace("a", "b", "c")
