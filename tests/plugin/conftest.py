"""Processes start warm, but in tests whose subject is how one starts and what it imports."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _start_warm(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("own_start") is None:
        request.getfixturevalue("warm_start")
