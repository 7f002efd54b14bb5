"""Marks on a CUDA device: events that the device stamps itself, read long after they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["CudaClock"]


class CudaClock:
    """
    Marks by CUDA events on the current stream.

    The time between two events is what the device spent between them, idle time included, so the wait for
    data counts only where the device really waited. Nothing here waits while training runs: the events of a
    whole window are read once, steps later, after at most one synchronization.

    Args:
        device: the training device.
        record: records an event on it and returns the event; None takes CUDA's own.
        synchronize: waits for the device; None takes CUDA's own.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        record: Callable[[], Any] | None = None,
        synchronize: Callable[[], None] | None = None,
    ) -> None:
        self._device = device
        self._last: Any = None
        self._synchronize = synchronize or self._wait
        self.mark = record or self._record

    def _record(self) -> Any:
        if self._last is not None and torch.cuda.is_current_stream_capturing():
            # Recording into a graph that the user captures would spoil it.
            return self._last
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._last = event
        return event

    def _wait(self) -> None:
        torch.cuda.synchronize(self._device)

    def ready(self, mark: Any) -> bool:
        """Ask, without waiting, whether the device has passed this event."""
        return bool(mark.query())

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Return seconds since the first event; waits only if the device is not yet at the last one."""
        if not self.ready(marks[-1]):
            self._synchronize()
        first = marks[0]
        return [first.elapsed_time(mark) / 1000.0 for mark in marks]
