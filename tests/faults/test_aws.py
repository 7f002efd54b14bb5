"""AWS through the fault table: its public files, the file that streams, and the account's calls by boto3."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builders import aws_wire as wire
from builders.aws_server import aws_environment
from faults.server import FaultServer, Script, json_script
from faults.table import FAULT_CASES, FaultCase, Steps, faulty_client, put_through
from trainfare_core.errors import FetchError, PricesUnavailableError
from trainfare_providers.aws import AwsPrices, Sites
from trainfare_providers.aws.account import Account, Call, find_account
from trainfare_providers.http.client import HttpClient

PRODUCTS = Call("pricing:GetProducts", "PriceList")
INDEX = "/offers/v1.0/aws/AmazonEC2/current/region_index.json"
FILE = "/offers/v1.0/aws/AmazonEC2/20260715000000/us-east-1/index.csv"
CASES = {case.name: case for case in FAULT_CASES}
IN_A_FILE = [
    "404",
    "503",
    "reset",
    "instant close",
    "slow headers",
    "slow body",
    "reset in the body",
    "cut with length",
    "cut in chunks",
    "cut without length",
    "empty",
    "HTML with 200",
    "error object with 200",
    "wrong charset",
    "not gzip",
    "damaged gzip",
    "cut gzip",
    "gzip bomb",
    "unknown packing",
    "not HTTP",
    "redirect loop",
    "redirect elsewhere",
]


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of the machine that runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws_environment("").items():
        if "KEY" not in name and "URL" not in name:
            monkeypatch.setenv(name, value)


def public(url: str) -> AwsPrices:
    return AwsPrices(regions=["us-east-1"], plan_files=False, sites=Sites(url, f"{url}/advisor.json"))


@pytest.mark.parametrize("case", FAULT_CASES, ids=str)
def test_fault_of_the_public_files_leaves_the_last_good_prices(
    case: FaultCase, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The last good prices stay, with their date."""
    result = put_through(case, public, tmp_path, record_property)
    assert case.says in str(result.problem)


@pytest.mark.parametrize("name", IN_A_FILE)
def test_fault_within_the_streamed_file_is_an_error(name: str) -> None:
    """The index is sound and the file is not: half a file must not pass for a smaller cloud."""
    case = replace(CASES[name], waits=None)
    whole = wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2")
    if case.script is not None and case.script.body and b"items" in case.script.body:
        case = replace(case, script=replace(case.script, body=whole))
    servers: list[FaultServer] = []
    # The file's own limits are long: the client's budget ends it, once the file is asked for.
    clock = Steps(0.3, lambda: any(server.make_request(FILE) for server in servers))
    limits = replace(case.limits, max_attempts=2)
    with faulty_client(case, limits=limits, budget_s=1.0, clock=clock) as (http, url, server, waits):
        assert server is not None
        servers.append(server)
        listed = {
            "us-east-1": {"regionCode": "us-east-1", "currentVersionUrl": FILE.replace(".csv", ".json")}
        }
        server.script(INDEX, json_script({"regions": listed}))
        with pytest.raises(PricesUnavailableError, match="aws: "):
            public(url).fetch(http)
        assert server.make_request(FILE) >= 1
    assert clock.now + sum(waits.all) < 15.0


def test_file_that_is_cut_without_a_length_is_refused_before_it_is_read() -> None:
    """An early end of it would go unnoticed."""
    case = FaultCase(
        "no end",
        "does not say where it ends",
        1,
        Script(body=wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2"), length="none"),
    )
    with faulty_client(case) as (http, url, server, _):
        assert server is not None
        listed = {
            "us-east-1": {"regionCode": "us-east-1", "currentVersionUrl": FILE.replace(".csv", ".json")}
        }
        server.script(INDEX, json_script({"regions": listed}))
        with pytest.raises(FetchError, match="does not say where it ends"):
            public(url).fetch(http)


def test_cut_file_goes_on_and_a_changed_one_is_read_anew() -> None:
    """The rows are those of one whole file, each once: neither lost at the cut nor counted twice."""
    body = wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2")
    other = wire.offer_csv(wire.SAGEMAKER_PRODUCTS, "AmazonSageMaker")
    whole, half = Script(headers=(("ETag", '"v1"'), ("Accept-Ranges", "bytes")), body=body), len(body) // 2
    said = ("Content-Range", f"bytes {half}-{len(body) - 1}/{len(body)}")
    rest = Script(status=206, headers=(("ETag", '"v1"'), said), body=body[half:])
    newer = replace(whole, headers=(("ETag", '"v2"'), ("Accept-Ranges", "bytes")))
    found: list[tuple[int, int]] = []
    for scripts in (
        (whole,),
        (replace(whole, cut_at=half), rest),
        (replace(whole, cut_at=half), newer, newer),
    ):
        with FaultServer() as server, HttpClient("aws", budget_s=900.0) as http:
            for offer, file in (("AmazonEC2", FILE), ("AmazonSageMaker", FILE.replace("EC2", "SageMaker"))):
                path = {"regionCode": "us-east-1", "currentVersionUrl": file.replace(".csv", ".json")}
                index = INDEX.replace("AmazonEC2", offer)
                server.script(index, json_script({"regions": {"us-east-1": path}}))
            server.script(FILE, *scripts)
            server.script(FILE.replace("EC2", "SageMaker"), Script(body=other))
            ec2, sagemaker = public(server.url()).fetch(http)
            found.append((ec2.rows.height, sum(tally.rows for tally in ec2.filtered)))
            assert sagemaker.rows.height == 3
    assert found[0] == found[1] == found[2]


# Statuses that differ in nothing but their number are met by the http's own test.
SAME_AS_400 = {
    "402",
    "405",
    "409",
    "410",
    "418",
    "501",
    "505",
    "206",
    "502",
    "504",
    "429 unreadable",
    "429 other digits",
}


@pytest.mark.parametrize("case", [case for case in FAULT_CASES if case.name not in SAME_AS_400], ids=str)
def test_fault_of_an_accounts_call_is_one_typed_error(
    case: FaultCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real boto3: a typed error, and never an empty price list."""
    once = replace(case, waits=None)
    with faulty_client(once, limits=replace(case.limits, max_attempts=1)) as (http, url, _, _):
        for name, value in aws_environment(url).items():
            monkeypatch.setenv(name, value)
        account = find_account(http)
        assert isinstance(account, Account)
        with pytest.raises(FetchError, match=r"^aws: ") as caught:
            list(account.pages(PRODUCTS, "us-east-1", ServiceCode="AmazonEC2"))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["503", "slow body", "error object with 200", "untrusted"])
def test_fault_of_an_account_leaves_the_last_good_prices(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A whole refresh with an account: the last good prices stay, and no public file is taken in its place."""

    def with_account(url: str) -> AwsPrices:
        for variable, value in aws_environment(url).items():
            monkeypatch.setenv(variable, value)
        return public(url)

    result = put_through(replace(CASES[name], waits=None), with_account, tmp_path, record_property)
    assert "aws: " in str(result.problem)
