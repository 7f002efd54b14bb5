"""The page of worked scenarios is what the script writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.cli import run_python

TOP = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sources


def test_the_page_is_what_the_commands_print() -> None:
    """Each command prints the screen that the page shows, and each answer agrees with its check by hand."""
    run_python(TOP / "scripts" / "write_scenarios.py", "--check", check=True)


def test_there_are_enough_scenarios() -> None:
    """At least fourteen, each with a command, a screen of at most 24 lines and a check by hand."""
    sections = (TOP / "docs" / "scenarios.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(sections) >= 14
    for section in sections:
        screen = section.split("```console\n$ trainfare recommend ")[1].split("```")[0]
        assert 3 < len(screen.splitlines()) - 1 <= 24, section
        assert "\nBy hand: " in section
