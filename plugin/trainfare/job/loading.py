"""Load a few batches of a user's loader in this process, and say what their code raises meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, dataloader

from trainfare.job.missing_here import MADE_UP, describe_raised
from trainfare.job.run_facts import InputSource
from trainfare.job.user_code import replace_attribute
from trainfare_core.errors import TargetError, TrainfareError
from trainfare_core.job_profile import LoaderTime

_ITERATOR: Final[Any] = vars(dataloader)["_BaseDataLoaderIter"]


def _read_delay_s() -> float:
    """Return the seconds in which this thread has waited for a core that others had; 0 where nothing counts them."""
    with contextlib.suppress(OSError, ValueError, IndexError):  # other systems, and some containers
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    return 0.0


class LoadTimes:
    """What batches of each data set took to load."""

    def __init__(
        self,
        now: Callable[[], float] = lambda: time.perf_counter() - _read_delay_s(),
        cpu_now: Callable[[], float] = time.process_time,
    ) -> None:
        self._now, self._cpu_now = now, cpu_now
        self._by_data_set: dict[int, tuple[Any, list[tuple[float, float]]]] = {}
        """By `id`, with the data set itself, so that no other gets its number."""

    @contextlib.contextmanager
    def time_batch(self, data_set: Any) -> Generator[None, None, None]:
        """Time the loading of one batch, which counts unless it raises."""
        began_s, began_cpu_s = self._now(), self._cpu_now()
        yield
        times = (self._now() - began_s, self._cpu_now() - began_cpu_s)
        self._by_data_set.setdefault(id(data_set), (data_set, []))[1].append(times)

    def add_to(self, source: InputSource, loader: Any, batch_size: int | None) -> InputSource:
        """
        Return what is known of a loader with what its samples took; as it was where no batch was timed.

        Args:
            source: of the loader.
            loader: a DataLoader, or what has its `dataset`.
            batch_size: samples of its batches; None: not known.
        """
        _, times = self._by_data_set.get(id(getattr(loader, "dataset", None)), (None, []))
        if not times or not batch_size:
            return source
        rest = times[1:] or times  # what is loaded or opened once comes with the first
        sample_s, cpu_s = (statistics.median(column) / batch_size for column in zip(*rest, strict=True))
        if sample_s <= 0:  # of a clock that is too coarse
            return source
        from trainfare_core.hardware.hosts import read_processor  # it loads Polars

        today = datetime.now(tz=timezone.utc).date()
        took = LoaderTime(
            sample_s=sample_s, sample_cpu_s=cpu_s, batches=len(rest), workers=source.workers,
            processor=read_processor(), measured_on=today,
        )  # fmt: skip
        return replace(source, time=took)


@contextlib.contextmanager
def load_in_this_process(*, nothing: bool = False) -> Generator[LoadTimes, None, None]:
    """
    Load batches in this process, as one worker does; or nothing.

    A few batches do not repay the start of workers. What each batch took is in the `LoadTimes`.
    """
    loose: Any = DataLoader
    original, times, threads = loose.__iter__, LoadTimes(), torch.get_num_threads()
    draw: Any = _ITERATOR.__next__

    def here(self: Any) -> Any:
        before = self.num_workers, self.timeout
        self.num_workers = self.timeout = 0
        try:
            return itertools.repeat(None) if nothing else original(self)
        finally:
            self.num_workers, self.timeout = before

    def time_draw(self: Any) -> Any:
        with times.time_batch(self._dataset):
            return draw(self)

    torch.set_num_threads(1)  # as in a worker
    try:
        with (
            replace_attribute(loose, "__iter__", here),
            replace_attribute(_ITERATOR, "__next__", time_draw),
        ):
            yield times
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def report_user_errors(doing: str, *, reads_data: bool = True) -> Generator[None, None, None]:
    """Raise a TargetError of what the user's code raises, `doing` something."""
    try:
        yield
    except TrainfareError:
        raise
    except (Exception, SystemExit) as error:
        raise TargetError(describe_raised(doing, error, way_out=MADE_UP if reads_data else "")) from error
