"""Which batches of a metered run are traced, and the traced steps: of each size, kind and phase one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainfare.job.loop import Loop
from trainfare.meter.fare_log import first_line
from trainfare.meter.progress import RunProgress
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.step_probe import StepProbe
from trainfare.meter.tracing_method import TracingMethod, tracing_method
from trainfare.trace import BatchSpread, StepFacts
from trainfare.trace.batch_spread import OTHER_FACTOR, TYPICAL
from trainfare.trace.mixture import BatchKind, mix_batches
from trainfare.trace.training_phases import PhaseSignature, TrainingPhases

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


class TracedSteps:
    """
    The traced steps of a run, and the choice of the next one.

    Args:
        loop: before its first step.
        settings: the arguments of FareMeter.
        services: tracing.
        progress: of the run.
    """

    def __init__(
        self, loop: Loop, settings: MeterSettings, services: MeterServices, progress: RunProgress
    ) -> None:
        self._loop, self._settings, self._services, self._progress = loop, settings, services, progress
        self.method = self._choose_method()
        self.step: StepFacts | None = None
        """The step that was traced first, with that of another size; None where none was traced."""
        self.shapes: list[tuple[int, Any]] = []
        """(elements, shapes) of batches that differ in size, for a trace at the end."""
        self.real_batch: tuple[int, Any] | None = None
        """(elements, data) of a batch, for a trace at the end that needs values."""
        self.spread = BatchSpread()
        """The sizes of all batches."""
        self.phases = TrainingPhases()
        self.traces_phase = False
        """A step of a later phase is being traced, after the window."""
        self.probe = StepProbe(lambda: services.step_trace(loop.module, loop.optimizers))
        self._by_kind: dict[BatchKind, StepFacts] = {}
        self._measured_in: StepFacts | None = None
        self._waited = 0
        self._optimizer_names = [type(optimizer).__name__ for optimizer in loop.optimizers]
        self._left = MAX_TRACED_BATCHES if self.method.how == "real_step" else 0
        self._phase_left = MAX_PHASE_TRACES
        left = progress.plan().steps_left
        before = settings.steps_before_window
        self._after_steps = before if left is None else max(0, min(before, left - 1))

    def _choose_method(self) -> TracingMethod:
        if not self._settings.trace:
            return TracingMethod("none", "FareMeter(trace=False) traces nothing")
        try:
            self._services.prepare()
        except Exception as error:  # noqa: BLE001 - without the tracer, times can still be measured
            return TracingMethod("none", f"the tracer cannot be loaded ({first_line(error)})")
        return tracing_method(self._progress.facts, self._loop.module)

    @property
    def problem(self) -> str:
        """Why no real step was traced."""
        return self.probe.problem or "the run ended before a step could be traced"

    # The sizes of batches.

    def keep_first(self, batch: Any, elements: int) -> None:
        """Keep the first batch where a trace at the end may need its values."""
        facts = self._progress.facts
        at_end = self.method.how == "fake_copy" and facts.device_kind in ("cpu", "cuda")
        if at_end and facts.parallel.world_size == 1:  # a collective of one rank would wait for the others
            kept = self._services.keep_batch(batch)
            self.real_batch = None if kept is None else (elements, kept)

    def keep_shapes(self, batch: Any, elements: int) -> None:
        """Keep the shapes of a batch of another size than those before it."""
        is_new = all(abs(elements - kept) > TYPICAL * kept for kept, _ in self.shapes)
        if self.method.how != "none" and len(self.shapes) < MAX_SHAPES and (is_new or not self.shapes):
            self.shapes.append((elements, self._services.describe_batch(batch)))

    @property
    def wants_sizes(self) -> bool:
        """Whether the sizes of more batches are of use."""
        return self.spread.differs and self.spread.batches < MAX_COUNTED_BATCHES

    # The steps before the window.

    @property
    def wants_step(self) -> bool:
        """Whether a step is to be traced before the window opens."""
        untraced = self.step is None or self._wants_another_size
        return untraced and self._left > 0 and self._progress.steps >= self._after_steps

    @property
    def _wants_another_size(self) -> bool:
        step = self.step
        if step is None or step.other is not None or not self._progress.length.automatic:
            return False
        return self.spread.varies and self._may_wait()

    def _may_wait(self) -> bool:
        """Return whether a batch of a better size may be waited for, without losing the window to the run's end."""
        left = self._progress.plan().steps_left
        room = left is None or left - self._progress.steps > self._settings.measure_steps
        return room and self._waited < MAX_WAITED_BATCHES

    def _is_suitable(self, elements: int) -> bool:
        """Return whether a batch has the size to trace: the median, and then another."""
        if self.step is None:
            return self.spread.is_typical(elements)
        low, high = sorted((max(1, elements), max(1, self.step.elements)))
        return high >= OTHER_FACTOR * low

    @property
    def _ends_in_step(self) -> bool:
        return not self._progress.length.automatic or self._loop.ends_in_step

    def start(self, elements: int) -> None:
        """Start to trace a batch of so many elements, if it is a suitable one."""
        if self._left <= 0 or not self._ends_in_step:
            return
        if self._is_suitable(elements) or not self._may_wait():
            self.probe.start(elements)
        else:
            self._waited += 1

    def end(self, kind: BatchKind) -> None:
        """
        Keep the trace of a batch, if there is one.

        Args:
            kind: the optimizers that have stepped in it under manual optimization.
        """
        if not self.probe.running:
            return
        automatic = self._progress.length.automatic
        found = self.probe.finish(micro_batches=self._loop.passes if automatic else 1, whole=automatic)
        self._left = 0 if self.probe.fault else self._left - 1
        if self.step is not None:
            self.step = replace(self.step, other=found)
        elif found is not None and automatic:
            self.step, self._waited = found, 0
            self.phases.trace(found)
        elif found is not None:
            self._by_kind[kind] = found
            stepped = {index for kind in self._by_kind for index in kind}
            if stepped and (len(stepped) == len(self._optimizer_names) or self._left <= 0):
                self.step = found

    def drop(self) -> None:
        """Discard the trace of a batch that was cut off; a later batch is traced instead."""
        if self.probe.running:
            self.probe.drop()
            self._left -= 1
            self.traces_phase = False

    # The steps of later phases.

    def see_phase(self) -> None:
        """Look at the module: callbacks may have changed what it trains."""
        before = len(self.phases)
        if self._progress.length.automatic:
            signature = PhaseSignature.of(self._loop.module, self._loop.passes)
            self.phases.see(signature, self._progress.steps_done())
        if len(self.phases) > before:
            self._phase_left = MAX_PHASE_TRACES

    @property
    def wants_phase(self) -> bool:
        """Whether a step of the current phase is still to be traced; of the first, one is before the window."""
        later = len(self.phases) > 1 and self.phases.untraced
        return later and self._phase_left > 0 and self.method.how == "real_step"

    def start_phase(self, elements: int) -> None:
        """Start to trace a batch of so many elements, if a step of the current phase is still to be traced."""
        if self.wants_phase and self._ends_in_step:
            self.traces_phase = True
            self.probe.start(elements)

    def end_phase(self) -> None:
        """Keep the trace of a step of a later phase."""
        self.traces_phase = False
        self._phase_left -= 1
        if not self.probe.running:
            return
        found = self.probe.finish(micro_batches=self._loop.passes)
        if found is not None:
            self.phases.trace(found)

    # The step of the whole run.

    def note_window(self) -> None:
        """Keep the step of the phase in which the window was measured."""
        self._measured_in = self.phases.current

    def work_of_the_window(self, step: StepFacts) -> float:
        """Return the FLOPs of the phase in which the window was measured, over those of the mean step."""
        measured = self._measured_in
        if measured is None or not (measured.flops and step.flops):
            return 1.0
        return measured.flops / step.flops

    def final_step(self, steps: int | None) -> StepFacts | None:
        """
        Return the mean step of the run by its kinds of batches and its phases; None where no step was traced.

        Args:
            steps: of the whole run; None: not known.
        """
        if self.step is None:
            return None
        if self._by_kind:
            traced = {index for kind in self._by_kind for index in kind}
            left_out = [name for index, name in enumerate(self._optimizer_names) if index not in traced]
            return mix_batches(self._progress.kinds, self._by_kind, left_out)
        mean = self.phases.mean_step(steps or 0)
        if mean is None:
            return self.step
        step, said = mean
        return replace(step, differs=said, other=None if step.elements != self.step.elements else step.other)
