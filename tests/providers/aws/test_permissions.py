"""docs/permissions.md against the calls that are really made, both ways."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from builders import aws_wire as wire
from builders.aws_server import AwsServer, aws_environment, aws_server
from builders.patient_client import patient_client
from trainfare_providers.aws import AwsPrices

PAGE = Path(__file__).parents[3] / "docs" / "permissions.md"
NEEDED = {
    "pricing:GetProducts",
    "pricing:DescribeServices",
    "pricing:GetAttributeValues",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeInstanceTypes",
}

pytestmark = pytest.mark.sources


def policies() -> dict[str, dict[str, object]]:
    """The statements of the page, by their Sid."""
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    statements = [statement for block in blocks for statement in json.loads(block).get("Statement", [])]
    return {
        statement["Sid"]: statement for statement in statements if statement["Sid"].startswith("Trainfare")
    }


def actions_made(monkeypatch: pytest.MonkeyPatch, server: AwsServer) -> set[str]:
    """What a refresh with an account calls, as the server saw it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws_environment(server.url).items():
        monkeypatch.setenv(name, value)
    now = datetime(2026, 8, 2, tzinfo=timezone.utc)
    with patient_client("aws") as http:
        AwsPrices(regions=["us-east-1"], sites=server.sites, now=lambda: now).fetch(http)
    return server.actions()


def test_policy_is_exactly_the_least_that_prices_need() -> None:
    """Read-only, five actions, apart from what is optional."""
    fields_by_key = policies()
    needed = fields_by_key["TrainfarePrices"]["Action"]
    assert isinstance(needed, list)
    assert set(needed) == NEEDED
    assert not NEEDED & set(fields_by_key["TrainfareOptional"]["Action"])  # type: ignore[call-overload]
    for statement in fields_by_key.values():
        assert statement["Effect"] == "Allow"
        assert statement["Resource"] == "*"
        for action in statement["Action"]:  # type: ignore[attr-defined]
            assert re.fullmatch(r"[a-z0-9]+:(Get|List|Describe|Search)[A-Za-z]+", action), action


def test_policy_and_calls_are_the_same_set(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """No call that the page does not name, no action that nothing calls."""
    with aws_server() as server:
        texts = actions_made(monkeypatch, server)
    allowed = {action for statement in policies().values() for action in statement["Action"]}  # type: ignore[attr-defined]
    record_property("{} permissions documented", len(allowed))
    record_property("{} calls made", len(server.calls))
    record_property("{} permissions documented or called for alone, 0 allowed", len(texts ^ allowed))
    assert texts == allowed


def test_spot_alone_needs_only_the_first_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the history says zone ids, and nothing optional is allowed, prices and spot still come."""
    named = tuple({**entry, "AvailabilityZoneId": "use1-az1"} for entry in wire.SPOT[:1])
    with aws_server(AwsServer(spot=named)) as server:
        server.denied = frozenset(policies()["TrainfareOptional"]["Action"])  # type: ignore[call-overload]
        for name, value in aws_environment(server.url).items():
            monkeypatch.setenv(name, value)
        with patient_client("aws") as http:
            ec2, _ = AwsPrices(regions=["us-east-1"], sites=server.sites).fetch(http)
    assert {"on_demand", "spot"} <= set(ec2.rows["purchase_option"])
