"""
Golden reports of frozen answers: `TRAINFARE_UPDATE_GOLDEN=1 pytest tests/plugin/report/test_golden.py` rewrites them.

Charts are left out of the golden page: their bytes belong to the installed matplotlib.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from builders.profiles import profile
from builders.recommendations import job, make_measured_step, no_answer, option, recommendation
from builders.reports import LEDGER_PAGES, render_html, render_markdown, render_terminal
from trainfare_core.job_profile import RunPlan
from trainfare_core.recommendation import Constraints

GOLDEN = Path(__file__).parents[2] / "golden"
TODAY = date(2026, 11, 24)
UPDATE = "TRAINFARE_UPDATE_GOLDEN"
_MEASURED = profile(measured=make_measured_step(), notes=("Traced from one real step.",))


def _per_1000_steps() -> str:
    result = recommendation(
        basis="per_1000_steps",
        job=job(optimizer_steps=None),
        constraints=Constraints(max_usd=100, deadline_hours=12, purchase=("on_demand", "spot")),
        options=(option(probability_within=0.974),),
        options_total=1,
        fastest_rank=1,
    )
    plan = RunPlan(optimizer_steps=None, unknown_because="the dataset has no length")
    return render_markdown(result, profile=profile(plan=plan), as_of=TODAY)


def _page() -> str:
    page = render_html(recommendation(), profile=_MEASURED, as_of=TODAY)
    return re.sub(r"<svg.*?</svg>", "<svg></svg>", page, flags=re.DOTALL)


def _draw_body(name: str) -> str:
    """Return a page of a ledger without its style sheet and script, which the golden report has."""
    return re.sub(r"(?s)<(style|script)>.*?</\1>", r"<\1></\1>", LEDGER_PAGES[name]("vision"))


CASES = {
    "report.txt": lambda: render_terminal(recommendation(), profile=_MEASURED, as_of=TODAY),
    "report-80-columns.txt": lambda: render_terminal(recommendation(), as_of=TODAY, width=80),
    "report-no-answer.txt": lambda: render_terminal(no_answer(), as_of=TODAY),
    "report.md": lambda: render_markdown(recommendation(), profile=_MEASURED, as_of=TODAY),
    "report-per-1000-steps.md": _per_1000_steps,
    "report.html": _page,
    **{f"{name}.html": functools.partial(_draw_body, name) for name in LEDGER_PAGES},
    "report.json": lambda: recommendation().to_json(),
}


@pytest.mark.parametrize("name", CASES)
def test_the_report_is_the_one_that_was_reviewed(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    """A change of any word, number or column shows as a change of a golden file, which is reviewed."""
    text = CASES[name]()
    if os.environ.get(UPDATE) == "1":
        (GOLDEN / name).write_bytes(text.encode("utf-8"))
    assert (GOLDEN / name).read_bytes().decode("utf-8") == text, (
        f"if this is wanted: {UPDATE}=1 pytest {__file__}"
    )
    record_property("{} bytes of reports equal to reviewed files", len(text.encode()))


_RENDER = """
import hashlib
from datetime import date
from builders.profiles import profile
from builders.recommendations import hostile_recommendation, make_measured_step, recommendation
from builders.reports import render_html
from builders.reports import render_markdown
from builders.reports import render_terminal
for answer, times in ((recommendation(), 2), (hostile_recommendation(), 1)):
    for render in (render_html, render_markdown, render_terminal):
        for _ in range(times):
            text = render(answer, profile=profile(measured=make_measured_step()), as_of=date(2026, 11, 24))
            print(hashlib.sha256(text.encode()).hexdigest(), len(text.encode()))
    print(hashlib.sha256(answer.to_json().encode()).hexdigest(), len(answer.to_json().encode()))
"""


def test_the_same_input_gives_the_same_bytes_anywhere(record_property: Callable[[str, object], None]) -> None:
    """Two processes, two hash seeds, two time zones, two locales and widths: every output is byte for byte the same."""
    settings = (
        {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C", "COLUMNS": "40"},
        {
            "PYTHONHASHSEED": "1",
            "TZ": "Pacific/Auckland",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "200",
            "NO_COLOR": "1",
        },
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", _RENDER]
    processes = [
        subprocess.Popen(
            command, env={**os.environ, **setting, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
        )
        for setting in settings
    ]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 11
    assert len(set(outputs[0])) == 8
    record_property("{} processes compared in pairs", len(outputs))
    record_property(
        "{} bytes of answers equal in another process, time zone, locale and hash seed",
        sum(int(line.split()[1]) for line in outputs[0]),
    )
