"""The step after which a run ends, at its budget or as a probe of it: the same one on all of its processes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

_STEPS_AHEAD: Final = 2
"""Chosen: without a GPU's queue no process is more than a step from rank 0, so each reads of the stop before it."""
_WAIT: Final = timedelta(minutes=5)
"""Chosen: rank 0 may trace for minutes before it comes to the same step; half of the ten after which NCCL gives up."""
_NEVER: Final = 2**62
"""Above the steps of any run."""


class BudgetStop:
    """
    Decides after which step a run ends, without a collective.

    Rank 0 writes a step some steps ahead into the store of the process group. Another rank reads it after each step,
    and adds itself to those that know the stop, unless it has passed that step: the host of a GPU may be further
    ahead. At the stop rank 0 names a later one unless all know it; else all wait there for each other. The last to come
    ends the run: a rank whose meter a fault has turned off does not come, and tells the others that the run goes on.

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
        if self._stop is None and self._rank and self._store.check([self._key]):
            self._know(int(self._store.get(self._key)), before)
        elif self._stop is None and not self._rank and self._reached():
            self._move(steps)
        return self._stop is not None and steps >= self._stop and self._meet(self._stop, steps)

    def give_up(self) -> None:
        """Let no rank wait for this one, whose meter is off: the run goes on."""
        if self._stop is not None:
            self._store.set(f"{self._key}/{self._stop}/next", str(_NEVER))

    def _move(self, steps: int) -> int:
        """Name another step, each time twice as far ahead, so that few are named however far ahead a rank is."""
        stop = self._stop = steps + self._ahead
        self._ahead *= 2
        self._store.set(self._key, str(stop))
        return stop

    def _know(self, stop: int, steps: int) -> None:
        if steps < stop:
            self._stop = stop
            self._store.add(f"{self._key}/{stop}/known", 1)

    def _meet(self, stop: int, steps: int) -> bool:
        """Return whether all ranks have come to a stop, for which each of them waits if all know it."""
        store, ranks = self._store, self._others + 1
        known, come, following = (f"{self._key}/{stop}/{name}" for name in ("known", "come", "next"))
        if not self._rank and store.add(known, 0) < self._others:
            store.set(following, str(self._move(steps)))
            return False
        if store.add(come, 1) == ranks:
            store.set(following, str(stop))
        try:
            store.wait([following], _WAIT)
        except RuntimeError:  # a process is gone, or slow: less this one, no count is that of all again
            if store.add(come, -ranks) % ranks:
                self.give_up()
        later = int(store.get(following))
        if later != stop:
            self._know(later, steps)
        return later == stop
