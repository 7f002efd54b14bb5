"""The strategies' answer as a page and as a table: everything in it, escaped, self-contained."""

from __future__ import annotations

from datetime import date
from html.parser import HTMLParser
from typing import Any

import pytest

from builders.profiles import gpt_profile
from builders.recommendations import costs, option
from trainfare.report.strategy import report_strategy
from trainfare.report.strategy.rows import build_strategy_rows, explain_left_out
from trainfare_core.methods.amounts import amount_of
from trainfare_core.methods.answer import MethodsAnswer
from trainfare_core.methods.draws import Found, Priced
from trainfare_core.methods.lines import answer_of
from trainfare_core.methods.methods import METHODS
from trainfare_core.methods.question import Question

TODAY = date(2026, 11, 24)
HOSTILE = "</style><script>alert(1)</script>\x1b[31m\u202e"


def answer(name: str = "Net", *, instance: str = "g5.2xlarge", **fields: Any) -> MethodsAnswer:
    question = Question(**{"domain": "vision-cls", "samples": 50_000.0, **fields})
    priced = {"full_finetune": 10.0, "lora": 9.0, "linear_probe": 3.0}
    outcomes: list[Found] = [
        Priced(
            strategy, profile=gpt_profile(), amount=amount_of(question, strategy), knobs=("precision bf16-mixed",),
            option=option(instance_type=instance, usd=usd, hours=usd / 2, cost_parts=costs(usd)), notes=(name,),
        )
        for strategy, usd in priced.items()
    ]  # fmt: skip
    outcomes += [
        Found("qlora", unknown_because="no kernel"),
        Found("scratch", impossible_because="not asked for"),
    ]
    return answer_of(question, outcomes, name=name, tool_version="0")


class Page(HTMLParser):
    """Tags, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [
            value for key, value in attrs if value and key in ("src", "href", "action") and value != "data:,"
        ]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_holds_every_strategy_and_loads_nothing() -> None:
    """One row a priced strategy, the bars of all of them, what is left out and why, what was assumed."""
    text = report_strategy(answer(), TODAY).as_page()
    page = Page(text)
    shown = " ".join(" ".join(page.texts).split())
    assert page.tags.count("script") == 1  # the page's own
    assert [text for text in page.outside if not text.startswith("#")] == []
    assert text.count('<th scope="row"') == 3
    for words in (
        "LoRA", "full fine-tuning", "linear probe", "QLoRA: unknown, because no kernel",
        "from scratch: not possible: not asked for", "pre-training is sunk cost", "settings",
    ):  # fmt: skip
        assert words in shown, words
    assert "full_finetune" not in shown
    bars = text[text.index('<figure class="bars"') : text.index("</figure>")]
    for name in ("full_finetune", "lora", "linear_probe"):
        (row,) = [row for row in build_strategy_rows(answer()) if row.name == METHODS[name].label]
        assert row.name in bars
        assert f"<span>{row.cost[0]}</span>" in bars


def test_the_table_begins_at_the_first_column() -> None:
    """No column is lost to padding, and only what has no price is listed as left out."""
    lines = report_strategy(answer(), TODAY).as_terminal().splitlines()
    assert len([line for line in lines if line.startswith("strategy ")]) == 1
    assert [line for line in lines if line.startswith(" strategy")] == []
    assert explain_left_out(answer()) == (
        "QLoRA: unknown, because no kernel",
        "from scratch: not possible: not asked for",
    )


def test_the_same_answer_gives_the_same_bytes() -> None:
    """Page and table."""
    assert report_strategy(answer(), TODAY).as_page() == report_strategy(answer(), TODAY).as_page()
    assert report_strategy(answer(), TODAY).as_terminal() == report_strategy(answer(), TODAY).as_terminal()


def test_foreign_names_are_harmless() -> None:
    """A name that closes tags or moves the cursor is text, on the page and in the terminal."""
    hostile = answer(HOSTILE, instance=HOSTILE)
    assert Page(report_strategy(hostile, TODAY).as_page()).tags.count("script") == 1
    table = report_strategy(hostile, TODAY).as_terminal()
    assert "\x1b" not in table
    assert "\u202e" not in table


def test_a_pilot_that_is_too_dear_says_so() -> None:
    """More is expected to be saved than it costs, and it costs more than a tenth of the plan: both are told."""
    strategy_answer = answer(metric="accuracy", known_value=0.93, target_value=0.85)
    assert strategy_answer.pilot.saves_usd > strategy_answer.pilot.usd
    assert not strategy_answer.pilot.worth_it
    assert "more than a tenth of the cheapest plan" in report_strategy(strategy_answer, TODAY).as_page()


def test_no_answer_has_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing reaches the target, and an unknown level: a page, a table and a sentence all the same."""
    for fields in (
        {"metric": "accuracy", "known_value": 0.5, "target_value": 0.99},
        {"metric": "accuracy", "target_value": 0.9},
    ):
        strategy_answer = answer(**fields)
        assert strategy_answer.kind in ("none", "pilot")
        assert strategy_answer.sentence[:10] in report_strategy(strategy_answer, TODAY).as_page()
        report_strategy(strategy_answer, TODAY).print_terminal()
        assert strategy_answer.sentence[:10] in capsys.readouterr().out
    question = Question()
    nothing = answer_of(question, [Found("lora", unknown_because="no kernel")], name="x", tool_version="0")
    assert "no kernel" in report_strategy(nothing, TODAY).as_page()


def test_without_a_trace_nothing_is_said_of_its_work() -> None:
    """A price alone does not say how many weights are trained."""
    lines = tuple(line.model_copy(update={"traced": None}) for line in answer().lines)
    rows = build_strategy_rows(answer().model_copy(update={"lines": lines}))
    assert {(row.trained, row.work) for row in rows} == {("", "")}
