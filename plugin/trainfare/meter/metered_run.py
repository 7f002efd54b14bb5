"""
One run while it trains: warm-up, one traced step, a window of measured steps, then nothing.

Nothing here draws random numbers, waits for the device, calls a collective or touches a file.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import torch

from trainfare.meter.batch_facts import count_samples, count_tokens
from trainfare.meter.fare_log import first_line
from trainfare.meter.measured_profile import BatchSizes
from trainfare.meter.run_facts import WatchVerdict, may_watch, read_run
from trainfare.meter.run_plan import PlannedRun, Rhythm, plan_run, read_trainer
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.step_probe import StepProbe
from trainfare.meter.timing.cuda_clock import CudaClock
from trainfare.meter.timing.profiler_tap import Action, TeeProfiler
from trainfare.meter.timing.step_timer import HostClock, PhaseKind, StepTimer, StepTimes
from trainfare.meter.timing.validation_clock import ValidationClock, batches_of
from trainfare.trace.step_facts import StepFacts

__all__ = ["MeteredRun"]

MAX_PROBES = 8
"""Batches watched in the search for one that steps an optimizer (manual optimization)."""
MAX_LAG_BATCHES = 50
"""Batches after which a full window is read even if the device is still behind."""


class _Stage(IntEnum):
    WARMING = 0
    PROBING = 1
    MEASURING = 2
    CLOSING = 3
    DONE = 4


class MeteredRun:
    """
    What is known of a run, and how it comes to be known.

    Args:
        trainer: of either namespace, in `on_train_start`.
        module: the LightningModule.
        settings: the arguments of FareMeter.
        services: the outside world.
        on_fault: told of an error of ours inside the listening profiler.
    """

    def __init__(
        self,
        trainer: Any,
        module: Any,
        settings: MeterSettings,
        services: MeterServices,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.settings = settings
        self.services = services
        self.facts = read_run(trainer, module)
        self.trainer_facts = read_trainer(trainer)
        self.verdict = _verdict(trainer, module, settings, services)
        self.step_facts: StepFacts | None = None
        self.batch_shapes: Any = None
        self.times: StepTimes | None = None
        self.peak_memory_bytes: int | None = None
        self.steps = 0
        self._samples: list[int | None] = []
        self._tokens: list[int | None] = []
        clock = CudaClock(self.facts.device) if self.facts.device_kind == "cuda" else HostClock(services.now)
        self._timer = StepTimer(clock, settings.measure_steps)
        self.validation = ValidationClock(self._timer, services.now)
        self._probe = StepProbe(lambda: services.watcher(module, trainer.optimizers))
        self._probes_left = MAX_PROBES if self.verdict.how == "watch" else 0
        self._probe_after = self._steps_before_probe()
        self._on_fault = on_fault
        self._tee: TeeProfiler | None = None
        self._stage = _Stage.WARMING
        self._calls: int = self.trainer_facts.calls_done
        self._batches: int = 0
        self._batches_of_steps: int = 0
        self._calls_of_steps: int = 0
        self._lag_batches = 0
        self._advance()

    def _steps_before_probe(self) -> int:
        """Probe after the warm-up; in a run too short for that, on its last step."""
        before = self.settings.steps_before_window
        left = self.plan().steps_left
        return before if left is None else max(0, min(before, left - 1))

    @property
    def done(self) -> bool:
        """There is nothing left to measure."""
        return self._stage == _Stage.DONE

    @property
    def batches_per_step(self) -> float:
        """Micro-batches in one optimizer step."""
        if self.trainer_facts.automatic:
            return float(self.trainer_facts.accumulate_grad_batches)
        rhythm = self.rhythm
        return 1.0 if rhythm is None else rhythm.batches_per_step

    @property
    def rhythm(self) -> Rhythm | None:
        """Batches and optimizer calls of one step, as seen so far; None before the first step."""
        if self.steps == 0:
            return None
        return Rhythm(self._batches_of_steps / self.steps, max(1.0, self._calls_of_steps / self.steps))

    def plan(self) -> PlannedRun:
        """Return the plan of the whole run, by what is known of its rhythm now."""
        size = self.settings.batch_size or self.facts.loader_batch_size
        return plan_run(
            self.trainer_facts,
            rhythm=self.rhythm,
            total_samples=self.settings.total_samples,
            micro_batch_size=size or self.sizes().micro_batch_size,
        )

    def steps_done(self, trainer: Any) -> int:
        """Return the optimizer steps of the whole run that are done now, earlier sessions included."""
        rhythm = self.rhythm
        calls = 1.0 if self.trainer_facts.automatic or rhythm is None else rhythm.calls_per_step
        return int(int(trainer.global_step) / calls)

    def sizes(self) -> BatchSizes:
        """Return the samples of a micro-batch, by what is known now."""
        return BatchSizes.of(
            self.settings.batch_size, self.facts.loader_batch_size, self._samples, self._tokens
        )

    def samples_per_step(self) -> int | None:
        """Return the samples of one optimizer step over all devices."""
        micro = self.sizes().micro_batch_size
        return (
            None if micro is None else round(micro * self.batches_per_step) * self.facts.parallel.world_size
        )

    def samples_in_epoch(self) -> int | None:
        """Return the samples of one pass over the training set, over all devices; a short last batch counts whole."""
        if self.settings.total_samples is not None:
            return self.settings.total_samples
        micro, batches = self.sizes().micro_batch_size, self.trainer_facts.batches_per_epoch
        return None if micro is None or batches is None else micro * batches * self.facts.parallel.world_size

    @property
    def trace_problem(self) -> str:
        """Why the real step was not seen."""
        return self._probe.problem or "the run ended before a step could be watched"

    # What the hooks call.

    def attach(self, trainer: Any) -> None:
        """Swap the listening profiler in."""
        self._tee = TeeProfiler(trainer.profiler, self._listen, self._on_fault)
        trainer.profiler = self._tee

    def detach(self, trainer: Any) -> None:
        """Give the Trainer its own profiler back; if somebody wrapped ours, only fall silent."""
        tee, self._tee = self._tee, None
        if tee is None:
            return
        tee.silence()
        if trainer.profiler is tee:
            trainer.profiler = tee.inner

    def release(self, trainer: Any) -> None:
        """Leave nothing behind: no dispatch mode, no profiler, no open window."""
        try:
            self._probe.drop()
        finally:
            self.detach(trainer)
            self._timer.end()

    def batch_start(self, trainer: Any, batch: Any) -> None:
        """Remember the shapes of the first batch; watch this batch if it is the one."""
        if self._batches == 0 and self.batch_shapes is None:
            self._look_at(batch)
        if self._stage == _Stage.PROBING and self._probes_left > 0 and self._ends_in_step(trainer):
            self._probe.start()

    def _look_at(self, batch: Any) -> None:
        self._samples.append(count_samples(batch))
        self._tokens.append(count_tokens(batch))
        if self.verdict.how != "unseen":
            self.batch_shapes = self.services.describe_batch(batch)

    def _ends_in_step(self, trainer: Any) -> bool:
        accumulates = getattr(trainer.fit_loop.epoch_loop, "_should_accumulate", None)
        return not (self.trainer_facts.automatic and callable(accumulates) and accumulates())

    def before_optimizer_step(self) -> None:
        """The traced step has come to its optimizer."""
        self._probe.begin_optimizer()

    def drop_probe(self) -> None:
        """The watched batch did not come to its end: forget it and watch a later one."""
        if self._probe.running:
            self._probe.drop()
            self._probes_left -= 1

    def batch_end(self, trainer: Any, batch: Any) -> bool:
        """
        Count one batch.

        Returns:
            Whether the window was closed by this batch.
        """
        if self._probe.running:
            self._end_probe()
        calls = int(trainer.global_step)
        stepped = calls != self._calls
        self._batches += 1
        if stepped:
            self.steps += 1
            self._batches_of_steps = self._batches
            self._calls_of_steps += calls - self._calls
            self._calls = calls
        if self._stage >= _Stage.MEASURING:
            return self._measure(trainer, batch, stepped=stepped)
        if stepped:
            self._advance()
        return False

    def _end_probe(self) -> None:
        self.step_facts = self._probe.finish(micro_batches=round(self.batches_per_step))
        self._probes_left = 0 if self._probe.hopeless else self._probes_left - 1

    def _advance(self) -> None:
        """Decide what the next step is for."""
        if self.step_facts is None and self._probes_left > 0 and self.steps >= self._probe_after:
            self._stage = _Stage.PROBING
        elif self.steps >= self.settings.steps_before_window:
            self._stage = _Stage.MEASURING
            self._samples.clear()
            self._tokens.clear()
            self._timer.begin()
        else:
            self._stage = _Stage.WARMING

    def _measure(self, trainer: Any, batch: Any, *, stepped: bool) -> bool:
        if self._stage == _Stage.MEASURING:
            self.validation.close()
            self._timer.batch_end(stepped=stepped)
            if self.settings.batch_size is None and self.facts.loader_batch_size is None:
                self._samples.append(count_samples(batch))
            self._tokens.append(count_tokens(batch))
            if not self._timer.full:
                return False
            self._stage = _Stage.CLOSING
            self.detach(trainer)
        if self._stage == _Stage.CLOSING:
            self._lag_batches += 1
            if self._timer.ready or self._lag_batches > MAX_LAG_BATCHES:
                self.close_window()
                return True
        return False

    def close_window(self) -> None:
        """Turn the marks into times, with what steps there are; waits for the device at most once."""
        if self._stage in (_Stage.MEASURING, _Stage.CLOSING):
            self._stage = _Stage.DONE
            self._timer.end()
            self.times = self._timer.times()
            if self.facts.device_kind == "cuda":
                self.peak_memory_bytes = int(torch.cuda.max_memory_reserved(self.facts.device))

    def validation_end(self, trainer: Any) -> None:
        """Validation is over."""
        self.validation.end(batches_of(trainer.num_val_batches))

    def _listen(self, action: Action, starting: bool) -> None:  # noqa: FBT001 - the profiler's signature
        if starting:
            if action.ends_validation:
                self.validation.close()
            elif action.starts_validation:
                self.validation.expect()
        opens = action.opens if starting else action.opens_after
        closes = action.closes_before if starting else action.closes
        if closes is not None:
            self._timer.stop(closes)
            if closes is PhaseKind.OPTIMIZER and self._probe.running:
                self._probe.end_optimizer()
        if opens is not None:
            self._timer.start(opens)


def _verdict(trainer: Any, module: Any, settings: MeterSettings, services: MeterServices) -> WatchVerdict:
    if not settings.trace:
        return WatchVerdict("unseen", "FareMeter(trace=False) traces nothing")
    try:
        services.prepare()
    except Exception as error:  # noqa: BLE001 - without the tracer, times can still be measured
        return WatchVerdict("unseen", f"the tracer cannot be loaded ({first_line(error)})")
    return may_watch(trainer, module)
