"""Marks on a CUDA device: events with the device's own time stamps, read after the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class CudaClock:
    """
    Marks by CUDA events on the current stream.

    The time between two events includes the device's idle time, so data loading counts only as far as the device
    waited for it. Nothing waits while training runs: the events of a whole window are read once, some steps after
    it, with at most one synchronization.

    Args:
        device: the training device.
        record: records an event on the device and returns it; None: a `torch.cuda.Event`.
        synchronize: waits for the device; None: `torch.cuda.synchronize`.
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
            # The event would become part of the CUDA graph that the user captures.
            return self._last
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._last = event
        return event

    def _wait(self) -> None:
        torch.cuda.synchronize(self._device)

    def ready(self, mark: Any) -> bool:
        """Return, without waiting, whether the device has passed this event."""
        return bool(mark.query())

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Return seconds since the first event; waits only if the device has not passed the last one."""
        if not self.ready(marks[-1]):
            self._synchronize()
        first = marks[0]
        return [first.elapsed_time(mark) / 1000.0 for mark in marks]
