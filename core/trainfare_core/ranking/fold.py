"""One machine under two names or of two services is one line: a better option makes the other superfluous."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from trainfare_core.clouds import pricing_service, service_label
from trainfare_core.number_format import hours_text, percent
from trainfare_core.recommendation import Note, Option

SAME: Final = 0.01
"""Options of one kind that cost and take at most this much more than a better one are not listed: a person could not
choose between them. A chosen value, far below any interval of a prediction."""


def fold_options(options: Iterable[Option]) -> tuple[Option, ...]:
    """
    Return the options without those that a better one of the same kind makes superfluous, ranked anew.

    Of the same kind are equal accelerators on as many machines of one cloud, service, region, zone and purchase
    option. A better one costs no more and takes no longer; it names the other in its notes. A service that charges
    another's prices shares its line where both cost the same an hour and their runs cannot be told apart.

    Args:
        options: best first.
    """
    every = tuple(options)
    shared = {option.instance_type for option in every if option.service != pricing_service(option.service)}
    options_kept: list[Option] = []
    of_kind: dict[tuple[object, ...], list[int]] = {}
    for option in every:
        kind = (
            option.provider,
            pricing_service(option.service),
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
            continue
        first, second = options_kept[better], option
        # Of equal ones the name that both services have.
        equal = all(
            getattr(first, name) == getattr(option, name) for name in ("service", "run_usd", "run_hours")
        )
        if equal and option.instance_type in shared and first.instance_type not in shared:
            first, second = option, first
        options_kept[better] = _name_other(first, second)
    return tuple(
        option if option.rank == rank else option.model_copy(update={"rank": rank})
        for rank, option in enumerate(options_kept, start=1)
    )


def _replaces(better: Option, other: Option) -> bool:
    pairs = ((better.run_usd, other.run_usd), (better.run_hours, other.run_hours))
    if better.service != other.service:
        alike = all(ours.low_80 <= theirs.mid <= ours.high_80 for ours, theirs in pairs)
        return alike and better.usd_per_hour == other.usd_per_hour
    if better.instance_type == other.instance_type:
        return False
    return all(ours.mid <= theirs.mid <= (1 + SAME) * ours.mid for ours, theirs in pairs)


def _name_other(better: Option, other: Option) -> Option:
    """Return an option that names the one that it replaces; of another service with that one's dollars and hours."""
    notes = (
        *better.notes,
        *(note for note in other.notes if other.also_services and note not in better.notes),
    )
    if better.service == other.service:
        words = f"{other.instance_type} is the same machine, or costs and takes within {percent(SAME)} of it"
        note = Note(kind="same_machine", because=words)
        services = better.also_services or other.also_services
        return better.model_copy(update={"notes": (*notes, note), "also_services": services})
    words = (
        f"{service_label(other.provider, other.service)} rents {other.instance_type} at the same price an hour: "
        f"{other.run_usd.mid:,.2f} USD, {hours_text(other.run_hours.mid)}"
    )
    note = Note(kind="same_price", because=words)
    doubts = (doubt for doubt in other.notes if doubt.kind == "caveat" and doubt not in better.notes)
    services = tuple(dict.fromkeys((*better.also_services, other.service)))
    return better.model_copy(update={"also_services": services, "notes": (*notes, note, *doubts)})
