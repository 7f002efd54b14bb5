"""Stacked bars of where the time of one optimizer step goes, predicted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trainfare.report.charts.cost_time import option_label
from trainfare.report.charts.svg import COLOURS, Figure, draw
from trainfare.report.facts import list_measured_phases
from trainfare.report.wording import PART_NAMES, duration
from trainfare_core.job_profile import MeasuredStep
from trainfare_core.number_format import percent
from trainfare_core.recommendation import Option

_SMALLEST_LABELLED: Final = 0.06
"""Shares below 6 % of the step have no room for their number inside the bar; the table has it."""


def step_chart(options: Sequence[Option]) -> str:
    """
    Return one stacked bar for each option, with the parts of its predicted step, as inline SVG.

    Args:
        options: at least one ranked option, best first.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return _bars(
        "step",
        "Where the step's time goes",
        "One bar for each option: the parts of its predicted optimizer step. The table has the same numbers.",
        {
            option_label(option): (tuple(option.step_parts.seconds().values()), option.step_s.mid)
            for option in options
        },
        PART_NAMES,
    )


def phases_chart(measured: MeasuredStep) -> str:
    """
    Return one stacked bar of the measured phases of the optimizer step as inline SVG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    phases = list_measured_phases(measured)
    phases_s = [0.0 if times is None else times.median_s for _, times in phases]
    step_s = measured.step.median_s
    return _bars(
        "phases",
        "Where the measured step's time went",
        "Median of each measured phase as a share of the step; 'other' is the time outside the measured phases.",
        {"measured": ((*phases_s, max(0.0, step_s - sum(phases_s))), step_s)},
        (*(name for name, _ in phases), "other"),
    )


def _bars(
    name: str,
    title: str,
    description: str,
    bars: dict[str, tuple[Sequence[float], float]],
    part_names: Sequence[str],
) -> str:
    """Draw bars of length 1 that are split in proportion to their parts; the total stands at the end."""

    def fill(figure: Figure) -> None:
        axes = figure.add_subplot()
        labels = list(bars)
        starts = [0.0] * len(labels)
        for index, part in enumerate(part_names):
            shares = [parts[index] / (sum(parts) or 1.0) for parts, _ in bars.values()]
            if not any(shares):
                continue
            drawn = axes.barh(
                labels, shares, left=starts, height=0.62, color=COLOURS[f"part-{index + 1}"], label=part
            )
            axes.bar_label(
                drawn,
                [percent(share) if share >= _SMALLEST_LABELLED else "" for share in shares],
                label_type="center",
                fontsize=9,
                color=COLOURS["on-part"],
            )
            starts = [start + share for start, share in zip(starts, shares, strict=True)]
        ends = axes.barh(labels, [0.0] * len(labels), left=1.0, color="none")
        axes.bar_label(
            ends, [duration(total_s, "auto") for _, total_s in bars.values()], padding=6, fontsize=9
        )
        axes.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), xticks=[])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelcolor=COLOURS["ink"])
        axes.grid(visible=False)
        figure.legend(loc="outside upper left", ncols=6, handlelength=1.0)

    return draw(
        fill, name=name, title=title, description=description, size_inches=(8.0, 0.8 + 0.42 * len(bars))
    )
