"""The screenshots of README.md and docs/ci.md: there, small, named by the page, and what the script draws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LARGEST_BYTES = 150_000
"""A clone has every version of a picture."""

pytestmark = pytest.mark.sources


def test_the_page_shows_the_pictures_that_the_script_draws() -> None:
    pages = [(TOP / name).read_text(encoding="utf-8") for name in ("README.md", "docs/ci.md")]
    script = (TOP / "scripts" / "screenshot_comment.py").read_text(encoding="utf-8")
    shown = {name for page in pages for name in re.findall(r"!\[[^\]]+\]\((?:docs/)?([^)]+\.png)\)", page)}
    policies = {f"{path.stem}.png" for path in (TOP / "scripts").glob("comment-*.toml")}
    assert shown == policies | set(re.findall(r'"([a-z-]+\.png)"', script))
    for name in shown:
        picture = (TOP / "docs" / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < LARGEST_BYTES
