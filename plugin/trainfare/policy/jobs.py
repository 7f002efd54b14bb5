"""Check the jobs of a policy, one after the other, with the same prices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainfare.ledger.earlier_runs import list_last_runs
from trainfare.loops import load_plan_writer
from trainfare.prices.constraints import with_book_names
from trainfare.prices.sources import LoadedPrices, PriceChoice, age_warnings
from trainfare_core.errors import PricesUnavailableError, TrainfareError
from trainfare_core.policy.check import JobCheck, JobInputs, SourcePlace, check_job, report_unchecked_job
from trainfare_core.policy.policy import Policy
from trainfare_core.ranking.pricing.price_doubt import offers_asked_for

if TYPE_CHECKING:
    from trainfare.ledger.place import LedgerPlace
    from trainfare_core.changes.explain_change import PricedJob, UnknownJob
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.limits.constraints import Constraints


@dataclass(frozen=True, slots=True)
class Pricing:
    """
    What every job is traced and priced with.

    Attributes:
        loaded: the prices.
        choice: limits on their age, and the moment to which ages and waivers are counted.
        profile_of: returns the profile of a target; raises a `TrainfareError` where it cannot.
        base_of: returns a job before a change, by name, priced as the job; None where there is none.
        ledger: whose last runs of the job are shown; None: no ledger was named.
    """

    loaded: LoadedPrices
    choice: PriceChoice
    profile_of: Callable[[str], JobProfile]
    base_of: Callable[[str, LoadedPrices], PricedJob | UnknownJob | None] = lambda _name, _loaded: None
    ledger: LedgerPlace | None = None


def check_jobs(
    policy: Policy,
    pricing: Pricing,
    *,
    target_of: Callable[[str], str],
    place_of_job: Callable[[str], SourcePlace | None],
    names: Iterable[str],
) -> tuple[JobCheck, ...]:
    """
    Check some jobs of a policy; one that cannot be checked does not keep the others from it.

    Args:
        policy: the policy.
        pricing: how to trace and price.
        target_of: returns the target of a job, as seen from the current folder.
        place_of_job: returns where a job is defined.
        names: of the jobs, in the order of the answer.
    """
    checks: list[JobCheck] = []
    for name in names:
        place = place_of_job(name)
        try:
            checks.append(check_one(policy, name, pricing, target_of(name), place))
        except TrainfareError as error:
            unchecked = report_unchecked_job(
                policy,
                name,
                rule="max_price_age_days" if isinstance(error, PricesUnavailableError) else "not_checked",
                message=str(error),
                exit_code=error.exit_code,
                day=pricing.choice.now.date(),
                source_place=place,
            )
            checks.append(unchecked)
    return tuple(checks)


def check_one(
    policy: Policy,
    name: str,
    pricing: Pricing,
    target: str,
    source_place: SourcePlace | None,
    constraints: Constraints | None = None,
) -> JobCheck:
    """
    Check one job.

    Args:
        policy: the policy.
        name: of the job.
        pricing: how to trace and price.
        target: of the job, as seen from the current folder.
        source_place: where the job is defined.
        constraints: of the job; None takes what the policy says.

    Raises:
        TrainfareError: it cannot be checked: the target cannot be loaded or traced, a name has no price, or the prices
            are too old.
    """
    loaded, choice = pricing.loaded, pricing.choice
    constraints = constraints or policy.constraints_of(policy.jobs[name])
    default = constraints.purchase is None
    book_constraints = with_book_names(constraints, loaded.book)
    day = choice.now.date()
    if any(
        waiver.rule == "max_price_age_days" and not waiver.has_expired(day)
        for waiver in policy.waivers_of(name)
    ):
        choice = dataclasses.replace(choice, on_stale="warn")
    old = age_warnings(loaded, offers_asked_for(loaded.book, book_constraints), choice)
    profile = pricing.profile_of(target)
    inputs = JobInputs(
        profile=profile,
        book=loaded.book,
        asked=book_constraints,
        as_of=loaded.as_of,
        writer=load_plan_writer(profile.source.loop),
        base=pricing.base_of(name, loaded),
        price_warnings=old,
        notes=(*((_ON_DEMAND,) if default else ()), *loaded.problems, *loaded.notes),
    )
    job = check_job(policy, name, inputs, day=day, source_place=source_place)
    if pricing.ledger is None or job.check is None:
        return job
    from trainfare_core.changes.explain_change import PricedJob

    before = [inputs.base.profile] if isinstance(inputs.base, PricedJob) else []
    runs = list_last_runs([inputs.profile, *before], pricing.ledger)
    return job.model_copy(update={"check": job.check.model_copy(update={"past_runs": runs})})


_ON_DEMAND = "checked at on-demand prices; allow purchase option spot to include spot machines"
