"""The fan of what the run costs in the years after, with the parts that make it cheaper."""

from __future__ import annotations

from collections.abc import Sequence

from trainfare.report.charts.svg import COLOURS, Axes, Figure, draw
from trainfare.report.wording import usd
from trainfare_core.recommendation import CostOutlook, FutureCost

__all__ = ["fan_chart"]

_DASHES = (0, (4, 3))
_DOTS = (0, (1, 2))


def fan_chart(found: CostOutlook, *, per_1000_steps: bool) -> str:
    """
    Return cost against months as inline SVG: median, 50 and 90 % bands, and one line a part.

    The flat line is the price part (one machine type keeps its list price), the line through the bands adds
    hardware, the lowest one adds software; what lies between two lines is that part's share.

    Args:
        found: the outlook.
        per_1000_steps: the costs are for 1,000 optimizer steps, not for the run.

    Raises:
        ImportError: matplotlib is not installed.
    """
    basis = "1,000 steps" if per_1000_steps else "the run"

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        costs = found.same_compute
        months = [cost.months for cost in costs]
        for low, high, label, alpha in (
            ([cost.low_90 for cost in costs], [cost.high_90 for cost in costs], "90 % within", 0.16),
            ([cost.low_50 for cost in costs], [cost.high_50 for cost in costs], "50 % within", 0.32),
        ):
            axes.fill_between(
                months, low, high, color=COLOURS["part-1"], alpha=alpha, linewidth=0, label=label
            )
        _lines(axes, found)
        axes.set_xlim(0, months[-1])
        axes.set_ylim(0, max(cost.high_90 for cost in costs) * 1.05)
        axes.set_xticks(months, [_tick(month) for month in months])
        axes.yaxis.set_major_formatter(_usd_tick)
        axes.set_xlabel(f"months after the price of {found.price_observed_on}")
        axes.set_ylabel(f"cost of {basis}")
        figure.legend(loc="outside upper left", ncols=3, fontsize=9, handlelength=2.2, columnspacing=1.2)

    return draw(
        fill,
        name="later",
        title=f"What {basis} costs later",
        description="Median and bands that hold the cost with 50 and 90 %, and the parts: list price, newer hardware, "
        "newer software. The table holds the same numbers.",
        size_inches=(8.0, 4.2),
    )


def _lines(axes: Axes, found: CostOutlook) -> None:
    now, last = found.at(0).median, found.same_compute[-1].months
    quality = found.same_quality
    parts: tuple[tuple[Sequence[float], Sequence[float], str, object, str], ...] = (
        ([0, last], [now, now], "muted", _DASHES, "price: this machine type"),
        (*_medians(found.same_compute), "part-1", "-", "+ hardware: newer machines"),
        (*_medians(quality), "part-3", _DOTS, "+ software: new methods"),
    )
    for x, y, colour, style, label in parts:
        axes.plot(x, y, color=COLOURS[colour], linestyle=style, linewidth=2.0, label=label)


def _medians(costs: Sequence[FutureCost]) -> tuple[list[float], list[float]]:
    return [float(cost.months) for cost in costs], [cost.median for cost in costs]


def _usd_tick(dollars: float, _: int) -> str:
    return usd(max(0.0, dollars))


def _tick(months: int) -> str:
    return "now" if months == 0 else str(months)
