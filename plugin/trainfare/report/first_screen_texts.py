"""Sentences beside an answer: quota, spot, later years, constraints, how sure the answer is, what is not ranked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Final

from trainfare.report.facts import compare_spot, constraints_text, interruptions_text
from trainfare.report.headline import NamedOption
from trainfare.report.later_years import advise_waiting, explain_verdict
from trainfare.report.price_age import oldest_price, price_age, price_date_of
from trainfare.report.wording import (
    describe_interval,
    has_caveat,
    machine_label,
    note_sentence,
    terms_label,
)
from trainfare_core.job_profile import UPPER_BOUND
from trainfare_core.number_format import hours_text, percent
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.recommendation import Option, Recommendation


def find_quota(option: Option) -> str:
    """Return that a new account cannot start a machine, in four words; "" where that is not known."""
    return "new account: quota 0" if any(note.kind == "quota" for note in option.notes) else ""


def describe_quota(named: Sequence[NamedOption]) -> str:
    """Say which quota a new account must raise to start the answer's machine, where that is known."""
    notes = named[0][1].notes if named else ()
    return next((note_sentence(note) for note in notes if note.kind == "quota"), "")


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
    floor = ", a tenth of on demand, if it can be had" if has_caveat(spot, "at_floor") else ""
    return (
        f"Spot could cost {percent(saving)} less: {describe_interval(spot.run_usd, 'usd')} on {machine_label(spot)} at "
        f"its price of {price_date_of(spot).text}{floor}, with {interruptions_text(spot)}: --purchase spot."
    )


def describe_commitment(recommendation: Recommendation) -> str:
    """Say from what use of its term the best reservation or savings plan pays; "" where none does."""
    option = recommendation.best_commitment
    if option is None or option.commitment is None or option.commitment.pays_from_use is None:
        return ""
    return (
        f"{machine_label(option)}, {terms_label(option)}, pays from {percent(option.commitment.pays_from_use)} use "
        f"(price of {price_date_of(option).text}): --purchase {option.purchase_option} --use SHARE."
    )


def describe_unknowns(named: Sequence[NamedOption]) -> str:
    """Say what is not known of the named machines and may decide: measurements, input pipeline, availability."""
    unmeasured = _list_unmeasured(named)
    sentences = [
        f"No step was ever measured on {' or '.join(unmeasured)}: its time follows from its data sheet."
        if unmeasured
        else "",
        *(
            f"{titles[0].capitalize()} is a guess: {option.guess_because}."
            for titles, option in named
            if option.guess_because
        ),
        describe_named_loader(named) or _note_loader(named),
    ]
    for _, option in named:
        if has_caveat(option, "spot_or_flex_only") and not option.needs_porting:
            caveat = next(note.because for note in option.notes if note.caveats)
            sentences.append(f"{option.instance_type}: {caveat}.")
    return " ".join(dict.fromkeys(filter(None, sentences)))


def _list_unmeasured(named: Sequence[NamedOption]) -> list[str]:
    """Return the accelerators on which no step was ever measured."""
    never = (option for _, option in named if not (option.accelerator_measured or option.needs_porting))
    return list(dict.fromkeys(option.accelerator for option in never))


def _note_loader(named: Sequence[NamedOption]) -> str:
    """Say what the vCPUs of the first machine that runs the script must load, where that is much."""
    ready = [option for _, option in named if not option.needs_porting]
    notes = (note for option in ready[:1] for note in option.notes)
    return next((note_sentence(note) for note in notes if note.kind == "loader_rate"), "")


_UNKNOWN_INPUT: Final = "The input pipeline is not known and counted as nothing."


def describe_named_loader(named: Sequence[NamedOption]) -> str:
    """Say of the first machine whose loader decides what that makes and what would help; "" where none does."""
    texts = (describe_loader(option) for _, option in named if not option.needs_porting)
    return next(filter(None, texts), "")


def describe_loader(option: Option) -> str:
    """Say that a machine's loader decides, with its workers and what more of them would give; "" where it does not."""
    if option.loader is None:
        return ""
    return option.loader.describe(option.instance_type, option.loader_samples_per_s_per_vcpu)


def _describe_published_loader(named: Sequence[NamedOption]) -> str:
    """Say that published rates stand for a loader that was not measured, where no line names it already."""
    loader = named[0][1].loader
    if loader is None or loader.basis != "published" or describe_named_loader(named):
        return ""
    return f"The loader was not measured: published rates of {loader.kind}."


def describe_earlier_runs(recommendation: Recommendation) -> str:
    """Say how runs of this project and figures of devices correct times, of machines that are not named too."""
    runs = [f"Times on the die {runs.silicon} are {runs.describe()}." for runs in recommendation.earlier_runs]
    return " ".join(
        (
            *runs,
            *(
                f"Times on {figures.accelerator} are {figures.describe()}."
                for figures in recommendation.device_figures
            ),
        )
    )


def describe_nodes(recommendation: Recommendation) -> str:
    """Say that more machines than usual were tried; "" where they were not."""
    raised, constraints = recommendation.raised_max_nodes, recommendation.constraints
    if raised is None:
        return ""
    hours = min(constraints.deadline_hours or math.inf, constraints.max_run_hours)
    return f"No run on few machines ends within {hours_text(hours)}: up to {raised} of one kind were tried."


def describe_early_end(recommendation: Recommendation) -> str:
    """Say what may end the run before its last step; empty where nothing does."""
    notes = (recommendation.job.steps_note or "").split("; ")
    by = next((note.removesuffix(UPPER_BOUND) for note in notes if note.endswith(UPPER_BOUND)), "")
    return f"{by} may end the run earlier: hours and dollars are an upper bound." if by else ""


def describe_own_prices(recommendation: Recommendation) -> str:
    """Name the user's own discounts and rates, applied or not in force; empty where there are none."""
    own = recommendation.own_prices
    return f"Own prices: {'; '.join(own)}." if own else ""


def describe_outlook(recommendation: Recommendation) -> str:
    """Return whether to wait, with the reason where a month earlier has a value; empty where there is no outlook."""
    if recommendation.constraints.value_usd_per_month is not None:
        return explain_verdict(recommendation)
    verdict, _ = advise_waiting(recommendation)
    return f"{verdict}: --details says what it costs later." if verdict else ""


def describe_constraints(recommendation: Recommendation) -> str:
    """Return what was asked for; empty where nothing was."""
    asked = constraints_text(recommendation.constraints)
    return f"Asked for: {asked}." if asked else ""


def list_doubts(recommendation: Recommendation, named: Sequence[NamedOption], as_of: date) -> tuple[str, ...]:
    """Return what the brackets are, how old the prices are and what is not known, the most important first."""
    if not named:
        return ()
    dates = frozenset(price_date_of(option) for _, option in named)
    stale = any(price_age(price_date, as_of).stale for price_date in dates)
    measured = "no step was measured" if recommendation.job.measured_on is None else "with your measured step"
    unmeasured, published = _list_unmeasured(named), _describe_published_loader(named)
    doubts = (
        f"Brackets: 80 % intervals, {measured}.",
        f"{oldest_price(dates, as_of)}{': `trainfare prices update`' if stale else ''}.",
        published,
        f"{' and '.join(unmeasured)} {'was' if len(unmeasured) == 1 else 'were'} never measured."
        if unmeasured
        else "",
        "" if recommendation.job.input_known or named[0][1].loader is not None else _UNKNOWN_INPUT,
    )
    return tuple(doubt for doubt in doubts if doubt)


def describe_implementations(recommendation: Recommendation) -> str:
    """Say which implementation is meant, and what others would cost; empty where none was priced."""
    text = recommendation.implementations
    return f"{text[0].upper()}{text[1:]}." if text else ""


_TARGETS: Final = {"sagemaker": "sagemaker", "azure_ml": "azureml"}
"""By the service of a machine, what starts a run there; torchrun starts it on any machine that is there."""


def describe_start(recommendation: Recommendation, named: Sequence[NamedOption]) -> str:
    """Say how to start the answer; empty where there is none, or where it needs porting first."""
    if not named or named[0][1].needs_porting:
        return ""
    name, option = named[0][0][0].replace(" ", "-"), named[0][1]
    # SageMaker needs to know how long the run is.
    target = _TARGETS.get(option.service, "torchrun") if recommendation.basis == "whole_run" else "torchrun"
    plan = "" if name == "cheapest" else f" --plan {name}"
    return (
        f"To start it: --format json -o answer.json, then `trainfare export answer.json --to {target}{plan}`."
    )


def count_rejected(recommendation: Recommendation) -> str:
    """Count the machine types that are not ranked, by reason."""
    counted = [rejection for rejection in recommendation.rejections if rejection.machines]
    if not counted or not recommendation.options:
        return ""
    total = sum(each.machines or 0 for each in counted)
    reasons = ", ".join(f"{REASON_WORDS[each.reason]} {each.machines:,}" for each in counted)
    return f"{total:,} machine types are not ranked: {reasons}."
