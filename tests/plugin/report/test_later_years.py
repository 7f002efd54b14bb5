"""The cost outlook of a report: the sentence on top, the chart of later months, and what is counted."""

from __future__ import annotations

from datetime import date
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from builders.recommendations import no_answer, option, recommendation
from builders.reports import render_html, render_markdown, render_terminal
from builders.toy_market import book, offer_row, small_job
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.recommendation import recommend
from trainfare.report.blocks import Bullets
from trainfare.report.charts.fan import fan_chart
from trainfare.report.later_years import advise_waiting, build_outlook_section
from trainfare_core.recommendation import Constraints, Recommendation

TODAY = date(2026, 11, 24)


def large_run(**asked: Any) -> Recommendation:
    return recommendation(
        options=(option(usd=2000.0, hours=40.0),), fastest_rank=1, constraints=Constraints(**asked)
    )


@pytest.mark.parametrize(
    ("asked", "verdict", "words"),
    [
        (
            {},
            "Train now or wait: cannot tell",
            "Train now if having the model a month earlier is worth more than $114 to you.",
        ),
        (
            {"value_usd_per_month": 50.0},
            "Train now or wait: cannot tell",
            "may be above or below the value of a month",
        ),
        (
            {"value_usd_per_month": 1000.0},
            "Train now",
            "worth more than waiting saves, with a chance of 90 %",
        ),
        ({"value_usd_per_month": 50.0, "confidence": 0.5}, "Wait", "Waiting saves more"),
        ({"deadline_hours": 100.0}, "Train now", "The deadline leaves less than a month"),
    ],
)
def test_the_sentence(asked: dict[str, Any], verdict: str, words: str) -> None:
    """Costs now and in a year and the break-even value, each with its interval, and the advice."""
    summary, sentence = advise_waiting(large_run(**asked))
    assert summary == verdict
    assert words in sentence
    assert "This run costs $2,000 now; in 12 months $1,482 [" in sentence
    assert "Waiting breaks even at a value of $58 a month [" in sentence


def test_both_thresholds_are_given_where_waiting_surely_saves() -> None:
    """With a break-even value above 0 there are two thresholds."""
    sure = large_run(confidence=0.5)
    assert sure.outlook is not None
    assert ", wait if less than $" in advise_waiting(sure)[1]


def test_costs_per_1000_steps() -> None:
    """A run of unknown length is forecast for 1,000 steps."""
    assert "1,000 steps cost $" in advise_waiting(recommendation(basis="per_1000_steps"))[1]


def test_parts_are_named_counted_or_not() -> None:
    """Hardware, price and software; software with what it would bring."""
    (notes,) = (block.items for block in build_outlook_section(large_run()) if isinstance(block, Bullets))
    assert "26 % less each year (90 % interval 18 to 33 %). Counted." in str(notes[0])
    assert "56 % down and 128 % up" in str(notes[1])
    assert "Not counted, because they need new code" in str(notes[2])


def test_every_format_has_the_verdict_on_top() -> None:
    """Terminal, Markdown and page: the verdict before the ranking, the table after it."""
    answer = large_run()
    sentence = "This run costs $2,000 now; in 12 months $1,482"
    terminal = render_terminal(answer, as_of=TODAY)
    markdown = render_markdown(answer, as_of=TODAY)
    page = render_html(answer, as_of=TODAY)
    for text, ranking in ((terminal, "memory, bound by"), (markdown, "| \\# |"), (page, 'id="ranking"')):
        flat = " ".join(text.split())
        assert flat.index("Train now or wait: cannot tell") < flat.index(ranking) < flat.index("36 months")
        assert sentence in flat
        assert "What it costs later" in flat


def test_without_an_outlook_the_report_has_no_such_section() -> None:
    """No ranked option: neither a verdict nor the table."""
    assert advise_waiting(no_answer()) == ("", "")
    for render in (render_terminal, render_markdown, render_html):
        assert "costs later" not in render(no_answer(), as_of=TODAY)
        assert "Train now" not in render(no_answer(), as_of=TODAY)


def test_the_chart_has_two_intervals_and_three_parts() -> None:
    """50 and 90 %, list price, hardware and software, each in the legend; axes say what they are."""
    answer = large_run()
    assert answer.outlook is not None
    svg = ET.fromstring(fan_chart(answer.outlook, per_1000_steps=False))
    texts = {"".join(element.itertext()) for element in svg.iter("text")}
    assert {"90 % interval", "50 % interval", "price: this machine type", "+ hardware: newer machines",
            "+ software: new methods", "cost of the run", "now", "36", "$0"} <= texts  # fmt: skip
    bands = [g for g in svg.iter("g") if (g.get("id") or "").startswith("later-FillBetween")]
    assert len(bands) == 2
    assert "cost of 1,000 steps" in fan_chart(answer.outlook, per_1000_steps=True)
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    assert height < 0.6 * width  # on a phone the chart and its caption are seen together


def test_recommend_computes_the_outlook() -> None:
    """The main path: prices in, outlook out, from the date of the price and never from the clock."""
    answer = recommend(small_job(), price_book=book(offer_row()), value_usd_per_month=1e6)
    assert answer.outlook is not None
    assert answer.outlook.verdict == "train now"
    assert answer.outlook.price_observed_on == answer.options[0].price_observed_on
    assert answer.constraints.value_usd_per_month == 1e6
    again = recommend(small_job(), price_book=book(offer_row()), value_usd_per_month=1e6)
    assert answer.to_json() == again.to_json()


def test_fare_meter_passes_its_value_per_month() -> None:
    """`FareMeter(value_usd_per_month=...)` reaches the outlook of the report at the end of a run."""
    settings = MeterSettings(value_usd_per_month=1e9, providers=("aws",), purchase=("on_demand",))
    answer = MeterServices().recommend(small_job(), settings)
    assert answer.outlook is not None
    assert answer.outlook.verdict == "train now"
    assert answer.constraints.value_usd_per_month == 1e9
