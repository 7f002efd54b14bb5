"""The scatter of cost against time, with the Pareto front and the 80 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from trainfare.report.charts.svg import COLOURS, Axes, Figure, draw
from trainfare.report.escape import terminal_text
from trainfare.report.wording import duration, exact_usd, machine_label
from trainfare_core.clouds import CLOUDS
from trainfare_core.number_format import time_unit
from trainfare_core.recommendation import Interval, Option

_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
_LOG_RATIO: Final = 8.0
"""Axes are logarithmic from this ratio of largest to smallest; below it a linear axis still separates the points."""

_THREE_DECADES: Final = 1000.0
"""Below this ratio a logarithmic axis has ticks at 1, 2 and 5 of each decade; above it those labels would touch."""

_CROWDED: Final = 20
"""Above this many options the interval bars are thinner."""

_LABELS: Final = 10
"""Most names in the chart; more would cover the points."""

_LABEL_CHARS: Final = 30
"""Longest machine name in a chart; at 9 points about a fifth of the chart's width."""


def cost_time_chart(
    options: Sequence[Option], *, ranks: frozenset[int] = frozenset(), per_1000_steps: bool
) -> str:
    """
    Return the scatter of dollars against time as inline SVG.

    Bars are the 80 % intervals, colour and marker show the cloud, hollow markers need porting. One line joins
    the Pareto front of the options that run the script unchanged; a thin one joins the front of all options where
    that is a different one.

    Args:
        options: at least one ranked option.
        ranks: ranks of the options that are labelled first; others on the front follow while there is room.
        per_1000_steps: the axes are for 1,000 optimizer steps, not for the run.

    Raises:
        ImportError: matplotlib is not installed.
    """
    basis = "1,000 steps" if per_1000_steps else "the run"
    unit, _ = time_unit(3600 * max(option.run_hours.mid for option in options))

    def time_tick(hours: float, _: int) -> str:
        number, _blank, name = duration(hours * 3600, unit).partition(" ")
        return f"{float(number.replace(',', '')):,g} {name}"

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set(xlabel=f"time of {basis}", ylabel=f"cost of {basis}")
        _draw_points(axes, options)
        _draw_fronts(axes, options)
        _scale(axes, "x", [option.run_hours for option in options])
        _scale(axes, "y", [option.run_usd for option in options])
        axes.xaxis.set_major_formatter(time_tick)
        axes.yaxis.set_major_formatter(_format_usd)
        figure.legend(loc="outside upper left", ncols=6, handletextpad=0.5)
        _label(figure, axes, options, ranks)

    return draw(
        fill,
        name="cost-time",
        title=f"Cost against time of {basis}",
        description=f"{len(options)} options; further left is faster, further down is cheaper. "
        "The table has the same numbers.",
        size_inches=(8.0, 5.0),
    )


def _format_usd(usd: float, _: int) -> str:
    return exact_usd(max(0.0, float(usd))).removesuffix(".00")


def _scale(axes: Axes, which: str, values: Sequence[Interval]) -> None:
    """Make the axis logarithmic where its values differ much; else start it at 0."""
    low, high = min(value.low_80 for value in values), max(value.high_80 for value in values)
    if low <= 0 or high / low <= _LOG_RATIO:
        axes.set(**{f"{which}lim": (0, high * 1.08 or 1.0)})  # 8 % of room for the last label
        return
    ticker: Any = import_module("matplotlib.ticker")
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low / 1.25, high * 1.25)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high / low < _THREE_DECADES else (1.0,)))
    axis.set_minor_formatter(ticker.NullFormatter())


def _draw_points(axes: Axes, options: Sequence[Option]) -> None:
    """Draw each option with its intervals, stronger where it is on the front; other clouds follow `CLOUDS`."""
    others = sorted({option.provider for option in options} - set(CLOUDS))
    styles: dict[str, tuple[str, str]] = {}
    for index, name in enumerate([*CLOUDS, *others]):
        index_of_marker = min(index, len(_MARKERS) - 1)
        styles[name] = (COLOURS[f"cloud-{index_of_marker + 1}"], _MARKERS[index_of_marker])
        if any(option.provider == name for option in options):
            # matplotlib leaves labels with a leading underscore out of the legend
            label = CLOUDS[name].label if name in CLOUDS else _shorten(terminal_text(name).lstrip("_") or "?")
            axes.plot([], [], styles[name][1], color=styles[name][0], label=label)
    if any(option.needs_porting for option in options):
        axes.plot([], [], "o", color=COLOURS["muted"], markerfacecolor="none", label="hollow: needs porting")
    for option in reversed(options):
        time, cost = option.run_hours, option.run_usd
        colour, marker = styles[option.provider]
        bars = axes.errorbar(
            [time.mid],
            [cost.mid],
            xerr=[[max(0.0, time.mid - time.low_80)], [max(0.0, time.high_80 - time.mid)]],
            yerr=[[max(0.0, cost.mid - cost.low_80)], [max(0.0, cost.high_80 - cost.mid)]],
            fmt=marker,
            color=colour,
            markersize=8.0 if option.on_front else 6.0,
            markerfacecolor=COLOURS["surface"] if option.needs_porting else colour,
            markeredgewidth=1.6,
            elinewidth=0.7 if len(options) > _CROWDED else 1.1,
            alpha=1.0 if option.on_front else 0.5,
            zorder=4.0 if option.on_front else 3.0,
        )
        # The page's script finds them by these names.
        for part, kind in zip((bars.lines[0], *bars.lines[2]), ("point", "across", "up"), strict=True):
            part.set_gid(f"{kind}-{option.rank}")


def _draw_fronts(axes: Axes, options: Sequence[Option]) -> None:
    ready = _front([option for option in options if not option.needs_porting])
    overall = _front([option for option in options if not option.unmeasured_software])
    lines = (
        (ready, "front", (4, 3), "Pareto front"),
        ([] if overall == ready else overall, "muted", (1, 2), "front after porting"),
    )
    for index, (points, colour, dashes, label) in enumerate(lines, start=1):
        if len(points) > 1:
            style = {"color": COLOURS[colour], "linestyle": (0, dashes)}
            axes.plot(*zip(*points, strict=True), label=label, gid=f"front-{index}", **style)


def _front(options: Sequence[Option]) -> list[tuple[float, float]]:
    """Return hours and dollars of the Pareto front of these options, fastest first."""
    front: list[tuple[float, float]] = []
    for point in sorted((option.run_hours.mid, option.run_usd.mid) for option in options if option.on_front):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _label(figure: Figure, axes: Axes, options: Sequence[Option], ranks: frozenset[int]) -> None:
    """Name the options of the headline, then others of the front, where the text covers no point and no other text."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent().padded(14)
    points = axes.transData.transform([(option.run_hours.mid, option.run_usd.mid) for option in options])
    bbox: Any = import_module("matplotlib.transforms").Bbox
    taken = [bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    first = sorted(options, key=lambda option: (option.rank not in ranks, option.needs_porting, option.rank))
    for option in [option for option in first if option.rank in ranks or option.on_front][:_LABELS]:
        for dx, dy in ((7, 9), (7, -14), (-7, 9), (-7, -14)):
            text = axes.annotate(
                option_label(option),
                (option.run_hours.mid, option.run_usd.mid),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right",
                fontsize=9,
                fontweight="bold" if option.rank in ranks else "normal",
                zorder=6,
                annotation_clip=False,
            )
            text.set_gid(f"label-{option.rank}")
            box = text.get_window_extent()
            if frame.count_contains(box.corners()) == 4 and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def option_label(option: Option) -> str:
    """Return rank and machine, cut to the room a chart has, e.g. '#8 2 × p5.48xlarge'."""
    machine = machine_label(option) if option.nodes > 1 else option.instance_type
    return _shorten(f"#{option.rank} {terminal_text(machine)}")


def _shorten(text: str) -> str:
    """Return `text`, cut to what a chart has room for."""
    return text if len(text) <= _LABEL_CHARS else f"{text[: _LABEL_CHARS - 1]}…"
