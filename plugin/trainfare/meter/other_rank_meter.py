"""The meter of every rank but 0."""

from __future__ import annotations

from trainfare.job.loop import Loop
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.timing.rank_times import publish_times


class OtherRankMeter(FitMeter):
    """Measures the steps of this rank and publishes them for rank 0. It traces, logs, prints and writes nothing."""

    def prepare(self, nodes: int) -> None:
        """Start the clock."""
        del nodes
        self._began_s = self.services.now()

    def start(self, loop: Loop) -> None:
        """Start to measure, without a trace."""
        settings = self.settings.model_copy(update={"trace": False, "noise_scale": False})
        self._run = MeteredRun(loop, settings, self.services, self._on_fault)
        self._run.attach()
        self._watch_budget(loop)

    def _window_closed(self, run: MeteredRun) -> None:
        """Do nothing: only rank 0 prints and logs."""

    def end(self, error: BaseException | None = None) -> None:
        """Publish this rank's times; rank 0 does not read them after an exception."""
        self.release()
        run = self._run
        if run is not None and error is None:
            run.close_window()
            if run.window.times is not None:
                publish_times(run.loop.rank, self._fit_number, run.window.times)

    def close(self) -> None:
        """Undo every change."""
        self.release()
