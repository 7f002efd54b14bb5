"""docs/export.md: its examples are what the commands write, and it names every target, plan name and setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.exports import PAGE, draw_page
from trainfare.export import TARGETS
from trainfare.export.plan import PLAN_NAMES
from trainfare_core.recommendation import Launch

pytestmark = pytest.mark.sources


def test_examples_are_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PYTHONPATH=tests python tests/builders/exports.py` writes them anew."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    assert text == draw_page(text)
    for name in (*TARGETS, "azureml-compute"):
        assert f"<!-- export: {name} -->\n\n```" in text


def test_the_page_names_everything() -> None:
    text = PAGE.read_text()
    for name in (*TARGETS, *PLAN_NAMES, *Launch.model_fields):
        assert name in text
