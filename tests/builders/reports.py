"""Reports of a ranking, and pages of a ledger and a bill, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from builders.runs import build_compared, run
from trainfare.report import report_ranking
from trainfare.report.bill import build_bill
from trainfare.report.ledger import build_runs, build_score
from trainfare.report.render.page import format_page
from trainfare.report.run_causes import build_run_causes
from trainfare_core.bills.reconciliation import BilledRun, BillReconciliation, UnmatchedCost
from trainfare_core.documents import Interval
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.causes import explain_run
from trainfare_core.ledger.run_record import RunPrediction, RunRecord
from trainfare_core.ledger.run_table import score_runs, tabulate_runs
from trainfare_core.recommendation import Recommendation


def render_terminal(
    answer: Recommendation,
    *,
    as_of: date,
    profile: JobProfile | None = None,
    width: int | None = None,
    **asked: Any,
) -> str:
    return report_ranking(answer, profile, as_of, **asked).as_terminal(width)


def render_markdown(
    answer: Recommendation, *, as_of: date, profile: JobProfile | None = None, rows: int | None = None
) -> str:
    return report_ranking(answer, profile, as_of, rows=rows).as_markdown()


def render_html(answer: Recommendation, *, as_of: date, profile: JobProfile | None = None) -> str:
    return report_ranking(answer, profile, as_of).as_page()


def _list_records(name: str) -> list[RunRecord]:
    """Return four runs of $10 to $25 that were predicted at $10 to $12, and one whose dollars are not known."""
    usd = ((10.0, 10.0), (12.0, 15.0), (10.0, 25.0), (11.0, 10.5), (10.0, None))
    return [
        run(index, job=name, project=name, usd=build_compared(*dollars), usd_per_hour=10.0)
        for index, dollars in enumerate(usd)
    ]


def _draw_bill(name: str) -> str:
    """Return the page of a bill of one run, with costs of a service that carry no tag."""
    costs = dict.fromkeys(("list_cost", "contracted_cost", "effective_cost", "billed_cost"), 1200.5)
    billed = BilledRun(
        prediction_id=name, currency="USD", estimate_usd=Interval(mid=1000, low_80=800, high_80=1300), **costs,
        adjusted_cost=-20.25, adjusted_effective_cost=-20.25, machine_hours=31.5, lines=32, lines_by_resource=1,
    )  # fmt: skip
    service = UnmatchedCost(service=name, currency="USD", billed_cost=55.0, adjusted_cost=0.0, lines=10)
    bill = BillReconciliation(bill_format="FOCUS 1.2", runs=(billed,), unmatched=(service,), notes=(name,))
    return format_page(build_bill(bill))


def _draw_causes(name: str) -> str:
    prediction = RunPrediction(id="0" * 12, made="before", differences=(name,))
    record = run(usd=build_compared(12.0, 20.0), usd_per_hour=10.0, prediction=prediction)
    return format_page(build_run_causes(explain_run(record)))


LEDGER_PAGES: Final[Mapping[str, Callable[[str], str]]] = {
    "ledger-list": lambda name: format_page(build_runs(tabulate_runs(_list_records(name)))),
    "ledger-score": lambda name: format_page(build_score(score_runs(tabulate_runs(_list_records(name))))),
    "ledger-why": _draw_causes,
    "reconcile": _draw_bill,
}
"""What draws each page of a ledger and a bill, from a name that others choose."""
