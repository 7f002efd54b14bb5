"""The answer of `trainfare reconcile` as blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from trainfare.report.block_builders import build_answer
from trainfare.report.blocks import Block
from trainfare_core.bills.reconciliation import BilledRun, BillReconciliation, UnmatchedCost
from trainfare_core.number_format import cents

_SERVICES: Final = 8
"""Services to name for each currency; a chosen value: what a reader takes in at once. The others are added up."""
_NUMBERS: Final = ("estimate, USD", "list", "contracted", "effective", "billed", "adjusted", "machine hours")


def build_bill(answer: BillReconciliation) -> list[Block]:
    """Return one row a run and currency; below it what carries no tag, and notes."""
    rows = [(run.prediction_id, *map(_money, _list_numbers(run)), run.currency) for run in answer.runs]
    lines: list[str] = []
    for currency in dict.fromkeys(service.currency for service in answer.unmatched):
        lines += _list_services(currency, [cost for cost in answer.unmatched if cost.currency == currency])
    lines += [f"note: {note}" for note in answer.notes]
    if found := sum(run.lines_by_resource for run in answer.runs):
        lines.append(f"note: adjustments without a tag that count in the run of their resource: {found:,}")
    if any(run.adjusted_cost != run.adjusted_effective_cost for run in answer.runs):
        lines.append("note: adjusted is as billed; --format json has it amortized, too")
    names = ("prediction", *_NUMBERS, "currency")
    title, sentence = "What runs cost on the bill", _add_runs(answer.runs)
    return build_answer(title, names, rows, _NUMBERS, sentence=sentence, below=lines)


def _add_runs(runs: Sequence[BilledRun]) -> str:
    """Return what was billed for all runs, by currency."""
    billed: dict[str, list[float | None]] = {}
    for run in runs:
        billed.setdefault(run.currency, []).append(run.billed_cost)
    totals = [
        f"{_money(_add(costs))} {currency} billed for {len(costs):,} run{'s' * (len(costs) > 1)}"
        for currency, costs in billed.items()
    ]
    return f"{'; '.join(totals) or 'No run is on the bill'}."


def _list_numbers(run: BilledRun) -> tuple[float | None, ...]:
    estimate = None if run.estimate_usd is None else run.estimate_usd.mid
    costs = run.list_cost, run.contracted_cost, run.effective_cost, run.billed_cost, run.adjusted_cost
    return estimate, *costs, run.machine_hours


def _list_services(currency: str, services: Sequence[UnmatchedCost]) -> list[str]:
    billed = _money(_add(service.billed_cost for service in services))
    adjusted = _money(_add(service.adjusted_cost for service in services))
    count = sum(service.lines for service in services)
    noun = "line" if count == 1 else "lines"
    lines = [f"without a run's tag: {billed} {currency} billed, {adjusted} adjusted, in {count:,} {noun}"]
    lines += [f"  {service.service}: {_money(service.billed_cost)}" for service in services[:_SERVICES]]
    if rest := services[_SERVICES:]:
        lines.append(f"  {len(rest)} other services: {_money(_add(service.billed_cost for service in rest))}")
    return lines


def _add(costs: Iterable[float | None]) -> float | None:
    """Return the sum; None where one of them is not known."""
    known = list(costs)
    return None if None in known else sum(cost or 0.0 for cost in known)


def _money(cost: float | None) -> str:
    return "not known" if cost is None else cents(cost)
