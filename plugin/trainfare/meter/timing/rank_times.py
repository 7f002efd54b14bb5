"""
How long each rank of a distributed run works before it meets the others, and which one the others wait for.

A collective of ours could deadlock where one rank is skipped, so there is none: at the end of training every other
rank leaves one line in the store that the process group was started with, and rank 0 takes what is there.
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

__all__ = ["RankTimes", "leave_times", "next_fit", "rank_note", "take_times"]

WAIT_S = 1.0
"""How long rank 0 waits for lines that are not there yet; a rank that is gone costs this once."""
STRAGGLES_FROM = 1.2
"""A rank is named when its own work is this many times the median of the others'."""
WORTH_OF_STEP = 0.05
"""... and what it costs the others is at least this share of the step."""

_fits = itertools.count()


@dataclass(frozen=True, slots=True)
class RankTimes:
    """
    Median seconds per optimizer step on one rank.

    `own_s` is data wait, transfer and forward: what a rank does before backward's first all-reduce makes it
    wait for the others. `step_s` is the whole step, which is the same on all ranks because they wait.
    """

    own_s: float
    step_s: float

    @classmethod
    def of(cls, times: StepTimes) -> RankTimes:
        """Take the medians of a measured window."""
        phases = (times.data_wait, times.transfer, times.forward)
        return cls(sum(phase.median_s for phase in phases if phase is not None), times.step.median_s)


def rank_note(ranks: Mapping[int, RankTimes]) -> str | None:
    """
    Say which rank the others wait for, or that they agree; None where fewer than two were heard.

    Args:
        ranks: by global rank.
    """
    if len(ranks) < 2:
        return None
    slowest = max(ranks, key=lambda rank: (ranks[rank].own_s, -rank))
    own_s = ranks[slowest].own_s
    others_s = statistics.median(times.own_s for rank, times in ranks.items() if rank != slowest)
    if own_s > STRAGGLES_FROM * others_s and own_s - others_s > WORTH_OF_STEP * ranks[slowest].step_s:
        return (
            f"rank {slowest} is a straggler: {own_s * 1e3:.3g} ms of data, transfer and forward a step, "
            f"against {others_s * 1e3:.3g} ms on the other ranks, which wait for it"
        )
    least_s = min(times.own_s for times in ranks.values())
    span = f"{least_s * 1e3:.3g} to {own_s * 1e3:.3g} ms of data, transfer and forward a step"
    return f"{len(ranks)} ranks agree: {span}"


def next_fit() -> int:
    """Return the number of this `fit`: all ranks count them alike, so that a line is of this run."""
    return next(_fits)


def leave_times(rank: int, fit: int, times: StepTimes) -> None:
    """
    Leave one rank's line for rank 0.

    Args:
        rank: global rank.
        fit: from `next_fit`.
        times: of the measured window.
    """
    store = _store()
    if store is not None:
        mine = RankTimes.of(times)
        store.set(_key(fit, rank), f"{mine.own_s!r} {mine.step_s!r}")


def take_times(
    world_size: int, fit: int, times: StepTimes, *, wait_s: float = WAIT_S
) -> dict[int, RankTimes]:
    """
    Return what every rank left, rank 0's own included; ranks that left nothing are missing.

    Args:
        world_size: of the run.
        fit: from `next_fit`.
        times: rank 0's own window.
        wait_s: how long to wait for lines that are not there yet.
    """
    found = {0: RankTimes.of(times)}
    store = _store()
    if store is None or world_size < 2:
        return found
    keys = {rank: _key(fit, rank) for rank in range(1, world_size)}
    try:
        store.wait(list(keys.values()), timedelta(seconds=wait_s))
    except RuntimeError:  # not all of them in time
        keys = {rank: key for rank, key in keys.items() if store.check([key])}
    for rank, key in keys.items():
        numbers = _numbers(store.get(key))
        if numbers is not None:
            found[rank] = RankTimes(*numbers)
    return found


def _key(fit: int, rank: int) -> str:
    return f"trainfare/{fit}/{rank}"


def _store() -> Any:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return None
    take = getattr(dist.distributed_c10d, "_get_default_store", None)
    return None if take is None else take()


def _numbers(line: bytes) -> tuple[float, float] | None:
    try:
        own_s, step_s = (float(number) for number in line.decode("ascii").split())
    except ValueError:
        return None
    sound = all(math.isfinite(number) and number >= 0 for number in (own_s, step_s))
    return (own_s, step_s) if sound else None
