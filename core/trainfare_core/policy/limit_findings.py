"""What a check finds about each limit of a job: kept, broken, waived, or not known."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final, Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Record, leave_out_empty
from trainfare_core.number_format import hours_text, percent, round_figure
from trainfare_core.policy.budget_check import (
    BudgetVerdict,
    explain_rate,
    find_breaking_rate,
    is_likely_over,
    is_undecided,
    verdict_of,
)
from trainfare_core.policy.policy import JobLimits
from trainfare_core.policy.rules import LimitRule, RuleName
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.ranking.pricing.chances import probability
from trainfare_core.recommendation import ChangeRange, Interval, Option

FindingStatus: TypeAlias = Literal["kept", "broken", "cannot_tell", "waived", "not_applied"]

_CENT: Final = 0.005
"""USD: a difference that rounds to 0.00 is no increase."""

_STATUS: Final[dict[BudgetVerdict, FindingStatus]] = {
    "within": "kept",
    "over": "broken",
    "cannot_tell": "cannot_tell",
}


class Finding(Record):
    """What a check found about one rule."""

    rule: RuleName
    status: FindingStatus
    message: str = Field(description="in a sentence, with its numbers")
    level: Literal["none", "note", "warning", "error"] = Field(
        description="what it does: an error fails the check, a warning does not, none is a rule that is kept"
    )
    likely_over: bool = Field(
        default=False, description="cannot tell, but by its median the run is a third or more over the limit"
    )

    _leave_out = leave_out_empty("likely_over")


def run_findings(
    limits: JobLimits, best: Option, confidence: float, without: Collection[RuleName] = ()
) -> tuple[Finding, ...]:
    """
    Compare the run on its best machine with the limits on dollars, hours and dollars per hour.

    Args:
        limits: of the job.
        best: the machine that was chosen with these limits.
        confidence: probability with which dollars and hours must be kept.
        without: limits that were left out when it was chosen.
    """
    hourly = limits.max_usd_per_hour
    over_hourly = hourly is not None and best.usd_per_hour > hourly
    chances: dict[LimitRule, float] = {}
    if limits.max_usd is not None:
        chances["max_usd"] = _compute_chance(limits.max_usd, best.run_usd)
    if limits.max_hours is not None:
        chances["max_hours"] = _compute_chance(limits.max_hours, best.run_hours)
    together: list[LimitRule] = [rule for rule in chances if rule not in without]
    tighter: LimitRule | None = None
    if together and not over_hourly and best.probability_within is not None:
        # Where both are kept less often than either, the tighter one says so. Else the two are the same number.
        weakest = min(together, key=lambda rule: chances[rule])
        chances[weakest] = best.probability_within
        tighter = weakest
    findings: list[Finding] = []
    for rule, chance in chances.items():
        other = [name for name in together if name != rule] if rule == tighter else []
        text = f"{_amounts(rule, limits, best)}, kept{''.join(f' together with {name}' for name in other)}"
        text = f"{text} with a chance of {percent(chance, 1)}, asked for {percent(confidence)}"
        limit, interval = (
            (limits.max_usd, best.run_usd) if rule == "max_usd" else (limits.max_hours, best.run_hours)
        )
        if is_undecided(best, limit, interval):
            unknown = f"{_amounts(rule, limits, best)}: unknown, because {best.guess_because}"
            findings.append(_finding(rule, "cannot_tell", unknown))
            continue
        status, rate = _STATUS[verdict_of(chance, confidence)], find_breaking_rate(best, limit, interval)
        if rate is not None and status != "kept":
            status, text = "cannot_tell", f"{text}{explain_rate(best, rate)}"
        likely_over = status == "cannot_tell" and is_likely_over(best, limit, interval)
        finding = _finding(rule, status, text)
        findings.append(finding.model_copy(update={"likely_over": likely_over}))
    if hourly is not None:
        text = f"{best.usd_per_hour:,.2f} USD an hour, limit {hourly:,.2f} USD an hour"
        findings.append(_finding("max_usd_per_hour", "broken" if over_hourly else "kept", text))
    return tuple(findings)


def increase_findings(
    limits: JobLimits,
    usd: float,
    base_usd: float | None,
    unknown_because: str | None = None,
    *,
    fraction_range: ChangeRange | None = None,
    confidence: float = 0.9,
) -> tuple[Finding, ...]:
    """
    Compare the run's cost with the base's.

    A limit in percent is judged by the interval of the change, like the other limits by those of the run. One in
    dollars is compared with the difference of the medians.

    >>> increase_findings(JobLimits(max_increase_percent=10), 130.0, 100.0)[0].message
    'from 100.00 to 130.00 USD: +30.0 %, limit +10 %'

    Args:
        limits: of the job.
        usd: cost of the run, USD.
        base_usd: cost of the base's run with the same prices, USD; None where no base is given.
        unknown_because: why the base that was given has no cost.
        fraction_range: of the increase; None: it has none.
        confidence: probability with which a limit in percent must be kept.
    """
    rules: list[LimitRule] = [rule for rule in limits.list_rules() if rule.startswith("max_increase")]
    if unknown_because is not None:
        return tuple(_finding(rule, "cannot_tell", f"the base: {unknown_because}") for rule in rules)
    findings: list[Finding] = []
    for rule in rules:
        judged_by = fraction_range if rule == "max_increase_percent" else None
        findings.append(_increase(rule, getattr(limits, rule), usd, base_usd, judged_by, confidence))
    return tuple(findings)


def _increase(
    rule: LimitRule,
    limit: float,
    usd: float,
    base_usd: float | None,
    fraction_range: ChangeRange | None,
    confidence: float,
) -> Finding:
    relative_limit = rule == "max_increase_percent"
    shown = f"+{limit:g} %" if relative_limit else f"+{limit:,.2f} USD"
    if base_usd is None:
        return _finding(rule, "not_applied", f"limit {shown}: no base was given to compare with")
    change = usd - base_usd
    if abs(change) < _CENT:
        return _finding(rule, "kept", f"no change in cost, limit {shown}")
    relative = change / base_usd * 100 if base_usd > 0 else math.inf
    difference = f"{relative:+,.1f} %" if relative_limit else f"{change:+,.2f} USD"
    text = f"from {base_usd:,.2f} to {usd:,.2f} USD: {difference}"
    if base_usd > 0 and fraction_range is not None and fraction_range.low_80 < fraction_range.high_80:
        low, high = 1 + fraction_range.low_80, 1 + fraction_range.high_80
        chance = _compute_chance(1 + limit / 100, Interval(mid=usd / base_usd, low_80=low, high_80=high))
        text += f" {fraction_range.to_percent()}, limit {shown}, kept with a chance of {percent(chance, 1)}"
        text += f", asked for {percent(confidence)}"
        return _finding(rule, _STATUS[verdict_of(chance, confidence)], text)
    text = f"{text}, limit {shown}"
    return _finding(rule, "broken" if (relative if relative_limit else change) > limit else "kept", text)


def _compute_chance(limit: float, value: Interval) -> float:
    # Log-normal on either side of the median: on spot machines the upper side is wider.
    end = value.high_80 if limit >= value.mid else value.low_80
    log_sigma = abs(math.log(end / value.mid)) / Z_80 if end > 0 and value.mid > 0 else 0.0
    return round_figure(probability(limit, value.mid, log_sigma))


def _amounts(rule: LimitRule, limits: JobLimits, best: Option) -> str:
    if rule == "max_usd":
        return f"{best.run_usd.mid:,.2f} USD, limit {limits.max_usd or 0:,.2f} USD"
    return f"{hours_text(best.run_hours.mid)}, limit {hours_text(limits.max_hours or 0, 4)}"


def _finding(rule: RuleName, status: FindingStatus, text: str) -> Finding:
    level: Literal["none", "note", "error"] = (
        "none" if status == "kept" else "note" if status == "not_applied" else "error"
    )
    return Finding(rule=rule, status=status, message=text, level=level)
