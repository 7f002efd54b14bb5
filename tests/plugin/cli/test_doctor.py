"""`trainfare doctor`: what it finds of extras, prices, clouds, files and GPUs, and the command that mends each."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.cli import capture_main
from builders.offers import book_of, offer_row, small_market
from trainfare.cli.doctor import (
    DoctorReport,
    Finding,
    check_cloud,
    check_extras,
    check_files,
    check_gpus,
    check_prices,
    doctor_table,
)
from trainfare.prices.lock import LockHeader, lock_text
from trainfare.prices.sources import LoadedPrices, PriceChoice
from trainfare_core.errors import PricesUnavailableError
from trainfare_core.installation import write_install_line
from trainfare_providers.aws import AwsPrices
from trainfare_providers.azure import AzurePrices
from trainfare_providers.gcp import GcpPrices
from trainfare_providers.http.client import HttpClient

NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
REQUIREMENTS = (
    "rich>=13.7",
    "boto3>=1.41; extra == 'aws'",
    "httpx<1,>=0.27; extra == 'aws'",
    'google-auth[requests]>=2.25.2; extra == "gcp"',
    "boto3>=1.41; extra == 'all'",
)


def version_from(installed: dict[str, str]) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    return version


@pytest.mark.parametrize(
    ("installed", "says", "mend"),
    [
        ({"boto3": "1.41.0", "httpx": "0.27"}, "for prices update and quotas of AWS", ""),
        ({"boto3": "1.41rc1", "httpx": "0.100.0+cpu"}, "for prices update and quotas of AWS", ""),
        ({"boto3": "1.41.0"}, "no httpx: needed for prices update", write_install_line("aws")),
        (
            {"boto3": "1.9.99", "httpx": "1.0"},
            "boto3 1.9.99 is older than 1.41: needed",
            write_install_line("aws"),
        ),
    ],
)
def test_an_extra_is_there_where_each_package_is_new_enough(
    installed: dict[str, str], says: str, mend: str
) -> None:
    findings = {finding.name: finding for finding in check_extras(REQUIREMENTS, version_from(installed))}
    assert findings["aws"].text.startswith(says)
    assert findings["aws"].mend == mend
    assert findings["aws"].state == ("missing" if mend else "ok")
    assert findings["gcp"].text.startswith("no google-auth")


def test_every_extra_of_the_distribution_has_a_row() -> None:
    """But `all`, which is the others."""
    extras = set(metadata.metadata("trainfare").get_all("Provides-Extra") or ()) - {"all"}
    assert {finding.name for finding in check_extras(())} == extras


def load_market(*rows: dict[str, object], origin: str) -> Callable[[PriceChoice], LoadedPrices]:
    return lambda _choice: LoadedPrices(book_of(*rows, origin=origin), ("price source 'x' is broken",))


def test_prices_have_their_age_and_what_renews_them() -> None:
    """By the calendar: 29 days from 2026-11-01 to 2026-11-30, 91 from 2026-08-31."""
    load = load_market(
        offer_row(observed_on="2026-11-01"),
        offer_row(region="eu-west-1", observed_on="2026-08-31"),
        origin="snapshot",
    )
    failed, aws = check_prices(PriceChoice(now=NOW), load)
    assert (failed.state, failed.text) == ("failed", "price source 'x' is broken")
    assert (aws.name, aws.state) == ("aws/ec2", "old")
    assert aws.text == "snapshot: 2 prices, 29 to 91 days old, 1 of them over 30"
    assert aws.mend == "trainfare prices update --provider aws"


def test_prices_that_are_young_need_nothing() -> None:
    load = load_market(offer_row(observed_on="2026-11-20"), origin="snapshot")
    _, aws = check_prices(PriceChoice(now=NOW), load)
    assert (aws.state, aws.mend) == ("ok", "")


def test_small_clouds_are_one_row_which_a_release_renews() -> None:
    """No command fetches their prices."""
    rows = [
        offer_row(provider=name, service="gpu_cloud", observed_on="2026-01-01")
        for name in ("lambda", "nebius")
    ]
    _, others = check_prices(PriceChoice(now=NOW), load_market(*rows, origin="other_clouds"))
    assert others.name == "other clouds"
    assert others.text.startswith("other_clouds: 2 prices, ")
    assert others.mend == "pip install -U trainfare"


def answer_with(reply: Callable[[httpx.Request], httpx.Response]) -> Callable[[str], HttpClient]:
    return lambda cloud: HttpClient(cloud, transport=httpx.MockTransport(reply), sleep=lambda _: None)


def test_no_cloud_is_asked_unless_told_to() -> None:
    """Nor one whose plug-in is broken, or knows no request to try."""
    finding = check_cloud("aws", None)
    assert (finding.state, finding.mend) == ("not asked", "trainfare doctor --online")
    assert check_cloud("x", "the plug-in is broken").text == "no request was made: the plug-in is broken"
    assert check_cloud("x", object()).mend == ""


@pytest.mark.parametrize(
    ("source", "host", "answer"),
    [
        (AwsPrices(), "pricing.us-east-1.amazonaws.com", {}),
        (AzurePrices(), "prices.azure.com", {"Items": [], "NextPageLink": None, "Count": 0}),
        (GcpPrices(key="a-key"), "cloudbilling.googleapis.com", {"skus": [], "nextPageToken": ""}),
    ],
    ids=["aws", "azure", "gcp"],
)
def test_a_cloud_answers_or_does_not(source: Any, host: str, answer: dict[str, Any]) -> None:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(answer).encode()))

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    answered = check_cloud(source.name, source, answer_with(reply))
    assert answered.state == "ok", answered.text
    assert [request.url.host for request in asked] == [host]
    silent = check_cloud(source.name, source, answer_with(fail))
    assert silent.state == "failed"
    assert host in silent.text


def test_google_without_a_key_is_not_asked_and_a_refused_key_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRAINFARE_GCP_API_KEY", raising=False)
    unasked = check_cloud("gcp", GcpPrices(), answer_with(lambda _: pytest.fail("it was asked")))
    assert unasked.state == "missing"
    assert "set TRAINFARE_GCP_API_KEY" in unasked.text
    monkeypatch.setenv("TRAINFARE_GCP_API_KEY", "not-a-real-key")
    refuse = answer_with(lambda _: httpx.Response(403, stream=httpx.ByteStream(b"{}")))
    refused = check_cloud("gcp", GcpPrices(), refuse)
    assert refused.state == "failed"
    assert "not-a-real-key" not in refused.text


def test_policy_and_lock_are_found(tmp_path: Path) -> None:
    """The policy names its lock; without one it is the usual file."""
    none = {finding.kind: finding for finding in check_files(tmp_path, NOW)}
    assert (none["policy"].state, none["lock"].state) == ("missing", "missing")
    assert none["lock"].mend == f"trainfare prices lock -o {tmp_path / 'trainfare.lock'}"
    (tmp_path / "trainfare.toml").write_text(
        'lock = "mine.lock"\n[jobs.net]\ntarget = "train.py"\nmax_usd = 5\n', encoding="utf-8"
    )
    header = LockHeader(tool_version="1", locked_on=date(2026, 11, 10), rows=7, max_price_age_days=20)
    (tmp_path / "mine.lock").write_text(lock_text(header, small_market()), encoding="utf-8")
    there = {finding.kind: finding for finding in check_files(tmp_path, NOW)}
    assert (there["policy"].state, there["policy"].text) == ("ok", f"{tmp_path / 'trainfare.toml'}: jobs net")
    assert there["lock"].state == "ok"
    assert "7 prices, locked 20 days ago, good for 20" in there["lock"].text
    tomorrow = {finding.kind: finding for finding in check_files(tmp_path, NOW.replace(month=12, day=1))}
    assert (tomorrow["lock"].state, tomorrow["lock"].mend[-9:]) == ("old", "--replace")


def test_a_file_that_cannot_be_read_does_not_end_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "trainfare.toml").write_text("jobs = 3\n", encoding="utf-8")
    (tmp_path / "trainfare.lock").write_text("{}\n", encoding="utf-8")
    assert [finding.state for finding in check_files(tmp_path, NOW)] == ["failed", "failed"]


def test_gpus_have_the_name_of_the_table() -> None:
    """As `nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits` prints them."""
    first, other = check_gpus(lambda: "NVIDIA H100 80GB HBM3, 81559\nSome Laptop GPU, 4096\n")
    assert (first.state, first.text) == ("ok", "NVIDIA H100 80GB HBM3: H100-SXM-80GB")
    assert (other.name, other.state) == ("1", "missing")
    (none,) = check_gpus(lambda: "")
    assert none.state == "missing"
    assert "none is needed" in none.text


def test_each_command_that_mends_is_shown_once() -> None:
    old = [
        Finding("prices", name, "old", "200 days", "trainfare prices update")
        for name in ("aws/ec2", "aws/sagemaker")
    ]
    report = DoctorReport(tool_version="1", system="x", findings=tuple(old))
    assert doctor_table(report, 100).count("mend: trainfare prices update\n") == 1


def test_the_command_ends_with_0_unless_nothing_can_be_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Much is missing here, and `recommend` answers all the same; without prices it does not, and the code is 3."""
    monkeypatch.chdir(tmp_path)
    done = capture_main(capsys, "doctor", "--format", "json")
    assert done.exit_code == 0
    findings = json.loads(done.stdout)["findings"]
    assert {finding["state"] for finding in findings if finding["kind"] == "cloud"} == {"not asked"}
    monkeypatch.setenv("TRAINFARE_OWN_PRICES", str(tmp_path / "none.toml"))
    done = capture_main(capsys, "doctor")
    assert done.exit_code == PricesUnavailableError.exit_code == 3
    assert "none.toml" in done.stdout
