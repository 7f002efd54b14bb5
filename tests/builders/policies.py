"""Policies and answers of checks for tests."""

from __future__ import annotations

from datetime import date
from typing import Any

from builders.toy_market import book, offer_row, small_job
from trainfare_core.changes.explain_change import PricedJob
from trainfare_core.policy.check import (
    JobCheck,
    JobInputs,
    PolicyCheck,
    SourcePlace,
    check_job,
    policy_check,
    report_unchecked_job,
)
from trainfare_core.policy.policy import Policy, PolicyJob, Waiver
from trainfare_core.recommendation import Constraints

DAY = date(2026, 11, 24)


def waiver(rule: str = "max_usd", *, expires: date = DAY, job: str = "small") -> Waiver:
    """Return a waiver that holds on `DAY` unless it expires before."""
    fields = {"job": job, "rule": rule, "owner": "ml-platform", "reason": "first run", "expires": expires}
    return Waiver.model_validate(fields)


def policy_of(*waivers: Waiver, on_unknown: Any = "fail", age: float | None = None, **limits: Any) -> Policy:
    """Return a policy with one job, `small`."""
    job = PolicyJob(target="train.py:job", **limits)
    return Policy(jobs={"small": job}, waivers=waivers, on_unknown=on_unknown, max_price_age_days=age)


def make_priced_inputs(
    *rows: Any, steps: int | None = 36_000, base_steps: int | None = 0, **fields: Any
) -> JobInputs:
    """Return the small job with a book of one A100, or of the rows given; `base_steps` makes it a change of a base."""
    prices = book(*(rows or [offer_row()]))
    base = PricedJob(small_job(steps=base_steps), prices, "base.json") if base_steps != 0 else None
    constraints = Constraints(purchase=("on_demand", "spot"))
    return JobInputs(profile=small_job(steps=steps), book=prices, asked=constraints, base=base, **fields)


def check_small_job(
    *waivers: Waiver, job: JobInputs | None = None, day: date = DAY, **limits: Any
) -> JobCheck:
    """Return the check of the small job."""
    source_place = SourcePlace(path="train.py", line=7)
    return check_job(
        policy_of(*waivers, **limits),
        "small",
        job or make_priced_inputs(),
        day=day,
        source_place=source_place,
    )


def make_mixed_answer(name: str = "small", message: str = "train.py: no such file") -> PolicyCheck:
    """Return an answer with a job that is within, one that is over, one that is waived and one that was not checked."""
    within, over = check_small_job(max_usd=1e6, max_hours=1e6), check_small_job(max_usd=0.01)
    waived = check_small_job(waiver(), max_usd=0.01, max_increase_percent=10)
    broken = report_unchecked_job(
        policy_of(max_usd=5), "small", rule="not_checked", message=message, exit_code=2, day=DAY
    )
    jobs = [within, over, waived, broken]
    return policy_check(job.model_copy(update={"name": name}) for job in jobs)
