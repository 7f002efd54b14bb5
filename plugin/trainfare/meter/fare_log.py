"""Output while training runs: `fare/*` metrics, a progress line, and warnings about budget and deadline."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainfare.job.loop import LoopLog
from trainfare.job.run_plan import PlannedRun
from trainfare.meter.settings import MeterSettings
from trainfare.meter.timing.step_timer import StepTimes
from trainfare_core.errors import TrainfareError
from trainfare_core.number_format import duration, hours_text, percent


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """Hours and dollars of a run so far and as expected in total; None where not known."""

    hours_so_far: float
    hours_left: float | None
    usd_so_far: float | None
    usd_total: float | None

    @property
    def hours_total(self) -> float | None:
        """Expected hours of the whole run."""
        return None if self.hours_left is None else self.hours_so_far + self.hours_left


def estimate_run(
    plan: PlannedRun,
    times: StepTimes | None,
    *,
    steps_done: int,
    elapsed_s: float,
    usd_per_hour: float | None,
    validation_batch_s: float | None,
) -> RunEstimate:
    """
    Compute hours and dollars from the plan and the measured step time.

    Args:
        plan: length of the whole run.
        times: of the measured window; None before its end.
        steps_done: optimizer steps done so far, earlier sessions included.
        elapsed_s: seconds trained so far, earlier sessions included.
        usd_per_hour: price of all machines together.
        validation_batch_s: seconds of one validation batch; None where validation has not run.
    """
    hours = elapsed_s / 3600.0
    left = None
    if plan.steps is not None and times is not None:
        steps_left = max(0, plan.steps - steps_done)
        left_s = steps_left * times.step.median_s
        if validation_batch_s is not None and plan.steps > 0:
            left_s += plan.validation_batches * (steps_left / plan.steps) * validation_batch_s
        left = left_s / 3600.0
    paid = None if usd_per_hour is None else hours * usd_per_hour
    total = None if usd_per_hour is None or left is None else (hours + left) * usd_per_hour
    return RunEstimate(hours_so_far=hours, hours_left=left, usd_so_far=paid, usd_total=total)


def metrics_of(
    estimate: RunEstimate, times: StepTimes | None, samples_per_step: int | None
) -> dict[str, float]:
    """
    Return the `fare/*` metrics whose value is known.

    Args:
        estimate: from `estimate_run`.
        times: of the measured window.
        samples_per_step: over all devices.
    """
    values: dict[str, float | None] = {
        "fare/hours_left": estimate.hours_left,
        "fare/usd_so_far": estimate.usd_so_far,
        "fare/usd_total_estimate": estimate.usd_total,
    }
    if times is not None:
        values["fare/step_s"] = times.step.median_s
        values["fare/step_p10_s"] = times.step.p10_s
        values["fare/step_p90_s"] = times.step.p90_s
        values["fare/data_wait_share"] = times.data_wait_share
        if samples_per_step is not None and times.step.median_s > 0.0:
            values["fare/samples_per_s"] = samples_per_step / times.step.median_s
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def progress_line(estimate: RunEstimate, times: StepTimes, samples_per_step: int | None) -> str:
    """Return one line for the console: step time, throughput, time left and dollars, as far as known."""
    step = times.step
    parts = [
        f"{duration(step.median_s)} a step (80 % between {duration(step.p10_s)} and {duration(step.p90_s)})"
    ]
    if samples_per_step is not None and step.median_s > 0.0:
        parts.append(f"{samples_per_step / step.median_s:,.4g} samples/s")
    if times.data_wait_share is not None:
        parts.append(f"{percent(times.data_wait_share)} waiting for data")
    if estimate.hours_left is not None:
        parts.append(f"about {duration(estimate.hours_left * 3600.0)} left")
    if estimate.usd_so_far is not None:
        total = "" if estimate.usd_total is None else f" of about ${estimate.usd_total:,.2f}"
        parts.append(f"${estimate.usd_so_far:,.2f}{total}")
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
        estimate: RunEstimate,
        times: StepTimes | None,
        samples_per_step: int | None,
    ) -> None:
        """Log through every logger of the loop; a logger that raises is left out from then on."""
        if not self._settings.log_metrics:
            return
        values = metrics_of(estimate, times, samples_per_step)
        for log in logs:
            self.use_guarded(log, lambda wandb_logger: wandb_logger.log_metrics(values))

    def use_guarded(self, logger: LoopLog, use: Callable[[LoopLog], None]) -> None:
        """Use a logger; its first error gives one warning, after which the logger is not used again."""
        name = logger.name
        if f"logger {name}" in self._warned:
            return
        try:
            use(logger)
        except Exception as error:  # noqa: BLE001 - a logger may raise anything; training goes on without its metrics
            self.once(f"logger {name}", f"FareMeter: {name} took no fare metrics ({first_line(error)})")

    def check_limits(self, estimate: RunEstimate) -> None:
        """Warn once when budget or deadline is passed or is expected to be; training is never stopped."""
        budget, deadline = self._settings.budget_usd, self._settings.deadline_hours
        if budget is not None and estimate.usd_so_far is not None:
            if estimate.usd_so_far > budget:
                self.once(
                    "budget",
                    f"FareMeter: ${estimate.usd_so_far:,.2f} so far is over the budget of ${budget:,.2f}",
                )
            elif estimate.usd_total is not None and estimate.usd_total > budget:
                what = f"this run will cost about ${estimate.usd_total:,.2f}"
                self.once("budget", f"FareMeter: {what}, over the budget of ${budget:,.2f}")
        if deadline is not None:
            limit = hours_text(deadline, 4)
            if estimate.hours_so_far > deadline:
                what = f"{hours_text(estimate.hours_so_far, 4)} so far is past the deadline of {limit}"
                self.once("deadline", f"FareMeter: {what}")
            elif estimate.hours_total is not None and estimate.hours_total > deadline:
                what = f"this run will take about {hours_text(estimate.hours_total, 4)}"
                self.once("deadline", f"FareMeter: {what}, past the deadline of {limit}")

    def once(self, key: str, message: str) -> None:
        """Warn, unless a warning of this key was given before."""
        if key not in self._warned:
            self._warned.add(key)
            warn_user(message)
