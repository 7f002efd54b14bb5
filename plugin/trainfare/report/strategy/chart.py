"""Chart of cost against quality, one cross with intervals a strategy, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from trainfare.report.charts.svg import COLOURS, Figure, draw
from trainfare.report.wording import exact_usd, usd
from trainfare_core.methods.answer import MethodLine
from trainfare_core.methods.methods import METHODS


def strategy_chart(lines: Sequence[MethodLine], *, against: str) -> str:
    """
    Return the chart.

    Args:
        lines: strategies with a cost and a quality.
        against: label of the strategy that quality is relative to.

    Raises:
        ImportError: matplotlib is not installed.
    """
    drawn = [
        (METHODS[line.strategy], line.usd, line.quality, line.quality_value)
        for line in lines
        if line.usd is not None and line.quality is not None
    ]
    known = all(value is not None for _, _, _, value in drawn)

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        for facts, cost, change, value in drawn:
            quality = value if known and value is not None else change
            colour = COLOURS[facts.colour]
            axes.plot([cost.low_80, cost.high_80], [quality.mid] * 2, color=colour, linewidth=6, alpha=0.3)
            axes.plot([cost.mid] * 2, [quality.low_80, quality.high_80], color=colour, linewidth=6, alpha=0.3)
            axes.plot(
                [cost.mid], [quality.mid], "o", color=colour, markersize=8,
                label=f"{facts.label}, {usd(cost.mid)}",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda dollars, _place: exact_usd(float(dollars)))
        axes.xaxis.set_minor_formatter("")  # no labels
        figure.legend(loc="outside upper left", ncols=3, fontsize=9, columnspacing=1.2)
        axes.set_xlabel("cost to the target, USD")
        axes.set_ylabel("metric" if known else f"quality against {against}, %")

    return draw(
        fill,
        name="strategies",
        title="Cost against quality",
        description=(
            "One cross a strategy: cost to the target and quality, each with its central 80 %. "
            "The table has the same numbers."
        ),
        size_inches=(8.0, 4.4),
    )
