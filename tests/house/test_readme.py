"""The README and the pages of docs/: their output, commands and links are current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sources


def test_table_is_real_output() -> None:
    """The table in the README is what the command prints on the shipped prices and calibration."""
    command = [sys.executable, str(TOP / "scripts" / "update_readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_commands_and_links_exist() -> None:
    """Each `trainfare ...` command that a page names exists, and so does every file that it links to."""
    from trainfare.cli import COMMANDS

    known = set(COMMANDS)
    for page in (
        TOP / "README.md",
        TOP / "CONTRIBUTING.md",
        TOP / "CHANGELOG.md",
        *(TOP / "docs").rglob("*.md"),
        *(TOP / "research").glob("*.md"),
        *(TOP / "research" / "docs").glob("*.md"),
    ):
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"`trainfare ([a-z]+)", text))
        assert named <= known, page.name
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_commands_are_pinned() -> None:
    """A new command must be added here and to the README."""
    from trainfare.cli import COMMANDS

    known = set(COMMANDS)
    assert known == {
        "demo", "profile", "predict", "recommend", "estimate", "check", "comment", "decline", "export", "offers", "prices",
        "strategy", "why", "ledger", "reconcile", "doctor", "mcp", "probe", "calibrate", "init", "watch",
    }  # fmt: skip


def test_price_commands_are_pinned() -> None:
    """Each command of `trainfare prices` is listed here, in the README and in docs/prices.md."""
    from trainfare.cli.prices import app

    known = {command.name for command in app.registered_commands}
    assert known == {"status", "update", "verify", "lock", "quotas"}
    for page in ("README.md", "docs/prices.md"):
        text = (TOP / page).read_text(encoding="utf-8")
        assert {name for name in known if f"prices {name}" not in text} == set(), page
