"""The cost outlook of a report: the sentence on top, the bars of later months, and what is counted."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from builders.recommendations import no_answer, option, recommendation
from builders.reports import render_html, render_markdown, render_terminal
from builders.toy_market import book, offer_row, small_job
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.recommendation import recommend
from trainfare.report.blocks import Bars, Bullets
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


def test_the_sentence_says_of_which_option_its_dollars_are() -> None:
    """The outlook is of the cheapest, and an answer may be another: its card beside the sentence has other dollars."""
    assert (
        "At the cheapest, this run costs $5.15 now" in advise_waiting(recommendation(objective="fastest"))[1]
    )
    assert advise_waiting(recommendation())[1].startswith("This run costs $5.15 now")


def test_the_bars_are_the_medians_of_the_table() -> None:
    """A bar shows each cost as a share of the highest, now and in each month; a part of it is what better methods leave."""
    answer = large_run()
    outlook = answer.outlook
    assert outlook is not None
    (bars,) = [block for block in build_outlook_section(answer) if isinstance(block, Bars)]
    assert [bar.name for bar in bars.bars] == ["now", *(f"in {months} months" for months in (6, 12, 24, 36))]
    assert [bar.text for bar in bars.bars][:3:2] == ["$2,000", "$1,482"]
    for bar, months in zip(bars.bars, (0, 6, 12, 24, 36), strict=True):
        same = {cost.months: cost.median for cost in outlook.same_compute}[months]
        quality = {cost.months: cost.median for cost in outlook.same_quality}[months]
        assert sum(bar.shares) == pytest.approx(same / 2000)
        assert bar.shares[0] == pytest.approx(quality / 2000)


def test_an_outlook_of_two_months_has_two_bars() -> None:
    """Now and the horizon are all that an answer must have."""
    answer = large_run()
    assert answer.outlook is not None
    ends = {
        name: tuple(cost for cost in costs if cost.months in (0, answer.outlook.horizon_months))
        for name, costs in (
            ("same_compute", answer.outlook.same_compute),
            ("same_quality", answer.outlook.same_quality),
        )
    }
    short = answer.model_copy(update={"outlook": answer.outlook.model_copy(update=ends)})
    (bars,) = [block for block in build_outlook_section(short) if isinstance(block, Bars)]
    assert [bar.name for bar in bars.bars] == ["now", f"in {answer.outlook.horizon_months} months"]


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
