"""One machine under two names is one machine: options that another one of the same kind makes superfluous."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from trainfare_core.number_format import percent
from trainfare_core.recommendation import Option

SAME: Final = 0.01
"""Options of one kind that cost and take at most this much more than a better one are not listed: a person could not
choose between them. A chosen value, far below any interval of a prediction."""


def fold_options(options: Iterable[Option]) -> tuple[Option, ...]:
    """
    Return the options without those that a better one of the same kind makes superfluous, ranked anew.

    Of the same kind are equal accelerators on as many machines of one cloud, service, region, zone and purchase
    option. A better one costs no more and takes no longer; it names the other in its notes.

    Args:
        options: best first.
    """
    options_kept: list[Option] = []
    of_kind: dict[tuple[object, ...], list[int]] = {}
    for option in options:
        kind = (
            option.provider,
            option.service,
            option.region,
            option.zone,
            option.purchase_option,
            option.accelerator,
            option.accelerator_count,
            option.nodes,
        )
        places = of_kind.setdefault(kind, [])
        better = next((index for index in places if _replaces(options_kept[index], option)), None)
        if better is None:
            places.append(len(options_kept))
            options_kept.append(option)
        else:
            note = (
                f"{option.instance_type} is the same machine, or costs and takes within {percent(SAME)} of it"
            )
            options_kept[better] = options_kept[better].model_copy(
                update={"notes": (*options_kept[better].notes, note)}
            )
    return tuple(
        option if option.rank == rank else option.model_copy(update={"rank": rank})
        for rank, option in enumerate(options_kept, start=1)
    )


def _replaces(better: Option, other: Option) -> bool:
    if better.instance_type == other.instance_type:
        return False
    pairs = ((better.run_usd.mid, other.run_usd.mid), (better.run_hours.mid, other.run_hours.mid))
    return all(ours <= theirs <= (1 + SAME) * ours for ours, theirs in pairs)
