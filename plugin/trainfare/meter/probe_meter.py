"""The meter of `trainfare probe`, and how the ranks of a run leave their loop at the same step."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, NoReturn

from torch.utils.data import dataloader

from trainfare.job import Probe, describe
from trainfare.meter.end_of_run import make_profile
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.guarded_meter import GuardedMeter
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.timing.rank_times import find_store
from trainfare_core.errors import CannotTellError, InternalError
from trainfare_core.job_profile import JobProfile

_DECISION_WAIT: Final = timedelta(minutes=10)
"""Chosen: rank 0 may trace or validate for minutes before it comes to the same place."""
_LEAVING_WAIT: Final = timedelta(seconds=60)
"""Chosen: the other ranks are at most a step behind rank 0; its process may hold the store that they read."""


class ProbeMeter(FitMeter):
    """Measures as FareMeter does, and keeps the profile instead of a report."""

    _profile: JobProfile | None = None
    _unknown = "no optimizer step was trained"

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


class SharedStop:
    """
    The step after which all ranks leave: rank 0 decides, and the others ask it through the store, without a collective.

    Args:
        settings: of the meters; other ranks trace no step, so they may have their window before rank 0.
        rank: of this process.
        world_size: processes of the run.
    """

    def __init__(self, settings: MeterSettings, rank: int, world_size: int) -> None:
        self._least_steps = settings.steps_before_window + settings.measure_steps
        self._rank, self._world_size = rank, world_size
        self._asked = 0

    def decide(self, meter: FitMeter) -> bool:
        """Return whether to leave here; every rank asks at the same places of the loop."""
        self._asked += 1
        key, store = f"trainfare/probe/{self._asked}", find_store() if self._world_size > 1 else None
        if store is not None and self._rank == 0 and meter.steps >= self._least_steps:
            store.set(key, str(meter.window_full))  # from now on other ranks may ask
        if store is None or self._rank == 0 or not meter.window_full:
            return meter.window_full
        store.wait([key], _DECISION_WAIT)
        return bool(store.get(key) == b"True")

    def wait_for_others(self) -> None:
        """Tell that this rank reads the store no more; rank 0 waits until all have told it."""
        store = find_store() if self._world_size > 1 else None
        if store is None:
            return
        keys = [f"trainfare/probe/left/{rank}" for rank in range(self._world_size)]
        with contextlib.suppress(RuntimeError):  # a rank has failed, or the store went with rank 0
            store.set(keys[self._rank], "")
            if self._rank == 0:
                store.wait(keys, _LEAVING_WAIT)


def _write_message(line: str) -> None:
    sys.stderr.write(line + "\n")


def do_nothing(*_: object, **__: object) -> None:
    """Stand for what a probe switches off."""


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

    def _start_probe(self, probe: Probe, rank: int, world_size: int, problem: Exception) -> None:
        """Keep what is measured, and the error of a run that has no step."""
        self._probe, self._problem = probe, problem
        self._stop = SharedStop(self._settings, rank, world_size)

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
        """Return whether the steps are measured, on all ranks alike."""
        return self._stop.decide(meter)

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
        for close in (*closes, self._stop.wait_for_others):
            try:
                close()
            except Exception as error:  # noqa: BLE001, PERF203 - of the script; the measurement is kept
                _write_message(f"warning: closing loaders and loggers: {describe(error)}")
        self._probe.end(self._give_profile)

    def _give_profile(self) -> JobProfile | None:
        if self._meter is None:
            raise self._problem
        return self._meter.give_profile() if isinstance(self._meter, ProbeMeter) else None
