"""`trainfare prices quotas`: what an account may rent, read by boto3 from a server, as the file of `--quota`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.aws_server import AwsServer, aws_environment, aws_server
from builders.cli import run_main
from builders.days import snapshot_day
from trainfare.prices.quotas import read_quotas

pytest.importorskip("boto3", reason="AWS accounts are asked by boto3")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsServer]:
    with aws_server() as server:
        for name, value in aws_environment(server.url).items():
            monkeypatch.setenv(name, value)
        yield server


def test_the_file_is_one_that_a_ranking_takes(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quotas of the account, those of regions without prices left out; machines above them are rejected."""
    monkeypatch.setenv("TRAINFARE_AWS_REGIONS", "us-east-1,mx-central-1")
    out = tmp_path / "quotas.toml"
    assert run_main("prices", "quotas", "--provider", "aws", "--provider", "azure", "-o", str(out)) == 0
    said = capsys.readouterr().err
    assert "azure: set AZURE_SUBSCRIPTION_ID" in said  # one cloud without an account does not end the others
    assert "no price of aws:mx-central-1 is known: its quotas are left out" in said
    assert f"--quota {out}" in said
    quotas = read_quotas(out)
    assert {quota.region for quota in quotas} == {"us-east-1"}
    assert {quota.vcpus for quota in quotas} == {64.0, 384.0, 0.0, None}
    assert {quota.machines for quota in quotas if quota.family == ("ml.p4d.24xlarge",)} == {2.0, 0.0}
    assert ("p",) in {quota.family for quota in quotas}
    job = Path(__file__).parents[3] / "docs" / "examples" / "lora-7b.json"
    asked = (
        "--quota",
        str(out),
        "--provider",
        "aws",
        "--region",
        "us-east-1",
        "--accelerator",
        "A100-SXM-40GB",
    )
    assert run_main("recommend", str(job), *asked, "--purchase", "spot", "--as-of", snapshot_day()) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"1 machine takes 96 vCPUs, your quota of \S*p4d.* in us-east-1 is 0", shown)


def test_without_an_account_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, for each cloud."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert run_main("prices", "quotas", "--provider", "aws") == 3
    assert "aws: there are no AWS credentials, and quotas belong to an account" in capsys.readouterr().err
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    assert run_main("prices", "quotas", "--provider", "azure") == 3
    assert (
        "azure: set AZURE_SUBSCRIPTION_ID to read the quotas of virtual machines" in capsys.readouterr().err
    )
    pytest.importorskip("google.auth", reason="google-auth, of the extra gcp, is not installed")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert run_main("prices", "quotas", "--provider", "gcp") == 3
    assert "gcp: there is no sign-in to Google Cloud" in capsys.readouterr().err
