"""docs/export.md and a page a target: their examples are what the commands write, and they name every plan and setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builders.exports import EXAMPLES, PAGES, draw_page
from trainfare.export import TARGETS
from trainfare.export.plan import PLAN_NAMES
from trainfare_core.recommendation import Launch

pytestmark = pytest.mark.sources


def test_examples_are_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PYTHONPATH=tests python tests/builders/exports.py` writes them anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINFARE_LEDGER")
    assert {page.stem for page in PAGES} == set(TARGETS)
    for page in PAGES:
        text = page.read_text()
        assert text == draw_page(text)
        assert f"<!-- export: {page.stem} -->\n\n```" in text
        assert re.search(r"^(Validated, not run|Tried): ", text, re.MULTILINE)


def test_the_page_names_everything() -> None:
    text = (EXAMPLES.parent / "export.md").read_text()
    for name in (*TARGETS, *PLAN_NAMES, *Launch.model_fields):
        assert name in text
