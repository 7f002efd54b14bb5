"""The way out to the network, against a server that misbehaves: what is tried again, refused, followed, and shown."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from decimal import Decimal

import pytest

from faults.server import FaultServer, Script, gzipped, json_script, tls_twin
from trainfare_core.errors import FetchCancelledError, FetchError, InputError
from trainfare_providers.http import Limits, Outlet


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as one:
        yield one


class Waits:
    """Sleeps by noting how long."""

    def __init__(self) -> None:
        self.all: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.all.append(seconds)


def outlet(**changes: object) -> Outlet:
    """An outlet that draws the longest wait and does not wait it."""
    settings: dict[str, object] = {"sleep": Waits(), "jitter": lambda most: most}
    return Outlet("aws", **{**settings, **changes})  # type: ignore[arg-type]


def test_json_comes_with_its_numbers_as_they_are_written(server: FaultServer) -> None:
    """A price keeps every digit; a count stays whole; compressed answers are unpacked."""
    for script in (
        json_script(b'{"price": 21.957642000, "rows": 2}'),
        gzipped(b'{"price": 21.957642000, "rows": 2}'),
    ):
        server.script("/p", script)
        with outlet() as out:
            value = out.get_json(server.url("/p"), must_have=["price"])
        assert value == {"price": Decimal("21.957642000"), "rows": 2}
        assert str(value["price"]) == "21.957642000"  # type: ignore[index]


def test_checking_certificates_cannot_be_switched_off() -> None:
    """There is no way to ask without knowing who answers."""
    with pytest.raises(InputError, match="always checked"):
        Outlet("aws", verify=bool(0))


def test_wish_to_stop_ends_a_question_that_hangs(server: FaultServer) -> None:
    """A server that says nothing does not hold up somebody who wants to stop."""
    server.script("/p", Script(before_head_s=60))
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 2

    with outlet(cancelled=cancelled) as out, pytest.raises(FetchCancelledError, match="stopped on request"):
        out.get_json(server.url("/p"))


def test_tls_twin_is_trusted_by_its_own_authority() -> None:
    """The honest server over TLS answers, so what fails elsewhere fails for its fault."""
    with tls_twin() as (server, context):
        server.script("/p", json_script({"a": 1}))
        with outlet(verify=context) as out:
            assert out.get_json(server.url("/p")) == {"a": 1}


def test_stream_gives_the_body_as_it_comes(server: FaultServer) -> None:
    """A body within its cap arrives whole, one over it is refused while it comes."""
    server.script("/p", Script(body=b"x" * 300_000))
    with outlet() as out, out.stream(server.url("/p")) as chunks:
        assert b"".join(chunks) == b"x" * 300_000
    with (
        outlet(limits=Limits(max_body_bytes=200_000)) as out,
        out.stream(server.url("/p")) as chunks,
        pytest.raises(FetchError, match="larger than allowed"),
    ):
        list(chunks)


def test_context_is_a_real_one() -> None:
    """The twin's context checks names and certificates."""
    with tls_twin() as (_, context):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_send_gives_an_sdk_whatever_status_comes(server: FaultServer) -> None:
    """boto3 reads 400s itself; the body is whole and unpacked, the request goes as it was signed."""
    server.script(
        "/p", Script(status=400, headers=(("X-Amzn-ErrorType", "ThrottlingException"),), body=b"{}")
    )
    with outlet() as out:
        reply = out.send("POST", server.url("/p"), headers={"X-Amz-Target": "Pricing.Get"}, content=b"asked")
        server.script("/p", gzipped(b"packed"))
        unpacked = out.send("GET", server.url("/p"))
    assert (reply.status, reply.body) == (400, b"{}")
    assert dict(reply.headers)["x-amzn-errortype"] == "ThrottlingException"
    assert (server.requests[0].body, server.requests[0].headers["x-amz-target"]) == (b"asked", "Pricing.Get")
    assert unpacked.body == b"packed"
    assert "content-encoding" not in dict(unpacked.headers)


def test_send_follows_no_redirect_and_tries_once(server: FaultServer) -> None:
    """What was signed for one host must not go to another, and the SDK does the trying."""
    server.script("/p", Script(status=302, headers=(("Location", server.url("/q")),)))
    with outlet() as out:
        assert out.send("POST", server.url("/p")).status == 302
        server.script("/p", Script(hang_up=True))
        with pytest.raises(FetchError) as caught:
            out.send("POST", server.url("/p"))
    assert caught.value.retryable
    assert (server.asked("/p"), server.asked("/q")) == (2, 0)


def test_send_ends_the_sdks_tries_when_the_patience_for_trouble_is_spent(server: FaultServer) -> None:
    """Its waits between tries count too; then the fault is one that is not tried again."""
    server.everywhere(Script(hang_up=True))
    time_s = [0.0]

    def clock() -> float:
        time_s[0] += 1.0
        return time_s[0]

    with outlet(clock=clock, trouble_s=15.0, budget_s=900.0, limits=Limits(total_s=600.0)) as out:
        answers = []
        for _ in range(4):
            with pytest.raises(FetchError) as caught:
                out.send("POST", server.url("/p"))
            answers.append(caught.value.retryable)
            time_s[0] += 2.0  # boto3 waits
    assert answers[0]
    assert not answers[-1]
