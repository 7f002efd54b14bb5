"""What the same run is predicted to cost in later years, why, and whether to wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trainfare.report.blocks import Block, Bullets, Chart, Column, Heading, Table, Text, Where
from trainfare.report.charts.fan import fan_chart
from trainfare.report.wording import span, usd
from trainfare_core.number_format import percent
from trainfare_core.recommendation import CostOutlook, FutureCost, OutlookPart, Recommendation

__all__ = ["OutlookSummary", "build_outlook_section", "outlook_summary"]

_COLUMNS: Final = (
    "in",
    "the same run",
    "50 % interval",
    "90 % interval",
    "chance it is cheaper",
    "same quality, new methods",
)
_SHOWN_MONTHS: Final = (6, 12, 24, 36)
"""Months of the table: half a year, then each year to the end of the outlook; the chart has every month."""


@dataclass(frozen=True, slots=True)
class OutlookSummary:
    """
    The cost outlook as text.

    Attributes:
        verdict: 'Train now', 'Wait' or 'Train now or wait: cannot tell'.
        sentence: costs now and later, break-even value of waiting, and the advice.
        caption: of the table.
        rows: of the table, one text for each of `_COLUMNS`; the last is empty where it was not computed.
        notes: what the change consists of, counted and not, and the assumptions.
    """

    verdict: str
    sentence: str
    caption: str
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def outlook_summary(recommendation: Recommendation) -> OutlookSummary | None:
    """Return the outlook as text; None where the recommendation has none."""
    found = recommendation.outlook
    if found is None:
        return None
    verdict = {"train now": "Train now", "wait": "Wait", "cannot tell": "Train now or wait: cannot tell"}
    run = "1,000 steps cost" if recommendation.basis == "per_1000_steps" else "This run costs"
    now, then = found.at(0), found.at(found.horizon_months)
    sentence = (
        f"{run} {usd(now.median)} now; in {found.horizon_months} months "
        f"{usd(then.median)} [{span(usd(then.low_80), usd(then.high_80))}], with a chance of "
        f"{percent(then.chance_cheaper)} that it is cheaper than now. Waiting breaks even at a value of "
        f"{_signed(found.waiting.mid)} a month "
        f"[{span(_signed(found.waiting.low), _signed(found.waiting.high))}]. "
        f"{_advice(found, recommendation.constraints.value_usd_per_month)}."
    )
    return OutlookSummary(
        verdict=verdict[found.verdict],
        sentence=sentence,
        caption=f"Option #{found.rank}, starting from its price of {found.price_observed_on}: the same computation on "
        "the machines that can be rented then.",
        rows=tuple(_row(found, cost) for cost in found.same_compute if cost.months in _SHOWN_MONTHS),
        notes=(*(_part(found, part) for part in found.parts), *found.assumptions),
    )


def build_outlook_section(recommendation: Recommendation) -> list[Block]:
    """Return the costs in later years and what they consist of; empty where there is no outlook."""
    found, outlook = recommendation.outlook, outlook_summary(recommendation)
    if found is None or outlook is None:
        return []
    title = "What it costs later"
    caption = (
        "The flat line is today's list price, which one machine type mostly keeps. Below it are the savings of newer "
        "machines, and below those the savings of new methods for the same quality. The bands show the uncertainty of "
        "the same computation on newer machines."
    )
    months, *amounts = _COLUMNS
    columns = (Column(months, names_row=True), *(Column(name, right=True) for name in amounts))
    per_1000_steps = recommendation.basis == "per_1000_steps"
    return [
        Heading(title),
        Chart(lambda: fan_chart(found, per_1000_steps=per_1000_steps), title, caption),
        Text(outlook.caption, "dim", Where.TERMINAL),
        Table(columns, outlook.rows, outlook.caption),
        Text(outlook.caption, where=Where.TEXT),
        Bullets(outlook.notes),
    ]


def _advice(found: CostOutlook, value_usd_per_month: float | None) -> str:
    if found.verdict == "cannot tell" and value_usd_per_month is None:
        below = f", wait if less than {_signed(found.waiting.low)}" if found.waiting.low > 0 else ""
        return (
            f"Train now if having the model a month earlier is worth more than {_signed(found.waiting.high)} "
            f"to you{below}"
        )
    return f"{found.because[:1].upper()}{found.because[1:]}"


def _row(found: CostOutlook, cost: FutureCost) -> tuple[str, ...]:
    quality = next((other for other in found.same_quality if other.months == cost.months), None)
    return (
        f"{cost.months} months",
        usd(cost.median),
        span(usd(cost.low_50), usd(cost.high_50)),
        span(usd(cost.low_90), usd(cost.high_90)),
        percent(cost.chance_cheaper),
        ""
        if quality is None
        else f"{usd(quality.median)} [{span(usd(quality.low_80), usd(quality.high_80))}]",
    )


def _part(found: CostOutlook, part: OutlookPart) -> str:
    down, up = part.decline_per_year, part.high_90
    interval = f"90 % interval {100 * part.low_90:.0f} to {percent(part.high_90)}"
    if part.part == "hardware":
        return f"Hardware: newer machines do the same work for {percent(down)} less each year ({interval}). Counted."
    if part.part == "price":
        return (
            f"Price: the list price of one machine type mostly stays the same; within a year prices move between "
            f"{percent(up)} down and {percent(-part.low_90)} up (90 % interval). Counted as uncertainty."
        )
    then = found.at(found.horizon_months, "quality")
    return (
        f"Software: new methods reach the same quality for {percent(down)} less each year ({interval}). Not counted, "
        f"because they need new code; with them this run would cost {usd(then.median)} in "
        f"{found.horizon_months} months."
    )


def _signed(amount_usd: float) -> str:
    size = abs(amount_usd)
    # From $10 up whole dollars are enough for a value per month.
    return f"{'-' if amount_usd < 0 else ''}{f'${size:,.0f}' if size >= 10 else usd(size)}"
