"""JSON from strangers: what is JSON comes out as it is, what is not is a ValueError and nothing else."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_core.documents import MAX_DEPTH
from trainfare_providers.http.strict_json import parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(value=VALUES)
def test_valid_json_round_trips(value: object) -> None:
    """Nothing is lost or changed."""
    assert parse_json(json.dumps(value).encode()) == value


@settings(max_examples=1000, deadline=None)
@given(
    body=st.binary(max_size=60)
    | st.text(alphabet='{}[]":,0123456789.eE+-NaInfity\\ \u0663', max_size=40).map(str.encode)
)
def test_invalid_json_is_a_value_error(body: bytes) -> None:
    """No other exception, and no number that is not finite."""
    try:
        value = parse_json(body)
    except ValueError:
        return
    assert "NaN" not in repr(value)
    assert "Infinity" not in repr(value)


@settings(max_examples=200, deadline=None)
@given(digits=st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=0, max_value=10**6))
def test_price_keeps_every_digit(digits: Decimal) -> None:
    """Decimal text, parsed once."""
    assert parse_json(f'{{"p": {digits:f}}}'.encode()) == {"p": digits}


@pytest.mark.parametrize(("depth", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (100_000, False)])
def test_depth_is_bounded(depth: int, fits: bool) -> None:
    """A bracket bomb is refused before anybody walks it."""
    body = b"[" * depth + b"]" * depth
    if fits:
        assert parse_json(body) is not None
    else:
        with pytest.raises(ValueError, match="nested deeper"):
            parse_json(body)


def test_error_message_quotes_nothing_of_the_text() -> None:
    """A page may echo what we sent."""
    for body in (b"CANARY", b'{"a": CANARY}', b'{"CANARY": 1, "CANARY": 2}', b'{"a": NaN, "b": "CANARY"}'):
        with pytest.raises(ValueError, match=r"it |an object") as caught:
            parse_json(body)
        assert "CANARY" not in str(caught.value)
