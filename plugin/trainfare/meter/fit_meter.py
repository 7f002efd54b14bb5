"""
The meter behind FareMeter: one `Trainer.fit` from its set-up to its report.

Its methods bear the names of Lightning's hooks; FareMeter calls them through one guard. Whatever fails in
here costs the measurement, never the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainfare.meter.end_of_run import report_folder, report_run
from trainfare.meter.fare_log import Fare, FareLog, fare_of, first_line, progress_line, warn_user
from trainfare.meter.measured_profile import measured_profile
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.timing.rank_times import next_fit, rank_note, take_times
from trainfare.trace.step_facts import StepFacts
from trainfare_core._version import __version__
from trainfare_core.errors import CannotTellError, PricesUnavailableError
from trainfare_providers.time_limit import call_within

if TYPE_CHECKING:
    from trainfare.meter.curve_recorder import CurveRecorder

__all__ = ["Meter"]

TELL_EVERY_S = 60.0
"""Seconds between two looks at dollars and limits once the window is over."""


class Meter:
    """
    Measures one `Trainer.fit`.

    Args:
        settings: the arguments of FareMeter.
        services: the outside world.
        on_fault: told of an error of ours that happens outside the hooks.
        carried_s: seconds that earlier sessions of a resumed run have trained.
    """

    def __init__(
        self,
        settings: MeterSettings,
        services: MeterServices,
        on_fault: Callable[[Exception], None],
        carried_s: float = 0.0,
    ) -> None:
        self.settings = settings
        self.services = services
        self.carried_s = carried_s
        self._on_fault = on_fault
        self._log = FareLog(settings)
        self._run: MeteredRun | None = None
        self._began_s: float | None = None
        self._usd_per_hour: float | None = None
        self._tell_at_s = math.inf
        self._ended = False
        self._curve = _recorder(settings, services)
        self._fit = next_fit()

    @property
    def elapsed_s(self) -> float:
        """Seconds trained so far, earlier sessions of a resumed run included."""
        return self.carried_s + (0.0 if self._began_s is None else self.services.now() - self._began_s)

    def setup(self, trainer: Any) -> None:
        """Look up what the machine costs, if it is named: before the first step, for seconds at most."""
        self._began_s = self.services.now()
        price = self.settings.usd_per_hour
        if price is None and self.settings.machine is not None:
            price = self._price_of(self.settings.machine)
        if price is not None:
            self._usd_per_hour = price * max(1, int(trainer.num_nodes))

    def _price_of(self, machine: str) -> float | None:
        try:
            limit_s = self.services.price_lookup_limit_s
            services, lock = self.services, self.settings.price_lock
            price = float(
                call_within(
                    limit_s,
                    lambda: (
                        services.usd_per_hour(machine)
                        if lock is None
                        else services.locked_usd_per_hour(machine, lock)
                    ),
                )
            )
            _check_price(price)
        except Exception as error:  # noqa: BLE001 - a price source may fail in any way; dollars are left out
            self._log.once("price", f"FareMeter: no price for machine {machine!r}: {first_line(error)}")
            return None
        return price

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Read run and plan, and begin to listen."""
        self._run = MeteredRun(trainer, module, self.settings, self.services, self._on_fault)
        self._run.attach(trainer)
        if self._curve is not None:
            self._curve.start(trainer, module)

    def record(self, trainer: Any, outputs: Any) -> None:
        """Keep the loss of a pilot's step, unread."""
        if self._curve is not None:
            self._curve.batch_end(trainer, outputs)

    def on_train_batch_start(self, trainer: Any, batch: Any) -> None:
        """Watch this batch if it is the one."""
        if self._run is not None and not self._run.done:
            self._run.batch_start(trainer, batch)

    def on_before_optimizer_step(self) -> None:
        """The traced step has come to its optimizer."""
        if self._run is not None:
            self._run.before_optimizer_step()

    def on_train_batch_end(self, trainer: Any, batch: Any) -> None:
        """Count the batch; when the window closes, say what was measured."""
        run = self._run
        if run is None:
            return
        if run.done:
            if self._tell_at_s < math.inf and self.services.now() >= self._tell_at_s:
                self._tell(trainer, run)
        elif run.batch_end(trainer, batch):
            self._window_closed(trainer, run)

    def _window_closed(self, trainer: Any, run: MeteredRun) -> None:
        fare = self._tell(trainer, run)
        if run.times is not None and self.settings.report:
            line = progress_line(fare, run.times, run.samples_per_step())
            bar = getattr(trainer, "progress_bar_callback", None)
            say = bar.print if bar is not None and getattr(bar, "is_enabled", False) else self.services.say
            say(line)
        listens = bool(trainer.loggers) and self.settings.log_metrics and self._usd_per_hour is not None
        if not (listens or self.settings.budget_usd or self.settings.deadline_hours):
            self._tell_at_s = math.inf

    def _tell(self, trainer: Any, run: MeteredRun) -> Fare:
        """Log where the run stands and look at its limits."""
        self._tell_at_s = self.services.now() + TELL_EVERY_S
        fare = self._fare(trainer, run)
        self._log.send(trainer, fare, run.times, run.samples_per_step())
        self._log.check_limits(fare)
        return fare

    def _fare(self, trainer: Any, run: MeteredRun) -> Fare:
        validation = run.validation.batch_quantiles()
        return fare_of(
            run.plan(),
            run.times,
            steps_done=run.steps_done(trainer),
            elapsed_s=self.elapsed_s,
            usd_per_hour=self._usd_per_hour,
            validation_batch_s=None if validation is None else validation.median_s,
        )

    def on_train_epoch_end(self) -> None:
        """An epoch cut short leaves no watched batch behind."""
        if self._run is not None:
            self._run.drop_probe()

    def on_validation_start(self, trainer: Any) -> None:
        """Validation is no part of a step."""
        if self._run is not None and not trainer.sanity_checking:
            self._run.drop_probe()
            self._run.validation.start()

    def on_validation_end(self, trainer: Any) -> None:
        """Training goes on."""
        if self._run is not None and not trainer.sanity_checking:
            self._run.validation_end(trainer)
            if self._curve is not None:
                self._curve.validation_end(trainer)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Write the profile and the report."""
        self.release(trainer)
        self._end(trainer, module, () if self._ended else self._rank_notes(trainer))

    def _rank_notes(self, trainer: Any) -> tuple[str, ...]:
        """Say which rank the others wait for; only here, where every rank has come to its end."""
        run = self._run
        if run is None or int(trainer.world_size) < 2:
            return ()
        run.close_window()
        if run.times is None:
            return ()
        try:
            note = rank_note(take_times(int(trainer.world_size), self._fit, run.times))
        except Exception as error:  # noqa: BLE001 - the store is torch's: without it, rank 0 tells of itself
            note = f"the other ranks were not heard ({first_line(error)})"
        if note is None:
            return ()
        if self.settings.report:
            self.services.say(f"trainfare: {note}")
        return (note,)

    def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None:
        """Leave everything as it was found, and report what is known."""
        self._end(trainer, module, (f"the run ended early ({type(error).__name__})",))

    def teardown(self, trainer: Any) -> None:
        """Say why there is nothing, where training never began."""
        self.release(trainer)
        if self._run is None and not self._ended and self.settings.report:
            self._ended = True
            self.services.say(self._too_few(0))

    def release(self, trainer: Any) -> None:
        """Leave nothing behind in the Trainer or in torch; does nothing the second time."""
        if self._run is not None:
            self._run.release(trainer)

    def _too_few(self, have: int) -> str:
        return f"trainfare: not enough steps (have {have}, need {self.settings.steps_needed})"

    def _end(self, trainer: Any, module: Any, notes: tuple[str, ...]) -> None:
        self.release(trainer)
        if self._ended:
            return
        self._ended = True
        run = self._run
        if run is not None:
            run.close_window()
            self._tell(trainer, run)
        if not self.settings.report:
            return
        if run is not None:
            self._write_curve(trainer, run, ended_early=bool(notes))
        if run is None or run.times is None:
            self.services.say(self._too_few(0 if run is None else run.steps))
        if run is not None and run.steps > 0 and self.settings.trace:
            self._report(trainer, module, run, (*notes, *self._window_notes(run)))

    def _write_curve(self, trainer: Any, run: MeteredRun, *, ended_early: bool) -> None:
        recorder, self._curve = self._curve, None
        if recorder is None:
            return
        try:
            curve = recorder.curve(
                tool_version=__version__,
                planned_steps=run.plan().steps,
                samples_per_step=run.samples_per_step(),
                train_samples=run.samples_in_epoch(),
                peak_memory_bytes=run.peak_memory_bytes,
                ended_early=ended_early,
            )
            path = recorder.write(curve, report_folder(trainer, self.settings))
        except Exception as error:  # noqa: BLE001 - a curve that cannot be written costs the curve alone
            warn_user(f"FareMeter: the pilot's learning curve is lost: {first_line(error)}")
            return
        self.services.say(f"trainfare: wrote {path}")

    def _window_notes(self, run: MeteredRun) -> tuple[str, ...]:
        if run.times is None:
            have, need = run.steps, self.settings.steps_needed
            return (f"not enough steps (have {have}, need {need}): nothing is measured",)
        if run.times.steps < self.settings.measure_steps:
            return (f"{run.times.steps} of {self.settings.measure_steps} steps were measured: the run ended",)
        return ()

    def _report(self, trainer: Any, module: Any, run: MeteredRun, notes: tuple[str, ...]) -> None:
        try:
            step = self._step_facts(trainer, module, run)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - tracing runs the user's code: then "unknown"
            # A trace's own advice is to measure with FareMeter, which is what has just been done.
            because = first_line(error).partition(" Measure one step with FareMeter")[0]
            self.services.say(f"trainfare: no ranking: unknown, because {because}")
            return
        profile = measured_profile(
            run.facts,
            run.plan(),
            step,
            run.sizes(),
            batches_per_step=run.batches_per_step,
            times=run.times,
            validation_batch=run.validation.batch_quantiles(),
            peak_memory_bytes=run.peak_memory_bytes,
            compiled=run.verdict.compiled,
            notes=notes,
        )
        report_run(trainer, profile, self.settings, self.services, self._log)

    def _step_facts(self, trainer: Any, module: Any, run: MeteredRun) -> StepFacts:
        """Return what the watched step did, or else what an uncompiled copy on fake tensors does."""
        if run.step_facts is not None:
            return run.step_facts
        if run.verdict.how == "unseen" or run.batch_shapes is None:
            raise CannotTellError(run.verdict.because or "no batch was seen")
        because = run.verdict.because or f"{run.trace_problem}: a copy on fake tensors was traced"
        micro_batches = max(1, round(run.batches_per_step))
        step = self.services.fake_copy(module, run.batch_shapes, trainer, micro_batches)
        return step.with_note(because)


def _recorder(settings: MeterSettings, services: MeterServices) -> CurveRecorder | None:
    if settings.pilot is None:
        return None
    from trainfare.meter.curve_recorder import CurveRecorder

    return CurveRecorder(settings.pilot, services.now)


def _check_price(usd_per_hour: float) -> None:
    if not math.isfinite(usd_per_hour) or usd_per_hour <= 0:
        raise PricesUnavailableError(f"the price source says {usd_per_hour} USD an hour")
