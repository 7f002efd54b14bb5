"""Every answer that has a page has it from the same renderer: one script by its hash, nothing loaded, its own numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builders.cli import capture_main
from builders.exports import EXAMPLES

_TINY = str(EXAMPLES / "tiny.json")
_ANSWERS = {
    "recommend": (("recommend", _TINY, "--as-of", "2026-11-26"), "Ranked machines"),
    "check": (("check", _TINY, "--max-usd", "5", "--as-of", "2026-11-26"), "trainfare check: within"),
    "claims": (("decline", "claims"), "$4,672,619"),
    "forecast": (
        ("decline", "forecast", "--cost", "100", "--date", "2026-01", "--until", "2030-01"),
        "cheaper than now",
    ),
    "wait": (("decline", "wait", "--cost", "5000", "--value-per-month", "200"), "Train now."),
    "decompose": (
        (
            "decline",
            "decompose",
            "--from",
            "2022-09-29,1.1e23,2.0,312,0.43",
            "--to",
            "2024-09-29,1e23,1.5,989,0.4",
        ),
        "utilisation: systems software",
    ),
}


@pytest.mark.parametrize("name", _ANSWERS)
def test_each_answer_has_a_page_of_the_one_renderer(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Title, policy and script are the renderer's, and what the answer says is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINFARE_LEDGER", "off")
    arguments, words = _ANSWERS[name]
    page = capture_main(capsys, *arguments, "--format", "html").stdout
    assert page.startswith("<!doctype html>")
    assert words in page
    assert re.search(r"<title>.+</title>", page)
    assert len(re.findall(r"<script>", page)) == 1
    assert "default-src 'none'; script-src 'sha256-" in page
