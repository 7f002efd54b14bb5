"""What the report says about the years after: what the run costs then, why, and whether to wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trainfare.report.wording import percent, span, usd
from trainfare_core.recommendation import CostOutlook, FutureCost, OutlookPart, Recommendation

__all__ = ["LATER_NAMES", "Later", "LaterLine", "later"]

LATER_NAMES: Final = ("in", "the same run", "50 %", "90 %", "cheaper than now", "same quality, new methods")
_SHOWN_MONTHS: Final = (6, 12, 24, 36)


@dataclass(frozen=True, slots=True)
class LaterLine:
    """The run after some months; one text a name in `LATER_NAMES`, the last one empty where it was not computed."""

    cells: tuple[str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Later:
    """
    The outlook in words.

    Attributes:
        verdict: 'Train now', 'Wait' or 'Train now or wait: cannot tell'.
        sentence: costs, break-even value and what follows from them.
        caption: what the table is about.
        lines: the table.
        notes: the parts of the change, counted and not, and what is assumed.
    """

    verdict: str
    sentence: str
    caption: str
    lines: tuple[LaterLine, ...]
    notes: tuple[str, ...]


def later(recommendation: Recommendation) -> Later | None:
    """Return the outlook in words; None where the answer has none."""
    found = recommendation.outlook
    if found is None:
        return None
    verdict = {"train now": "Train now", "wait": "Wait", "cannot tell": "Train now or wait: cannot tell"}
    run = "1,000 steps cost" if recommendation.basis == "per_1000_steps" else "This run costs"
    now, then = found.at(0), found.at(found.horizon_months)
    sentence = (
        f"{run} {usd(now.median)} now; in {found.horizon_months} months "
        f"{usd(then.median)} [{span(usd(then.low_80), usd(then.high_80))}], cheaper with a chance of "
        f"{percent(then.chance_cheaper)}. Break-even value of waiting: {_signed(found.waiting.mid)} a month "
        f"[{span(_signed(found.waiting.low), _signed(found.waiting.high))}]. "
        f"{_advice(found, recommendation.constraints.value_usd_per_month)}."
    )
    return Later(
        verdict=verdict[found.verdict],
        sentence=sentence,
        caption=f"Option #{found.rank}, counted from its price of {found.price_observed_on}: the same computation on "
        "what can be rented then.",
        lines=tuple(_line(found, cost) for cost in found.same_compute if cost.months in _SHOWN_MONTHS),
        notes=(*(_part(found, part) for part in found.parts), *found.assumptions),
    )


def _advice(found: CostOutlook, value_usd_per_month: float | None) -> str:
    if found.verdict == "cannot tell" and value_usd_per_month is None:
        below = f", wait if less than {_signed(found.waiting.low)}" if found.waiting.low > 0 else ""
        return f"Train now if a month earlier is worth more than {_signed(found.waiting.high)} to you{below}"
    return f"{found.because[:1].upper()}{found.because[1:]}"


def _line(found: CostOutlook, cost: FutureCost) -> LaterLine:
    quality = next((other for other in found.same_quality if other.months == cost.months), None)
    return LaterLine(
        (
            f"{cost.months} months",
            usd(cost.median),
            span(usd(cost.low_50), usd(cost.high_50)),
            span(usd(cost.low_90), usd(cost.high_90)),
            percent(cost.chance_cheaper),
            ""
            if quality is None
            else f"{usd(quality.median)} [{span(usd(quality.low_80), usd(quality.high_80))}]",
        )
    )


def _part(found: CostOutlook, part: OutlookPart) -> str:
    down, up = part.decline_per_year, part.high_90
    if part.part == "hardware":
        return (
            f"Hardware: newer machines do the same for {percent(down)} less a year ({_range(part)}). Counted."
        )
    if part.part == "price":
        return (
            f"Price: one machine type mostly keeps its list price; within a year prices swing from {percent(up)} down "
            f"to {percent(-part.low_90)} up (90 % of the time). Counted as doubt."
        )
    then = found.at(found.horizon_months, "quality")
    return (
        f"Software: new methods reach the same quality for {percent(down)} less a year ({_range(part)}). Not counted, "
        f"as they need new code; with them this run would be at {usd(then.median)} in {found.horizon_months} months."
    )


def _range(part: OutlookPart) -> str:
    return f"{100 * part.low_90:.0f} to {percent(part.high_90)}"


def _signed(amount: float) -> str:
    size = abs(amount)
    return f"{'-' if amount < 0 else ''}{f'${size:,.0f}' if size >= 10 else usd(size)}"
