"""The step after which a run ends, at its budget or as a probe of it: the same one on all of its processes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

_STEPS_AHEAD: Final = 2
"""Chosen: without a GPU's queue no process is more than a step from rank 0, so each reads of the stop before it."""
_DECISION_WAIT: Final = timedelta(minutes=5)
"""Chosen: rank 0 may trace for minutes before it comes to the same step; half of the ten after which NCCL gives up."""
_NEVER: Final = 2**62
"""Above the steps of any run."""


class BudgetStop:
    """
    Decides after which step a run ends, without a collective.

    Rank 0 writes a step some steps ahead into the store of the process group. Another rank reads it after each step,
    and adds itself to those that know the stop, unless it has passed that step: the host of a GPU may be further
    ahead. At the stop all that know it wait for rank 0, which ends the run if these are all, else names a later step.

    Args:
        rank: of this process.
        others: how many other processes there are.
        store: key-value store that they share; not used where there are no others.
        key: of the entries in it.
        reached: on rank 0, returns whether the run is to end.
        steps: optimizer steps before the run, earlier sessions included.
    """

    def __init__(
        self, rank: int, others: int, store: Any, key: str, reached: Callable[[], bool], steps: int = 0
    ) -> None:
        self._rank, self._others, self._store, self._key, self._reached = rank, others, store, key, reached
        self._steps, self._ahead = steps, _STEPS_AHEAD
        self._stop: int | None = None
        """The step of which this rank and rank 0 know."""

    def decide(self, steps: int) -> bool:
        """
        Return whether the run ends here.

        Args:
            steps: optimizer steps so far, the same number on all ranks at the same place of the loop.
        """
        before, self._steps = self._steps, steps
        if steps == before:
            return False
        if not self._others:
            return self._reached()
        return self._follow(before, steps) if self._rank else self._lead(steps)

    def give_up(self) -> None:
        """Let no rank wait for rank 0, whose meter is off, nor rank 0 count on another: the run goes on."""
        if self._stop is None:
            return
        if self._rank:
            self._store.add(f"{self._key}/{self._stop}/known", -1)
        else:
            self._store.set(f"{self._key}/{self._stop}/next", str(_NEVER))

    def _lead(self, steps: int) -> bool:
        stop = self._stop
        if stop is None:
            if self._reached():
                self._move(steps)
            return False
        if steps < stop:
            return False
        known_by_all: bool = self._store.add(f"{self._key}/{stop}/known", 0) == self._others
        later = stop if known_by_all else self._move(steps)
        self._store.set(f"{self._key}/{stop}/next", str(later))
        return known_by_all

    def _move(self, steps: int) -> int:
        """Name another step, each time twice as far ahead, so that few are named however far ahead a rank is."""
        stop = self._stop = steps + self._ahead
        self._ahead *= 2
        self._store.set(self._key, str(stop))
        return stop

    def _follow(self, before: int, steps: int) -> bool:
        if self._stop is None and self._store.check([self._key]):
            self._know(int(self._store.get(self._key)), before)
        stop = self._stop
        if stop is None or steps < stop:
            return False
        key = f"{self._key}/{stop}/next"
        self._store.wait([key], _DECISION_WAIT)
        later = int(self._store.get(key))
        if later != stop:
            self._know(later, steps)
        return later == stop

    def _know(self, stop: int, steps: int) -> None:
        if steps < stop:
            self._stop = stop
            self._store.add(f"{self._key}/{stop}/known", 1)
