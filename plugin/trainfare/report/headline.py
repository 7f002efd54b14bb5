"""The options that a text names, and the sentence of the best ones on top of every report."""

from __future__ import annotations

from datetime import date
from typing import Final, TypeAlias

from trainfare.report.price_age import price_ages, price_date_of
from trainfare.report.wording import (
    cloud_label,
    describe_basis,
    describe_run,
    hardware_label,
    has_other_batch,
    machine_label,
    name_batch,
    place_label,
    purchase_label,
)
from trainfare_core.ranking.options.named_options import worth_usd
from trainfare_core.recommendation import Option, Recommendation

MAX_NAMED: Final = 6
"""Options that the first screen names: two lines each leave half of a terminal's height. A chosen value."""
PORTED: Final = " after porting"

NamedOption: TypeAlias = tuple[tuple[str, ...], Option]
"""What an option is best at, e.g. "runner-up" and "fastest", and the option."""


def headline(recommendation: Recommendation, as_of: date) -> str:
    """
    Return the best options in one sentence, or the reason why there are none.

    Args:
        recommendation: the ranked answer.
        as_of: the day of the report, to which the ages of prices are counted.
    """
    picked = picks(recommendation)
    if not picked:
        return explain_no_answer(recommendation)
    ready = [pick for pick in picked if not pick[1].needs_porting]
    ported = [pick for pick in picked if pick[1].needs_porting]
    shown = [*ready, *ported[:1]] if ready else ported
    basis, named_batches = describe_basis(recommendation), has_other_batch(option for _, option in shown)
    clauses = "; ".join(
        ", ".join(
            part
            for part in (
                f"{title}{basis}: {machine_label(option)} ({locate_option(option)}): {describe_run(option)}",
                name_batch(option) if named_batches else "",
                option.rests_on,
            )
            if part
        )
        for title, option in shown
    )
    price_dates = frozenset(price_date_of(option) for _, option in shown)
    return f"{clauses[:1].upper()}{clauses[1:]}; {price_ages(price_dates, as_of)}."


def picks(recommendation: Recommendation) -> tuple[tuple[str, Option], ...]:
    """
    Return the cheapest, the fastest and the best value; that of the objective first, equal ones under one title.

    Those run the script as it is. Machines that need porting are added, with the title
    'after porting', only where they are cheaper or faster, and such work was measured in their vendor's software.
    """
    picked: dict[tuple[int, bool], list[str]] = {}
    for title, option in _list_picks(recommendation):
        picked.setdefault((option.rank, title.endswith(PORTED)), []).append(title.removesuffix(PORTED))
    options = {option.rank: option for option in recommendation.options}
    return tuple(
        (f"{' and '.join(titles)}{PORTED if ported else ''}", options[rank])
        for (rank, ported), titles in picked.items()
    )


def _list_picks(recommendation: Recommendation) -> list[tuple[str, Option]]:
    """Return each title with its option, those that run the script as it is first."""
    options = tuple(option for option in recommendation.options if not option.unmeasured_software)
    ready = tuple(option for option in options if not option.needs_porting)
    hour_usd = recommendation.constraints.value_usd_per_hour
    picked: list[tuple[str, Option]] = []
    for suffix, among in (("", ready), (PORTED, options)):
        if not among:
            continue
        fastest = min(among, key=lambda option: (option.run_hours.mid, option.rank))
        best = {"cheapest": min(among, key=_usd), "fastest": fastest}
        if not suffix:
            best["cheapest"] = _by_rank(among, recommendation.cheapest_rank) or best["cheapest"]
            best["fastest"] = _by_rank(among, recommendation.fastest_rank) or best["fastest"]
            valuable = _by_rank(among, recommendation.best_value_rank)
            best |= {} if valuable is None else {"best value": valuable}
        elif hour_usd is not None:
            best["best value"] = min(among, key=lambda option: (worth_usd(option, hour_usd), option.rank))
        if suffix:
            best = {name: option for name, option in best.items() if option.needs_porting}
        first = recommendation.objective.replace("_", " ")
        picked += [(f"{name}{suffix}", best[name]) for name in sorted(best, key=lambda name: name != first)]
    return picked


def _usd(option: Option) -> tuple[float, int]:
    return option.run_usd.mid, option.rank


def _by_rank(options: tuple[Option, ...], rank: int | None) -> Option | None:
    return next((option for option in options if option.rank == rank), None)


def locate_option(option: Option) -> str:
    """Return cloud, accelerators, place and purchase of an option, as they stand behind its machine."""
    arm64 = ", arm64 host" if option.arm64_host else ""
    purchase = purchase_label(option.purchase_option)
    return f"{cloud_label(option)}, {hardware_label(option)}{arm64}, {place_label(option)}, {purchase}"


def explain_no_answer(recommendation: Recommendation) -> str:
    """Return the reason why nothing is ranked, as a sentence."""
    guesses = (option.rests_on for option in recommendation.options)
    reason = (recommendation.unknown_because or next(guesses, "nothing is left to rank")).rstrip(". ")
    return f"No answer, because {reason[:1].lower() + reason[1:] if reason[1:2].islower() else reason}."


def list_named_options(recommendation: Recommendation) -> tuple[NamedOption, ...]:
    """
    Return the options that the first screen names, `MAX_NAMED` at most, each once under all of its titles.

    In this order: the answer, the runner-up, the cheapest on demand where other purchase options are ranked, the best
    value, the script's own plan, the fastest or cheapest, and what porting would gain.
    """
    best = _list_picks(recommendation)
    if not best:
        return ()
    options_to_name = best[:1]
    runner_up = runner_up_option(recommendation)
    if runner_up is not None:
        options_to_name.append(("runner-up", runner_up))
    ready = [option for option in recommendation.options if not option.needs_porting]
    on_demand = [option for option in ready if option.purchase_option == "on_demand"]
    if len(on_demand) < len(ready) and on_demand:
        options_to_name.append(("cheapest on demand", min(on_demand, key=_usd)))
    others = sorted(best[1:], key=lambda pick: (pick[0] != "best value", pick[0].endswith(PORTED)))
    own = _find_own_plan(recommendation)
    if own is not None:
        others.insert(int(others[:1] != [] and others[0][0] == "best value"), ("your own plan", own))
    titles: dict[tuple[int, str], tuple[str, ...]] = {}
    options: dict[tuple[int, str], Option] = {}
    for title, option in (*options_to_name, *others):
        key = (option.rank, option.machine)
        options.setdefault(key, option)
        titles[key] = (*titles.get(key, ()), title)
    return tuple((titles[key], option) for key, option in options.items())[:MAX_NAMED]


def _find_own_plan(recommendation: Recommendation) -> Option | None:
    """Return the script's own plan: as it is ranked where it is listed, else with a rank below all."""
    own = recommendation.own_plan
    if own is None:
        return None

    def name_plan(option: Option) -> tuple[object, ...]:
        return option.machine, option.zone, option.purchase_option, option.nodes, option.trainer

    for option in recommendation.options:
        if name_plan(option) == name_plan(own):
            return option
    return own.model_copy(update={"rank": recommendation.options_total + 1})


def runner_up_option(recommendation: Recommendation) -> Option | None:
    """Return the option that `Recommendation.runner_up` is about."""
    runner_up = recommendation.runner_up
    return None if runner_up is None else _by_rank(recommendation.options, runner_up.rank)
