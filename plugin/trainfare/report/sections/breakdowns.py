"""What the step's time and the run's cost consist of, and what the options on the front compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from trainfare.report.block_builders import build_bars, build_list, build_table
from trainfare.report.blocks import Block, Cell, Column, Heading, Span, Table, Where
from trainfare.report.facts import list_measured_phases, phase_lines
from trainfare.report.headline import list_named_options
from trainfare.report.wording import (
    PART_NAMES,
    chance_text,
    duration,
    interval,
    machine_label,
    place_label,
    usd,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import hours_text, percent
from trainfare_core.recommendation import CostParts, Option, Recommendation, SpotOutlook

_DETAILED_OPTIONS: Final = 6
"""Options with a breakdown of step and cost, the named first: as many bars as one chart shows without scrolling."""

_TERMINAL_OPTIONS: Final = 3
"""Options in the breakdowns of a terminal: as many as fit beside each other in 80 columns; the page has more."""

_SPOT_FIELDS: Final[tuple[tuple[Column, Callable[[tuple[Option, SpotOutlook]], Cell]], ...]] = (
    (Column("machine", names_row=True), lambda row: (machine_label(row[0]), place_label(row[0]))),
    (Column("half end within", right=True), lambda row: hours_text(row[1].p50_hours)),
    (Column("nine of ten", right=True), lambda row: hours_text(row[1].p90_hours)),
    (Column("cost", right=True), lambda row: usd(row[0].run_usd.mid)),
    (Column("80 % of runs cost", right=True), lambda row: interval(row[0].run_usd, "usd")[1]),
    (Column("interruptions", right=True), lambda row: f"{row[1].interruptions:.2g}"),
    (Column("waiting", right=True), lambda row: hours_text(row[1].waiting_hours)),
    (Column("deadline kept", right=True), lambda row: chance_text(row[1].chance_in_time)),
    (Column("on demand in the end"), lambda row: _describe_fallback(row[1])),
)

_RANK: Final = Column("#", right=True, label="rank")
_MACHINE: Final = Column("machine", names_row=True)
_COST_PARTS: Final = (
    *(
        "training",
        "start-up",
        "validation",
        "checkpoints",
        "interruptions",
        "disks",
        "data copy",
        "data transfer",
    ),
    *("rounding", "object storage", "model transfer"),
)
"""In the order of the fields of `CostParts`."""

_FRONT_FIELDS: Final[tuple[tuple[Column, Callable[[Option], Cell]], ...]] = (
    (Column("#", right=True), lambda option: str(option.rank)),
    (_MACHINE, lambda option: machine_label(option) + (" (needs porting)" if option.needs_porting else "")),
    (Column("region"), place_label),
    (
        Column("mean cost", right=True),
        lambda option: "unknown" if option.expected_usd is None else usd(option.expected_usd),
    ),
    (
        Column("nine of ten runs end within", right=True),
        lambda option: duration(option.run_hours.high_80 * 3600.0, "auto"),
    ),
    (
        Column("limits kept", right=True),
        lambda option: (
            "no limit" if option.probability_within is None else percent(option.probability_within, 1)
        ),
    ),
)


def build_step_section(recommendation: Recommendation) -> list[Block]:
    """Return the parts of the predicted step of the best options."""
    options = select_detailed_options(recommendation)
    if not options:
        return []
    title = "Where the step's time goes"
    caption = (
        "Predicted optimizer step of the best options. Hidden communication overlaps with the backward pass and adds "
        "no time."
    )
    names = (*PART_NAMES, "hidden communication")
    columns = (_RANK, _MACHINE, Column("step", right=True), *(Column(name, right=True) for name in names))
    bars = build_bars(
        title,
        PART_NAMES,
        (
            (
                f"#{option.rank} {machine_label(option)}",
                tuple(option.step_parts.seconds().values()),
                duration(option.step_s.mid, "auto"),
            )
            for option in options
        ),
    )
    rows: list[list[Cell]] = []
    in_terminal: list[list[str]] = []
    for option in options:
        step, both_ends = interval(option.step_s, "s")
        head = [str(option.rank), machine_label(option)]
        shares = share_step(option, input_known=recommendation.job.input_known or option.loader is not None)
        rows.append([*head, (step, Span(f"[{both_ends}]", "range")), *shares, describe_hidden(option)])
        in_terminal.append([*head, *shares, step])
    return [
        Heading(title),
        bars,
        Table(columns, rows, caption, where=Where.TITLED),
        _transpose("share of the step", (*PART_NAMES, "whole step"), in_terminal),
    ]


def share_step(option: Option, *, input_known: bool) -> tuple[str, ...]:
    """Return the parts of an optimizer step in the order of `PART_NAMES`; an unknown one is "unknown"."""
    seconds = option.step_parts.seconds()
    total_s = sum(seconds.values())
    return tuple(
        "unknown" if name == "input" and not input_known else percent(part_s / total_s) if total_s else "0 %"
        for name, part_s in seconds.items()
    )


def describe_hidden(option: Option) -> str:
    """Return the communication that overlaps with the backward pass."""
    hidden_s = option.step_parts.communication_hidden_s
    return duration(hidden_s, "auto") if hidden_s else "none"


def build_cost_section(recommendation: Recommendation) -> list[Block]:
    """Return the parts of the cost of the best options."""
    options = select_detailed_options(recommendation)
    if not options:
        return []
    parts = {
        title: [float(getattr(option.cost_parts, name)) for option in options]
        for title, name in zip(_COST_PARTS, CostParts.model_fields, strict=True)
    }
    # A part that costs nothing anywhere only makes the table wider than a page.
    parts = {title: values for title, values in parts.items() if any(values)}
    rows = tuple(
        (str(option.rank), machine_label(option), *(usd(values[index]) for values in parts.values()))
        for index, option in enumerate(options)
    )
    columns = (_RANK, _MACHINE, *(Column(title, right=True) for title in parts))
    title = "What the cost consists of"
    bars = build_bars(
        title,
        tuple(parts),
        (
            (
                f"#{option.rank} {machine_label(option)}",
                [values[index] for values in parts.values()],
                usd(option.run_usd.mid),
            )
            for index, option in enumerate(options)
        ),
        whole=max(option.run_usd.mid for option in options) or None,
    )
    return [
        Heading(title),
        bars,
        Table(columns, rows, "Median cost of the best options by component.", where=Where.TITLED),
        _transpose("USD", tuple(parts), rows),
    ]


def build_front_section(recommendation: Recommendation) -> list[Block]:
    """Return what the options on the front compare, the cheapest first."""
    on_front = [option for option in recommendation.options if option.on_front]
    if not on_front:
        return []
    on_front.sort(key=lambda option: (option.expected_usd or 0.0, option.rank))
    caption = (
        "No option that runs the script unchanged is as good as one of these in all three, and better in one."
    )
    table = build_table(on_front, _FRONT_FIELDS, caption=caption)
    return [Heading("The front: mean cost, time and chance", on_paper=False), table]


def build_spot_section(recommendation: Recommendation) -> list[Block]:
    """Return when runs on the named spot machines end and what they cost; nothing where no spot machine is named."""
    named = [option for _, option in list_named_options(recommendation)]
    options = [*named, *([recommendation.best_spot] if recommendation.best_spot is not None else [])]
    rows = [(option, option.spot) for option in options if option.spot is not None]
    if not rows:
        return []
    caption = (
        "Expected interruptions of the run, of any of its machines, and what they do to its end and its cost. Of both "
        "an answer has the ends that are named here, not the whole distribution."
    )
    title = Heading("Spot: when the run ends, and what it costs", where=Where.PAGE, on_paper=False)
    return [title, build_table(rows, _SPOT_FIELDS, caption=caption, where=Where.PAGE)]


def _describe_fallback(spot: SpotOutlook) -> str:
    """Return what changing to on demand after some interruptions means."""
    if (fallback := spot.fallback) is None:
        return "its price is not known"
    return (
        f"after {fallback.after}, {percent(fallback.chance)} of runs: {usd(fallback.run_usd)} expected, nine of ten "
        f"within {hours_text(fallback.p90_hours)}"
    )


def build_phases_section(profile: JobProfile | None) -> list[Block]:
    """Return the measured phases of the step as a chart and a table."""
    if profile is None or profile.measured is None:
        return []
    measured = profile.measured
    columns = (Column("phase", names_row=True), Column("median", right=True), Column("range", right=True))
    phases = {
        name: 0.0 if times is None else times.median_s for name, times in list_measured_phases(measured)
    }
    names, step_s = tuple(phases), measured.step.median_s
    parts = (*phases.values(), max(0.0, step_s - sum(phases.values())))
    caption = f"{_describe_phases(profile)}: median, and the range from the 10th to the 90th percentile."
    return [
        Heading("Where the measured step's time went", where=Where.PAGE, on_paper=False),
        build_bars("Measured phases", (*names, "other"), [("measured", parts, duration(step_s, "auto"))]),
        Table(columns, phase_lines(profile), caption, where=Where.PAGE),
    ]


def build_phases_list(profile: JobProfile | None) -> list[Block]:
    """Return the measured phases of the step as a list."""
    texts = (f"{name}: {median} [{spread}]" for name, median, spread in phase_lines(profile))
    return build_list(_describe_phases(profile), texts, Where.RUNNING)


def select_detailed_options(recommendation: Recommendation) -> tuple[Option, ...]:
    """Return the options that the first screen names, then the best others, `_DETAILED_OPTIONS` in all."""
    named = [option for _, option in list_named_options(recommendation)]
    others = [option for option in recommendation.options if option not in named]
    return tuple([*named, *others][:_DETAILED_OPTIONS])


def _describe_phases(profile: JobProfile | None) -> str:
    if profile is None or profile.measured is None:
        return ""
    return f"{profile.measured.steps:,} optimizer steps measured on {profile.measured.device_name}"


def _transpose(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table for a terminal with a column for each of the first options, and their parts below each other."""
    shown = rows[:_TERMINAL_OPTIONS]
    columns = (
        Column(title, folds=False),
        *(Column(f"#{rank} {machine}", right=True) for rank, machine, *_ in shown),
    )
    return Table(
        columns, tuple(zip(names, *(cells[2:] for cells in shown), strict=True)), where=Where.TERMINAL
    )
