"""The cost of the same run in later months: median, intervals, and what makes it cheaper."""

from __future__ import annotations

from trainfare.report.charts.svg import COLOURS, DASHED, DOTTED, Figure, draw, usd_tick
from trainfare_core.recommendation import CostOutlook


def fan_chart(outlook: CostOutlook, *, per_1000_steps: bool) -> str:
    """
    Return cost against months as inline SVG.

    The flat line is today's list price, which one machine type mostly keeps. The line inside the 50 and 90 %
    intervals adds newer hardware, and the lowest line adds newer software.

    Args:
        outlook: the outlook.
        per_1000_steps: the costs are for 1,000 optimizer steps, not for the run.

    Raises:
        ImportError: matplotlib is not installed.
    """
    basis = "1,000 steps" if per_1000_steps else "the run"
    costs = outlook.same_compute
    months = [cost.months for cost in costs]

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        blue = COLOURS["part-1"]
        for label, lows, highs, alpha in (
            ("90 % interval", [cost.low_90 for cost in costs], [cost.high_90 for cost in costs], 0.16),
            ("50 % interval", [cost.low_50 for cost in costs], [cost.high_50 for cost in costs], 0.32),
        ):
            axes.fill_between(months, lows, highs, color=blue, alpha=alpha, linewidth=0, label=label)
        for label, x, y, colour, dashes in (
            (
                "price: this machine type",
                months,
                [outlook.at(0).median] * len(months),
                COLOURS["muted"],
                DASHED,
            ),
            ("+ hardware: newer machines", months, [cost.median for cost in costs], blue, "-"),
            (
                "+ software: new methods",
                [cost.months for cost in outlook.same_quality],
                [cost.median for cost in outlook.same_quality],
                COLOURS["part-3"],
                DOTTED,
            ),
        ):
            axes.plot(x, y, color=colour, linestyle=dashes, linewidth=2.0, label=label)
        axes.set(
            xlim=(0, months[-1]),
            ylim=(0, None),
            xlabel=f"months after the price of {outlook.price_observed_on}",
            ylabel=f"cost of {basis}",
        )
        axes.set_xticks(months, ["now" if month == 0 else str(month) for month in months])
        axes.yaxis.set_major_formatter(usd_tick)
        figure.legend(loc="outside upper left", ncols=3)

    return draw(
        fill,
        name="later",
        title=f"What {basis} costs later",
        description="Median cost with 50 and 90 % intervals, and its parts: list price, newer hardware, newer "
        "software. The table has the same numbers.",
        size_inches=(8.0, 4.2),
    )
