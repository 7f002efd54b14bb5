"""The callback of `trainfare probe` for Keras."""

from __future__ import annotations

from typing import Any, NoReturn

from trainfare.job import Probe
from trainfare.job.processes import find_processes
from trainfare.keras.callback import FareMeter
from trainfare.keras.run_facts import keras
from trainfare.meter.probe_meter import ProbingMeter, stop_workers
from trainfare_core.errors import TargetError


def attach(_: Any, probe: Probe) -> bool:
    """
    Give the callback to each call of `fit` from now on; return True: each is a run.

    Args:
        probe: what is measured.
    """
    savers = () if probe.save else (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore)
    kind: Any = keras.callbacks.CallbackList
    make = kind.__init__

    def init(self: Any, callbacks: Any = None, *args: Any, **kwargs: Any) -> None:
        given: list[Any] = keras.tree.flatten(callbacks) if callbacks else []
        kept = [callback for callback in given if not isinstance(callback, (FareMeter, *savers))]
        make(self, [*kept, ProbeCallback(probe)], *args, **kwargs)

    kind.__init__ = init
    return True


class ProbeCallback(ProbingMeter, FareMeter):
    """
    Measures, and ends the process after the measured steps, or where training ends earlier.

    Args:
        probe: what is measured.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__(measure_steps=probe.steps)
        rank, world_size, _ = find_processes()
        self._start_probe(probe, rank, world_size, TargetError("Model.fit trained no step"))

    def _end_batches(self, until: int) -> None:
        """End the process once the steps are measured."""
        super()._end_batches(until)
        if self._is_measured():
            self._leave()

    def on_train_end(self, logs: Any = None) -> None:
        """End the process of a run that was shorter than the measurement."""
        del logs
        self.call_guarded(lambda meter: meter.end())
        self._leave()

    def _leave(self) -> NoReturn:
        self._end_process(stop_workers)
