"""Output while training runs: `fare/*` metrics, a progress line, and warnings about budget and deadline."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from operator import methodcaller

from trainfare.job.loop import LoopLog
from trainfare.job.run_plan import PlannedRun
from trainfare.ledger.run_status import RunStatus
from trainfare.meter.settings import MeterSettings
from trainfare.meter.timing.step_timer import StepTimes
from trainfare_core.documents import Interval
from trainfare_core.errors import TrainfareError
from trainfare_core.number_format import duration, figures, hours_text, percent


class Pace:
    """
    Seconds a step after the measured ones, with the saving of checkpoints and whatever else they lack.

    Args:
        least_steps: over which a pace is measured: as many as the window has.
        steps: so far, where the window closed.
        at_s: the time then.
    """

    def __init__(self, least_steps: int, steps: int, at_s: float) -> None:
        self._least_steps, self._began, self._newest = least_steps, (steps, at_s), (steps, at_s)
        self._paces_s: tuple[float, ...] = ()

    def measure(self, steps: int, at_s: float) -> tuple[float, ...]:
        """Return the pace of all these steps and that of the newest; nothing before there are enough."""
        if steps - self._newest[0] >= self._least_steps:
            ends = (self._began, self._newest)
            self._paces_s = tuple(max(0.0, at_s - since_s) / (steps - before) for before, since_s in ends)
            self._newest = steps, at_s
        return self._paces_s


def predict_left(
    plan: PlannedRun,
    times: StepTimes,
    steps_done: int,
    *,
    paces_s: Sequence[float],
    validation_batch_s: float | None,
) -> Interval | None:
    """
    Return the seconds that are left; None where the length of the run is not known.

    The rest takes the median of the measured steps, or the pace since then. The ends are their 10th and 90th
    percentile, and include both paces.

    Args:
        plan: of the whole run.
        times: of the measured window.
        steps_done: optimizer steps so far, earlier sessions included.
        paces_s: from `Pace.measure`.
        validation_batch_s: seconds of one validation batch; None where validation has not run.
    """
    if plan.steps is None:
        return None
    steps_left, step = max(0, plan.steps - steps_done), times.step
    mid_s = paces_s[0] if paces_s else step.median_s
    more_s = 0.0
    if validation_batch_s is not None and plan.steps > 0:
        more_s = plan.validation_batches * (steps_left / plan.steps) * validation_batch_s
    return Interval(
        low_80=steps_left * min(step.p10_s, mid_s, *paces_s) + more_s,
        mid=steps_left * mid_s + more_s,
        high_80=steps_left * max(step.p90_s, mid_s, *paces_s) + more_s,
    )


def metrics_of(status: RunStatus, times: StepTimes | None, samples_per_step: int | None) -> dict[str, float]:
    """
    Return the `fare/*` metrics whose value is known.

    Args:
        status: how far the run is.
        times: of the measured window.
        samples_per_step: over all devices.
    """
    values: dict[str, float | None] = {"fare/usd_so_far": status.usd_so_far, "fare/mfu": status.mfu}
    if status.left_s is not None:
        values["fare/eta_s"] = status.left_s.mid
    if status.usd_total is not None:
        values["fare/usd_total"] = status.usd_total.mid
        values["fare/usd_total_low_80"] = status.usd_total.low_80
        values["fare/usd_total_high_80"] = status.usd_total.high_80
    if times is not None:
        values["fare/step_s"] = times.step.median_s
        values["fare/step_p10_s"] = times.step.p10_s
        values["fare/step_p90_s"] = times.step.p90_s
        values["fare/data_wait_share"] = times.data_wait_share
        if samples_per_step is not None and times.step.median_s > 0.0:
            values["fare/samples_per_s"] = samples_per_step / times.step.median_s
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def progress_line(status: RunStatus, times: StepTimes, samples_per_step: int | None) -> str:
    """Return one line for the console: step time, throughput, time left and dollars, as far as known."""
    step = times.step
    parts = [
        f"{duration(step.median_s)} a step (80 % between {duration(step.p10_s)} and {duration(step.p90_s)})"
    ]
    if samples_per_step is not None and step.median_s > 0.0:
        parts.append(f"{figures(samples_per_step / step.median_s, 4)} samples/s")
    if times.data_wait_share is not None:
        parts.append(f"{percent(times.data_wait_share)} waiting for data")
    if status.left_s is not None:
        parts.append(f"about {duration(status.left_s.mid)} left")
    if status.usd_so_far is not None:
        total = "" if status.usd_total is None else f" of about ${status.usd_total.mid:,.2f}"
        parts.append(f"${status.usd_so_far:,.2f}{total}")
    return "trainfare: " + ", ".join(parts)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, after its type unless it is one of ours."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 - the error of a library may fail in its own __str__
        lines = []
    # 400 characters leave room for the rest of a profile's note, which has at most 500.
    text = lines[0][:400] if lines else ""
    if isinstance(error, TrainfareError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def warn_user(message: str) -> None:
    """Warn. Where the user's filters turn warnings into errors, write the message to standard error."""
    try:
        warnings.warn(message, UserWarning, stacklevel=2)
    except Exception:  # noqa: BLE001 - a warning must not end the training
        sys.stderr.write(f"{message}\n")


class FareLog:
    """
    Logs metrics through the loop's loggers and gives each warning once.

    Args:
        settings: the arguments of FareMeter.
    """

    def __init__(self, settings: MeterSettings) -> None:
        self._settings = settings
        self._warned: set[str] = set()

    def send(
        self,
        logs: Sequence[LoopLog],
        status: RunStatus,
        times: StepTimes | None,
        samples_per_step: int | None,
    ) -> None:
        """Log through every logger of the loop; a logger that raises is left out from then on."""
        if not self._settings.log_metrics:
            return
        values = metrics_of(status, times, samples_per_step)
        for log in logs:
            self.use_guarded(log, methodcaller("log_metrics", values))

    def use_guarded(self, logger: LoopLog, use: Callable[[LoopLog], None]) -> None:
        """Use a logger; its first error gives one warning, after which the logger is not used again."""
        name = logger.name
        if f"logger {name}" in self._warned:
            return
        try:
            use(logger)
        except Exception as error:  # noqa: BLE001 - a logger may raise anything; training goes on without its metrics
            self.once(f"logger {name}", f"FareMeter: {name} took no fare metrics ({first_line(error)})")

    def check_limits(self, status: RunStatus) -> None:
        """Warn once when budget or deadline is passed or is expected to be."""
        budget, deadline = self._settings.budget_usd, self._settings.deadline_hours
        if budget is not None and status.usd_so_far is not None:
            if status.usd_so_far > budget:
                what = f"${status.usd_so_far:,.2f} so far is over the budget of ${budget:,.2f}"
                self.once("budget", f"FareMeter: {what}")
            elif status.usd_total is not None and status.usd_total.mid > budget:
                what = f"this run will cost about ${status.usd_total.mid:,.2f}"
                self.once("budget", f"FareMeter: {what}, over the budget of ${budget:,.2f}")
        if deadline is not None:
            hours, limit = status.elapsed_s / 3600.0, hours_text(deadline, 4)
            total = None if status.left_s is None else hours + status.left_s.mid / 3600.0
            if hours > deadline:
                what = f"{hours_text(hours, 4)} so far is past the deadline of {limit}"
                self.once("deadline", f"FareMeter: {what}")
            elif total is not None and total > deadline:
                what = f"this run will take about {hours_text(total, 4)}"
                self.once("deadline", f"FareMeter: {what}, past the deadline of {limit}")

    def once(self, key: str, message: str) -> None:
        """Warn, unless a warning of this key was given before."""
        if key not in self._warned:
            self._warned.add(key)
            warn_user(message)
