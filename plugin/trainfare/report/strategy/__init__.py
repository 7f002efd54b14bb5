"""The report of `trainfare strategy`."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from trainfare.report.report import Report
from trainfare.report.strategy.rows import render_pilots
from trainfare.report.strategy.sections import build_strategy_report

if TYPE_CHECKING:
    from trainfare_core.methods.answer import MethodsAnswer

__all__ = ["render_pilots", "report_strategy"]


def report_strategy(answer: MethodsAnswer, as_of: date) -> Report:
    """Return the report of an answer; ages of prices are counted to `as_of`."""
    return Report(lambda _width: build_strategy_report(answer, as_of), f"{answer.name}: how to train it")
