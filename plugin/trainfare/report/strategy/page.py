"""HTML page of a strategy answer: one self-contained file without scripts that opens offline."""

from __future__ import annotations

from datetime import date

from trainfare.report.html import chart_of, environment
from trainfare.report.strategy.chart import strategy_chart
from trainfare.report.strategy.rows import strategy_text
from trainfare_core.methods.answer import MethodsAnswer

__all__ = ["render_strategy_html"]


def render_strategy_html(answer: MethodsAnswer, *, as_of: date) -> str:
    """
    Return the page. Without matplotlib the chart is left out and the page says how to get it.

    Args:
        answer: the answer.
        as_of: the day of the report, against which the prices' age is counted.
    """
    text = strategy_text(answer, as_of)
    drawn = [line for line in answer.lines if line.usd is not None and line.quality is not None]
    chart = chart_of(drawn, lambda lines: strategy_chart(lines, against=text.reference))
    return environment().get_template("strategy.html.j2").render(summary=text, chart=chart)
