"""The charts: their SVG, and that they leave the user's matplotlib unchanged."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from builders.recommendations import (
    hostile_recommendation,
    interval,
    option,
    recommendation,
)
from trainfare.report.charts.cost_time import cost_time_chart
from trainfare_core.recommendation import Interval


def _texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("text")]


def test_the_scatter_names_the_front_the_clouds_and_the_axes() -> None:
    """Front options carry rank and machine; each cloud is in the legend; the axes say what they are."""
    texts = _texts(cost_time_chart(recommendation().options, per_1000_steps=False))
    assert {
        "#1 g6.2xlarge",
        "#2 tpu-v5e-4",
        "#8 2 × p5.48xlarge",
        "AWS",
        "Azure",
        "Google Cloud",
        "Pareto front",
    } <= set(texts)
    assert {"time of the run", "cost of the run", "$10", "1 h"} <= set(texts)
    assert "cost of 1,000 steps" in _texts(cost_time_chart(recommendation().options, per_1000_steps=True))


def test_every_option_has_its_point_and_both_intervals() -> None:
    """Each option has one marker and two interval bars."""
    svg = ET.fromstring(cost_time_chart(recommendation().options, per_1000_steps=False))
    names = Counter((group.get("id") or "").rpartition("-")[0] for group in svg.iter("g"))
    for part in ("point", "across", "up"):
        assert names[f"cost-time-{part}"] == len(recommendation().options)


def test_the_frame_is_open() -> None:
    """Only the two axes are lines, one below and one at the left."""
    svg = ET.fromstring(cost_time_chart(recommendation().options, per_1000_steps=False))
    patches = [group for group in svg.iter("g") if (group.get("id") or "").startswith("cost-time-patch_")]
    styles = [path.get("style") or "" for group in patches for path in group.findall("path")]
    assert sum("stroke: var(--muted)" in style for style in styles) == 2


def test_colours_come_from_the_page() -> None:
    """Every colour is a variable of the style sheet, so that the chart follows light and dark."""
    svg = cost_time_chart(recommendation().options, per_1000_steps=False)
    styles = " ".join(element.get("style") or "" for element in ET.fromstring(svg).iter())
    assert "var(--" in styles
    assert "#" not in styles.replace("url(#", "")


def test_hostile_names_are_text_in_the_chart() -> None:
    """Formulas, markup and control bytes in names neither fail the drawing nor become elements."""
    svg = cost_time_chart(hostile_recommendation().options, per_1000_steps=True)
    tags = {element.tag for element in ET.fromstring(svg).iter()}
    assert tags <= {"svg", "title", "desc", "defs", "g", "path", "use", "text", "tspan", "clipPath", "rect"}
    assert "<script" not in svg
    assert any("$\\frac{1}{0}$" in text for text in _texts(svg))


@pytest.mark.parametrize(
    "numbers",
    [
        (0.0, 0.0, 0.0),
        (1e-9, 1e-9, 1e-9),
        (1e9, 1e-6, 1e12),
    ],
)
def test_odd_numbers_still_draw(numbers: tuple[float, float, float]) -> None:
    """Free, tiny and huge runs are drawn without error."""
    mid, low, high = numbers
    odd = Interval(mid=mid, low_80=low, high_80=high)
    options = [option(run_hours=odd, run_usd=odd, step_s=interval(1.0))]
    assert _texts(cost_time_chart(options, per_1000_steps=False))


def test_the_users_matplotlib_settings_are_neither_changed_nor_used() -> None:
    """Their settings are the same afterwards, and do not change a byte of our chart."""
    options = recommendation().options
    before, chart = dict(mpl.rcParams), cost_time_chart(options, per_1000_steps=False)
    assert dict(mpl.rcParams) == before
    with mpl.rc_context(
        {"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "svg.fonttype": "path"}
    ):
        assert cost_time_chart(options, per_1000_steps=False) == chart


def test_pyplot_is_not_imported() -> None:
    """Drawing loads no pyplot, which would choose a backend for the user."""
    script = (
        "import sys; from builders.recommendations import recommendation\n"
        "from trainfare.report.charts.cost_time import cost_time_chart\n"
        "cost_time_chart(recommendation().options, per_1000_steps=False)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    path = [entry for entry in sys.path if entry]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"], check=True)


def test_only_machines_that_need_porting_are_hollow() -> None:
    """The legend explains hollow marks, so every other mark is filled."""
    svgs = [
        cost_time_chart([option(needs_porting=porting)], per_1000_steps=False) for porting in (False, True)
    ]
    assert ["fill: var(--surface)" in svg for svg in svgs] == [False, True]
