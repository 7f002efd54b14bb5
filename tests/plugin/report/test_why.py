"""The answer of `trainfare why` as text."""

from __future__ import annotations

from builders.recommendations import option
from trainfare.report.why import why_text
from trainfare_core.ranking.why_not import WhyNot


def test_the_sentence_begins_with_a_capital_and_ends_with_a_stop() -> None:
    """Otherwise it is the answer's own, at any width."""
    answer = WhyNot(
        tool_version="0", machine="m", objective="cheapest", offers=1, option=None, best=None, rejections=(),
        sentence="it loses by 3 %",
    )  # fmt: skip
    assert why_text(answer, width=80) == "It loses by 3 %.\n"
    assert why_text(answer, width=10) == "It loses\nby 3 %.\n"


def test_notes_of_a_ranked_machine_follow_the_sentence() -> None:
    answer = WhyNot(
        tool_version="0", machine="m", objective="cheapest", offers=1, best=None, rejections=(), sentence="it loses",
        option=option(notes=("the first", "the second")),
    )  # fmt: skip
    assert why_text(answer, width=80).splitlines() == ["It loses.", "Note: the first.", "Note: the second."]
