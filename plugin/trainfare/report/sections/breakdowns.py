"""What the step's time and the run's cost consist of, and what the options on the front compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from trainfare.report.block_builders import build_list, build_table
from trainfare.report.blocks import Block, Cell, Chart, Column, Heading, Span, Table, Where
from trainfare.report.charts.bars import phases_chart, step_chart
from trainfare.report.facts import phase_lines
from trainfare.report.headline import list_named_options
from trainfare.report.wording import PART_NAMES, duration, interval, machine_label, place_label, usd
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.recommendation import CostParts, Option, Recommendation

_DETAILED_OPTIONS: Final = 6
"""Options with a breakdown of step and cost, the named first: as many bars as one chart shows without scrolling."""

_TERMINAL_OPTIONS: Final = 3
"""Options in the breakdowns of a terminal: as many as fit beside each other in 80 columns; the page has more."""

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
    rows: list[list[Cell]] = []
    in_terminal: list[list[str]] = []
    for option in options:
        step, both_ends = interval(option.step_s, "s")
        head = [str(option.rank), machine_label(option)]
        shares = share_step(option, input_known=recommendation.job.input_known)
        rows.append([*head, (step, Span(f"[{both_ends}]", "range")), *shares, describe_hidden(option)])
        in_terminal.append([*head, *shares, step])
    return [
        Heading(title),
        Chart(lambda: step_chart(options), title),
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
    return [
        Heading("What the cost consists of"),
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


def build_phases_section(profile: JobProfile | None) -> list[Block]:
    """Return the measured phases of the step as a chart and a table."""
    if profile is None or profile.measured is None:
        return []
    measured = profile.measured
    columns = (Column("phase", names_row=True), Column("median", right=True), Column("range", right=True))
    caption = f"{_describe_phases(profile)}: median, and the range from the 10th to the 90th percentile."
    return [
        Heading("Where the measured step's time went", where=Where.PAGE, on_paper=False),
        Chart(lambda: phases_chart(measured), "Measured phases"),
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
