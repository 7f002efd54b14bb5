"""The meter of `trainfare probe`, and how the ranks of a run leave their loop at the same step."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Final

from trainfare.meter.end_of_run import make_profile
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.settings import MeterSettings
from trainfare.meter.timing.rank_times import find_store
from trainfare_core.errors import CannotTellError
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
