"""HTML page of a strategy answer: one self-contained file without scripts that opens offline."""

from __future__ import annotations

from datetime import date

from trainfare.report.html import chart_or_none, environment
from trainfare.report.strategy.chart import strategy_chart
from trainfare.report.strategy.rows import strategy_text
from trainfare_core.strategy.answer import StrategyAnswer

__all__ = ["render_strategy_html"]


def render_strategy_html(answer: StrategyAnswer, *, as_of: date) -> str:
    """
    Return the page. Without matplotlib the chart is left out and the page says how to get it.

    Args:
        answer: the answer.
        as_of: the day of the report, against which the prices' age is counted.
    """
    text = strategy_text(answer, as_of)
    wanted = any(line.usd is not None and line.quality is not None for line in answer.lines)
    chart = chart_or_none(lambda: strategy_chart(answer.lines, against=text.reference), wanted=wanted)
    return environment().get_template("strategy.html.j2").render(summary=text, chart=chart)
