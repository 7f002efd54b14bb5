"""Check one job against a policy, and the answer for all of its jobs: what `trainfare check` without TARGET returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Document, Record
from trainfare_core.policy.budget_check import BudgetCheck, judge
from trainfare_core.policy.limit_findings import Finding, FindingStatus, increase_findings, run_findings
from trainfare_core.policy.policy import JobLimits, Policy, PolicyJob, Waiver
from trainfare_core.policy.policy_change import PolicyChange
from trainfare_core.policy.rules import OnUnknown, RuleName
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import NEUTRAL, PlanWriter

if TYPE_CHECKING:
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.recommendation import Constraints

JobVerdict: TypeAlias = Literal["within", "waived", "over", "cannot_tell", "not_checked"]

_WORST_FIRST: Final = (4, 2, 1, 3, 0)
"""A defect or bad input means that the gate does not work; a limit that is broken is surer than one that may be."""

_LONGEST_WAIVER: Final = timedelta(days=366)
"""Chosen: a year, in which someone looks at it again; what holds for longer is a limit of its own."""

_LEVEL: Final[dict[OnUnknown, Literal["note", "warning", "error"]]] = {
    "pass": "note",
    "warn": "warning",
    "fail": "error",
}


class SourcePlace(Record):
    """A line of a file."""

    path: str = Field(description="relative to the repository, with forward slashes")
    line: Annotated[int, Field(ge=1)]


class JobCheck(Record):
    """What a check found about one job."""

    name: str
    target: str
    verdict: JobVerdict = Field(
        description="waived: a limit is broken, or may be, and a waiver holds; not_checked: it could not be"
    )
    exit_code: Annotated[int, Field(ge=0, le=4)] = Field(description="0 passes")
    limits: JobLimits
    findings: tuple[Finding, ...]
    place: SourcePlace | None = Field(description="where the job is defined; None: not a file")
    check: BudgetCheck | None = Field(
        description="the priced run, its constraints without what a waiver covers; None: it could not be checked"
    )


class PolicyCheck(Document):
    """What a check found about every job of a policy."""

    schema_version: Literal[1] = 1
    tool_version: str
    policy: str | None = Field(
        description="the file of the policy, relative to the repository; None: limits of the command line"
    )
    exit_code: Annotated[int, Field(ge=0, le=4)] = Field(description="the worst of the jobs': 4, 2, 1, 3, 0")
    jobs: tuple[JobCheck, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobInputs:
    """
    A job with what it is priced with.

    Attributes:
        profile: what the target's training does.
        book: all offers.
        asked: the policy's constraints of the job, names spelled as in the book.
        as_of: an aware moment to which ages of prices are counted; None takes every price as of now.
        writer: of plans, in the words of the loop that trains the script.
        base: the job before a change; None where no base is given.
        price_warnings: sentences on prices past their age.
        notes: sentences for the reader.
    """

    profile: JobProfile
    book: PriceBook
    asked: Constraints
    as_of: datetime | None = None
    writer: PlanWriter = NEUTRAL
    base: PricedJob | UnknownJob | None = None
    price_warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def state_loader(self, job: PolicyJob) -> JobInputs:
        """Return the inputs with the loader's rate that the policy states, the same before and after a change."""
        from trainfare_core.changes.explain_change import PricedJob

        base = self.base
        if isinstance(base, PricedJob):
            base = replace(base, profile=job.state_loader(base.profile))
        return replace(self, profile=job.state_loader(self.profile), base=base)


def worst_exit_code(codes: Iterable[int]) -> int:
    """
    Return the exit code of several checks.

    >>> worst_exit_code([0, 3, 1])
    1
    """
    given = set(codes)
    return next((code for code in _WORST_FIRST if code in given), 0)


def policy_check(
    jobs: Iterable[JobCheck], *, policy: str | None = None, notes: tuple[str, ...] = ()
) -> PolicyCheck:
    """Return the answer for some jobs; arguments are fields of `PolicyCheck`."""
    from trainfare_core.installation import __version__

    checks = tuple(jobs)
    code = worst_exit_code(job.exit_code for job in checks)
    return PolicyCheck(tool_version=__version__, policy=policy, exit_code=code, jobs=checks, notes=notes)


def check_job(
    policy: Policy, name: str, inputs: JobInputs, *, day: date, source_place: SourcePlace | None = None
) -> JobCheck:
    """
    Check one job of a policy.

    A limit with a waiver that holds does not count: the other limits are then compared with the machine that is
    best without it.

    Args:
        policy: limits and waivers.
        name: of the job in it.
        inputs: the job's profile and its prices.
        day: on which waivers must hold.
        source_place: where the job is defined.
    """
    job, waivers = policy.jobs[name], policy.waivers_of(name)
    inputs = inputs.state_loader(job)
    holding: dict[RuleName, Waiver] = {
        waiver.rule: waiver for waiver in waivers if not waiver.has_expired(day)
    }
    check, judged = _Checking(policy, job, inputs).findings(frozenset(holding))
    limits = [_waive_finding(finding, holding.get(finding.rule)) for finding in judged]
    limits = [_unless_known(finding, policy.on_unknown_of(job)) for finding in limits]
    stale = [
        Finding(rule="max_price_age_days", status="broken", message=text, level="warning")
        for text in inputs.price_warnings
    ]
    stale = [_waive_finding(finding, holding.get("max_price_age_days")) for finding in stale]
    old = [_expire_waiver(waiver, (*limits, *stale)) for waiver in waivers if waiver.has_expired(day)]
    old += [_question_waiver(waiver) for waiver in holding.values() if waiver.expires - day > _LONGEST_WAIVER]
    findings = (*limits, *stale, *old)
    return JobCheck(
        name=name,
        target=job.target,
        limits=_limits_of(job),
        verdict=_judge_findings(findings),
        exit_code=_exit_code(findings),
        findings=findings,
        place=source_place,
        check=check,
    )


def report_unchecked_job(
    policy: Policy,
    name: str,
    *,
    rule: RuleName,
    message: str,
    exit_code: int,
    day: date,
    source_place: SourcePlace | None = None,
) -> JobCheck:
    """
    Return the answer for a job that could not be checked.

    Args:
        policy: limits and waivers.
        name: of the job in it.
        rule: what it is reported under: `not_checked`, or the rule of price ages.
        message: of the error.
        exit_code: of the error.
        day: on which waivers must hold.
        source_place: where the job is defined.
    """
    finding = Finding(rule=rule, status="cannot_tell", message=message, level="error")
    old = [waiver for waiver in policy.waivers_of(name) if waiver.rule == rule and waiver.has_expired(day)]
    return JobCheck(
        name=name,
        target=policy.jobs[name].target,
        limits=_limits_of(policy.jobs[name]),
        verdict="not_checked",
        exit_code=exit_code,
        findings=(finding, *(_expire_waiver(waiver, (finding,)) for waiver in old)),
        place=source_place,
        check=None,
    )


def report_policy_changes(
    base: Policy, name: str, changes: Iterable[PolicyChange], source_place: SourcePlace | None = None
) -> JobCheck:
    """
    Return the answer on what a change does to the policy, in the form of a job's.

    Args:
        base: the policy that counts; it says what a looser one does.
        name: of the policy's file.
        changes: see `list_policy_changes`.
        source_place: where the policy is defined.
    """
    findings = tuple(_report_policy_change(change, base.on_policy_change) for change in changes)
    return JobCheck(
        name=name,
        target=name,
        limits=JobLimits(),
        verdict=_judge_findings(findings),
        exit_code=_exit_code(findings),
        findings=findings,
        place=source_place,
        check=None,
    )


def _report_policy_change(change: PolicyChange, on_change: Literal["warn", "fail"]) -> Finding:
    status: FindingStatus = "not_applied"
    level: Literal["note", "warning", "error"] = "note"
    if change.effect == "looser" and on_change == "warn":
        level = "warning"
    elif change.effect == "gone" and on_change == "warn":
        # What the job would cost is not known: it may be here under another name, without its limits.
        status, level = "cannot_tell", "error"
    elif change.effect in ("looser", "gone"):
        status, level = "broken", "error"
    return Finding(rule="policy_change", status=status, message=change.message, level=level)


def join_checks(first: JobCheck, second: JobCheck) -> JobCheck:
    """
    Return the answer for a job that was checked at the prices of two locks: it must pass at both.

    Args:
        first: at the prices of the base's lock; its priced run is shown.
        second: at those of the lock that the change brings.
    """
    said = Finding(
        rule="policy_change",
        status="not_applied",
        message="this change brings another price lock: checked at the prices of both",
        level="note",
    )
    more = tuple(
        finding.model_copy(update={"message": f"at the prices of the changed lock: {finding.message}"})
        for finding in second.findings
        if finding.level not in ("none", "note")
    )
    findings = (*first.findings, *more, said)
    if "not_checked" in (first.verdict, second.verdict):
        worse = first if first.verdict == "not_checked" else second
        return worse.model_copy(update={"findings": findings})
    update = {"findings": findings, "verdict": _judge_findings(findings), "exit_code": _exit_code(findings)}
    return first.model_copy(update=update)


def _limits_of(job: PolicyJob) -> JobLimits:
    return JobLimits(**{rule: getattr(job, rule) for rule in job.list_rules()})


@dataclass(frozen=True, slots=True)
class _Checking:
    policy: Policy
    job: PolicyJob
    inputs: JobInputs

    def findings(self, waived: frozenset[RuleName]) -> tuple[BudgetCheck, tuple[Finding, ...]]:
        """Return what is found about each limit; those in `waived` do not decide on the machine of the others."""
        base, confidence = self.inputs.base, self.inputs.asked.confidence
        # What changed is explained for the machine that counts in the end.
        check = self._judge(frozenset(), None if waived else base)
        if check.best is None:
            every = waived.issuperset(self.job.list_rules())
            level: Literal["note", "error"] = "note" if every else "error"
            status: Literal["waived", "cannot_tell"] = "waived" if every else "cannot_tell"
            nothing = Finding(rule="no_answer", status=status, message=check.reason, level=level)
            return check, (nothing,)
        findings = run_findings(self.job, check.best, confidence)
        needed = any(finding.rule in waived and finding.status != "kept" for finding in findings)
        if needed or (waived and base is not None):
            without: frozenset[RuleName] = waived if needed else frozenset()
            check = self._judge(without, base)
            findings = (
                findings if check.best is None else run_findings(self.job, check.best, confidence, without)
            )
        usd = 0.0 if check.best is None else check.best.run_usd.mid
        return check, (*findings, *self._increases(check, usd))

    def _increases(self, check: BudgetCheck, usd: float) -> tuple[Finding, ...]:
        change = check.change
        if change is None or change.change_usd is None:
            return increase_findings(self.job, usd, None, None if change is None else change.unknown_because)
        base_usd = None if change.base.usd is None else change.base.usd.mid
        confidence = self.inputs.asked.confidence
        return increase_findings(
            self.job, usd, base_usd, fraction_range=change.fraction_range, confidence=confidence
        )

    def _judge(self, without: frozenset[RuleName], base: PricedJob | UnknownJob | None) -> BudgetCheck:
        inputs = self.inputs
        limits = self.policy.constraints_of(self.job, without)
        update = {name: getattr(limits, name) for name in ("max_usd", "deadline_hours", "max_usd_per_hour")}
        request = Request(
            inputs.asked.model_copy(update=update),
            max_nodes=self.job.max_nodes or self.policy.max_nodes,
            as_of=inputs.as_of,
            writer=inputs.writer,
        )
        return judge(inputs.profile, inputs.book, request, base=base, notes=inputs.notes)


def _waive_finding(finding: Finding, waiver: Waiver | None) -> Finding:
    if waiver is None or finding.status not in ("broken", "cannot_tell"):
        return finding
    text = f"{finding.message}; waived by {waiver.owner} until {waiver.expires.isoformat()}: {waiver.reason}"
    return Finding(rule=finding.rule, status="waived", message=text, level="note")


def _unless_known(finding: Finding, on_unknown: OnUnknown) -> Finding:
    if finding.status != "cannot_tell":
        return finding
    return finding.model_copy(update={"level": _LEVEL[on_unknown]})


def _expire_waiver(waiver: Waiver, findings: Sequence[Finding]) -> Finding:
    """Return what an expired waiver does: what the rule that it covered does now, and a warning where that is kept."""
    text = (
        f"the waiver of {waiver.rule} by {waiver.owner} expired after {waiver.expires.isoformat()}"
        f" ({waiver.reason})"
    )
    for finding in findings:
        if finding.rule == waiver.rule and finding.status in ("broken", "cannot_tell"):
            return Finding(rule="waiver", status=finding.status, message=text, level=finding.level)
    if any(finding.rule == waiver.rule for finding in findings):
        text += "; it is not needed now: remove it"
    return Finding(rule="waiver", status="not_applied", message=text, level="warning")


def _question_waiver(waiver: Waiver) -> Finding:
    text = f"the waiver of {waiver.rule} by {waiver.owner} holds until {waiver.expires}, for more than a year"
    text += ": give an earlier day, or change the limit"
    return Finding(rule="waiver", status="not_applied", message=text, level="warning")


def _judge_findings(findings: Iterable[Finding]) -> JobVerdict:
    statuses = {finding.status for finding in findings if finding.rule != "max_price_age_days"}
    if "broken" in statuses:
        return "over"
    if "cannot_tell" in statuses:
        return "cannot_tell"
    return "waived" if "waived" in statuses else "within"


def _exit_code(findings: Iterable[Finding]) -> int:
    errors = {finding.status for finding in findings if finding.level == "error"}
    return 1 if "broken" in errors else 3 if "cannot_tell" in errors else 0
