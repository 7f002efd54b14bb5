"""The options that an answer names: cheapest, fastest, best value, and the script's own plan (part of stage 6)."""

from __future__ import annotations

import numpy as np

from trainfare_core.arrays import Rows
from trainfare_core.ranking.options.options import OptionMaker
from trainfare_core.ranking.options.runner_up import worth_usd
from trainfare_core.ranking.options.shared_errors import SURE, chance_less, uses_every_device
from trainfare_core.recommendation import Constraints, Objective, Option


def find_best(options: tuple[Option, ...], objective: Objective, constraints: Constraints) -> int | None:
    """
    Return the rank of the best drop-in; the front of the medians holds it, so no cut of the list can lose it.

    The fastest costs the fewest dollars of those that are not slower than the one of the fewest hours with a
    probability of `SURE`. The best value has the fewest dollars with the stated value of each hour; without one the
    least product of dollars and hours: it costs p percent more only where it takes more than p percent less. Of both,
    one that leaves accelerators of its machine idle is named where no other is left.

    Args:
        options: ranked.
        objective: what it is best at.
        constraints: with the value of an hour.
    """
    ready = [option for option in options if not option.needs_porting]
    if not ready:
        return None
    if objective == "cheapest":
        return min(ready, key=lambda option: (option.run_usd.mid, option.run_hours.mid, option.rank)).rank
    if objective == "best_value":
        hour_usd = constraints.value_usd_per_hour

        def compute_worth(option: Option) -> tuple[float, int]:
            if hour_usd is not None:
                return worth_usd(option, hour_usd), option.rank
            return option.run_usd.mid * option.run_hours.mid, option.rank

        whole = [option for option in ready if uses_every_device(option)] if hour_usd is None else ready
        return min(whole or ready, key=compute_worth).rank
    fastest = min(ready, key=lambda option: (option.run_hours.mid, option.rank))
    ready = [option for option in ready if _may_be_as_fast(option, fastest)]
    whole = [option for option in ready if uses_every_device(option)]
    return min(
        whole or ready, key=lambda option: (option.run_usd.mid, option.run_hours.mid, option.rank)
    ).rank


def _may_be_as_fast(option: Option, fastest: Option) -> bool:
    return option is fastest or chance_less(fastest, option, fastest.run_hours, option.run_hours) < SURE


def find_own_plan(maker: OptionMaker, runs: Rows) -> Option | None:
    """
    Return the cheapest run of the script's own plan: its devices, nodes, strategy and micro-batch.

    Args:
        maker: of the options of the ranking, whose runs are looked through.
        runs: rows of `maker.priced.runs` that may be named.

    Returns:
        None where the script trains on one device, which every machine has, or no machine runs its plan.
    """
    own, priced = maker.profile.parallel, maker.priced
    candidates, plan = priced.search.candidates, priced.runs.plan[runs]
    if own.world_size == 1 or candidates.as_scripted is None:
        return None
    devices = candidates.devices_of(priced.search.shapes)[plan]
    kept = candidates.as_scripted[plan] & (candidates.variant_or_none[plan] == 0)
    runs = runs[kept & (devices == own.devices) & (candidates.nodes[plan] == own.num_nodes)]
    if not len(runs):
        return None
    run = int(runs[np.lexsort((runs, priced.runs.hours[runs], priced.lowest_usd[runs]))[0]])
    offer = priced.cheapest_offers(priced.machine_of_run[[run]]).row(0, named=True)
    return maker.make(run, offer, rank=1, on_front=False)
