"""The real boto3 against a loopback AWS: pages, throttles, refusals, and no secret anywhere."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from builders.aws_server import Answer, AwsServer, aws_environment, aws_server, ec2_error
from builders.patient_client import PATIENT, patient_client
from builders.processes import HANG_S
from trainfare_core.errors import FetchError
from trainfare_core.installation import write_install_line
from trainfare_providers.aws import AwsPrices
from trainfare_providers.aws.account import Account, Call, NotAllowedError, NotOfferedError, find_account
from trainfare_providers.http.client import HttpClient

PRODUCTS = Call("pricing:GetProducts", "PriceList")
ZONES = Call("ec2:DescribeAvailabilityZones", "AvailabilityZones")
CANARY = "cAnArYnEvErToBeSeEn"
ONCE = replace(PATIENT, max_attempts=1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsServer]:
    """A server, and an environment that leads there and nowhere else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with aws_server() as server:
        for name, value in aws_environment(server.url).items():
            monkeypatch.setenv(name, value)
        yield server


def account(http: HttpClient) -> Account:
    account = find_account(http)
    assert isinstance(account, Account)
    return account


def products(http: HttpClient) -> list[object]:
    filters = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": "us-east-1"}]
    return list(account(http).pages(PRODUCTS, "us-east-1", ServiceCode="AmazonEC2", Filters=filters))


def test_every_page_is_read_and_an_empty_one_does_not_end_the_list(server: AwsServer) -> None:
    """Eighteen products, five a page; then an empty page with a token, then two products."""
    with patient_client("aws") as http:
        assert len(products(http)) == 18
    pages = [{"PriceList": [], "NextToken": "more"}, {"PriceList": ["{}", "{}"]}]
    server.faults["pricing:GetProducts"] = [Answer(200, json.dumps(page).encode()) for page in pages]
    with patient_client("aws") as http:
        assert len(products(http)) == 2


@pytest.mark.parametrize("last", ["", None, 7])
def test_page_without_a_usable_token_is_the_last(server: AwsServer, last: object) -> None:
    """An empty token, none, and what is no text end the list."""
    server.faults["pricing:GetProducts"] = [
        Answer(200, json.dumps({"PriceList": ["{}"], "NextToken": last}).encode())
    ]
    with patient_client("aws") as http:
        assert len(products(http)) == 1
    assert len(server.calls) == 1


def test_page_that_comes_again_is_an_error(server: AwsServer) -> None:
    """A token that never ends would ask for ever."""
    server.faults["pricing:GetProducts"] = [Answer(200, b'{"PriceList": ["{}"], "NextToken": "same"}')]
    with patient_client("aws") as http, pytest.raises(FetchError, match="a page came again"):
        products(http)
    assert len(server.calls) == 2


def test_throttled_calls_are_tried_again(server: AwsServer) -> None:
    """Two throttles, then the answer and its second page, as boto3's standard mode does it."""
    throttled = Answer(400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}')
    pages = [{"PriceList": ["{}"], "NextToken": "more"}, {"PriceList": ["{}"]}]
    server.faults["pricing:GetProducts"] = [
        throttled,
        throttled,
        *(Answer(200, json.dumps(page).encode()) for page in pages),
    ]
    with patient_client("aws") as http:
        assert len(products(http)) == 2
    assert len(server.calls) == 4


def test_no_more_than_the_limits_tries_are_made(server: AwsServer) -> None:
    """Two tries where two are allowed, then a typed error that another refresh may mend."""
    server.faults["pricing:GetProducts"] = [Answer(503, b"{}")]
    with (
        patient_client("aws", limits=replace(PATIENT, max_attempts=2)) as http,
        pytest.raises(FetchError, match="AWS answered an error") as caught,
    ):
        products(http)
    assert len(server.calls) == 2
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (
            Answer(400, b'{"__type": "ExpiredTokenException"}'),
            FetchError,
            "refused .ExpiredTokenException.: renew them",
        ),
        (Answer(400, b'{"__type": "UnrecognizedClientException"}'), FetchError, "are refused"),
        (
            Answer(400, b'{"__type": "AccessDeniedException"}'),
            NotAllowedError,
            "may not call pricing:GetProducts",
        ),
        (Answer(400, b'{"__type": "ValidationException"}'), NotOfferedError, "not offered there"),
        (Answer(400, b'{"__type": "SomethingNew"}'), FetchError, "answered an error"),
        (Answer(200, b"{not json"), FetchError, "has no PriceList"),
        (Answer(200, b""), FetchError, "has no PriceList"),
        (Answer(200, b'{"__type": "InternalError"}'), FetchError, "has no PriceList"),
        (Answer(200, b"<html>Sign in</html>", "text/html"), FetchError, "has no PriceList"),
        (Answer(302, b"", headers=(("Location", "https://example.com/"),)), FetchError, "answered an error"),
        (Answer(hang_up=True), FetchError, "ended early"),
    ],
    ids=str,
)
def test_malformed_json_answer_is_a_fetch_error(
    server: AwsServer, answer: Answer, error: type[FetchError], says: str
) -> None:
    """Never boto3's own, whose frames hold credentials, and never an empty list."""
    server.faults["pricing:GetProducts"] = [answer]
    with patient_client("aws", limits=ONCE) as http, pytest.raises(FetchError, match=says) as caught:
        products(http)
    assert type(caught.value) is error
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (
            ec2_error("UnauthorizedOperation", 403),
            NotAllowedError,
            "may not call ec2:DescribeAvailabilityZones",
        ),
        (ec2_error("AuthFailure", 401), FetchError, "a region that the account has not enabled"),
        (ec2_error("InvalidInstanceType", 400), NotOfferedError, "InvalidInstanceType"),
        (
            Answer(200, b"<html><body>Sign in</body></html>", "text/html"),
            FetchError,
            "has no AvailabilityZones",
        ),
        (Answer(200, b"<cut", "text/xml"), FetchError, "cannot be read"),
        (Answer(200, b"", "text/xml"), FetchError, "AvailabilityZones"),
    ],
    ids=str,
)
def test_malformed_xml_answer_is_a_fetch_error(
    server: AwsServer, answer: Answer, error: type[FetchError], says: str
) -> None:
    """EC2 speaks XML: a page of HTML parses as XML and must not read as no zones."""
    server.faults["ec2:DescribeAvailabilityZones"] = [answer]
    with patient_client("aws", limits=ONCE) as http, pytest.raises(FetchError, match=says) as caught:
        list(account(http).pages(ZONES, "us-east-1"))
    assert type(caught.value) is error


def test_call_that_an_old_boto3_lacks_is_left_out(server: AwsServer) -> None:
    """Training plans came to boto3 in December 2024; an older one must not cost the rest."""
    newer = Call("pricing:GetTomorrow", "Days")
    with (
        patient_client("aws") as http,
        pytest.raises(NotAllowedError, match="this boto3 does not know pricing:GetTomorrow"),
    ):
        list(account(http).pages(newer, "us-east-1"))
    assert server.calls == []


def test_missing_credentials_or_boto3_are_a_reason_not_an_error(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them the public files are read."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with patient_client("aws") as http:
        assert find_account(http) == "there are no AWS credentials"


def test_settings_that_cannot_be_used_are_an_error(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who names a profile means it."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with (
        patient_client("aws") as http,
        pytest.raises(FetchError, match=r"cannot be used \(ProfileNotFound\)"),
    ):
        find_account(http)


def test_login_that_hangs_ends_in_time(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """boto3 asks for a role's credentials by itself: with our timeouts, not with its minutes."""
    config = tmp_path / "config"
    config.write_text(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/prices\nsource_profile = me\n[profile me]\n"
    )
    keys = tmp_path / "credentials"
    keys.write_text("[me]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = example\n")
    for name, value in {"CONFIG_FILE": config, "SHARED_CREDENTIALS_FILE": keys, "PROFILE": "role"}.items():
        monkeypatch.setenv(f"AWS_{name}", str(value))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    server.faults["sts:"] = [Answer(before_s=HANG_S)]
    with (
        patient_client("aws", limits=replace(PATIENT, read_s=0.2, max_attempts=1)) as http,
        pytest.raises(
            FetchError, match=r"login .* had no answer \(ReadTimeoutError\); check the network"
        ) as caught,
    ):
        products(http)
    assert [call.action for call in server.calls] == ["sts:"], (str(caught.value), server.paths)


def test_missing_package_error_names_the_extra(tmp_path: Path) -> None:
    """Without boto3 there is no account; without httpx there is no way out: each names the extra."""
    code = """
import sys
sys.modules[sys.argv[1]] = None
from trainfare_core.errors import MissingExtraError
from trainfare_providers.http.client import HttpClient
try:
    with HttpClient("aws") as http:
        from trainfare_providers.aws.account import find_account
        print(find_account(http))
except MissingExtraError as error:
    print(error)
"""
    for package in ("boto3", "httpx"):
        said = subprocess.run(
            [sys.executable, "-c", code, package], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert f"{package} is not installed" in said.stdout
        assert write_install_line("aws") in said.stdout


def test_importing_the_provider_loads_no_sdk() -> None:
    """Every command loads the entry points."""
    code = "import sys, trainfare_providers.aws; print(sorted({'boto3', 'botocore', 'httpx'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def format_told(ask: Callable[[], object]) -> str:
    """The message of what it raises, and the traceback with the locals of every frame below this one."""
    with pytest.raises(FetchError) as caught:
        ask()
    trace = caught.value.__traceback__
    assert trace is not None
    below = traceback.TracebackException(FetchError, caught.value, trace.tb_next, capture_locals=True)
    return f"{caught.value}\n{''.join(below.format())}"


def test_secrets_are_not_shown(
    server: AwsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in logs at DEBUG, messages, tracebacks with locals, rows, notes or User-Agents, also when a server echoes."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKIA{CANARY}")
    now = datetime(2026, 8, 2, tzinfo=timezone.utc)
    source = AwsPrices(regions=["us-east-1"], sites=server.sites, now=lambda: now)
    said = io.StringIO()
    with caplog.at_level(logging.DEBUG):
        with patient_client("aws") as http:
            for rows in source.fetch(http):
                said.write(rows.rows.write_csv())
                said.write(repr(rows))
        echo = json.dumps({"__type": CANARY, "message": f"you sent AKIA{CANARY}"}).encode()
        for answer in (
            Answer(403, echo),
            Answer(400, echo, headers=(("x-amzn-errortype", CANARY),)),
            Answer(200, echo),
        ):
            server.faults = {"ec2:DescribeInstanceTypes": [answer], "pricing:GetProducts": [answer]}
            with patient_client("aws", limits=ONCE) as http:
                said.write(format_told(lambda out=http: source.fetch(out)))
                said.write(format_told(lambda out=http: products(out)))
    said.write(caplog.text)
    said.write(" ".join(call.user_agent for call in server.calls))
    assert "GetProducts" in said.getvalue()
    assert CANARY not in said.getvalue()
