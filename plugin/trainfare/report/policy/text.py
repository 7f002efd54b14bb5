"""The answer of `trainfare check` as blocks: for every job of a policy, and for one TARGET."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

from trainfare.report.batch_scaling import describe_batch
from trainfare.report.block_builders import build_notes
from trainfare.report.blocks import Block, Bullets, Column, Heading, Span, Table, Text, Where
from trainfare.report.cost_change import build_change_section, change_notes
from trainfare.report.ledger import build_last_runs
from trainfare.report.policy.formats import list_findings
from trainfare.report.price_age import price_age, price_date_of
from trainfare.report.saving_words import describe_savings
from trainfare.report.wording import describe_unused_devices, plan_changes_text
from trainfare_core.number_format import hours_range, hours_text
from trainfare_core.policy.budget_check import BudgetCheck, name_verdict
from trainfare_core.policy.check import JobCheck, PolicyCheck
from trainfare_core.policy.limit_findings import Finding
from trainfare_core.policy.rules import LIMIT_RULES, RULES
from trainfare_core.recommendation import Constraints, Option

_COLUMNS: Final = ("job", "verdict", "USD", "limit", "time", "limit", "machine")
_NUMBERS: Final = ("USD", "limit", "time")


def build_policy_check(answer: PolicyCheck) -> list[Block]:
    """Return one row for each job, rules not kept, changes of scripts and of costs, and the result."""
    columns = tuple(Column(name, right=name in _NUMBERS) for name in _COLUMNS)
    told = [(job.name, _describe_finding(finding)) for job, finding in list_findings(answer)]
    told += [(job.name, text) for job, text in _list_plans(answer)]
    items = tuple((Span(name, "strong"), ": ", text) for name, text in told)
    return [
        Heading(("trainfare check: ", _name_outcome(answer)), level=1, where=Where.TITLED),
        Table(columns, tuple(_build_cells(job) for job in answer.jobs)),
        *([Bullets(items)] if items else []),
        *(
            block
            for job in answer.jobs
            if (check := job.check) is not None and check.change is not None
            for block in build_change_section(check.change, job=job.name)
        ),
        *(
            block
            for job in answer.jobs
            if job.check
            for block in build_last_runs(job.check.past_runs, job=job.name)
        ),
        *build_notes(_list_notes(answer), "note: "),
        Text(_describe_result(answer)),
    ]


def _build_cells(job: JobCheck) -> tuple[str, ...]:
    likely_over = job.verdict == "cannot_tell" and any(finding.likely_over for finding in job.findings)
    verdict = name_verdict(job.verdict, likely_over=likely_over)
    if job.check is None or job.check.best is None:
        return (job.name, verdict, *[""] * (len(_COLUMNS) - 2))
    best, limits = job.check.best, job.limits
    return (
        job.name,
        verdict,
        f"{best.run_usd.mid:,.2f} [{best.run_usd.low_80:,.2f} to {best.run_usd.high_80:,.2f}]",
        _describe_usd_limit(job),
        hours_range(best.run_hours.mid, best.run_hours.low_80, best.run_hours.high_80),
        "" if limits.max_hours is None else hours_text(limits.max_hours, 4),
        best.purchased_machines,
    )


def _describe_usd_limit(job: JobCheck) -> str:
    """Return the limit on dollars that the job breaks: that on its increase where the budget itself is kept."""
    limits, broken = job.limits, {finding.rule for finding in job.findings if finding.status == "broken"}
    if "max_usd" not in broken:
        if "max_increase_usd" in broken:
            return f"+{limits.max_increase_usd or 0:,.2f}"
        if "max_increase_percent" in broken:
            return f"+{limits.max_increase_percent or 0:g} %"
    return "" if limits.max_usd is None else f"{limits.max_usd:,.2f}"


def _list_plans(answer: PolicyCheck) -> Iterator[tuple[JobCheck, str]]:
    """Yield what the priced plan of a job changes, which accelerators it leaves unused, and what would be cheaper."""
    for job in answer.jobs:
        if job.check is not None and job.check.best is not None:
            best = job.check.best
            texts = (
                plan_changes_text(best),
                describe_unused_devices(best),
                describe_batch(job.check, best),
                describe_savings(job.check.savings),
            )
            text = " ".join(filter(None, texts))
            if text:
                yield job, text


def _describe_finding(finding: Finding) -> str:
    status = name_verdict(finding.status, likely_over=finding.likely_over)
    status = f"{status}: " if finding.rule in LIMIT_RULES else ""
    return f"{finding.level}: {RULES[finding.rule].id} {finding.rule}: {status}{finding.message}"


def _list_note_texts(option: Option | None) -> tuple[str, ...]:
    return () if option is None else tuple(note.text for note in option.notes)


def _list_notes(answer: PolicyCheck) -> tuple[str, ...]:
    """Return the notes of the answer and of its jobs, each once."""
    checks = [job.check for job in answer.jobs if job.check is not None]
    of_jobs = [note for check in checks for note in (*_list_note_texts(check.best), *check.notes)]
    changes = (check.change for check in checks if check.change and check.change.causes)
    of_jobs += [note for change in changes for note in change_notes(change)]
    return tuple(dict.fromkeys([*answer.notes, *of_jobs]))


def _name_outcome(answer: PolicyCheck) -> str:
    return "passed" if answer.exit_code == 0 else "failed"


def _describe_result(answer: PolicyCheck) -> str:
    failed = sum(job.exit_code != 0 for job in answer.jobs)
    passing = f"{len(answer.jobs) - failed} of {len(answer.jobs)} jobs pass"
    return f"{_name_outcome(answer)}: {passing}; exit code {answer.exit_code}"


def build_check(answer: BudgetCheck, *, as_of: date) -> list[Block]:
    """Return the verdict with its reason and its price, whose age is counted to `as_of`, and the change in cost."""
    best, verdict = answer.best, name_verdict(answer.verdict, likely_over=answer.likely_over)
    notes = [*_list_note_texts(best), *answer.notes]
    return [
        Text(f"{verdict.upper()}  {answer.job.name}", where=Where.TERMINAL),
        Text(f"  {answer.reason}", where=Where.TERMINAL),
        Heading(("trainfare check: ", verdict), level=1, where=Where.TITLED),
        Text((Span(answer.job.name, "strong"), ": ", answer.reason), where=Where.TITLED),
        *([] if best is None else _build_best(answer, best, as_of)),
        *build_notes(notes, where=Where.TERMINAL),
        *(
            []
            if answer.change is None
            else [Text((), where=Where.TERMINAL), *build_change_section(answer.change)]
        ),
        *build_last_runs(answer.past_runs),
        *build_notes(notes, where=Where.TITLED),
    ]


def _build_best(answer: BudgetCheck, best: Option, as_of: date) -> list[Block]:
    age = price_age(price_date_of(best), as_of)
    stale = ", stale" if age.stale else ""
    price = f"{price_date_of(best).text} ({age.text}{stale}) from {best.price_source}"
    texts = (plan_changes_text(best), describe_batch(answer, best), describe_savings(answer.savings))
    return [
        Text(f"  price dated {price}", where=Where.TERMINAL),
        _build_best_table(best, answer.constraints, price),
        *(
            block
            for text in texts
            if text
            for block in (Text(f"  {text}", where=Where.TERMINAL), Text(text, where=Where.TITLED))
        ),
    ]


def _build_best_table(best: Option, asked: Constraints, price: str) -> Table:
    usd, time = best.run_usd, best.run_hours
    columns = (Column(""), Column("best machine", right=True), Column("limit", right=True))
    rows = (
        ("machine", f"{best.nodes} × {best.machine} ({best.purchase_option})", ""),
        (
            "USD, whole run",
            f"{usd.mid:,.2f} [{usd.low_80:,.2f} to {usd.high_80:,.2f}]",
            "" if asked.max_usd is None else f"{asked.max_usd:,.2f}",
        ),
        (
            "time",
            hours_range(time.mid, time.low_80, time.high_80),
            "" if asked.deadline_hours is None else hours_text(asked.deadline_hours, 4),
        ),
        ("price date", price, ""),
    )
    return Table(columns, rows, where=Where.TITLED)
