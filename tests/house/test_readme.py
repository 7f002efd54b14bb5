"""The README and the pages of docs/: their output, commands and links are current."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import time_machine

TOP = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sources


def test_table_is_real_output() -> None:
    """The table in the README is what the command prints on the shipped prices and calibration."""
    command = [sys.executable, str(TOP / "scripts" / "update_readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("days", [45, 400])
def test_the_pages_do_not_know_the_day(days: int) -> None:
    """What they show is ranked, and its ages counted, on the day that they name: a price's doubt grows with its age."""
    file = TOP / "scripts" / "update_readme.py"
    scripts = runpy.run_path(str(file))
    with time_machine.travel(datetime.now(tz=timezone.utc) + timedelta(days=days)):
        for page, profile in scripts["PAGES"].items():
            text = (TOP / page).read_text(encoding="utf-8")
            assert scripts["update_blocks"](text, TOP / profile, keep_date=True) == text


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
        "strategy", "why", "savings", "ledger", "reconcile", "doctor", "mcp", "probe", "calibrate", "init", "watch",
    }  # fmt: skip


def test_price_commands_are_pinned() -> None:
    """Each command of `trainfare prices` is listed here, in the README and in docs/prices.md."""
    from trainfare.cli.prices import app

    known = {command.name for command in app.registered_commands}
    assert known == {"status", "update", "verify", "lock", "quotas"}
    for page in ("README.md", "docs/prices.md"):
        text = (TOP / page).read_text(encoding="utf-8")
        assert {name for name in known if f"prices {name}" not in text} == set(), page
