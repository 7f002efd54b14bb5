"""The facts beside the ranking: the job, the constraints, measured phases, price books, limits of the trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from string import Formatter
from typing import Any, Final

from trainfare.report.price_age import PriceDate, price_age
from trainfare.report.wording import (
    duration,
    of_the_work,
    purchase_label,
    short_count,
    span,
    usd,
)
from trainfare_core.clouds import service_label
from trainfare_core.job_profile import JobProfile, MeasuredStep, Quantiles
from trainfare_core.limits.constraints import Constraints
from trainfare_core.limits.limit_fields import LimitField, limits_of
from trainfare_core.number_format import hours_text, percent, quantify
from trainfare_core.recommendation import JobSummary, Option, PriceBookFacts, Recommendation


@dataclass(frozen=True, slots=True)
class BookLine:
    """The prices of one cloud service: their source, number, dates and age."""

    cloud: str
    origin: str
    rows: str
    dates: str
    age: str
    stale: bool


def interruptions_text(option: Option) -> str:
    """Return what to expect of a spot machine: how often it is taken back, and when nine of ten runs have ended."""
    spot = option.spot
    if spot is None:
        return "interruptions at any time"
    expected = quantify(spot.interruptions, "interruption")
    ends = f"nine of ten runs end within {hours_text(spot.p90_hours)}"
    return f"{expected} expected over the middle 80 % of rates ({ends})"


def compare_spot(recommendation: Recommendation, spot: Option) -> float:
    """Return by what part a spot machine is cheaper than the cheapest ranked one that runs the script unchanged."""
    ranked = [option.run_usd.mid for option in recommendation.options if not option.needs_porting]
    return 1 - spot.run_usd.mid / min(ranked) if ranked and min(ranked) > 0 else 0.0


def job_facts(job: JobSummary) -> tuple[str, ...]:
    """Return the job in a few short phrases."""
    facts = [job.precision, f"{short_count(job.parameters).rstrip()} parameters"]
    if job.trainable_parameters != job.parameters:
        facts.append(f"{short_count(job.trainable_parameters)} of them trainable")
    facts.append(
        f"{short_count(job.step_flops, 'FLOP')} per step and device"
        + _beside(*of_the_work(job.batch_flops, job.work_note))
    )
    facts.append(
        "unknown number of steps"
        if job.optimizer_steps is None
        else f"{job.optimizer_steps:,} optimizer steps" + _beside(job.steps_note or "")
    )
    if job.global_batch_size is not None:
        facts.append(f"{job.global_batch_size:,} samples per step")
    if job.measured_on is not None and job.measured_step_s is not None:
        facts.append(f"measured on {job.measured_on}: {duration(job.measured_step_s, 'auto')} per step")
    return tuple(facts)


def _beside(*notes: str) -> str:
    """Return notes in the place right after the number that they are about."""
    said = "; ".join(note for note in notes if note)
    return f" ({said})" if said else ""


def basis_note(recommendation: Recommendation, profile: JobProfile | None) -> str:
    """Return a note that hours and dollars are for 1,000 steps, empty where they are for the whole run."""
    if recommendation.basis == "whole_run":
        return ""
    reason = profile.plan.unknown_because if profile is not None else None
    because = f" ({reason})" if reason else ""
    return (
        f"The length of the run is unknown{because}: all hours and dollars below are for 1,000 optimizer "
        "steps, not for the whole run."
    )


def constraints_text(constraints: Constraints) -> str:
    """Return the constraints as one line, empty where there are none; each in the words beside its field."""
    limits = [limit for limit in limits_of(Constraints) if limit.limit.said and _is_said(limit, constraints)]
    limits.sort(key=lambda limit: _ORDER.index(limit.name) if limit.name in _ORDER else len(_ORDER))
    return "; ".join(_say(limit, constraints) for limit in limits)


_ORDER: Final = (
    "max_usd", "deadline_hours", "confidence", "value_usd_per_hour", "value_usd_per_month", "providers", "services",
    "regions", "residency", "instance_types", "accelerators", "excluded", "purchase", "data_gb", "run_cost",
    "max_accelerators", "quotas", "min_network_gbit_per_s", "no_porting", "use", "scale", "critical_batch",
)  # fmt: skip
"""Of the constraints in their line; others follow."""


def _is_said(limit: LimitField, asked: Constraints) -> bool:
    """Return whether a limit was given; the probability is about budget and deadline."""
    if limit.name == "confidence":
        return asked.max_usd is not None or asked.deadline_hours is not None
    if limit.name == "run_cost":
        return bool(_state_limits(asked))
    return bool(getattr(asked, limit.name) != limit.info.default)


def _state_limits(asked: Constraints) -> dict[str, float]:
    stated: dict[str, float] = asked.run_cost.model_dump(exclude_unset=True, exclude_none=True)
    return stated


_FORMS: Final[Mapping[str, Callable[[Any, Constraints], object]]] = {
    "value": lambda value, _: value,
    "usd": lambda value, _: usd(value),
    "hours": lambda value, _: hours_text(value, 4),
    "percent": lambda value, _: percent(value),
    "names": lambda value, _: ", ".join(value) or "none",
    "purchase": lambda value, _: ", ".join(purchase_label(name) for name in value) or "none",
    "quotas": lambda value, _: f"{len(value)} quota{'' if len(value) == 1 else 's'}",
    "place": lambda _, asked: "" if asked.data_in is None else f" in {asked.data_in}",
    "stated": lambda _, asked: ", ".join(
        f"{name} = {value:g}" for name, value in _state_limits(asked).items()
    ),
}
"""The forms of a limit's value that its words may name."""


def _say(limit: LimitField, asked: Constraints) -> str:
    value, words = getattr(asked, limit.name), limit.limit.said
    names = [name for _, name, _, _ in Formatter().parse(words) if name]
    return words.format(**{name: _FORMS[name](value, asked) for name in names})


def list_measured_phases(measured: MeasuredStep) -> tuple[tuple[str, Quantiles | None], ...]:
    """Return the phases of a measured step by name, in the order they run; None where not measured."""
    return (
        ("waiting for data", measured.data_wait),
        ("transfer to the device", measured.transfer),
        ("forward", measured.forward),
        ("backward", measured.backward),
        ("optimizer", measured.optimizer),
    )


def phase_lines(profile: JobProfile | None) -> tuple[tuple[str, str, str], ...]:
    """Return name, median and range (10th to 90th percentile) of measured phases, the whole step first."""
    if profile is None or profile.measured is None:
        return ()
    phases = (("whole step", profile.measured.step), *list_measured_phases(profile.measured))
    return tuple(
        (
            name,
            duration(times.median_s, "auto"),
            span(duration(times.p10_s, "auto"), duration(times.p90_s, "auto")),
        )
        for name, times in phases
        if times is not None
    )


def book_line(book: PriceBookFacts, as_of: date) -> BookLine:
    """Return the source of one cloud service's prices, and the age of the oldest and the newest."""
    newest, oldest = price_age(PriceDate(book.newest), as_of), price_age(PriceDate(book.oldest), as_of)
    if book.fetched_at is not None:
        fetched = PriceDate(book.newest, book.fetched_at)
        oldest = price_age(fetched, as_of)
        dates, age = f"fetched {fetched.text}", oldest.text
    elif book.oldest == book.newest:
        dates, age = book.newest, newest.text
    else:
        dates, age = f"{book.oldest} to {book.newest}", f"oldest {oldest.text}, newest {newest.text}"
    return BookLine(
        cloud=service_label(book.provider, book.service),
        origin=book.origin,
        rows=f"{book.rows:,}",
        dates=dates,
        age=age + _describe_counts(book),
        stale=oldest.stale,
    )


def _describe_counts(book: PriceBookFacts) -> str:
    """Return how many rows of the source were accepted, filtered and quarantined; empty where unknown."""
    if book.rows_read is None:
        return ""
    text = (
        f"; {book.rows_read:,} rows read = {book.accepted or 0:,} accepted + {book.filtered or 0:,} filtered + "
        f"{book.quarantined or 0:,} quarantined"
    )
    return text + (" (degraded)" if book.degraded else "")
