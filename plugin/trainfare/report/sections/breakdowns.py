"""What the step's time and the run's cost consist of, and what the options on the front compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trainfare.report.block_builders import build_list
from trainfare.report.blocks import Block, Cell, Chart, Column, Heading, Span, Table, Where
from trainfare.report.charts.bars import phases_chart, step_chart
from trainfare.report.facts import phase_lines
from trainfare.report.headline import picks
from trainfare.report.rows import COST_COLUMNS, FRONT_COLUMNS, PART_NAMES, cost_cells, front_cells, step_line
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Option, Recommendation

_DETAILED_OPTIONS: Final = 6
"""Options with a breakdown of step and cost: as many bars as one chart shows without scrolling."""

_TERMINAL_OPTIONS: Final = 3
"""Options in the breakdowns of a terminal: as many as fit beside each other in 80 columns; the page has more."""

_RANK: Final = Column("#", right=True, label="rank")
_MACHINE: Final = Column("machine", names_row=True)


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
    lines = [step_line(option, input_known=recommendation.job.input_known) for option in options]
    columns = (
        *(_RANK, _MACHINE, Column("step", right=True)),
        *(Column(name, right=True) for name in (*PART_NAMES, "hidden communication")),
    )
    rows: list[list[Cell]] = [
        [
            line.rank,
            line.machine,
            (line.step[0], Span(f"[{line.step[1]}]", "range")),
            *line.shares,
            line.hidden,
        ]
        for line in lines
    ]
    return [
        Heading(title),
        Chart(lambda: step_chart(options), title),
        Table(columns, rows, caption, where=Where.TITLED),
        _transpose(
            "share of the step",
            (*PART_NAMES, "whole step"),
            [(line.rank, line.machine, *line.shares, line.step[0]) for line in lines],
        ),
    ]


def build_cost_section(recommendation: Recommendation) -> list[Block]:
    """Return the parts of the cost of the best options."""
    rows = tuple(cost_cells(option) for option in select_detailed_options(recommendation))
    if not rows:
        return []
    columns = (_RANK, _MACHINE, *(Column(name, right=True) for name in COST_COLUMNS[2:]))
    return [
        Heading("What the cost consists of"),
        Table(columns, rows, "Median cost of the best options by component.", where=Where.TITLED),
        _transpose("USD", COST_COLUMNS[2:], rows),
    ]


def build_front_section(recommendation: Recommendation) -> list[Block]:
    """Return what the options on the front compare, the cheapest first."""
    on_front = [option for option in recommendation.options if option.on_front]
    if not on_front:
        return []
    on_front.sort(key=lambda option: (option.expected_usd or 0.0, option.rank))
    number, machine, region, *amounts = FRONT_COLUMNS
    columns = (
        *(Column(number, right=True), Column(machine, names_row=True), Column(region)),
        *(Column(name, right=True) for name in amounts),
    )
    caption = (
        "No option that runs the script unchanged is as good as one of these in all three, and better in one."
    )
    return [
        Heading("The front: mean cost, time and chance"),
        Table(columns, tuple(map(front_cells, on_front)), caption),
    ]


def build_phases_section(profile: JobProfile | None) -> list[Block]:
    """Return the measured phases of the step as a chart and a table."""
    if profile is None or profile.measured is None:
        return []
    measured = profile.measured
    columns = (Column("phase", names_row=True), Column("median", right=True), Column("range", right=True))
    caption = f"{_describe_phases(profile)}: median, and the range from the 10th to the 90th percentile."
    rows = tuple((line.name, line.median, line.spread) for line in phase_lines(profile))
    return [
        Heading("Where the measured step's time went", where=Where.PAGE),
        Chart(lambda: phases_chart(measured), "Measured phases"),
        Table(columns, rows, caption, where=Where.PAGE),
    ]


def build_phases_list(profile: JobProfile | None) -> list[Block]:
    """Return the measured phases of the step as a list."""
    texts = (f"{line.name}: {line.median} [{line.spread}]" for line in phase_lines(profile))
    return build_list(_describe_phases(profile), texts, Where.RUNNING)


def select_detailed_options(recommendation: Recommendation) -> tuple[Option, ...]:
    """Return the options of the headline and the best others, `_DETAILED_OPTIONS` in all, by rank."""
    headlined = [option for _, option in picks(recommendation)]
    others = [option for option in recommendation.options if option not in headlined]
    return tuple(sorted([*headlined, *others][:_DETAILED_OPTIONS], key=lambda option: option.rank))


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
