"""What rank 0 makes of the other ranks' lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from trainfare.meter.timing.rank_times import RankTimes, leave_times, next_fit, rank_note, take_times
from trainfare.meter.timing.step_timer import StepTimes
from trainfare_core.job_profile import Quantiles


def times(own_ms: float, step_ms: float) -> StepTimes:
    """A window in which all of a rank's own work is its forward."""

    def of(milliseconds: float) -> Quantiles:
        return Quantiles(**dict.fromkeys(("median_s", "p10_s", "p90_s"), milliseconds / 1e3))

    return StepTimes(
        steps=1,
        batches=1,
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
    return {rank: RankTimes.of(times(own, step_ms)) for rank, own in enumerate(own_ms)}


def test_the_slowest_is_named_against_the_median_of_the_others() -> None:
    """One slow rank does not move what it is held against."""
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
def test_a_small_difference_is_no_straggler(own_ms: tuple[float, ...]) -> None:
    """Noise, or a cost that nobody feels, is not somebody's fault."""
    note = rank_note(ranks(*own_ms))
    assert note is not None
    assert note.startswith("2 ranks agree")


def test_one_rank_says_nothing_of_others() -> None:
    """Nothing was heard: nothing is said."""
    assert rank_note(ranks(10)) is None


def test_without_a_process_group_there_is_only_this_rank() -> None:
    """One process, or a strategy with no store."""
    assert list(take_times(4, next_fit(), times(10, 20))) == [0]


@pytest.mark.usefixtures("store")
def test_lines_are_of_this_fit_and_a_silent_rank_is_left_out() -> None:
    """Rank 1 spoke in an earlier fit, rank 2 speaks now, rank 3 is gone: the wait for it ends."""
    earlier, now = next_fit(), next_fit()
    leave_times(1, earlier, times(99, 100))
    leave_times(2, now, times(7, 20))
    heard = take_times(4, now, times(5, 20), wait_s=0.01)
    assert heard == {0: RankTimes(0.005, 0.02), 2: RankTimes(0.007, 0.02)}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("line", ["", "1", "nan 1", "-1 1", "inf 2", "1 2 3", "x y", "\u0664 1"])
def test_a_line_that_is_no_time_is_left_out(line: str) -> None:
    """Whatever stands in the store, rank 0 does not fall over it."""
    fit = next_fit()
    dist.distributed_c10d._get_default_store().set(f"trainfare/{fit}/1", line)
    assert list(take_times(2, fit, times(5, 20))) == [0]
