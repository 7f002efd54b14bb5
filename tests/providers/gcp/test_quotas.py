"""The quotas of a Google Cloud project, from loopback servers, and the sign-in that google-auth finds."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from builders.gcp_quotas import FAMILIES, PATHS, PROJECT, REGIONS, gcp_prices, info, region, script_quotas
from builders.patient_client import patient_client
from faults.server import FaultServer, Script, json_script
from trainfare_core.errors import CannotTellError, FetchError
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.quotas import machines_allowed
from trainfare_providers.gcp import GcpPrices
from trainfare_providers.gcp.machines import machines
from trainfare_providers.gcp.quotas import QuotaSites, family_quota
from trainfare_providers.gcp.sign_in import SignIn, sign_in
from trainfare_providers.http.addresses import Secret
from trainfare_providers.http.client import HttpClient
from trainfare_providers.machine_types import table_rows
from trainfare_providers.refresh import FetchedQuotas, QuotaSource

CANARY = "canary-5d2f-access-token"
SIGNED = SignIn(
    PROJECT, {"authorization": Secret(f"Bearer {CANARY}"), "x-goog-user-project": Secret("payer")}
)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        script_quotas(server)
        yield server


def source(server: FaultServer) -> GcpPrices:
    return GcpPrices(sites=QuotaSites(server.url(), server.url()), sign_in=lambda _: SIGNED)


def http(**changes: Any) -> HttpClient:
    return patient_client("gcp", **{"sleep": lambda _: None, **changes})


def ask(server: FaultServer, prices: PriceBook | None = None) -> FetchedQuotas:
    with http() as out:
        return source(server).quotas(out, gcp_prices("us-central1", "us-east5") if prices is None else prices)


def is_allowed(found: FetchedQuotas, prices: PriceBook) -> dict[tuple[str, str, str], float]:
    columns = (prices.frame[name].cast(str) for name in ("instance_type", "region", "purchase_option"))
    limits = machines_allowed(prices.frame, found.limits)
    return {(row[0], row[1], row[2]): limit for *row, limit in zip(*columns, limits, strict=True)}


def test_each_gpu_and_region_has_its_quotas(server: FaultServer) -> None:
    """Standard, preemptible where it is granted, committed, of a family of GPUs, and of all regions together."""
    assert isinstance(source(server), QuotaSource)
    quotas = ask(server)
    said = [
        (limit.region, limit.family, limit.purchase and len(limit.purchase), limit.count())
        for limit in quotas.limits
    ]
    l4 = ("g2-standard-24", "g2-standard-4")
    assert said == [
        ("us-central1", ("a2-highgpu-8g",), 6, ("accelerators", 8.0)),
        ("us-central1", ("a2-highgpu-8g",), 1, ("accelerators", 32.0)),
        ("us-central1", ("a3-highgpu-8g",), 6, ("accelerators", 8.0)),
        ("us-central1", ("a3-highgpu-8g",), 1, ("accelerators", 64.0)),
        ("us-central1", l4, None, ("accelerators", 16.0)),
        ("us-central1", l4, 2, ("accelerators", 0.0)),
        ("us-east5", ("a2-highgpu-8g",), None, ("accelerators", 5.0)),
        ("us-east5", ("a3-highgpu-8g",), None, ("accelerators", 0.0)),
        ("us-east5", l4, None, ("accelerators", 0.0)),
        (None, ("A100-SXM-40GB", "H100-SXM-80GB", "L4-24GB"), None, ("accelerators", 24.0)),
    ]
    assert quotas.notes == ()
    assert {limit.service for limit in quotas.limits} == {"gce"}
    assert [server.make_request(path) for path in PATHS.values()] == [1, 1, 1]
    for request in server.requests:
        assert request.headers["authorization"] == f"Bearer {CANARY}"
        assert request.headers["x-goog-user-project"] == "payer"


def test_spot_counts_against_the_standard_quota_where_no_preemptible_one_is_granted(
    server: FaultServer,
) -> None:
    """And reserved machines keep two: that of commitments, and the standard one."""
    prices = gcp_prices("us-central1")
    limits = is_allowed(ask(server, prices), prices)
    assert limits["g2-standard-4", "us-central1", "spot"] == 16.0
    assert limits["g2-standard-24", "us-central1", "on_demand"] == 8.0
    assert limits["g2-standard-24", "us-central1", "reserved_1y"] == 0.0
    assert limits["a2-highgpu-8g", "us-central1", "on_demand"] == 1.0
    assert limits["a2-highgpu-8g", "us-central1", "spot"] == 3.0  # 32 are granted, 24 in all regions
    assert limits["a3-highgpu-8g", "us-central1", "spot"] == 3.0


def test_pages_are_read_to_their_end(server: FaultServer) -> None:
    pages = ({"items": REGIONS[:1], "nextPageToken": "more"}, {"items": REGIONS[1:]})
    server.script(PATHS["regions"], *map(json_script, pages))
    assert len(ask(server).limits) == 10
    queries = [request.query for request in server.requests if request.path == PATHS["regions"]]
    assert queries == ["", "pageToken=more"]


@pytest.mark.parametrize("status", [403, 404, 500])
def test_without_the_quotas_of_families_newer_gpus_are_said_to_have_none(
    server: FaultServer, status: int
) -> None:
    """The Cloud Quotas API may be off or refused: what Compute Engine lists is still of use."""
    server.script(PATHS["families"], Script(status=status, body=CANARY.encode()))
    prices = gcp_prices("us-central1")
    quotas = ask(server, prices)
    assert is_allowed(quotas, prices)["a3-highgpu-8g", "us-central1", "on_demand"] == 3.0  # of all regions
    assert f"answered {status}" in quotas.notes[0]
    assert "H100 and newer GPUs" in quotas.notes[0]
    assert quotas.notes[1] == (
        "gcp: in one region or more, no standard quota was read of the GPUs of a3-highgpu-8g"
    )
    assert CANARY not in "".join(quotas.notes)


@pytest.mark.parametrize("limit", [-1.0, None, "16", True, [16], 1e300])
def test_limit_that_is_not_understood_is_said(server: FaultServer, limit: object) -> None:
    """-1 and what is no number become no quota; a fraction is one, and other metrics do not matter."""
    entry = region("us-central1", NVIDIA_L4_GPUS=limit, NVIDIA_A100_GPUS=0.5, CPUS=-1, NVIDIA_X9_GPUS=-1)
    server.script(PATHS["regions"], json_script({"items": [entry, "none", {"name": "us-east5"}]}))
    server.script(PATHS["families"], json_script({"dimensionsInfos": []}))
    server.script(PATHS["project"], json_script({"quotas": []}))
    quotas = ask(server)
    assert [(limit.family, limit.count()[1]) for limit in quotas.limits] == [(("a2-highgpu-8g",), 0.5)]
    assert quotas.notes[0] == "gcp: 2 quotas of GPUs cannot be read"
    assert quotas.notes[1].endswith("a2-highgpu-8g, a3-highgpu-8g, g2-standard-24, g2-standard-4")


def test_most_specific_entry_of_a_family_counts() -> None:
    """-1 (no limit), two that differ, other dimensions and other places say nothing; a number may be one of JSON."""
    east = ["us-east5"]

    def of(*infos: dict[str, Any]) -> float | None:
        return family_quota(infos, "us-east5", "NVIDIA_H100")

    assert of(*FAMILIES["dimensionsInfos"]) == 0.0  # type: ignore[arg-type]
    assert of(info(200, east)) == 200.0
    assert of(info("3", east, region="us-east5")) == 3.0
    assert of(info("-1", east)) is None
    assert of(info("3", east, gpu_family="NVIDIA_H100"), info("4", east, region="us-east5")) is None
    assert of(info("3", east, gpu_family="NVIDIA_H200"), info("3", east, network="x")) is None
    assert of(info("3", ["us-west1"], gpu_family="NVIDIA_H100")) is None
    assert of({}) is None
    assert of() is None


@pytest.mark.parametrize(
    ("which", "pages", "words"),
    [
        ("regions", [Script(status=401, body=CANARY.encode())], r"answered 401.*docs/permissions.md"),
        ("regions", [Script(status=403, body=CANARY.encode())], r"answered 403.*docs/permissions.md"),
        ("project", [Script(status=403, body=CANARY.encode())], r"answered 403.*docs/permissions.md"),
        ("regions", [json_script({"items": {}})], "items is no list"),
        ("regions", [json_script({"kind": "x"})], "no items in it"),
        ("project", [json_script({"kind": "x"})], "no quotas in it"),
        ("regions", [json_script({"items": [], "nextPageToken": 7})], "next page has no token"),
        ("regions", [json_script({"items": [], "nextPageToken": "again"})], "a page came again"),
        (
            "regions",
            [json_script({"error": {"code": 403, "message": CANARY}})],
            "error message with status 200",
        ),
    ],
)
def test_incomplete_answer_is_an_error(
    server: FaultServer, which: str, pages: list[Script], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the error repeats neither the token nor what the server said."""
    caplog.set_level("DEBUG")
    server.script(PATHS[which], *pages)
    with pytest.raises(FetchError, match=words) as caught:
        ask(server)
    assert CANARY not in str(caught.value) + repr(caught.value.__cause__) + caplog.text


def test_busy_server_is_asked_again_after_the_time_it_names(server: FaultServer) -> None:
    server.script(
        PATHS["project"],
        Script(status=429, headers=(("Retry-After", "3"),)),
        json_script({"quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 0}]}),
    )
    waits: list[float] = []
    with http(sleep=waits.append) as out:
        quotas = source(server).quotas(out, gcp_prices("us-east5"))
    assert waits == [3.0]
    assert quotas.limits[-1].count() == ("accelerators", 0.0)


def test_no_quota_of_a_machine_of_the_prices_is_an_answer_of_its_own(server: FaultServer) -> None:
    with pytest.raises(CannotTellError, match="gcp: no quota of a machine of the prices was read"):
        ask(server, PriceBook.empty())


KEY_ID = "canary-key-id"


@pytest.fixture
def signed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that holds nothing to sign in with, and is not a machine of Google."""
    pytest.importorskip("google.auth", reason="google-auth, of the extra gcp, is not installed")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def service_account(
    folder: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch, **changes: object
) -> str:
    """The key file of a service account whose tokens come from a server; returns its private key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    document = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": KEY_ID,
        "private_key": key.decode(),
        "client_email": "reader@a-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": server.url("/token"),
        **changes,
    }
    path = folder / "key.json"
    path.write_text(json.dumps(document))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return key.decode()


def test_service_account_signs_in(
    signed_out: None, tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By google-auth's own requests; the project is that of the key, or the one that the environment names."""
    service_account(tmp_path, server, monkeypatch)
    server.script("/token", json_script({"access_token": CANARY, "expires_in": 3600, "token_type": "Bearer"}))
    signed = sign_in(30.0)
    assert signed.project == PROJECT
    assert signed.headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in repr(signed)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another-project")
    assert sign_in(30.0).project == "another-project"
    assert server.make_request("/token") == 2


def test_missing_sign_in_is_named(signed_out: None) -> None:
    """With exit code 3, as a sign-in without a project."""
    with pytest.raises(
        CannotTellError, match=r"no sign-in to Google Cloud .*application-default login"
    ) as caught:
        sign_in(30.0)
    assert caught.value.exit_code == 3


def test_sign_in_without_a_project_is_named(
    signed_out: None, tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_account(tmp_path, server, monkeypatch, project_id=None)
    with pytest.raises(CannotTellError, match="set GOOGLE_CLOUD_PROJECT"):
        sign_in(30.0)
    assert server.requests == []


def test_refused_sign_in_shows_no_secret(
    signed_out: None,
    tmp_path: Path,
    server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither what the server said nor the key is in the message, its causes, or the library's log."""
    caplog.set_level("DEBUG")
    key = service_account(tmp_path, server, monkeypatch)
    server.script("/token", json_script({"error": "invalid_grant", "error_description": CANARY}, status=400))
    with pytest.raises(FetchError, match=r"the sign-in to Google Cloud failed \(RefreshError\)") as caught:
        sign_in(30.0)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert all(secret not in told for secret in (CANARY, KEY_ID, key.split()[5]))


def test_sign_in_that_hangs_is_abandoned(
    signed_out: None, tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_account(tmp_path, server, monkeypatch)
    server.script("/token", Script(before_head_s=3600.0))
    with pytest.raises(FetchError, match="did not answer within 0 s"):
        sign_in(0.05)


def test_gpu_table_names_the_gpus_of_our_machines() -> None:
    """Each has one name of a quota, and each row its source; A4X's, which reservations give, is nowhere documented."""
    rows = list(table_rows("gcp_gpu_quotas.csv"))
    assert sorted(row["gpu"] for row in rows) == sorted(
        {machine.gpu for machine in machines()} - {"A4X-SLICE", "A4X-MAX-SLICE"}
    )
    assert len({row["quota"] for row in rows}) == len(rows)
    assert all(row["source"] for row in rows)
