"""The sentence on top of every report: the best options with their intervals, and the age of the prices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from trainfare.report.price_age import price_ages, price_date_of
from trainfare.report.rows import RankingRow, ranking_row
from trainfare_core.ranking.options.runner_up import worth_usd
from trainfare_core.recommendation import Option, Recommendation

__all__ = ["BestOption", "best_options", "headline", "picks"]


@dataclass(frozen=True, slots=True)
class BestOption:
    """The best option of one objective as text: its row, what it is best at, and its place in a sentence."""

    title: str
    place: str
    row: RankingRow


def headline(recommendation: Recommendation, as_of: date) -> str:
    """
    Return the best options in one sentence, or the reason why there are none.

    Args:
        recommendation: the ranked answer.
        as_of: the day of the report, to which the ages of prices are counted.
    """
    if not recommendation.options:
        reason = (recommendation.unknown_because or "nothing is left to rank").rstrip(". ")
        return f"No answer, because {reason[:1].lower() + reason[1:] if reason[1:2].islower() else reason}."
    named = picks(recommendation)
    ready = [pick for pick in named if not pick[1].needs_porting]
    ported = [pick for pick in named if pick[1].needs_porting]
    shown = [*ready, *ported[:1]] if ready else ported
    found = [_answer(recommendation, title, option, as_of) for title, option in shown]
    clauses = "; ".join(_clause(each, first=index == 0) for index, each in enumerate(found))
    price_dates = frozenset(price_date_of(option) for _, option in shown)
    return f"{clauses}; {price_ages(price_dates, as_of)}."


def picks(recommendation: Recommendation) -> tuple[tuple[str, Option], ...]:
    """
    Return the cheapest, the fastest and, where an hour has a value, the best option by it; that of the objective first.

    Those run the script as it is. Machines that need porting are added, with the title
    'after porting', only where they are cheaper or faster.
    """
    options = recommendation.options
    ready = tuple(option for option in options if not option.needs_porting)
    found: list[tuple[str, Option]] = []
    for suffix, among in (("", ready), (" after porting", options)):
        if not among:
            continue
        best = {"cheapest": min(among, key=_usd), "fastest": min(among, key=_hours)}
        if not suffix:
            best["cheapest"] = _by_rank(among, recommendation.cheapest_rank) or best["cheapest"]
            best["fastest"] = _by_rank(among, recommendation.fastest_rank) or best["fastest"]
        else:
            best = {name: option for name, option in best.items() if option.needs_porting}
        if recommendation.objective == "fastest":
            best = dict(reversed(best.items()))
        hour_usd = recommendation.constraints.value_usd_per_hour or 0.0
        valuable = _by_rank(among, recommendation.best_value_rank)
        if suffix and recommendation.constraints.value_usd_per_hour is not None:
            valuable = min(among, key=lambda option: (worth_usd(option, hour_usd), option.rank))
        if valuable is not None and (not suffix or valuable.needs_porting):
            first = recommendation.objective == "best_value"
            best = {"best value": valuable, **best} if first else {**best, "best value": valuable}
        names: dict[int, list[str]] = {}
        for name, option in best.items():
            names.setdefault(option.rank, []).append(name)
        by_rank = {option.rank: option for option in best.values()}
        found += [(f"{' and '.join(each)}{suffix}", by_rank[rank]) for rank, each in names.items()]
    return tuple(found)


def best_options(recommendation: Recommendation, as_of: date) -> tuple[BestOption, ...]:
    """Return the picks as text, in the same order."""
    return tuple(_answer(recommendation, title, option, as_of) for title, option in picks(recommendation))


def _usd(option: Option) -> tuple[float, int]:
    return option.run_usd.mid, option.rank


def _hours(option: Option) -> tuple[float, int]:
    return option.run_hours.mid, option.rank


def _by_rank(options: tuple[Option, ...], rank: int | None) -> Option | None:
    return next((option for option in options if option.rank == rank), None)


def _answer(recommendation: Recommendation, title: str, option: Option, as_of: date) -> BestOption:
    basis = " per 1,000 steps" if recommendation.basis == "per_1000_steps" else ""
    row = ranking_row(option, as_of)
    hardware = row.hardware + (", arm64 host" if option.arm64_host else "")
    return BestOption(
        title=f"{title[:1].upper()}{title[1:]}{basis}",
        place=f"{row.cloud}, {hardware}, {row.region}, {row.purchase}",
        row=row,
    )


def _clause(found: BestOption, *, first: bool) -> str:
    title = found.title if first else found.title[:1].lower() + found.title[1:]
    (dollars, dollar_range), (time, time_range) = found.row.run_usd, found.row.run_time
    return (
        f"{title}: {found.row.machine} ({found.place}): {dollars} [{dollar_range}] in {time} [{time_range}]"
    )
