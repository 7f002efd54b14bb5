"""The answers of `trainfare decline ...` as blocks."""

from __future__ import annotations

from collections.abc import Callable

from trainfare.report.block_builders import build_answer
from trainfare.report.blocks import Block
from trainfare.report.wording import short_count, usd
from trainfare_core.decline import (
    ClaimLine,
    ClaimsAnswer,
    DecompositionAnswer,
    ForecastAnswer,
    QuantileLine,
    WaitAnswer,
)
from trainfare_core.number_format import percent

_CAUSES = {
    "algorithm": "algorithm: FLOP to the quality",
    "price": "price of a device-hour",
    "hardware": "peak of a device",
    "price_performance": "price and peak together",
    "utilisation": "utilisation: systems software",
    "total": "total",
}


def build_claims(answer: ClaimsAnswer) -> list[Block]:
    """Return a table of every claim and its recomputation, with notes on the wrong ones below."""
    rows = [
        (
            claim.id,
            claim.figure,
            "" if claim.stated is None else _figure(claim.stated, claim.unit),
            _figure(claim.computed, claim.unit),
            _format_verdict(claim),
        )
        for claim in answer.claims
    ]
    counts = [
        f"{sum(claim.verdict == verdict for claim in answer.claims)} {verdict}"
        for verdict in ("consistent", "off", "impossible", "derived")
    ]
    bad = answer.impossible_triple
    ways = ", ".join(f"({t.hardware:g}, {t.software:g}, {t.total:g})" for t in answer.consistent_triples)
    wrong = [claim for claim in answer.claims if claim.verdict in ("off", "impossible") and claim.note]
    impossible = f"impossible, the two make {bad.total - bad.residual:.1f} %"
    below = [
        f"{', '.join(counts)}; consistent: within 15 %.",
        f"Hardware {bad.hardware:g} %, software {bad.software:g} %, in all {bad.total:g} % a year: {impossible}.",
        f"Consistent (hardware, software, total): {ways}.",
        *(f"{claim.id}: {claim.note}." for claim in wrong),
    ]
    return build_answer(
        "Published claims of a decline, computed again",
        ("id", "figure", "stated", "computed", "verdict"),
        rows,
        {"stated", "computed"},
        below=below,
    )


def _format_verdict(claim: ClaimLine) -> str:
    if claim.verdict != "off" or claim.off_by is None:
        return claim.verdict
    more = claim.off_by >= 1
    return f"off: {claim.off_by if more else 1 / claim.off_by:.2f} times {'more' if more else 'less'}"


def _figure(value: float, unit: str) -> str:
    if unit.startswith("USD"):
        amount = f"${value:,.2f}" if value < 1000 else f"${value:,.0f}"
        return f"{amount}{unit.removeprefix('USD')}"
    if unit == "percent a year":
        return f"{value:.1f} % a year"
    if value >= 1e9:
        return short_count(value, unit) if unit.startswith("FLOP") else f"{short_count(value)} {unit}"
    return f"{value:,.0f} {unit}" if value >= 1e4 else f"{value:.4g} {unit}"


def build_forecast(answer: ForecastAnswer) -> list[Block]:
    """Return a table of years: median, intervals, and the chance that the cost is below the last known one."""
    rows = [
        (
            f"{line.year:.1f}".removesuffix(".0"),
            _usd(line.median),
            f"{_usd(line.within_50.low)} - {_usd(line.within_50.high)}",
            f"{_usd(line.within_90.low)} - {_usd(line.within_90.high)}",
            percent(line.chance_cheaper),
        )
        for line in answer.years
    ]
    moves, pace = "falls" if answer.decline_per_year >= 0 else "rises", percent(abs(answer.decline_per_year))
    above = [f"{_usd(answer.cost_now)} in {answer.year_now:.6g}; the median {moves} by {pace} a year."]
    below = [_make_sentence(note) for note in answer.notes]
    if not answer.informative:
        below.append("The last interval spans a factor of 10,000 or more: it is uninformative.")
    names = ("year", "median", "50 %", "90 %", "cheaper than now")
    return build_answer("What the run costs in later years", names, rows, names[1:], above=above, below=below)


def build_wait(answer: WaitAnswer) -> list[Block]:
    """Return the decision and a table of its quantities at a slow, a median and a fast decline."""

    def row(name: str, values: QuantileLine, text: Callable[[float], str]) -> tuple[str, ...]:
        return name, text(values.at_5), text(values.at_50), text(values.at_95)

    rows = [
        row("decline a year", answer.decline_per_year, lambda value: _percents(value)),
        row("best start, years from now", answer.best_start_years, lambda years: f"{years:.2f}"),
        row("value of starting then", answer.npv_best_usd, _usd),
        row("break-even value a month", answer.break_even_usd_per_year, lambda value: _usd(value / 12)),
    ]
    for regret in answer.regrets:
        start = f"in {regret.start_in_years:.2f} years" if regret.start_in_years else "now"
        line = row(f"lost by starting {start}", regret.loss_usd, _usd)
        rows += [] if line in rows else [line]
    worth, chance = _usd(answer.value_usd_per_year / 12), percent(answer.probability_waiting_is_right)
    above = [
        _make_sentence(answer.decision),
        f"{_usd(answer.cost_usd)} now; having the model is worth {worth} a month.",
        f"The chance that waiting is right: {chance}.",
    ]
    names = ("if the decline is", "slow (5 %)", "median", "fast (95 %)")
    return build_answer(
        "Train now or wait",
        names,
        rows,
        names[1:],
        above=above,
        below=[_make_sentence(text) for text in answer.assumptions],
    )


def build_decomposition(answer: DecompositionAnswer) -> list[Block]:
    """Return a table of the causes of a change in cost."""
    rows = [
        (
            _CAUSES[part.cause],
            f"{part.factor:,.3g} times" if part.factor < 1000 else f"{part.factor:,.0f} times",
            _percents(part.share),
            _percents(part.decline_per_year),
        )
        for part in answer.parts
    ]
    above = [f"{_usd(answer.cost_from_usd)} to {_usd(answer.cost_to_usd)} in {answer.years:.1f} years."]
    below = [
        "Below 1 time, or negative: more expensive. Shares are of the log change and independent of order."
    ]
    names = ("cause", "cheaper by", "share", "decline a year")
    return build_answer("Why the cost changed", names, rows, names[1:], above=above, below=below)


def _usd(amount: float) -> str:
    return usd(amount) if amount >= 0 else f"-{usd(-amount)}"


def _percents(share: float) -> str:
    return f"{100 * share:.1f} %"


def _make_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
