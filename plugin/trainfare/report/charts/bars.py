"""The stacked bars of where one optimizer step goes, predicted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trainfare.report.charts.scatter import cost_time_chart, option_label
from trainfare.report.charts.svg import COLOURS, Figure, draw
from trainfare.report.facts import measured_phases
from trainfare.report.rows import PART_NAMES, part_seconds
from trainfare.report.wording import duration, percent
from trainfare_core.job_profile import MeasuredStep
from trainfare_core.recommendation import Option

__all__ = ["cost_time_chart", "phases_chart", "step_chart"]

_PHASE_NAMES: Final = (
    "waiting for data",
    "transfer to the device",
    "forward",
    "backward",
    "optimizer",
    "other",
)


def step_chart(options: Sequence[Option]) -> str:
    """
    Return stacked bars of where one optimizer step goes, one bar an option, as inline SVG.

    Args:
        options: at least one ranked option, best first.

    Raises:
        ImportError: matplotlib is not installed.
    """
    names = [option_label(option) for option in options]
    rows = [part_seconds(option.step_parts) for option in options]
    totals = [duration(option.step_s.mid, "auto") for option in options]
    return _bars(
        "step",
        "Where the step's time goes",
        "One bar an option: the shares of its predicted optimizer step. The table holds the same numbers.",
        names,
        rows,
        totals,
        PART_NAMES,
    )


def phases_chart(measured: MeasuredStep) -> str:
    """
    Return one stacked bar of the measured phases of the optimizer step as inline SVG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    phases_s = [times.median_s if times is not None else 0.0 for _, times in measured_phases(measured)]
    other_s = max(0.0, measured.step.median_s - sum(phases_s))
    return _bars(
        "phases",
        "Where the measured step's time went",
        "Median of each measured phase as a share of the step; what no phase explains is 'other'.",
        ["measured"],
        [(*phases_s, other_s)],
        [duration(measured.step.median_s, "auto")],
        _PHASE_NAMES,
    )


def _bars(
    name: str,
    title: str,
    description: str,
    labels: Sequence[str],
    rows: Sequence[Sequence[float]],
    totals: Sequence[str],
    parts: Sequence[str],
) -> str:
    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = range(len(labels))
        starts = [0.0] * len(labels)
        for index, part in enumerate(parts):
            shares = [row[index] / sum(row) if sum(row) else 0.0 for row in rows]
            if not any(shares):
                continue
            axes.barh(
                places, shares, left=starts, height=0.62, color=COLOURS[f"part-{index + 1}"], label=part
            )
            for place, (start, share) in enumerate(zip(starts, shares, strict=True)):
                if share >= 0.06:
                    axes.text(
                        start + share / 2, place, percent(share),
                        ha="center", va="center", fontsize=9, color=COLOURS["on-part"],
                    )  # fmt: skip
            starts = [start + share for start, share in zip(starts, shares, strict=True)]
        for place, total in enumerate(totals):
            axes.text(1.012, place, total, va="center", fontsize=9)
        axes.set_yticks(list(places), labels, color=COLOURS["ink"])
        axes.set_xticks([])
        axes.set_xlim(0, 1)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        figure.legend(
            loc="outside upper left",
            ncols=6,
            fontsize=9,
            handlelength=1.0,
            columnspacing=1.2,
        )

    height = 0.8 + 0.42 * len(labels)
    return draw(fill, name=name, title=title, description=description, size_inches=(8.0, height))
