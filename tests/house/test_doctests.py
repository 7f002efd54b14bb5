"""The examples in the docstrings of the public API run and print what they show."""

from __future__ import annotations

import doctest
import warnings
from importlib import import_module
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MODULES = (
    "trainfare.recommendation",
    "trainfare_core.job_profile.profile",
    "trainfare_core.run_cost.billing",
    "trainfare_core.run_cost.disks",
    "trainfare_core.run_cost_facts.lookup",
    "trainfare.job.training_job",
    "trainfare.fake_step.job_trace",
    "trainfare.lightning.callback",
    "trainfare.lightning.plan_code",
)
"""Modules of the public API."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples read files of `docs/examples`, so they run at the top of the repository."""
    monkeypatch.chdir(TOP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning advises on the number of workers and the like
        found = doctest.testmod(import_module(name))
    assert found.failed == 0
    assert found.attempted > 0
