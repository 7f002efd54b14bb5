"""The options that a short text names: answer, runner-up, cheapest on demand, fastest, cheapest after porting."""

from __future__ import annotations

from typing import TypeAlias

from trainfare.report.headline import picks
from trainfare_core.recommendation import Option, Recommendation

NamedOption: TypeAlias = tuple[tuple[str, ...], Option]
"""What an option is best at, e.g. "runner-up" and "fastest", and the option."""


def named_options(recommendation: Recommendation) -> tuple[NamedOption, ...]:
    """Return the answer, the runner-up, the cheapest on demand, the fastest and what porting would gain; each once."""
    best = list(picks(recommendation))
    if not best:
        return ()
    found = best[:1]
    runner_up = runner_up_option(recommendation)
    if runner_up is not None:
        found.append(("runner-up", runner_up))
    ready = [option for option in recommendation.options if not option.needs_porting]
    on_demand = [option for option in ready if option.purchase_option == "on_demand"]
    if len(on_demand) < len(ready) and on_demand:
        cheapest = min(on_demand, key=lambda option: (option.run_usd.mid, option.rank))
        found.append(("cheapest on demand", cheapest))
    found += best[1:]
    titles: dict[int, tuple[str, ...]] = {}
    for title, option in found:
        titles[option.rank] = (*titles.get(option.rank, ()), title)
    options = {option.rank: option for _, option in found}
    return tuple((titles[rank], option) for rank, option in options.items())


def runner_up_option(recommendation: Recommendation) -> Option | None:
    """Return the option that `Recommendation.runner_up` is about."""
    found = recommendation.runner_up
    if found is None:
        return None
    return next((option for option in recommendation.options if option.rank == found.rank), None)
