"""What a request may not ask for."""

from __future__ import annotations

from typing import Any

import pytest

from trainfare_core.candidates import MAX_NODES
from trainfare_core.errors import InputError
from trainfare_core.ranking.pricing.request import MAX_LIMIT, Request


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"objective": "cheapst"},
            r"objective: 'cheapst' is not one of cheapest, .*; did you mean cheapest\?",
        ),
        ({"objective": "?"}, r"objective: '\?' is not one of [a-z, _]*$"),
        ({"objective": "best_value"}, "objective best_value: give value_usd_per_hour too"),
        ({"limit": 0}, f"limit: 0 is not between 1 and {MAX_LIMIT}"),
        ({"max_nodes": MAX_NODES + 1}, f"max_nodes: {MAX_NODES + 1} is not between 1 and {MAX_NODES}"),
    ],
)
def test_what_cannot_be_asked_is_named(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Request(**fields)
