"""Commands start the process of a TARGET warm, but in tests whose subject is how a process starts and what it imports."""

from __future__ import annotations

import sys

import pytest

from builders.warm_process import warm_python


@pytest.fixture(scope="session")
def _warm_python() -> str:
    """Return the warm Python of this worker, which has the variables that no test has changed."""
    return warm_python()


@pytest.fixture(autouse=True)
def _warm_start(request: pytest.FixtureRequest, _warm_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("own_start") is None:
        monkeypatch.setattr(sys, "executable", _warm_python)
