"""The meter of every rank but 0: it measures, and tells rank 0 at the end; see `rank_times`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainfare.meter.fit_meter import Meter
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.timing.rank_times import leave_times

__all__ = ["RankMeter"]


class RankMeter(Meter):
    """What every rank but 0 runs: the watch alone. It traces, logs, prints and writes nothing."""

    def setup(self, trainer: Any) -> None:
        """Begin to count seconds."""
        del trainer
        self._began_s = self.services.now()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Begin to listen; there is nothing to watch for."""
        settings = replace(self.settings, trace=False)
        self._run = MeteredRun(trainer, module, settings, self.services, self._on_fault)
        self._run.attach(trainer)

    def _window_closed(self, trainer: Any, run: MeteredRun) -> None:
        """Rank 0 tells."""

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Leave this rank's line for rank 0."""
        del module
        self.release(trainer)
        run = self._run
        if run is not None:
            run.close_window()
            if run.times is not None:
                leave_times(int(trainer.global_rank), self._fit, run.times)

    def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None:
        """Leave nothing behind; nobody waits for this rank's line."""
        del module, error
        self.release(trainer)

    def teardown(self, trainer: Any) -> None:
        """Leave nothing behind."""
        self.release(trainer)
