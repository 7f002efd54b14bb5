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
    checked_job,
    policy_check,
    unchecked_job,
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


def priced(*rows: Any, steps: int | None = 36_000, base_steps: int | None = 0, **fields: Any) -> JobInputs:
    """Return the small job with a book of one A100, or of the rows given; `base_steps` makes it a change of a base."""
    prices = book(*(rows or [offer_row()]))
    base = PricedJob(small_job(steps=base_steps), prices, "base.json") if base_steps != 0 else None
    asked = Constraints(purchase=("on_demand", "spot"))
    return JobInputs(profile=small_job(steps=steps), book=prices, asked=asked, base=base, **fields)


def checked(*waivers: Waiver, job: JobInputs | None = None, day: date = DAY, **limits: Any) -> JobCheck:
    """Return the check of the small job."""
    place = SourcePlace(path="train.py", line=7)
    return checked_job(policy_of(*waivers, **limits), "small", job or priced(), day=day, place=place)


def mixed_answer(name: str = "small", message: str = "train.py: no such file") -> PolicyCheck:
    """Return an answer with a job that is within, one that is over, one that is waived and one that was not checked."""
    within, over = checked(max_usd=1e6, max_hours=1e6), checked(max_usd=0.01)
    waived = checked(waiver(), max_usd=0.01, max_increase_percent=10)
    broken = unchecked_job(
        policy_of(max_usd=5), "small", rule="not_checked", message=message, exit_code=2, day=DAY
    )
    jobs = [within, over, waived, broken]
    return policy_check(job.model_copy(update={"name": name}) for job in jobs)
