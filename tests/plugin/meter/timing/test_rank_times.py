"""Comparison of the ranks' times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from trainfare.meter.timing.rank_times import (
    RankTimes,
    collect_times,
    next_fit_number,
    publish_times,
    rank_note,
)
from trainfare.meter.timing.step_timer import StepTimes
from trainfare_core.job_profile import Quantiles


def times(own_ms: float, step_ms: float) -> StepTimes:
    """Times of a window in which a rank's own work is its forward alone."""

    def of(milliseconds: float) -> Quantiles:
        return Quantiles(**dict.fromkeys(("median_s", "p10_s", "p90_s"), milliseconds / 1e3))

    return StepTimes(
        steps=1,
        step=of(step_ms),
        data_wait=None,
        transfer=None,
        forward=of(own_ms),
        backward=None,
        optimizer=None,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[None]:
    """A real process group of one, whose store is a file."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def ranks(*own_ms: float, step_ms: float = 100.0) -> dict[int, RankTimes]:
    return {rank: RankTimes.of(times(m, step_ms)) for rank, m in enumerate(own_ms)}


def test_the_slowest_is_named_against_the_median_of_the_others() -> None:
    """The slowest rank is compared with the median of the others, without itself."""
    note = rank_note(ranks(10, 11, 30, 9))
    assert note is not None
    assert note.startswith("rank 2 is a straggler: 30 ms of data, transfer and forward a step, against 10 ms")


@pytest.mark.parametrize(
    "own_ms",
    [
        (10, 11.9),  # less than 1.2 times
        (1, 5),  # five times as long, but 4 % of the step
    ],
)
def test_a_small_difference_is_not_a_straggler(own_ms: tuple[float, ...]) -> None:
    """Below 1.2 times the others' work, or below 5 % of the step, no rank is named."""
    note = rank_note(ranks(*own_ms))
    assert note is not None
    assert note.startswith("2 ranks agree")


def test_one_rank_gives_no_note() -> None:
    """With the times of one rank only there is nothing to compare."""
    assert rank_note(ranks(10)) is None


def test_without_a_process_group_there_is_only_this_rank() -> None:
    """Without a store only rank 0's own times are returned."""
    assert list(collect_times(4, next_fit_number(), times(10, 20), wait_s=0.01)) == [0]


@pytest.mark.usefixtures("store")
def test_entries_are_of_this_fit_and_a_missing_rank_is_left_out() -> None:
    """Rank 1 has an entry of an earlier fit, rank 2 one of this fit, rank 3 none: only rank 2 is returned."""
    earlier, now = next_fit_number(), next_fit_number()
    publish_times(1, earlier, times(99, 100))
    publish_times(2, now, times(7, 20))
    collected = collect_times(4, now, times(5, 20), wait_s=0.01)
    assert collected == {0: RankTimes(0.005, 0.02), 2: RankTimes(0.007, 0.02)}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("entry", ["", "1", "nan 1", "-1 1", "inf 2", "1 2 3", "x y", "\u0664 1"])
def test_an_invalid_entry_is_left_out(entry: str) -> None:
    """Rank 0 ignores an entry that is not two finite, non-negative numbers."""
    fit = next_fit_number()
    dist.distributed_c10d._get_default_store().set(f"trainfare/{fit}/1", entry)
    assert list(collect_times(2, fit, times(5, 20), wait_s=0.01)) == [0]
