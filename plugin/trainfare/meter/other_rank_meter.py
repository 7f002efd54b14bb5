"""The meter of every rank but 0."""

from __future__ import annotations

from typing import Any

from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.timing.rank_times import publish_times

__all__ = ["OtherRankMeter"]


class OtherRankMeter(FitMeter):
    """Measures the steps of this rank and publishes them for rank 0. It traces, logs, prints and writes nothing."""

    def setup(self, trainer: Any) -> None:
        """Start the clock."""
        del trainer
        self._began_s = self.services.now()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Start to measure, without a trace."""
        settings = self.settings.model_copy(update={"trace": False})
        self._run = MeteredRun(trainer, module, settings, self.services, self._on_fault)
        self._run.attach(trainer)

    def _window_closed(self, trainer: Any, run: MeteredRun) -> None:
        """Do nothing: only rank 0 prints and logs."""

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Publish this rank's times."""
        del module
        self.release(trainer)
        run = self._run
        if run is not None:
            run.close_window()
            if run.times is not None:
                publish_times(int(trainer.global_rank), self._fit_number, run.times)

    def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None:
        """Undo every change; rank 0 does not read times after an exception."""
        del module, error
        self.release(trainer)

    def teardown(self, trainer: Any) -> None:
        """Undo every change."""
        self.release(trainer)
