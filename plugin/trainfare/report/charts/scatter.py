"""The scatter of cost against time, with the Pareto front and the 80 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from trainfare.report.charts.svg import COLOURS, Axes, Figure, draw, part_of_matplotlib, short
from trainfare.report.escape import terminal_text
from trainfare.report.rows import shown_unit
from trainfare.report.wording import duration, machine_words, usd
from trainfare_core.recommendation import Interval, Option

__all__ = ["cost_time_chart", "option_label"]

_CLOUDS: Final = ("aws", "azure", "gcp")
_CLOUD_WORDS: Final = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
_LOG_RATIO: Final = 8.0
_CROWDED: Final = 20
_LABELS: Final = 10
_DASHES: Final = (0, (4, 3))
_Box: TypeAlias = tuple[float, float, float, float]


def cost_time_chart(
    options: Sequence[Option], *, named: frozenset[int] = frozenset(), per_1000_steps: bool
) -> str:
    """
    Return the scatter of dollars against time as inline SVG.

    Bars are the 80 % intervals, colour and marker are the cloud, hollow markers need porting. One line joins
    the Pareto front of what runs the script unchanged, a thin one the front of everything where that differs.
    An axis is logarithmic where its values differ by more than a factor of 8.

    Args:
        options: at least one ranked option.
        named: ranks of the options that get their name first; the front follows while there is room.
        per_1000_steps: the axes are for 1,000 optimizer steps, not for the run.

    Raises:
        ImportError: matplotlib is not installed.
    """
    basis = "1,000 steps" if per_1000_steps else "the run"
    unit = shown_unit(tuple(options))

    def time_tick(hours: float, _: int) -> str:
        return _tick(duration(hours * 3600, unit))

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        _axis(axes, "x", [option.run_hours for option in options])
        _axis(axes, "y", [option.run_usd for option in options])
        axes.xaxis.set_major_formatter(time_tick)
        axes.yaxis.set_major_formatter(_usd_tick)
        axes.set_xlabel(f"time of {basis}")
        axes.set_ylabel(f"cost of {basis}")
        clouds = _clouds(options)
        for option in reversed(options):
            _point(axes, option, clouds[option.provider], crowded=len(options) > _CROWDED)
        _front(axes, options)
        _legend(figure, clouds, options)
        _labels(figure, axes, options, named)

    return draw(
        fill,
        name="cost-time",
        title=f"Cost against time of {basis}",
        description=f"{len(options)} options; further left is faster, further down is cheaper. "
        "The table holds the same numbers.",
        size_inches=(8.0, 5.0),
    )


def _usd_tick(dollars: float, _: int) -> str:
    return _tick(usd(dollars))


def _tick(text: str) -> str:
    """Return a tick's number without needless zeros: '$10.00' is '$10', '2.00 h' is '2 h'."""
    number, blank, unit = text.partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + blank + unit


def _axis(axes: Axes, which: str, values: Sequence[Interval]) -> None:
    ticker = part_of_matplotlib("matplotlib.ticker")
    low, high = min(value.low_80 for value in values), max(value.high_80 for value in values)
    positive = low > 0 and all(math.isfinite(value.high_80) for value in values)
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    if positive and high / low > _LOG_RATIO:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        axis = axes.xaxis if which == "x" else axes.yaxis
        decades = math.log10(high / low)
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
        axis.set_minor_formatter(ticker.NullFormatter())
        set_limits(low / 1.25, high * 1.25)
    else:
        set_limits(0, high * 1.08 or 1.0)


def _clouds(options: Sequence[Option]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each cloud: ours keep theirs, others follow in the order of their names."""
    others = sorted({option.provider for option in options} - set(_CLOUDS))
    names = [*_CLOUDS, *others]
    return {
        name: (COLOURS[f"cloud-{min(index, 5) + 1}"], _MARKERS[min(index, 5)])
        for index, name in enumerate(names)
    }


def _point(axes: Axes, option: Option, style: tuple[str, str], *, crowded: bool) -> None:
    colour, marker = style
    time, cost = option.run_hours, option.run_usd
    strong = option.on_front
    axes.errorbar(
        [time.mid],
        [cost.mid],
        xerr=[[max(0.0, time.mid - time.low_80)], [max(0.0, time.high_80 - time.mid)]],
        yerr=[[max(0.0, cost.mid - cost.low_80)], [max(0.0, cost.high_80 - cost.mid)]],
        fmt=marker,
        color=colour,
        markersize=8.0 if strong else 6.0,
        markerfacecolor=COLOURS["surface"] if option.needs_porting else colour,
        markeredgewidth=1.6,
        elinewidth=0.7 if crowded else 1.1,
        alpha=1.0 if strong else 0.5,
        zorder=4.0 if strong else 3.0,
    )


def _front(axes: Axes, options: Sequence[Option]) -> None:
    ready = _front_of([option for option in options if not option.needs_porting])
    overall = _front_of(options)
    if len(ready) > 1:
        axes.plot(
            *zip(*ready, strict=True), color=COLOURS["front"], linewidth=1.6, linestyle=_DASHES, zorder=2.5
        )
    if len(overall) > 1 and overall != ready:
        axes.plot(
            *zip(*overall, strict=True), color=COLOURS["muted"], linewidth=1.1, linestyle=":", zorder=2.4
        )


def _front_of(options: Sequence[Option]) -> list[tuple[float, float]]:
    """Return hours and dollars of the front of these options, fastest first."""
    front: list[tuple[float, float]] = []
    for point in sorted((option.run_hours.mid, option.run_usd.mid) for option in options if option.on_front):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _labels(figure: Figure, axes: Axes, options: Sequence[Option], named: frozenset[int]) -> None:
    """Name the answers and some of the front; a name without a free place is left out (the table has it)."""
    figure.draw_without_rendering()
    scale = 72.0 / figure.dpi
    bounds = axes.get_window_extent()
    frame = (bounds.x0 * scale, bounds.y0 * scale, bounds.x1 * scale + 14, bounds.y1 * scale + 10)
    to_points = axes.transData.transform
    places = {
        option.rank: tuple(scale * to_points((option.run_hours.mid, option.run_usd.mid)))
        for option in options
    }
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places.values()]
    first = sorted(options, key=lambda option: (option.rank not in named, option.needs_porting, option.rank))
    for option in [option for option in first if option.rank in named or option.on_front][:_LABELS]:
        text = option_label(option)
        found = _free_place(places[option.rank], 5.6 * len(text), taken, frame)
        if found is None:
            continue
        box, (dx, dy, align) = found
        taken.append(box)
        axes.annotate(
            text,
            (option.run_hours.mid, option.run_usd.mid),
            xytext=(dx, dy + 2),
            textcoords="offset points",
            ha=align,
            fontsize=9,
            fontweight="bold" if option.rank in named else "normal",
            zorder=6,
            annotation_clip=False,
        )


def _free_place(
    point: tuple[float, ...], width: float, taken: Sequence[_Box], frame: _Box
) -> tuple[_Box, tuple[int, int, str]] | None:
    """Return where a text of that width beside the point touches nothing inside the frame, in points."""
    x, y = point
    for dx, dy, align in ((7, 7, "left"), (7, -16, "left"), (-7, 7, "right"), (-7, -16, "right")):
        left = x + dx - (width if align == "right" else 0)
        box = (left, y + dy, left + width, y + dy + 12)
        inside = box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
        if inside and not any(_overlap(box, other) for other in taken):
            return box, (dx, dy, align)
    return None


def option_label(option: Option) -> str:
    """Return the option's rank and machine as a chart has room for them, e.g. '#8 2 × p5.48xlarge'."""
    machine = machine_words(option) if option.nodes > 1 else option.instance_type
    return short(f"#{option.rank} {terminal_text(machine)}")


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _legend(figure: Figure, clouds: dict[str, tuple[str, str]], options: Sequence[Option]) -> None:
    line: Any = part_of_matplotlib("matplotlib.lines").Line2D
    present = {option.provider for option in options}
    handles = [
        line([], [], color=colour, marker=marker, linestyle="none", label=short(_cloud(name)))
        for name, (colour, marker) in clouds.items()
        if name in present
    ]
    if any(option.needs_porting for option in options):
        hollow = line(
            [], [], color=COLOURS["muted"], marker="o", linestyle="none", label="hollow: needs porting"
        )
        hollow.set_markerfacecolor(COLOURS["surface"])
        handles.append(hollow)
    ready = _front_of([option for option in options if not option.needs_porting])
    overall = _front_of(options)
    if len(ready) > 1:
        handles.append(line([], [], color=COLOURS["front"], linestyle=_DASHES, label="Pareto front"))
    if len(overall) > 1 and overall != ready:
        handles.append(line([], [], color=COLOURS["muted"], linestyle=":", label="front after porting"))
    figure.legend(handles=handles, loc="outside upper left", ncols=6, handletextpad=0.5, fontsize=9)


def _cloud(name: str) -> str:
    # matplotlib leaves labels with a leading underscore out of the legend
    return _CLOUD_WORDS.get(name, terminal_text(name).lstrip("_") or "?")
