"""
State of one metered run: the warm-up, one traced step, then a window of measured steps.

While training runs, this module draws no random number, does not wait for the device, calls no collective and
opens no file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from typing import Any

import torch

from trainfare.job.loop import Loop
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import PlannedRun, RunEnd, RunPlanner, StepComposition
from trainfare.meter.batch_facts import BatchSizes, size_that_shows
from trainfare.meter.fare_log import first_line
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.step_probe import StepProbe
from trainfare.meter.timing.cuda_clock import CudaClock
from trainfare.meter.timing.phase_marks import PhaseMarks
from trainfare.meter.timing.step_timer import HostClock, StepTimer, StepTimes
from trainfare.meter.timing.validation_clock import ValidationClock
from trainfare.meter.tracing_method import TracingMethod, tracing_method
from trainfare.trace import BatchSpread, StepFacts, batch_elements, count_samples, count_tokens
from trainfare.trace.batch_spread import OTHER_FACTOR, TYPICAL
from trainfare.trace.mixture import BatchKind, KindsOfBatches, mixed_batches
from trainfare.trace.training_phases import PhaseSignature, TrainingPhases

__all__ = ["MeteredRun"]

MAX_TRACED_BATCHES = 16
"""Batches that are traced until every optimizer has stepped in one, which under manual optimization is not known in
advance. A chosen value: a traced batch is slow, and an optimizer that steps more rarely is said to be left out."""
MAX_PHASE_TRACES = 3
"""Attempts to trace a step of a later phase; a chosen value, above the batches that the end of an epoch cuts off."""
MAX_WAITED_BATCHES = 8
"""Batches that are let pass until one of a suitable size comes, where sizes vary. A chosen value: of sizes spread as
those of padded text, one in three is suitable."""
MAX_COUNTED_BATCHES = 10_000
"""Batches whose size is looked at where sizes vary: their mean is then known to 1 % of their spread."""
MAX_SHAPES = 16
"""Batches whose shapes are kept for a trace at the end; a chosen value, of which two are traced."""
MAX_LAG_BATCHES = 50
"""Batches after which a full window is read although the device has not reached its end, which makes the host wait
once. A chosen value: a device is behind its host by a few batches, so the wait is the exception."""


class _Stage(IntEnum):
    WARM_UP = 0
    TRACING = 1
    MEASURING = 2
    WINDOW_FULL = 3
    """All steps are recorded; the device may not have reached the last mark."""
    DONE = 4


class MeteredRun:
    """
    State of one metered run.

    Args:
        loop: before its first step.
        settings: the arguments of FareMeter.
        services: clock and tracing.
        on_fault: called with an error in the handling of a profiler action.
    """

    def __init__(
        self,
        loop: Loop,
        settings: MeterSettings,
        services: MeterServices,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.settings = settings
        self.services = services
        self.loop = loop
        self.facts = loop.run_facts()
        self.length = loop.length()
        self.tracing = _tracing_method(self.facts, loop, settings, services)
        self.step_facts: StepFacts | None = None
        self.shapes: list[tuple[int, Any]] = []
        """(elements, shapes) of batches that differ in size, for a trace at the end."""
        self.real_batch: tuple[int, Any] | None = None
        """(elements, data) of a batch, for a trace at the end that needs values."""
        self.watches_batches = True
        """Batches are looked at: until the window is closed, and after it where their sizes differ."""
        self.spread = BatchSpread()
        self.window_spread = BatchSpread()
        self.times: StepTimes | None = None
        self.peak_memory_bytes: int | None = None
        self.steps = 0
        self.ended: RunEnd | None = None
        """How far the run came, once it has ended by itself."""
        self.kinds = KindsOfBatches()
        self._by_kind: dict[BatchKind, StepFacts] = {}
        self._kind: list[int] = []
        """The optimizers that have stepped in the current batch of manual optimization, by their places."""
        self.phases = TrainingPhases()
        self._new_epoch = True
        self._sees_batch = False
        self._phase_traces = MAX_PHASE_TRACES
        self.traces_phase = False
        """A step of a later phase is being traced, after the window."""
        self._measured_in: StepFacts | None = None
        self._samples: list[int | None] = []
        self._tokens: list[int | None] = []
        clock = CudaClock(self.facts.device) if self.facts.device_kind == "cuda" else HostClock(services.now)
        self._timer = StepTimer(clock, settings.measure_steps)
        self.validation = ValidationClock(self._timer, services.now)
        self._probe = StepProbe(lambda: services.step_trace(loop.module, loop.optimizers))
        self._waited = 0
        self._optimizer_names = [type(optimizer).__name__ for optimizer in loop.optimizers]
        self._traces_left = MAX_TRACED_BATCHES if self.tracing.how == "real_step" else 0
        self._trace_after_steps = self._steps_before_trace()
        self._on_fault = on_fault
        self._unwatch: Callable[[], None] | None = None
        self._stage = _Stage.WARM_UP
        self._calls: int = self.length.calls_done
        self._batches: int = 0
        self._batches_of_steps: int = 0
        self._calls_of_steps: int = 0
        self._lag_batches = 0
        self._advance()

    def _steps_before_trace(self) -> int:
        """Return after how many steps to trace one: after the warm-up, or on the last step of a shorter run."""
        before = self.settings.steps_before_window
        left = self.plan().steps_left
        return before if left is None else max(0, min(before, left - 1))

    @property
    def done(self) -> bool:
        """The window was measured."""
        return self._stage == _Stage.DONE

    @property
    def batches_per_step(self) -> float:
        """Micro-batches in one optimizer step."""
        if self.length.automatic:
            return self._planner().step.batches_per_step
        composition = self.composition
        return 1.0 if composition is None else composition.batches_per_step

    @property
    def composition(self) -> StepComposition | None:
        """Batches and optimizer calls of one step, the mean so far; None before the end of the first step."""
        if self.steps == 0:
            return None
        if not self.length.automatic and self.kinds.per_step():
            return StepComposition(self.kinds.batches_per_step(), self.kinds.calls_per_step())
        return StepComposition(
            self._batches_of_steps / self.steps, max(1.0, self._calls_of_steps / self.steps)
        )

    def plan(self) -> PlannedRun:
        """Return the plan of the whole run, by the batches and steps counted so far."""
        return self._planner(self.ended).plan()

    def planned_steps(self) -> int | None:
        """Return the optimizer steps that the Trainer was told to run, wherever it stopped."""
        return self._planner().plan().steps

    def _planner(self, ended: RunEnd | None = None) -> RunPlanner:
        return RunPlanner(
            self.length,
            composition=self.composition,
            total_samples=self.settings.total_samples,
            micro_batch_size=self.sizes().micro_batch_size,
            ended=ended,
        )

    def end(self) -> None:
        """Record how far the run came; called where it ended by itself, and not by an exception."""
        resumed = self.length.calls_done > 0
        self.ended = RunEnd(
            steps=self.steps_done(),
            epochs=self.loop.epochs,
            validation_batches=None if resumed else self.validation.batches,
            by_time=self.loop.length().time_is_up,
        )

    def steps_done(self) -> int:
        """Return the optimizer steps of the whole run that are done now, earlier sessions included."""
        composition = self.composition
        calls = 1.0 if self.length.automatic or composition is None else composition.calls_per_step
        return int(self.loop.updates / calls)

    def sizes(self) -> BatchSizes:
        """Return the samples of a micro-batch, by the batches counted so far."""
        return BatchSizes.of(
            argument=self.settings.batch_size,
            loader=self.facts.loader_batch_size,
            by_shape=self._samples,
            tokens=self._tokens,
        )

    def samples_per_step(self) -> int | None:
        """Return the samples of one optimizer step over all devices."""
        micro, replicas = self.sizes().micro_batch_size, self.facts.replicas
        return None if micro is None or replicas is None else round(micro * self.batches_per_step) * replicas

    def samples_in_epoch(self) -> int | None:
        """Return the samples of an epoch over all devices; an incomplete last batch counts as complete."""
        if self.settings.total_samples is not None:
            return self.settings.total_samples
        micro, batches = self.sizes().micro_batch_size, self.length.batches_per_epoch
        replicas = self.facts.replicas
        return None if micro is None or batches is None or replicas is None else micro * batches * replicas

    @property
    def trace_problem(self) -> str:
        """Why no real step was traced."""
        return self._probe.problem or "the run ended before a step could be traced"

    # Called while training runs.

    def attach(self) -> None:
        """Be told of the loop's phases from now on."""
        marks = PhaseMarks(self._timer, self.validation, self._probe)
        self._unwatch = self.loop.watch(marks, self._on_fault)

    def detach(self) -> None:
        """Be told no more."""
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    def release(self) -> None:
        """Undo every change: leave the dispatch mode, leave the loop's phases, end the window."""
        try:
            self._probe.drop()
        finally:
            self.detach()
            self._timer.end()

    def batch_start(self, batch: Any) -> None:
        """Look at the batch's size, and start the trace if this batch is to be traced."""
        if self._new_epoch:
            self._new_epoch = False
            self._see_phase()
        elements = self._count(batch)
        if self.done:
            if self._wants_phase and self._ends_in_step:
                self.traces_phase = True
                self._probe.start(elements)
            return
        if self._stage != _Stage.TRACING or self._traces_left <= 0 or not self._ends_in_step:
            return
        if self._is_suitable(elements) or not self._may_wait():
            self._probe.start(elements)
        else:
            self._waited += 1

    def epoch_start(self) -> None:
        """Look at the module again with the next batch: callbacks may change it at the start of an epoch."""
        self._new_epoch = self.watches_batches = True

    def _see_phase(self) -> None:
        before = len(self.phases)
        if self.length.automatic:
            self.phases.see(PhaseSignature.of(self.loop.module, self.loop.passes), self.steps_done())
        if len(self.phases) > before:
            self._phase_traces = MAX_PHASE_TRACES

    @property
    def _wants_phase(self) -> bool:
        """Whether a step of the current phase is still to be traced; of the first, one is before the window."""
        later = len(self.phases) > 1 and self.phases.untraced
        return later and self._phase_traces > 0 and self.tracing.how == "real_step"

    def end_phase_trace(self) -> None:
        """Keep the trace of a step of a later phase."""
        self.traces_phase = False
        self._phase_traces -= 1
        if not self._probe.running:
            return
        found = self._probe.finish(micro_batches=self.loop.passes)
        if found is not None:
            self.phases.trace(found)

    def final_step(self, steps: int | None) -> StepFacts | None:
        """
        Return the mean step of the run by its kinds of batches and its phases; None where no step was traced.

        Args:
            steps: of the whole run; None: not known.
        """
        if self.step_facts is None:
            return None
        if self._by_kind:
            traced = {place for kind in self._by_kind for place in kind}
            left_out = [name for place, name in enumerate(self._optimizer_names) if place not in traced]
            return mixed_batches(self.kinds, self._by_kind, left_out)
        mean = self.phases.mean_step(steps or 0)
        if mean is None:
            return self.step_facts
        step, said = mean
        return replace(
            step, differs=said, other=None if step.elements != self.step_facts.elements else step.other
        )

    def work_of_the_window(self, step: StepFacts) -> float:
        """Return the FLOPs of the phase in which the window was measured, over those of the mean step."""
        measured = self._measured_in
        if measured is None or not (measured.flops and step.flops):
            return 1.0
        return measured.flops / step.flops

    def _count(self, batch: Any) -> int:
        """Count the size of a batch; the incomplete last one of an epoch is left out."""
        elements = batch_elements(batch)
        if not self._sees_batch:
            self._see_first(batch, elements)
        usual = self.facts.loader_batch_size
        more_sizes = self.spread.differs and self.spread.batches < MAX_COUNTED_BATCHES
        self.watches_batches = not self.done or more_sizes or self._wants_phase
        if usual is not None and self.loop.is_last_batch and (count_samples(batch) or 0) < usual:
            return elements
        self.spread.add(elements)
        if self._stage == _Stage.MEASURING:
            self.window_spread.add(elements)
        if self.settings.batch_size is None and self.facts.loader_batch_size is None:
            self._samples.append(count_samples(batch))
        self._tokens.append(count_tokens(batch))
        is_new = all(abs(elements - kept) > TYPICAL * kept for kept, _ in self.shapes)
        if self.tracing.how != "none" and len(self.shapes) < MAX_SHAPES and (is_new or not self.shapes):
            self.shapes.append((elements, self.services.describe_batch(batch)))
        return elements

    def _see_first(self, batch: Any, elements: int) -> None:
        """Check the loader's batch size, and keep the batch where a trace at the end may need its values."""
        self._sees_batch, facts = True, self.facts
        self.facts = replace(facts, loader_batch_size=size_that_shows(facts.loader_batch_size, [batch]))
        at_end = self.tracing.how == "fake_copy" and facts.device_kind in ("cpu", "cuda")
        if at_end and facts.parallel.world_size == 1:  # a collective of one rank would wait for the others
            kept = self.services.keep_batch(batch)
            self.real_batch = None if kept is None else (elements, kept)

    def _is_suitable(self, elements: int) -> bool:
        """Return whether a batch has the size to trace: the median, and then another."""
        if self.step_facts is None:
            return self.spread.is_typical(elements)
        low, high = sorted((max(1, elements), max(1, self.step_facts.elements)))
        return high >= OTHER_FACTOR * low

    def _may_wait(self) -> bool:
        """Return whether a batch of a better size may be waited for, without losing the window to the run's end."""
        left = self.plan().steps_left
        room = left is None or left - self.steps > self.settings.measure_steps
        return room and self._waited < MAX_WAITED_BATCHES

    @property
    def _wants_another_size(self) -> bool:
        step = self.step_facts
        if step is None or step.other is not None or not self.length.automatic:
            return False
        return self.spread.varies and self._may_wait()

    @property
    def _ends_in_step(self) -> bool:
        return not self.length.automatic or self.loop.ends_in_step

    def before_step(self, optimizer: Any) -> None:
        """Mark the start of the optimizer's part in the trace; under manual optimization, note which one steps."""
        if not self.length.automatic and not self.done:
            places = (place for place, one in enumerate(self.loop.optimizers) if one is optimizer)
            self._kind.extend(places)
        self._probe.begin_optimizer()

    def drop_trace(self) -> None:
        """Discard the trace of a batch that was cut off; a later batch is traced instead."""
        if self._probe.running:
            self._probe.drop()
            self._traces_left -= 1
            self.traces_phase = False

    def batch_end(self) -> bool:
        """
        Count one batch.

        Returns:
            Whether the window was closed by this batch.
        """
        kind = tuple(self._kind)
        self._kind.clear()
        if not self.length.automatic:
            self.kinds.add(kind)
        if self._probe.running:
            self._end_trace(kind)
        calls = self.loop.updates
        stepped = calls != self._calls
        self._batches += 1
        if stepped:
            self.steps += 1
            self._batches_of_steps = self._batches
            self._calls_of_steps += calls - self._calls
            self._calls = calls
        if self._stage >= _Stage.MEASURING:
            return self._measure(stepped=stepped)
        if stepped:
            self._advance()
        return False

    def _end_trace(self, kind: BatchKind) -> None:
        automatic = self.length.automatic
        passes = self.loop.passes if automatic else 1
        found = self._probe.finish(micro_batches=passes, whole=automatic)
        self._traces_left = 0 if self._probe.fault else self._traces_left - 1
        if self.step_facts is not None:
            self.step_facts = replace(self.step_facts, other=found)
        elif found is not None and automatic:
            self.step_facts, self._waited = found, 0
            self.phases.trace(found)
        elif found is not None:
            self._by_kind[kind] = found
            stepped = {place for kind in self._by_kind for place in kind}
            if stepped and (len(stepped) == len(self._optimizer_names) or self._traces_left <= 0):
                self.step_facts = found

    def _advance(self) -> None:
        """Set the stage of the next step."""
        untraced = self.step_facts is None or self._wants_another_size
        if untraced and self._traces_left > 0 and self.steps >= self._trace_after_steps:
            self._stage = _Stage.TRACING
        elif self.steps >= self.settings.steps_before_window:
            self._stage = _Stage.MEASURING
            self._timer.begin()
        else:
            self._stage = _Stage.WARM_UP

    def _measure(self, *, stepped: bool) -> bool:
        if self._stage == _Stage.MEASURING:
            self.validation.close()
            self._timer.batch_end(stepped=stepped)
            if not self._timer.full:
                return False
            self._stage = _Stage.WINDOW_FULL
            self.detach()
        if self._stage == _Stage.WINDOW_FULL:
            self._lag_batches += 1
            if self._timer.ready or self._lag_batches > MAX_LAG_BATCHES:
                self.close_window()
                return True
        return False

    def close_window(self) -> None:
        """Compute the times of the steps recorded so far; waits for the device at most once."""
        if self._stage in (_Stage.MEASURING, _Stage.WINDOW_FULL):
            self._stage = _Stage.DONE
            self.watches_batches = self.spread.differs or self._wants_phase
            self._measured_in = self.phases.current
            self._timer.end()
            self.times = self._timer.times()
            if self.facts.device_kind == "cuda":
                self.peak_memory_bytes = int(torch.cuda.max_memory_reserved(self.facts.device))

    def validation_end(self) -> None:
        """Record the end of a validation run, whose number of batches may not have been known before it."""
        batches = self.loop.validation_batches()
        self.validation.end(batches)
        if self.length.validation_batches is None:
            self.length = replace(self.length, validation_batches=batches)


def _tracing_method(
    facts: RunFacts, loop: Loop, settings: MeterSettings, services: MeterServices
) -> TracingMethod:
    if not settings.trace:
        return TracingMethod("none", "FareMeter(trace=False) traces nothing")
    try:
        services.prepare()
    except Exception as error:  # noqa: BLE001 - without the tracer, times can still be measured
        return TracingMethod("none", f"the tracer cannot be loaded ({first_line(error)})")
    return tracing_method(facts, loop.module)
