"""Check a run against its budget and deadline, with a probability: the verdict of `trainfare check`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import Field

from trainfare_core.changes.cost_change import CostChange
from trainfare_core.documents import Document, leave_out_empty
from trainfare_core.ledger.run_record import RunRecord
from trainfare_core.number_format import figures, hours_range, hours_text, percent
from trainfare_core.recommendation import (
    Constraints,
    CriticalBatchFacts,
    Interval,
    JobSummary,
    Option,
    Saving,
)

if TYPE_CHECKING:
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.ranking.pricing.request import Request

BudgetVerdict: TypeAlias = Literal["within", "over", "cannot_tell"]

GUESS_FACTOR: Final = 10.0
"""How far beyond its interval a guess may be off and a limit is still decided. Chosen: the worst group of measured runs
that was left out took six times its prediction in the median (docs/accuracy.md)."""


LIKELY_OVER: Final = 4 / 3
"""A median so many times a limit says that the run is likely over it, though not surely. A chosen value."""


class BudgetCheck(Document):
    """Result of a check: `within` or `over` holds with the asked confidence, anything between is `cannot_tell`."""

    schema_version: Literal[1] = 1
    tool_version: str
    job: JobSummary
    verdict: BudgetVerdict
    likely_over: bool = Field(
        default=False, description="cannot tell, but by its median the run is a third or more over a limit"
    )
    reason: str = Field(description="the verdict in a sentence, with its numbers")
    constraints: Constraints
    probability_within: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="chance that the best option keeps every limit; None where nothing can be priced"
    )
    best: Option | None = Field(
        description="the cheapest drop-in that keeps them with the asked confidence, else the likeliest"
    )
    critical_batch: CriticalBatchFacts | None = Field(
        default=None, description="None: the global batch of the job is not known"
    )
    change: CostChange | None = Field(
        default=None, description="what changed since the base, and why; None where no base was given"
    )
    savings: tuple[Saving, ...] = Field(
        default=(),
        description="changes that would make the best run cheaper, each alone, in the order of `savings-1`; priced "
        "where the run is over, or likely over",
    )
    past_runs: tuple[RunRecord, ...] = Field(
        default=(), description="last runs of the job in the ledger that was named, newest first"
    )
    notes: tuple[str, ...] = ()

    _leave_out = leave_out_empty("likely_over")


def name_verdict(verdict: str, *, likely_over: bool) -> str:
    """
    Return a verdict, or the status of a finding, in words.

    >>> name_verdict("cannot_tell", likely_over=False), name_verdict("cannot_tell", likely_over=True)
    ('cannot tell', 'over by the estimate, not certain')
    """
    return "over by the estimate, not certain" if likely_over else verdict.replace("_", " ")


def is_likely_over(best: Option, limit: float | None, interval: Interval) -> bool:
    """
    Return whether the median of a run is a third or more over a limit, and neither a guess nor an unknown loader.

    Args:
        best: the run.
        limit: in the unit of the interval; None: there is none.
        interval: the run's dollars or hours.
    """
    over = limit is not None and interval.mid >= LIKELY_OVER * limit
    return (
        over and not is_undecided(best, limit, interval) and find_breaking_rate(best, limit, interval) is None
    )


def judge(
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    *,
    base: PricedJob | UnknownJob | None = None,
    notes: tuple[str, ...] = (),
) -> BudgetCheck:
    """
    Compare the best machine for a job with a budget and a deadline.

    The best machine is the cheapest drop-in that keeps both with the asked confidence, else the likeliest;
    machines that need porting do not count. The run is `within` when that chance is at least the confidence,
    `over` when it is at most 1 - confidence.

    Args:
        profile: the job.
        book: all offers.
        request: budget, deadline, confidence, exact names, and the largest number of machines in one run.
        base: the job before a change, to say what the change does to the cost; None: no comparison.
        notes: sentences for the reader, such as a price source that failed.
    """
    from trainfare_core.changes.explain_change import PricedJob, explain_change
    from trainfare_core.installation import __version__
    from trainfare_core.ranking.options.assumptions import describe_critical_batch, job_summary
    from trainfare_core.ranking.rank import best_chance
    from trainfare_core.savings import list_savings

    constraints = request.constraints
    best_option = best_chance(profile, book, request)
    best, chance = (None, None) if isinstance(best_option, str) else (best_option, _get_chance(best_option))
    limits = [] if best is None else [
        (best, constraints.max_usd, best.run_usd), (best, constraints.deadline_hours, best.run_hours),
    ]  # fmt: skip
    verdict = verdict_of(
        None if any(is_undecided(*limit) for limit in limits) else chance, constraints.confidence
    )
    if verdict == "over" and any(find_breaking_rate(*limit) is not None for limit in limits):
        verdict = "cannot_tell"
    likely_over = verdict == "cannot_tell" and any(is_likely_over(*limit) for limit in limits)
    return BudgetCheck(
        tool_version=__version__,
        job=job_summary(profile),
        verdict=verdict,
        likely_over=likely_over,
        reason=f"cannot tell: {best_option}"
        if isinstance(best_option, str)
        else _write_reason(verdict, best_option, constraints, likely_over=likely_over),
        constraints=constraints,
        probability_within=chance,
        best=best,
        critical_batch=describe_critical_batch(profile, constraints),
        savings=list_savings(profile, book, request) if verdict == "over" or likely_over else (),
        change=None if base is None else explain_change(base, PricedJob(profile, book, "head"), request),
        notes=notes,
    )


def _get_chance(best: Option) -> float:
    return 1.0 if best.probability_within is None else best.probability_within


def verdict_of(chance: float | None, confidence: float) -> BudgetVerdict:
    """
    Return what a chance of keeping a limit means.

    >>> [verdict_of(chance, 0.9) for chance in (0.95, 0.5, 0.1, None)]
    ['within', 'cannot_tell', 'over', 'cannot_tell']
    """
    if chance is None:
        return "cannot_tell"
    if chance >= confidence:
        return "within"
    # The slack makes confidence 0.9 and a chance of 0.1 meet in floating point: 1 - 0.9 is not 0.1 there.
    return "over" if chance <= 1 - confidence + 1e-9 else "cannot_tell"


def is_undecided(best: Option, limit: float | None, interval: Interval) -> bool:
    """
    Return whether a guess says nothing of a limit: its interval, `GUESS_FACTOR` times wider to each side, holds it.

    Args:
        best: the run.
        limit: in the unit of the interval; None: there is none.
        interval: the run's dollars or hours.
    """
    if limit is None or not best.guess_because:
        return False
    return interval.low_80 / GUESS_FACTOR < limit < interval.high_80 * GUESS_FACTOR


def find_breaking_rate(best: Option, limit: float | None, interval: Interval) -> float | None:
    """
    Return the loader's samples a second on each vCPU below which a run breaks a limit, where published rates decide.

    Args:
        best: the run.
        limit: in the unit of the interval; None: there is none.
        interval: the run's dollars or hours.

    Returns:
        None where the rate is known, or no published one keeps the limit, or each does.
    """
    loader, needed = best.loader, best.loader_samples_per_s_per_vcpu
    if limit is None or loader is None or loader.basis != "published" or not needed or limit <= 0:
        return None
    computed_s, latest_s = best.step_s.mid - best.step_parts.input_s, best.step_s.mid * limit / interval.mid
    rate = needed * computed_s / latest_s
    slowest, fastest = loader.slowest_per_s_per_vcpu or 0.0, loader.fastest_per_s_per_vcpu or 0.0
    return rate if rate <= needed and slowest < rate < fastest else None


def _describe_rates(best: Option, constraints: Constraints) -> str:
    """Say which rate of the loader would break a limit; "" where none decides."""
    pairs = ((constraints.max_usd, best.run_usd), (constraints.deadline_hours, best.run_hours))
    rates = [rate for pair in pairs if (rate := find_breaking_rate(best, *pair)) is not None]
    return explain_rate(best, max(rates)) if rates else ""


def explain_rate(best: Option, rate: float) -> str:
    """Say below which rate of its loader a run breaks a limit, and how to state the own one."""
    loader, line = best.loader, f"loader_samples_per_s_per_vcpu = {float(figures(rate).replace(',', '')):g}"
    published = ""
    if loader is not None and loader.slowest_per_s_per_vcpu and loader.fastest_per_s_per_vcpu:
        low, high = figures(loader.slowest_per_s_per_vcpu), figures(loader.fastest_per_s_per_vcpu)
        published = f", and published rates of {loader.kind} are {low} to {high} here"
    return (
        f"; the loader decides and was not measured: below {figures(rate)} samples a second on each vCPU the limit "
        f"breaks{published}. State what yours makes, such as {line}, in the job's table of trainfare.toml or with "
        "--loader-samples-per-s-per-vcpu"
    )


def _write_reason(
    verdict: BudgetVerdict, best: Option, constraints: Constraints, *, likely_over: bool
) -> str:
    cost = f"{best.run_usd.mid:,.2f} USD ({best.run_usd.low_80:,.2f} to {best.run_usd.high_80:,.2f})"
    hours = best.run_hours
    time = hours_range(hours.mid, hours.low_80, hours.high_80, "()")
    given = (
        ("{:,.2f} USD".format, constraints.max_usd),
        (functools.partial(hours_text, digits=4), constraints.deadline_hours),
        ("{:,.2f} USD an hour".format, constraints.max_usd_per_hour),
    )
    limits = " and ".join(text(value) for text, value in given if value is not None)
    words = {"within": "within", "over": "over", "cannot_tell": "cannot tell if within"}[verdict]
    if likely_over:
        words = f"{name_verdict(verdict, likely_over=True)}, against"
    run = f"{best.purchased_machines} takes {time} and costs {cost}"
    if best.guess_because:
        run = f"{run}, a guess, because {best.guess_because}"
    if not limits:
        return f"no limit on the run itself: {run}"
    return (
        f"{words} {limits}: {run}; "
        f"the chance to keep the limits is {percent(_get_chance(best), 1)}, asked for {percent(constraints.confidence)}"
        f"{_describe_rates(best, constraints) if verdict == 'cannot_tell' else ''}"
    )
