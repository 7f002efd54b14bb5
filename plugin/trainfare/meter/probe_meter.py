"""The meter of `trainfare probe`, and how the ranks of a run leave their loop."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, NoReturn

from torch.utils.data import dataloader

from trainfare.job import Probe, describe
from trainfare.job.loop import do_nothing
from trainfare.meter.end_of_run import make_profile
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.guarded_meter import GuardedMeter
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.services import MeterServices
from trainfare.meter.timing.rank_times import find_store
from trainfare.meter.traced_steps import MAX_TRACED_BATCHES
from trainfare_core.errors import CannotTellError, InternalError
from trainfare_core.job_profile import JobProfile

_LEAVING_WAIT: Final = timedelta(seconds=60)
"""Chosen: the other ranks are at most a step behind rank 0; its process may hold the store that they read."""


class ProbeMeter(FitMeter):
    """Measures as FareMeter does, and keeps the profile instead of a report."""

    _profile: JobProfile | None = None
    _unknown = "no optimizer step was trained"

    @property
    def has_trace(self) -> bool:
        """A step was traced, or is being traced."""
        return self._run is not None and (self._run.traced.step is not None or self._run.traced.probe.running)

    def read_length(self) -> None:
        """Read the length of the run again, once the batches of a step are known."""
        if self._run is not None:
            self._run.progress.read_length()

    def see_sizes(self, give: Callable[[Sequence[int]], Iterable[Any]], of_run: int) -> None:
        """
        Count the sizes of further batches; what raises in them leaves those that were seen.

        Args:
            give: gives batches, to the sizes of those that were seen.
            of_run: batches of the run; 0: not known.
        """
        if self._run is not None:
            sizes = [round(size) for size, count in self._run.traced.spread.sizes() for _ in range(count)]
            with contextlib.suppress(Exception):  # of a data set of the user's
                self._run.see_sizes(give(sizes), of_run)

    def replace_size(self, samples: int | None, tokens: int | None) -> None:
        """Count the last batch by another size: what is known at its end."""
        if self._run is not None:
            self._run.progress.replace_size(samples, tokens)

    def stop(self) -> None:
        """Close the window of a run that would go on."""
        self.release()
        self._end(self._rank_notes())

    def _report(self, run: MeteredRun, notes: tuple[str, ...], *, failed: bool) -> None:
        del failed
        self._profile, self._unknown = make_profile(run, notes)

    def give_profile(self) -> JobProfile:
        """
        Return the profile of the measured steps; of a step that was not traced it has the times alone.

        Raises:
            CannotTellError: no step was traced or measured.
        """
        if self._profile is None:
            raise CannotTellError(f"the run ended before its steps were measured: {self._unknown}")
        return self._profile


def _write_message(line: str) -> None:
    with contextlib.suppress(Exception):  # the script may have put anything there, or closed it
        sys.stderr.write(line + "\n")


def stop_workers() -> None:
    """Stop the workers of each loader that is being read: a loop keeps its iterator to itself."""
    kind: Any = vars(dataloader)["_MultiProcessingDataLoaderIter"]
    iterators: list[Any] = [item for item in gc.get_objects() if type(item) is kind]
    for iterator in iterators:
        iterator._shutdown_workers()  # noqa: SLF001


class ProbingMeter(GuardedMeter):
    """The part of the callbacks of `trainfare probe` that is the same for every loop."""

    # The command asks for prices; the few steps of a probe are no run for the ledger.
    services = MeterServices(
        say=_write_message, check_prices=do_nothing, write_status=do_nothing, find_ledger=lambda: None
    )

    _steps: int
    """Optimizer steps since the measurement began, the same on all ranks at the same place of the loop."""
    _updates_before: int | None

    def _start_probe(self, probe: Probe, rank: int, world_size: int, problem: Exception) -> None:
        """Keep what is measured, and the error of a run that has no step."""
        self._probe, self._problem = probe, problem
        self._rank, self._others = rank, world_size - 1
        self._steps, self._updates_before = 0, None

    def make_meter(self) -> FitMeter:
        """Return a meter that keeps the profile."""
        return ProbeMeter(self._settings, self.services, self._disable, self._earlier_sessions_s)

    def _disable(self, error: Exception) -> None:
        meter, self._meter = self._meter, None
        self._problem = InternalError(f"the meter had a fault: {describe(error)}")
        if meter is not None:
            with contextlib.suppress(Exception):
                meter.release()

    def _has_enough(self, meter: FitMeter) -> bool:
        """
        Return whether the steps are measured.

        Of several ranks each counts to the same number: only rank 0 traces and knows how many steps that takes.
        """
        if meter.updates != self._updates_before:
            self._steps += self._updates_before is not None
            self._updates_before = meter.updates
        if not self._others:
            return meter.window_full
        settings = meter.settings
        return self._steps >= settings.steps_before_window + MAX_TRACED_BATCHES + settings.measure_steps

    def _is_measured(self) -> bool:
        """Return whether to leave here, after the window was closed: the steps are measured, or the meter is off."""
        if self._meter is None:
            return True
        if not self._has_enough(self._meter):
            return False
        self.call_guarded(lambda meter: meter.stop() if isinstance(meter, ProbeMeter) else meter.end())
        return True

    def _end_process(self, *closes: Callable[[], object]) -> NoReturn:
        """Close what the loop has open, once all ranks have left, and end the process."""
        for close in (*closes, self._wait_for_others):
            try:
                close()
            except Exception as error:  # noqa: BLE001, PERF203 - of the script; the measurement is kept
                _write_message(f"warning: closing loaders and loggers: {describe(error)}")
        self._probe.end(self._give_profile)

    def _wait_for_others(self) -> None:
        """Tell that this rank reads the store no more; rank 0 waits until all have told it."""
        store = find_store() if self._others else None
        if store is None:
            return
        keys = [f"trainfare/probe/left/{rank}" for rank in range(self._others + 1)]
        with contextlib.suppress(RuntimeError):  # a rank has failed, or the store went with rank 0
            store.set(keys[self._rank], "")
            if self._rank == 0:
                store.wait(keys, _LEAVING_WAIT)

    def _give_profile(self) -> JobProfile | None:
        if self._meter is None:
            raise self._problem
        return self._meter.give_profile() if isinstance(self._meter, ProbeMeter) else None
