"""docs/published-runs.md: every published run is there, misses included, and its verdicts follow from its figures."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).parents[3]
ROW = re.compile(
    r"^\| (.+) \| \d+ x 8 \S+ \| ([\d,]+) \| [\d,]+ \[([\d,]+) - ([\d,]+)\] \| [\d.]+ \| (\S+) \| (\S+) \|$",
    re.MULTILINE,
)

pytestmark = pytest.mark.sources


def read_number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_page_has_every_run_and_counts_those_inside() -> None:
    page = (TOP / "docs" / "published-runs.md").read_text(encoding="utf-8")
    data = (TOP / "research/trainfare_research/data/published_runs.toml").read_text(encoding="utf-8")
    runs = tomllib.loads(data)["runs"]
    rows = ROW.findall(page)
    assert [(row[0], read_number(row[1])) for row in rows] == [
        (run["name"], run["device_hours"]) for run in runs
    ]
    inside = 0
    for (name, published, low, high, verdict, fits), run in zip(rows, runs, strict=True):
        kept = read_number(low) <= read_number(published) <= read_number(high)
        assert verdict == ("yes" if kept else "**no**")
        assert (kept and fits == "yes") != bool(run.get("miss")), f"{name}: a run that is missed says why"
        assert f"- **{name}**: {run['source']}" in page
        inside += kept
    assert f"{inside} of {len(runs)} lie inside" in page
