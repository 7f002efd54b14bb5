"""
Comparison of the ranks of a distributed run: which rank do the others wait for?

The ranks exchange their times through the key-value store that the process group was started with, and not by a
collective, which would deadlock where a rank does not call it. At the end of training every other rank writes one
entry, and rank 0 reads the entries that are there.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from trainfare.meter.timing.step_timer import StepTimes

MIN_SLOWDOWN = 1.2
"""A rank is named a straggler from this multiple of the other ranks' median work; a chosen value, above the spread
of equal ranks."""
MIN_SHARE_OF_STEP = 0.05
"""... and only if its extra work is at least this share of the step; a chosen value, below which it is not worth
looking into."""

_fit_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class RankTimes:
    """
    Median seconds per optimizer step on one rank.

    Attributes:
        own_s: data wait, transfer and forward: the work before the first all-reduce of backward, in which a rank
            waits for the others.
        step_s: the whole step, the same on all ranks because they wait for each other.
    """

    own_s: float
    step_s: float

    @classmethod
    def of(cls, times: StepTimes) -> RankTimes:
        """Return the medians of a measured window."""
        phases = (times.data_wait, times.transfer, times.forward)
        return cls(sum(phase.median_s for phase in phases if phase is not None), times.step.median_s)


def rank_note(ranks: Mapping[int, RankTimes]) -> str | None:
    """
    Return a sentence that names the straggler, or says that there is none; None for fewer than two ranks.

    Args:
        ranks: times by global rank.
    """
    if len(ranks) < 2:
        return None
    slowest = max(ranks, key=lambda rank: (ranks[rank].own_s, -rank))
    own_s = ranks[slowest].own_s
    others_s = statistics.median(times.own_s for rank, times in ranks.items() if rank != slowest)
    if own_s > MIN_SLOWDOWN * others_s and own_s - others_s > MIN_SHARE_OF_STEP * ranks[slowest].step_s:
        return (
            f"rank {slowest} is a straggler: {own_s * 1e3:.3g} ms of data, transfer and forward a step, "
            f"against {others_s * 1e3:.3g} ms on the other ranks, which wait for it"
        )
    least_s = min(times.own_s for times in ranks.values())
    span = f"{least_s * 1e3:.3g} to {own_s * 1e3:.3g} ms of data, transfer and forward a step"
    return f"{len(ranks)} ranks agree: {span}"


def next_fit_number() -> int:
    """Return the number of this `fit` in its process. It is the same on all ranks and is part of the store's keys."""
    return next(_fit_numbers)


def publish_times(rank: int, fit: int, times: StepTimes) -> None:
    """
    Write one rank's times into the store.

    Args:
        rank: global rank.
        fit: from `next_fit_number`.
        times: of the measured window.
    """
    store = find_store()
    if store is not None:
        mine = RankTimes.of(times)
        store.set(_format_key(fit, rank), f"{mine.own_s!r} {mine.step_s!r}")


def collect_times(world_size: int, fit: int, times: StepTimes, *, wait_s: float) -> dict[int, RankTimes]:
    """
    Return the times of rank 0 and of every rank that has written them.

    Args:
        world_size: number of ranks.
        fit: from `next_fit_number`.
        times: rank 0's own window.
        wait_s: seconds to wait for entries that are not there yet.
    """
    times_by_rank = {0: RankTimes.of(times)}
    store = find_store()
    if store is None or world_size < 2:
        return times_by_rank
    keys = {rank: _format_key(fit, rank) for rank in range(1, world_size)}
    try:
        store.wait(list(keys.values()), timedelta(seconds=wait_s))
    except RuntimeError:  # not all of them in time
        keys = {rank: key for rank, key in keys.items() if store.check([key])}
    for rank, key in keys.items():
        numbers = _parse_numbers(store.get(key))
        if numbers is not None:
            times_by_rank[rank] = RankTimes(*numbers)
    return times_by_rank


def _format_key(fit: int, rank: int) -> str:
    return f"trainfare/{fit}/{rank}"


def find_store() -> Any:
    """Return the key-value store of the process group; None where there is none."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return None
    get_store = getattr(dist.distributed_c10d, "_get_default_store", None)
    return None if get_store is None else get_store()


def _parse_numbers(entry: bytes) -> tuple[float, float] | None:
    try:
        own_s, step_s = (float(number) for number in entry.decode("ascii").split())
    except ValueError:
        return None
    valid = all(math.isfinite(number) and number >= 0 for number in (own_s, step_s))
    return (own_s, step_s) if valid else None
