"""Sentences of the first screen: quota, spot, later years, constraints, how sure the answer is, what is not ranked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from trainfare.report.facts import compare_spot, constraints_text, interruptions_text
from trainfare.report.headline import NamedOption
from trainfare.report.later_years import advise_waiting
from trainfare.report.price_age import price_age, price_ages, price_date_of
from trainfare.report.wording import describe_interval, machine_label
from trainfare_core.number_format import percent
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.ranking.pricing.quotas import QUOTA_NOTE
from trainfare_core.recommendation import Recommendation
from trainfare_core.variants import IMPLEMENTATION_NOTE


def describe_quota(named: Sequence[NamedOption]) -> str:
    """Say that a new account cannot start the answer's machine, where that is known."""
    notes = named[0][1].notes if named else ()
    note = next((note for note in notes if note.startswith(QUOTA_NOTE)), "")
    return f"{note[:1].upper()}{note[1:].partition('. Source')[0]}." if note else ""


def describe_spot(recommendation: Recommendation) -> str:
    """Say what the cheapest spot machine saves, or why there is none."""
    spot = recommendation.best_spot
    because = recommendation.no_spot_because
    if any(option.purchase_option == "spot" for option in recommendation.options):
        return ""
    if spot is None and because:
        return f"No spot machine: {because}."
    if spot is None or not recommendation.options:
        return ""
    saving = compare_spot(recommendation, spot)
    if saving <= 0:
        return ""
    return (
        f"Spot could cost {percent(saving)} less: {describe_interval(spot.run_usd, 'usd')} on {machine_label(spot)} at "
        f"its price of {price_date_of(spot).text}, with {interruptions_text(spot)}: --purchase spot."
    )


def describe_outlook(recommendation: Recommendation) -> str:
    """Return whether to wait; empty where there is no outlook."""
    verdict, _ = advise_waiting(recommendation)
    return f"{verdict}: --details says what it costs later." if verdict else ""


def describe_constraints(recommendation: Recommendation) -> str:
    """Return what was asked for; empty where nothing was."""
    asked = constraints_text(recommendation.constraints)
    return f"Asked for: {asked}." if asked else ""


def describe_certainty(recommendation: Recommendation, named: Sequence[NamedOption], as_of: date) -> str:
    """Say what the brackets are, how old the prices are, and what is not known."""
    if not named:
        return ""
    dates = frozenset(price_date_of(option) for _, option in named)
    stale = any(price_age(date, as_of).stale for date in dates)
    old = ", not confirmed since: `trainfare prices update`" if stale else ""
    measured = "no step was measured" if recommendation.job.measured_on is None else "with your measured step"
    known = (
        "" if recommendation.job.input_known else "; the input pipeline is not known and counted as nothing"
    )
    ages = price_ages(dates, as_of)
    return f"Brackets: 80 % intervals, {measured}{known}. {ages[:1].upper()}{ages[1:]}{old}."


def describe_implementations(recommendation: Recommendation) -> str:
    """Say which implementation is meant, and what others would cost; empty where none was priced."""
    notes = (text for text in recommendation.assumptions if text.startswith(IMPLEMENTATION_NOTE))
    return next((f"{text[0].upper()}{text[1:]}." for text in notes), "")


def count_rejected(recommendation: Recommendation) -> str:
    """Count the machine types that are not ranked, by reason."""
    counted = [rejection for rejection in recommendation.rejections if rejection.machines]
    if not counted or not recommendation.options:
        return ""
    total = sum(each.machines or 0 for each in counted)
    reasons = ", ".join(f"{REASON_WORDS[each.reason]} {each.machines:,}" for each in counted)
    return f"{total:,} machine types are not ranked: {reasons}."
