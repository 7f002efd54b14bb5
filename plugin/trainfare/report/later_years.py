"""What the same run is predicted to cost in later years, why, and whether to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trainfare.report.block_builders import build_bars, build_table
from trainfare.report.blocks import Block, Bullets, Column, Heading, Text, Where
from trainfare.report.wording import exact_usd, span, usd
from trainfare_core.number_format import percent
from trainfare_core.recommendation import CostOutlook, FutureCost, OutlookPart, Recommendation

_SHOWN_MONTHS: Final = (6, 12, 24, 36)
"""Months of the table: half a year, then each year to the end of the outlook."""


def advise_waiting(recommendation: Recommendation) -> tuple[str, str]:
    """
    Return the verdict, e.g. 'Train now', and the sentence behind it; empty where there is no outlook.

    The sentence has the costs now and later, the break-even value of waiting, and the advice.
    """
    found = recommendation.outlook
    if found is None:
        return "", ""
    verdict = _name_verdict(found)
    run = "1,000 steps cost" if recommendation.basis == "per_1000_steps" else "This run costs"
    best = recommendation.best(recommendation.objective)
    if best is not None and best.rank != found.rank:
        run = f"At the cheapest, {run[:1].lower()}{run[1:]}"
    now, then = found.at(0), found.at(found.horizon_months)
    return verdict, (
        f"{run} {usd(now.median)} now; in {found.horizon_months} months "
        f"{usd(then.median)} [{span(usd(then.low_80), usd(then.high_80))}], with a chance of "
        f"{percent(then.chance_cheaper)} that it is cheaper than now. {_describe_break_even(found)}. "
        f"{_write_advice(found, recommendation.constraints.value_usd_per_month)}."
    )


def explain_verdict(recommendation: Recommendation) -> str:
    """Return whether a run is worth waiting with, and why, in one sentence; empty where there is no outlook."""
    found = recommendation.outlook
    if found is None:
        return ""
    if recommendation.basis == "per_1000_steps":
        # What waiting saves grows with the run, what a month earlier is worth does not.
        return "Train now or wait: cannot tell, because the length of the run is not known."
    return f"{_name_verdict(found)}: {found.because}. {_describe_break_even(found)}."


def build_outlook_section(recommendation: Recommendation) -> list[Block]:
    """Return the costs in later years and what they consist of; empty where there is no outlook."""
    found = recommendation.outlook
    if found is None:
        return []
    title = "What it costs later"
    basis = (
        f"Option #{found.rank}, starting from its price of {found.price_observed_on}: the same computation on the "
        "machines that can be rented then."
    )
    shown = [cost for cost in found.same_compute if cost.months in _SHOWN_MONTHS]
    quality = {
        cost.months: f"{usd(cost.median)} [{span(usd(cost.low_80), usd(cost.high_80))}]"
        for cost in found.same_quality
    }
    fields: tuple[tuple[Column, Callable[[FutureCost], str]], ...] = (
        (Column("in", names_row=True), lambda cost: f"{cost.months} months"),
        (Column("the same run", right=True), lambda cost: usd(cost.median)),
        (Column("50 % interval", right=True), lambda cost: span(usd(cost.low_50), usd(cost.high_50))),
        (Column("90 % interval", right=True), lambda cost: span(usd(cost.low_90), usd(cost.high_90))),
        (Column("chance it is cheaper", right=True), lambda cost: percent(cost.chance_cheaper)),
        (Column("same quality, new methods", right=True), lambda cost: quality.get(cost.months, "")),
    )
    later = {cost.months: cost.median for cost in found.same_quality}
    bars = [
        _split_cost(cost, later[cost.months])
        for cost in found.same_compute
        if cost.months in later and cost.months in (0, *_SHOWN_MONTHS)
    ]
    names = ("same quality, new methods", "same run, newer machines")
    largest_usd = max(sum(parts_usd) for _, parts_usd, _ in bars)
    return [
        Heading(title),
        build_bars(title, names, bars, whole=largest_usd or None),
        Text(basis, "dim", Where.TERMINAL),
        build_table(shown, fields, caption=basis),
        Text(basis, where=Where.TEXT),
        Bullets((*(_part(found, part) for part in found.parts), *found.assumptions)),
    ]


def _split_cost(cost: FutureCost, quality_usd: float) -> tuple[str, tuple[float, float], str]:
    """Return the bar of a month: median dollars of the same quality, what the same computation adds, and its text."""
    parts_usd = min(quality_usd, cost.median), max(0.0, cost.median - quality_usd)
    return f"in {cost.months} months" if cost.months else "now", parts_usd, usd(cost.median)


def _name_verdict(outlook: CostOutlook) -> str:
    return (
        "Train now or wait: cannot tell" if outlook.verdict == "cannot tell" else outlook.verdict.capitalize()
    )


def _describe_break_even(outlook: CostOutlook) -> str:
    low, mid, high = map(_format_signed, (outlook.waiting.low, outlook.waiting.mid, outlook.waiting.high))
    return f"Waiting breaks even at a value of {mid} a month [{span(low, high)}]"


def _write_advice(outlook: CostOutlook, value_usd_per_month: float | None) -> str:
    if outlook.verdict == "cannot tell" and value_usd_per_month is None:
        below = (
            f", wait if less than {_format_signed(outlook.waiting.low)}" if outlook.waiting.low > 0 else ""
        )
        return (
            f"Train now if having the model a month earlier is worth more than {_format_signed(outlook.waiting.high)} "
            f"to you{below}"
        )
    return f"{outlook.because[:1].upper()}{outlook.because[1:]}"


def _part(outlook: CostOutlook, part: OutlookPart) -> str:
    down, up = part.decline_per_year, part.high_90
    interval = f"90 % interval {100 * part.low_90:.0f} to {percent(part.high_90)}"
    if part.part == "hardware":
        return f"Hardware: newer machines do the same work for {percent(down)} less each year ({interval}). Counted."
    if part.part == "price":
        return (
            f"Price: the list price of one machine type mostly stays the same; within a year prices move between "
            f"{percent(up)} down and {percent(-part.low_90)} up (90 % interval). Counted as uncertainty."
        )
    then = outlook.at(outlook.horizon_months, "quality")
    return (
        f"Software: new methods reach the same quality for {percent(down)} less each year ({interval}). Not counted, "
        f"because they need new code; with them this run would cost {usd(then.median)} in "
        f"{outlook.horizon_months} months."
    )


def _format_signed(amount_usd: float) -> str:
    size = abs(amount_usd)
    # From $10 up whole dollars are enough for a value per month.
    return f"{'-' if amount_usd < 0 else ''}{f'${size:,.0f}' if size >= 10 else exact_usd(size)}"
