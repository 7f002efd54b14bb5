"""Why machines are not ranked, and what the answer rests on: assumptions, price books and the profile."""

from __future__ import annotations

from datetime import date

from trainfare.report.block_builders import build_list
from trainfare.report.blocks import Block, Cell, Column, Heading, Span, Table, Where
from trainfare.report.facts import BookLine, book_line, list_measured_phases
from trainfare.report.wording import usd
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.features import PATHS
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.recommendation import AssumedNumber, Recommendation


def build_rejections_section(recommendation: Recommendation) -> list[Block]:
    """Return each reason why machines are not ranked, how many types and prices it has, and the nearest miss."""
    if not recommendation.rejections:
        return []
    rows = tuple(
        (
            REASON_WORDS[rejection.reason],
            "unknown" if rejection.machines is None else f"{rejection.machines:,}",
            f"{rejection.count:,}",
            rejection.detail,
        )
        for rejection in recommendation.rejections
    )
    columns = (
        Column("why", names_row=True),
        *(Column("machine types", right=True), Column("prices", right=True), Column("nearest miss")),
    )
    caption = (
        "Machine types none of whose prices is ranked, each under the first of its reasons, and all prices that are "
        "not, with the nearest miss."
    )
    return [Heading("Not ranked", on_paper=not recommendation.options), Table(columns, rows, caption)]


def build_assumptions_section(recommendation: Recommendation) -> list[Block]:
    """Return the figures that the cost of the first option of the headline rests on, and the assumptions."""
    assumptions = (*_describe_numbers(recommendation), *recommendation.assumptions)
    return build_list("Assumptions", assumptions, on_paper=False)


def build_prices_section(recommendation: Recommendation, as_of: date) -> list[Block]:
    """
    Return where the prices come from, a row for each cloud service.

    Args:
        recommendation: the ranked answer.
        as_of: the day of the report, to which ages are counted.
    """
    books = [book_line(book, as_of) for book in recommendation.price_books]
    if not books:
        return []
    columns = (
        *(Column("cloud", names_row=True), Column("price book"), Column("prices", right=True)),
        *(Column("dates"), Column("age")),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (book.cloud, book.origin, book.rows, book.dates, _mark_age(book)) for book in books
    )
    caption = "One row for each cloud service. Ages are counted to the day of this report."
    texts = [f"{book.cloud} ({book.origin}): {book.rows} prices, {book.dates}, {book.age}" for book in books]
    return [
        Heading("Where the prices come from", where=Where.PAGE),
        Table(columns, rows, caption, where=Where.PAGE),
        *build_list("Prices", texts, Where.RUNNING),
    ]


def _mark_age(book: BookLine) -> Cell:
    return ((book.age, *((" ", Span("stale", "mark")) if book.stale else ())),)


def _describe_numbers(recommendation: Recommendation) -> list[str]:
    """Return the figures that the cost of the first option of the headline rests on, largest share first."""
    best = recommendation.best(recommendation.objective)
    if best is None:
        return []
    return [
        f"{_name_value(number)}: {percent(number.share)} of the cost of "
        f"#{best.rank} ({usd(number.run_usd)}). {number.meaning[:1].upper()}{number.meaning[1:]}"
        + ("" if number.stated or number.source is None else f". Source: {number.source}")
        for number in sorted(recommendation.assumed_numbers, key=lambda each: -each.share)
    ]


def _name_value(number: AssumedNumber) -> str:
    """Return the name and the value of a figure, e.g. "startup_s = 90, as stated"."""
    if number.value is None:
        return f"{number.name} is not known"
    return f"{number.name} = {number.value:.6g}{', as stated' if number.stated else ''}"


_NAMES_SHOWN = 8
"""Names in one note before it ends with 'and N more', so that a note stays within two lines."""


def calibration_notes(recommendation: Recommendation) -> list[str]:
    """Return which of the ranked accelerators the calibration was measured on; others have wider intervals."""
    fit = calibration()
    resolved_devices = (resolve_device(option.accelerator) for option in recommendation.options)
    devices = {device.name: device for device in resolved_devices if device is not None}
    known = sorted(name for name, device in devices.items() if fit.is_known(device))
    related = sorted(
        name
        for name, device in devices.items()
        if name not in known and any(fit.is_measured(device, path) for path in PATHS)
    )
    never = sorted(set(devices) - set(known) - set(related))
    return [
        f"Calibration of {fit.fitted_at}, accelerators {what}: {_list_names(names)}."
        for what, names in (
            ("that were measured", known),
            ("not measured, but others of their generation were", related),
            ("not measured, nor any other of their generation", never),
        )
        if names
    ]


def _list_names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def profile_notes(recommendation: Recommendation, profile: JobProfile | None) -> tuple[str, ...]:
    """Return the coverage of the trace, the calibration, what was not measured, and the profile's own notes."""
    coverage = percent(recommendation.job.trace_coverage)
    notes = [f"Trace coverage: {coverage} of the bytes moved belong to operations whose FLOPs are known."]
    if recommendation.job.measured_on is None:
        notes.append("No step was measured: times come from the operation trace and the calibration alone.")
    notes += calibration_notes(recommendation)
    if profile is None:
        return tuple(notes)
    unknown = sorted({group.name for group in profile.unknown_operations})
    if unknown:
        notes.append(f"Operations with unknown FLOPs: {_list_names(unknown)}.")
    if profile.source.compiled:
        notes.append("The step runs under torch.compile; the trace is of the uncompiled step.")
    if profile.measured is not None:
        phases = (*list_measured_phases(profile.measured), ("validation", profile.measured.validation_batch))
        missing = [name for name, times in phases if times is None]
        if missing:
            notes.append(f"Not measured: {', '.join(missing)}.")
    return (*notes, *profile.notes)
