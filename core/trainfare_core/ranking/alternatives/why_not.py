"""Why a machine is not the answer: the stage that rejects it with its figures, or by how much it loses."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from trainfare_core.documents import Document
from trainfare_core.errors import UnknownNameError
from trainfare_core.installation import __version__
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import hours_range, percent
from trainfare_core.prediction import predict as predict_plans
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.ranking.pricing.plan_search import Predictor
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import (
    Alternative,
    Constraints,
    CriticalBatchFacts,
    JobSummary,
    Objective,
    Option,
    Recommendation,
    Rejection,
)


class WhyNot(Document):
    """Why a machine is not the answer to a request."""

    schema_version: Literal[1] = 1
    tool_version: str
    machine: str = Field(description="as it was asked for")
    objective: Objective
    job: JobSummary
    constraints: Constraints
    critical_batch: CriticalBatchFacts | None = Field(
        default=None, description="None: the global batch of the job is not known"
    )
    offers: int = Field(description="prices known for it, of every purchase option and region")
    option: Option | None = Field(
        description="its best run that keeps the limits; None where it is not ranked"
    )
    best: Option | None = Field(description="the answer to the request; None where there is none")
    rejections: tuple[Rejection, ...] = Field(
        description="why its other offers, or all of them, are not ranked"
    )
    sentence: str = Field(description="the answer in words")
    alternatives: tuple[Alternative, ...] = Field(
        default=(),
        description="where it is not ranked: its runs that a changed limit or allowance would admit",
    )


def offers_named(book: PriceBook, name: str) -> PriceBook:
    """
    Return the offers of a machine: an instance type, its family or an accelerator, `provider:` and `@region` optional.

    Raises:
        UnknownNameError: a part that the book does not have, with near names.
    """
    rest, at, region = name.partition("@")
    provider, colon, machine = rest.rpartition(":")
    there = book.filter(providers=book.resolve("provider", [provider] if colon else None))
    there = there.filter(regions=there.resolve("region", [region] if at else None))
    try:
        return there.filter(instance_types=there.resolve("instance_type", [machine]))
    except UnknownNameError as error:
        try:
            return there.filter(accelerators=there.resolve("accelerator", [machine]))
        except UnknownNameError:
            raise error from None


def why_not(
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    machine: str,
    *,
    predict: Predictor = predict_plans,
) -> WhyNot:
    """
    Say why a machine is not the answer to a request.

    Args:
        profile: the job.
        book: all offers.
        request: what was asked for, with names as the book spells them.
        machine: see `offers_named`.
        predict: the predictor.

    Raises:
        UnknownNameError: a name that the book does not have.
    """
    machines = offers_named(book, machine)
    one_option = replace(request, limit=1)
    alone = rank(profile, machines, one_option, predict=predict)
    every = rank(profile, book, one_option, predict=predict)
    option, best = _find_best(alone), _find_best(every)
    if option is None:
        alone = with_alternatives(alone, profile, machines, one_option, predict=predict)
    return WhyNot(
        tool_version=__version__,
        machine=machine,
        objective=request.objective,
        job=every.job,
        constraints=every.constraints,
        critical_batch=every.critical_batch,
        offers=len(machines),
        option=option,
        best=best,
        rejections=alone.rejections,
        sentence=_write_sentence(machine, option, best, alone),
        alternatives=alone.alternatives,
    )


def _find_best(answer: Recommendation) -> Option | None:
    """Return the first option of the objective, that of a machine that needs porting where there is no other."""
    return answer.best(answer.objective) or (answer.options[0] if answer.options else None)


def _write_sentence(machine: str, option: Option | None, best: Option | None, alone: Recommendation) -> str:
    if option is None:
        reasons = "; ".join(
            f"{item.count:,} price{'' if item.count == 1 else 's'}: {REASON_WORDS[item.reason]} ({item.detail})"
            for item in alone.rejections
        )
        return f"{machine} is not ranked: {reasons or alone.unknown_because}"
    run, best_at = run_text(option), alone.objective.replace("_", " ")
    if best is None or _run(best) == _run(option):
        return f"{run}: it is the {best_at}"
    if option.needs_porting and not best.needs_porting:
        porting = next((note.text for note in option.notes if note.kind == "porting"), "needs porting")
        run = f"{run}, but {porting}"
    return (
        f"{run}; the {best_at}, {_run(best)}, {_estimate(best)}: {machine} costs "
        f"{_format_difference(option.run_usd.mid, best.run_usd.mid)} and takes "
        f"{_format_difference(option.run_hours.mid, best.run_hours.mid)}"
    )


def run_text(option: Option) -> str:
    """Return where a run is, with its dollars and hours."""
    return f"{_run(option)} {_estimate(option)}"


def _estimate(option: Option) -> str:
    """Return dollars and hours with their 80 % intervals, and the date of the price."""
    usd, hours = option.run_usd, option.run_hours
    return (
        f"costs {usd.mid:,.2f} USD [{usd.low_80:,.2f} to {usd.high_80:,.2f}] and takes "
        f"{hours_range(hours.mid, hours.low_80, hours.high_80)} at its price of {option.price_observed_on}"
    )


def _run(option: Option) -> str:
    return f"{option.nodes} x {option.machine} ({option.purchase_option.replace('_', ' ')})"


def _format_difference(value: float, other: float) -> str:
    """Return how much more or less a value is than another, in percent of that."""
    change = value / other - 1 if other > 0 else 0.0
    if abs(change) < 0.005:
        return "the same"
    return f"{percent(abs(change))} {'more' if change > 0 else 'less'}"
