"""
The meter of one training run, from setup to report, whatever loop it runs in.

A loop calls `prepare` where it sets up, `start` before the first batch, `batch_start`, `before_step` and `batch_end` in
each batch, and `end` and `close` at its end. It calls them inside a guard: an error in this module ends the measurement
and must not reach the training.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trainfare.ledger.run_status import RunStatus, describe_process, find_earlier_session
from trainfare.meter.budget_stop import BudgetStop
from trainfare.meter.end_of_run import compute_mfu, make_profile, report_run, write_curve
from trainfare.meter.fare_log import FareLog, Pace, first_line, predict_left, progress_line, warn_user
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.priced_plan import compare_plan
from trainfare.meter.run_ledger import RunLedger
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.timing.rank_times import collect_times, find_store, next_fit_number, rank_note
from trainfare.trace import torch_private
from trainfare_core.documents import Interval
from trainfare_core.errors import PricesUnavailableError
from trainfare_core.ledger.run_record import RunProcess
from trainfare_providers.time_limit import call_within

if TYPE_CHECKING:
    from trainfare.job.loop import Loop
    from trainfare.meter.curve_recorder import CurveRecorder

LOG_EVERY_S = 60.0
"""Seconds between two updates of the loggers and limits after the window. A chosen value: rare enough to cost nothing,
and within it even a large cluster spends a small part of its budget."""
_STOPPED = "the run was stopped at its budget"
MAX_USD = 1e12
"""Most dollars that are accepted from a checkpoint: as many as a budget may have."""
MAX_ID_CHARACTERS = 32
"""Of a run's id that is accepted from a checkpoint. Chosen: ours have 8."""
WRITES_OF_TIME = 1e-3
"""Share of the run that its status file may take where a disk is slow. A chosen value, below what a step varies by."""


class FitMeter:
    """
    Measures one training run.

    Args:
        settings: the arguments of FareMeter.
        services: clock, prices, tracing, files and console.
        on_fault: called with an error that happens outside these methods, where the loop tells of a phase.
        earlier_sessions_s: seconds that earlier sessions of a resumed run have trained.
    """

    def __init__(
        self,
        settings: MeterSettings,
        services: MeterServices,
        on_fault: Callable[[Exception], None],
        earlier_sessions_s: float = 0.0,
    ) -> None:
        self.settings = settings
        self.services = services
        self.earlier_sessions_s = earlier_sessions_s
        self.earlier_usd: float | None = None
        """Dollars of earlier sessions; None: as this session is priced."""
        self.run_id = ""
        """The same in all sessions of a run."""
        self.status: RunStatus | None = None
        """How far the run was a few seconds ago."""
        self.not_traced = ""
        """Why no step is traced: one raised while it was."""
        self._on_fault = on_fault
        self._log = FareLog(settings)
        self._run: MeteredRun | None = None
        self._began_s: float | None = None
        self._usd_per_hour: float | None = None
        self._log_again_at_s = self._update_at_s = math.inf
        self._pace: Pace | None = None
        self._mfu: float | None = None
        self._process = RunProcess()
        self._restore_bar: Callable[[], None] | None = None
        self._ended = False
        self._curve = _recorder(settings, services)
        self._fit_number = next_fit_number()
        self._ledger = RunLedger(services)
        self._budget: BudgetStop | None = None
        self.stops = False
        """The batch that has ended is the last: the dollars have reached the budget, on all ranks alike."""
        self.stopped = False
        """The budget has ended the run."""
        self._of_plan = ""
        """Whether this is the run that was priced, where its environment names the plan."""

    @property
    def elapsed_s(self) -> float:
        """Seconds trained so far, earlier sessions of a resumed run included."""
        this_session_s = 0.0 if self._began_s is None else self.services.now() - self._began_s
        return self.earlier_sessions_s + this_session_s

    @property
    def usd_so_far(self) -> float | None:
        """Dollars paid so far, earlier sessions included at their price; None without a price."""
        if self._usd_per_hour is None:
            return None
        if self.earlier_usd is None:
            return self._usd_per_hour * self.elapsed_s / 3600.0
        return self.earlier_usd + self._usd_per_hour * (self.elapsed_s - self.earlier_sessions_s) / 3600.0

    def give_paid(self) -> dict[str, Any]:
        """Return the dollars so far, and what the run is known by, for a checkpoint."""
        return {"usd": self.usd_so_far, "run": self.run_id} if self.run_id else {}

    def take_paid(self, state: Mapping[str, Any]) -> None:
        """Go on from what `give_paid` gave an earlier session; what is damaged is left out."""
        usd, run_id = state.get("usd"), state.get("run")
        self.earlier_usd = None
        if isinstance(usd, int | float) and not isinstance(usd, bool) and 0.0 <= usd <= MAX_USD:
            self.earlier_usd = float(usd)
        self.run_id = run_id if isinstance(run_id, str) and len(run_id) <= MAX_ID_CHARACTERS else ""

    @property
    def updates(self) -> int:
        """Steps of the optimizers so far, as the loop counts them, else as torch tells of them."""
        return 0 if self._run is None else self._run.loop.updates or self._run.progress.uncounted_updates

    @property
    def window_begun(self) -> bool:
        """All that is traced before the window is."""
        return self._run is not None and self._run.window.begun

    @property
    def window_full(self) -> bool:
        """All steps of the window are recorded."""
        return self._run is not None and self._run.window.begun and not self._run.window.is_open

    def prepare(self, nodes: int) -> None:
        """
        Start the clock, look up the price of a machine given by name, and check what the ranking will read.

        Args:
            nodes: machines of the run.
        """
        self._began_s = self.services.now()
        price = self.settings.usd_per_hour
        if price is None and self.settings.machine is not None:
            price = self._price_of(self.settings.machine)
        if price is not None:
            self._usd_per_hour = price * max(1, nodes)
        if self.settings.report and self.settings.trace:
            self._check_prices()

    def _check_prices(self) -> None:
        """Warn now of what would leave the run without a ranking at its end, hours later."""
        services = self.services
        left_s = max(0.0, services.price_lookup_limit_s - (services.now() - (self._began_s or 0.0)))
        try:
            call_within(left_s, lambda: services.check_prices(self.settings, left_s))
        except Exception as error:  # noqa: BLE001 - a price source may raise anything; the run is still measured
            what = "FareMeter: no ranking at the end of the run unless this is corrected before"
            self._log.once("ranking", f"{what}: {first_line(error)}")

    def _price_of(self, machine: str) -> float | None:
        services, lock = self.services, self.settings.price_lock
        try:
            limit_s = services.price_lookup_limit_s
            return call_within(limit_s, lambda: _valid_price(services.usd_per_hour(machine, lock, limit_s)))
        except Exception as error:  # noqa: BLE001 - a price source may raise anything; dollars are left out
            self._log.once("price", f"FareMeter: no price for machine {machine!r}: {first_line(error)}")
            return None

    def start(self, loop: Loop) -> None:
        """Read the plan of the run and start to measure; called before the first batch."""
        self._run = MeteredRun(loop, self.settings, self.services, self._on_fault)
        if self.not_traced:
            self._run.traced.probe.give_up(self.not_traced)
        self._run.attach()
        self._process = describe_process()
        self._continue_session(self._run)
        self._restore_bar = loop.show_in_bar(
            lambda: "" if self.status is None else self.status.format_short()
        )
        if self._curve is not None:
            self._curve.start(loop)
        self._of_plan = compare_plan(self._run.progress.facts)
        if self._of_plan and self.settings.report:
            self.services.say(f"trainfare: {self._of_plan}")
        self._watch_budget(loop)
        status = self._estimate(self._run)
        self._ledger.begin(self._run, self._usd_per_hour, status, self.earlier_sessions_s)
        self._update(self._run)

    def _continue_session(self, run: MeteredRun) -> None:
        """Of a resumed run, add what the session before has paid for after its last checkpoint."""
        loop, earlier = run.loop, None
        if self.run_id or (loop.resumes_in_folder and loop.updates):
            earlier = find_earlier_session(run.find_folder(), self.run_id, run.progress.steps_done())
        if earlier is not None and earlier.elapsed_s > self.earlier_sessions_s:
            self.run_id, self.earlier_sessions_s = earlier.run_id, earlier.elapsed_s
            self.earlier_usd = earlier.usd_so_far
        self.run_id = self.run_id or secrets.token_hex(4)

    def _watch_budget(self, loop: Loop) -> None:
        if not self.settings.stops_at_budget:
            return
        rank, others = loop.rank, loop.world_size - 1
        store = find_store() if others else None
        if rank == 0 and (self._usd_per_hour is None or (others and store is None)):
            why = "its price is not known" if self._usd_per_hour is None else "its processes share no store"
            self._log.once("stop", f"FareMeter: the budget does not stop this run: {why}")
        elif not others or store is not None:
            key = f"trainfare/{self._fit_number}/stop"
            budget_usd = self.settings.budget_usd or math.inf
            self._budget = BudgetStop(
                rank, others, store, key, lambda: (self.usd_so_far or 0.0) >= budget_usd, loop.updates
            )

    def batch_start(self, batch: Any) -> None:
        """Start the trace if this batch is to be traced."""
        if self._run is not None and (self._run.watches_batches or self._run.noise is not None):
            with torch_private.without_torch_functions():  # a user's class counts or refuses calls
                self._run.batch_start(batch)

    def before_step(self, optimizer: Any) -> None:
        """Mark the start of the optimizer's part in the trace."""
        if self._run is not None:
            self._run.before_step(optimizer)

    def batch_end(self, loss: Any = None) -> None:
        """
        Count the batch; log when the window closes, and every `LOG_EVERY_S` after that.

        Args:
            loss: of the batch, or a mapping with the key "loss"; only the curve of a pilot run needs it.
        """
        run, self.stops = self._run, False
        if run is None:
            return
        if run.done:
            run.later_batch_end()
        else:
            with torch_private.without_torch_functions():
                if run.batch_end():
                    self._window_closed(run)
        if self.services.now() >= self._update_at_s and not run.window.is_open:  # nothing disturbs the window
            self._update(run)
        if self._curve is not None:
            self._curve.batch_end(loss)
        if self._budget is not None and self._budget.decide(run.loop.updates):
            self._end_at_budget(run)

    def _end_at_budget(self, run: MeteredRun) -> None:
        self._budget, self.stops, self.stopped = None, True, True
        if run.loop.rank == 0:
            usd, steps = f"${self.usd_so_far or 0.0:,.2f} so far", f"{run.progress.steps_done():,}"
            what = f"{usd} has reached the budget of ${self.settings.budget_usd:,.2f}"
            self._log.once("stop", f"FareMeter: {what}: the run stops after step {steps}")

    def _window_closed(self, run: MeteredRun) -> None:
        self._pace = Pace(run.window.times.steps if run.window.times else 1, *self._count_training(run))
        if run.progress.facts.device_kind == "cuda" and run.traced.step is not None:
            with contextlib.suppress(Exception):  # without it the run is measured all the same
                self._mfu = compute_mfu(make_profile(run, ())[0])
        status = self._log_estimate(run)
        if run.window.times is not None and self.settings.report:
            line = progress_line(status, run.window.times, run.progress.samples_per_step())
            if not run.loop.show(line):
                self.services.say(line)
        logs_dollars = bool(run.loop.logs()) and self.settings.log_metrics and self._usd_per_hour is not None
        if not (logs_dollars or self.settings.budget_usd or self.settings.deadline_hours):
            self._log_again_at_s = math.inf

    def log_now(self) -> None:
        """Log once the window is closed, where the loop itself logs."""
        if self._run is not None and self._run.done and self.status is not None:  # rank 0
            self._log_estimate(self._run)

    def _log_estimate(self, run: MeteredRun) -> RunStatus:
        """Log time and dollars and check them against budget and deadline."""
        self._log_again_at_s = self.services.now() + LOG_EVERY_S
        self.status = status = self._estimate(run)
        self._log.send(run.loop.logs(), status, run.window.times, run.progress.samples_per_step())
        if not self.stopped:  # else it was said
            self._log.check_limits(status)
        return status

    def _update(self, run: MeteredRun) -> None:
        """Renew what is seen of the run while it trains: the progress bar, its file, and once a minute the loggers."""
        began_s = self.services.now()
        if began_s >= self._log_again_at_s:
            self._log_estimate(run)
        else:
            self.status = self._estimate(run)
        self._write_status(run)
        took_s = self.services.now() - began_s
        self._update_at_s = began_s + max(self.services.update_every_s, took_s / WRITES_OF_TIME)

    def _write_status(self, run: MeteredRun) -> None:
        if not self.settings.report:
            return
        with contextlib.suppress(Exception):  # the reader says since when there is no news
            now = {"written_at": self.services.utc_now()}
            status = None if self.status is None else self.status.model_copy(update=now)
            self.services.write_status(status, run.find_folder())

    def _estimate(self, run: MeteredRun, error: BaseException | None = None) -> RunStatus:
        """Return how far the run is; `error` ended it."""
        progress, validation, plan = run.progress, run.window.validation, run.progress.plan()
        batch, done, left = validation.batch_quantiles(), run.progress.steps_done(), None
        if run.window.times is not None:
            paces_s = () if self._pace is None else self._pace.measure(*self._count_training(run))
            batch_s = None if batch is None else batch.median_s
            left = predict_left(plan, run.window.times, done, paces_s=paces_s, validation_batch_s=batch_s)
        paid, total, hourly = self.usd_so_far, None, self._usd_per_hour
        if paid is not None and left is not None and hourly is not None:
            total = Interval(**{name: paid + hourly * left_s / 3600.0 for name, left_s in left})
        stopped = "stopped at its budget" if self.stopped and self._ended else ""
        return RunStatus(
            run_id=self.run_id, process=self._process,
            state="failed" if error else "finished" if self._ended else "running",
            ended_by=type(error).__name__[:200] if error else stopped, job=progress.facts.name[:200],
            machine=(self.settings.machine or "")[:200], steps_done=done, steps_total=plan.steps,
            elapsed_s=max(0.0, self.elapsed_s), left_s=left, usd_so_far=paid, usd_total=total, mfu=self._mfu,
            budget_usd=self.settings.budget_usd,
        )  # fmt: skip

    def _count_training(self, run: MeteredRun) -> tuple[int, float]:
        """Return the steps so far, and the seconds of the clock without validation."""
        return run.progress.steps_done(), self.services.now() - run.window.validation.total_s

    def epoch_start(self) -> None:
        """Look at the module again: callbacks may unfreeze or prune it at the start of an epoch."""
        if self._run is not None:
            self._run.epoch_start()

    def epoch_end(self) -> None:
        """Discard the trace of a batch that the end of the epoch has cut off, and let the bar end with what is true."""
        if self._run is not None:
            self._run.traced.drop()
            if self._run.done and self.status is not None:  # rank 0
                self.status = self._estimate(self._run)

    def validation_start(self) -> None:
        """Pause the step timer: validation is not part of a step."""
        if self._run is not None:
            self._run.traced.drop()
            self._run.window.validation.start()

    def validation_end(self) -> None:
        """Resume the step timer."""
        if self._run is not None:
            self._run.validation_end()
            if self._curve is not None:
                self._curve.validation_end()

    def end(self, error: BaseException | None = None) -> None:
        """
        Undo every change, and write the profile and the report.

        Args:
            error: what ended the run; None: it came to its end. After an exception, only what was measured before it
                is saved; after a Ctrl-C, it is reported as well.
        """
        if error is not None:
            self._note_trace(error)
            self._end((f"the run ended early ({type(error).__name__})",), error)
            return
        self.release()
        if self._run is not None and not self._ended and not self.stopped:
            self._run.end()
        notes = () if self._ended else self._rank_notes()
        self._end((*notes, _STOPPED) if self.stopped else notes)

    def _note_trace(self, error: BaseException) -> None:
        """Tell of the trace with an exception that a step has raised under it, and trace no step again."""
        if self._run is None or not self._run.traced.probe.running or not isinstance(error, Exception):
            return
        self.not_traced = f"a step raised {type(error).__name__} while it was traced"
        self._run.traced.probe.give_up(self.not_traced)
        note = "FareMeter was tracing this batch. To train without the trace: FareMeter(trace=False)"
        if hasattr(error, "add_note"):  # from Python 3.11 on
            error.add_note(note)
        else:
            warn_user(f"{type(error).__name__}: {note}")

    def _rank_notes(self) -> tuple[str, ...]:
        """Compare the ranks. Called only at the end of training, which every rank has then reached."""
        run = self._run
        if run is None or run.loop.world_size < 2:
            return ()
        run.close_window()
        if run.window.times is None or run.window.times.forward is None:  # a loop that does not tell of it
            return ()
        try:
            wait_s = self.services.rank_times_limit_s
            note = rank_note(
                collect_times(run.loop.world_size, self._fit_number, run.window.times, wait_s=wait_s)
            )
        except Exception as error:  # noqa: BLE001 - torch's store may raise anything; the other ranks are left out
            note = f"the times of the other ranks could not be read ({first_line(error)})"
        if note is None:
            return ()
        if self.settings.report:
            self.services.say(f"trainfare: {note}")
        return (note,)

    def close(self) -> None:
        """Undo every change; where training never began, say that there were not enough steps."""
        self.release()
        if self._run is None and not self._ended and self.settings.report:
            self._ended = True
            self.services.say(f"trainfare: {self._explain_no_times(None)}")

    def give_up(self) -> None:
        """Undo every change after a fault of the meter: the run goes on, and the ledger knows nothing of its end."""
        if self._budget is not None:  # first: other ranks count on this one, whatever fails below
            with contextlib.suppress(Exception):
                self._budget.give_up()
        self._ledger.drop()
        if self._run is not None and self.status is not None:  # rank 0
            self.status = None
            self._write_status(self._run)
        self.release()

    def release(self) -> None:
        """Undo every change to the loop and to torch; does nothing the second time."""
        restore_bar, self._restore_bar = self._restore_bar, None
        if restore_bar is not None:
            restore_bar()
        if self._run is not None:
            self._run.release()

    def _explain_no_times(self, run: MeteredRun | None) -> str:
        """Return why no step was measured."""
        steps, needed = 0 if run is None else run.progress.steps, self.settings.steps_needed
        if run is not None and not steps and len(run.progress.kinds) and run.progress.facts.loop != "plain":
            return (
                f"no optimizer step was counted in {len(run.progress.kinds)} batches: under manual optimization "
                "training_step must step a torch optimizer, best by `self.optimizers().step()`"
            )
        if steps >= needed:
            return f"the run ended after {steps} steps, while steps were still being traced"
        return f"not enough steps (have {steps}, need {needed})"

    def _end(self, notes: tuple[str, ...], error: BaseException | None = None) -> None:
        self.release()
        if self._ended:
            return
        self._ended = True
        run = self._run
        if run is not None:
            run.close_window()
            self._log_estimate(run)
            self.status = self._estimate(run, error)
            self._ledger.end(run, error, self.status)
            self._write_status(run)
        if not self.settings.report:
            return
        if run is not None and self._curve is not None:
            recorder, self._curve = self._curve, None
            write_curve(run, recorder, ended_early=bool(notes))
        if run is None or run.window.times is None:
            self.services.say(f"trainfare: {self._explain_no_times(run)}")
        if run is not None and run.noise is not None:
            self.services.say(f"trainfare: {run.measure_noise()[1]}")
        if run is not None and run.progress.steps > 0 and self.settings.trace:
            notes = (*notes, *self._window_notes(run), *filter(None, [self._of_plan]))
            self._report(run, notes, failed=not isinstance(error, KeyboardInterrupt | None))

    def _report(self, run: MeteredRun, notes: tuple[str, ...], *, failed: bool) -> None:
        report_run(run, self._log, notes, self._ledger, failed=failed)

    def _window_notes(self, run: MeteredRun) -> tuple[str, ...]:
        if run.window.times is None:
            return (f"{self._explain_no_times(run)}: nothing is measured",)
        if run.window.times.steps < self.settings.measure_steps:
            return (
                f"{run.window.times.steps} of {self.settings.measure_steps} steps were measured: the run ended",
            )
        return ()


def _recorder(settings: MeterSettings, services: MeterServices) -> CurveRecorder | None:
    if settings.pilot is None:
        return None
    from trainfare.meter.curve_recorder import CurveRecorder

    return CurveRecorder(settings.pilot, services.now)


def _valid_price(usd_per_hour: float) -> float:
    price = float(usd_per_hour)  # a plug-in may return any type
    if not math.isfinite(price) or price <= 0:
        raise PricesUnavailableError(f"the price source says {price} USD an hour")
    return price
