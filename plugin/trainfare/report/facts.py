"""What stands beside the ranking: the job, what was asked, measured phases, price books, what was unseen."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import date

from trainfare.report.price_age import PriceDate, price_age
from trainfare.report.wording import (
    cloud_words,
    count_words,
    duration,
    percent,
    purchase_words,
    span,
    usd,
)
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import Accelerator, accelerator
from trainfare_core.job_profile import JobProfile, MeasuredStep, Quantiles
from trainfare_core.prediction.roofline.coefficients import PATHS, calibration
from trainfare_core.recommendation import Constraints, JobSummary, PriceBookFacts, Recommendation

__all__ = [
    "BookLine",
    "PhaseLine",
    "asked_for",
    "basis_note",
    "book_line",
    "job_facts",
    "measured_phases",
    "phase_lines",
    "profile_notes",
]

_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """One measured phase of the optimizer step: median, and the range from 10th to 90th percentile."""

    name: str
    median: str
    spread: str


@dataclass(frozen=True, slots=True)
class BookLine:
    """One price book: who brought it, how much, how old."""

    cloud: str
    origin: str
    rows: str
    dates: str
    age: str
    stale: bool


def job_facts(job: JobSummary) -> tuple[str, ...]:
    """Return the job in a few short facts."""
    facts = [job.precision, f"{count_words(job.parameters).rstrip()} parameters"]
    if job.trainable_parameters != job.parameters:
        facts.append(f"{count_words(job.trainable_parameters)} of them trainable")
    facts.append(f"{count_words(job.step_flops)}FLOP a step and device")
    facts.append(
        "unknown number of steps"
        if job.optimizer_steps is None
        else f"{job.optimizer_steps:,} optimizer steps"
    )
    if job.global_batch_size is not None:
        facts.append(f"{job.global_batch_size:,} samples a step")
    if job.measured_on is not None and job.measured_step_s is not None:
        facts.append(f"measured on {job.measured_on}: {duration(job.measured_step_s, 'auto')} a step")
    return tuple(facts)


def basis_note(recommendation: Recommendation, profile: JobProfile | None) -> str:
    """Return what hours and dollars are for where it is not the whole run; else an empty text."""
    if recommendation.basis == "whole_run":
        return ""
    reason = profile.plan.unknown_because if profile is not None else None
    because = f" ({reason})" if reason else ""
    return (
        f"The length of the run is unknown{because}: all hours and dollars below are for 1,000 optimizer "
        "steps, not for the whole run."
    )


def asked_for(asked: Constraints) -> str:
    """Return the user's constraints as one line, empty where there are none."""
    wishes = [f"at most {usd(asked.max_usd)}"] if asked.max_usd is not None else []
    if asked.deadline_hours is not None:
        wishes.append(f"within {asked.deadline_hours:g} h")
    if wishes:
        wishes.append(f"kept with a chance of {percent(asked.confidence)} or more")
    if asked.value_usd_per_month is not None:
        wishes.append(f"a month earlier is worth {usd(asked.value_usd_per_month)}")
    purchase = None if asked.purchase is None else tuple(purchase_words(value) for value in asked.purchase)
    for name, values in (("cloud", asked.providers), ("region", asked.regions), ("purchase", purchase)):
        if values is not None:
            wishes.append(f"{name}: {', '.join(values) or 'none'}")
    return "; ".join(wishes)


def measured_phases(measured: MeasuredStep) -> tuple[tuple[str, Quantiles | None], ...]:
    """Return the phases of a measured step by name, in the order they run; None was not measured."""
    return (
        ("waiting for data", measured.data_wait),
        ("transfer to the device", measured.transfer),
        ("forward", measured.forward),
        ("backward", measured.backward),
        ("optimizer", measured.optimizer),
    )


def phase_lines(profile: JobProfile | None) -> tuple[PhaseLine, ...]:
    """Return the measured phases, the whole step first; nothing where nothing was measured."""
    if profile is None or profile.measured is None:
        return ()
    named = (("whole step", profile.measured.step), *measured_phases(profile.measured))
    return tuple(
        PhaseLine(
            name,
            duration(times.median_s, "auto"),
            span(duration(times.p10_s, "auto"), duration(times.p90_s, "auto")),
        )
        for name, times in named
        if times is not None
    )


def book_line(book: PriceBookFacts, as_of: date) -> BookLine:
    """Return where one cloud service's prices came from, with the age of the oldest and the newest."""
    if book.fetched_at is not None:
        fetched = PriceDate(book.newest, book.fetched_at)
        age = price_age(fetched, as_of)
        return BookLine(
            cloud=cloud_words(book.provider, book.service),
            origin=book.origin,
            rows=f"{book.rows:,}",
            dates=f"fetched {fetched.text}",
            age=age.text + _counts(book),
            stale=age.stale,
        )
    newest, oldest = price_age(PriceDate(book.newest), as_of), price_age(PriceDate(book.oldest), as_of)
    same = book.oldest == book.newest
    return BookLine(
        cloud=cloud_words(book.provider, book.service),
        origin=book.origin,
        rows=f"{book.rows:,}",
        dates=book.newest if same else f"{book.oldest} to {book.newest}",
        age=(newest.text if same else f"oldest {oldest.text}, newest {newest.text}") + _counts(book),
        stale=oldest.stale,
    )


def _counts(book: PriceBookFacts) -> str:
    """Return what became of the rows that the source gave, so that none is lost unseen."""
    if book.rows_read is None:
        return ""
    text = (
        f"; {book.rows_read:,} rows read = {book.accepted or 0:,} accepted + {book.filtered or 0:,} filtered + "
        f"{book.quarantined or 0:,} quarantined"
    )
    return text + (" (degraded)" if book.degraded else "")


def calibration_notes(recommendation: Recommendation) -> list[str]:
    """Return which of the ranked accelerators the calibration has seen: the intervals of the others are wider."""
    fit = calibration()
    devices: dict[str, Accelerator] = {}
    for option in recommendation.options:
        with contextlib.suppress(UnknownNameError):
            device = accelerator(option.accelerator)
            devices[device.name] = device
    known = sorted(name for name, device in devices.items() if fit.is_known(device))
    related = sorted(
        name
        for name, device in devices.items()
        if name not in known and any(fit.is_measured(device, path) for path in PATHS)
    )
    never = sorted(set(devices) - set(known) - set(related))
    return [
        f"Calibration of {fit.fitted_at}, {what}: {', '.join(names[:_NAMES_SHOWN])}"
        + (f" and {len(names) - _NAMES_SHOWN} more." if len(names) > _NAMES_SHOWN else ".")
        for what, names in (
            ("measured themselves", known),
            ("unseen, only others of their generation were measured", related),
            ("unseen, no device of their generation was measured", never),
        )
        if names
    ]


def profile_notes(recommendation: Recommendation, profile: JobProfile | None) -> tuple[str, ...]:
    """Return what the trace saw, what was not measured, and the profile's own notes."""
    coverage = percent(recommendation.job.trace_coverage)
    notes = [f"Trace coverage: {coverage} of the bytes moved belong to operations whose FLOPs are known."]
    if recommendation.job.measured_on is None:
        notes.append("No step was measured: times come from the operation trace and the calibration alone.")
    notes += calibration_notes(recommendation)
    if profile is None:
        return tuple(notes)
    unknown = sorted({group.name for group in profile.unknown_operations})
    if unknown:
        more = f" and {len(unknown) - _NAMES_SHOWN} more" if len(unknown) > _NAMES_SHOWN else ""
        notes.append(f"Operations with unknown FLOPs: {', '.join(unknown[:_NAMES_SHOWN])}{more}.")
    if profile.source.compiled:
        notes.append("The step runs under torch.compile; the trace is of the uncompiled step.")
    if profile.measured is not None:
        phases = (*measured_phases(profile.measured), ("validation", profile.measured.validation_batch))
        unseen = [name for name, times in phases if times is None]
        if unseen:
            notes.append(f"Not measured: {', '.join(unseen)}.")
    return (*notes, *profile.notes)
