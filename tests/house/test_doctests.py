"""The examples in the docstrings of the public API run and print what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MODULES = {
    "trainfare.recommendation": True,
    "trainfare_core.job_profile": True,
    "trainfare.job.training_job": False,
    "trainfare.prelaunch.job_trace": False,
    "trainfare.meter.callback": False,
}
"""Modules of the public API, and whether they must have an example."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples read files of `docs/examples`, so they run at the top of the repository."""
    monkeypatch.chdir(TOP)
    found = doctest.testmod(import_module(name))
    assert found.failed == 0
    assert found.attempted > 0 or not MODULES[name]
