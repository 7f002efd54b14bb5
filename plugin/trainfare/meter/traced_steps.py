"""Which batches of a metered run are traced, and the traced steps: of each size, kind and phase one or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch.optim import Optimizer

from trainfare.job.loop import Loop
from trainfare.meter.fare_log import first_line
from trainfare.meter.progress import RunProgress
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.step_probe import StepProbe
from trainfare.meter.tracing_method import COMPILED, WAY_OUT, TracingMethod, tracing_method
from trainfare.trace import BatchSpread, StepFacts
from trainfare.trace.batch_spread import (
    ALWAYS_DRAWS,
    MAX_DRAWS,
    OTHER_FACTOR,
    SAME_DRAWS,
    SAME_DRAWS_OF_CHANCE,
    SAME_SIZE,
)
from trainfare.trace.mixture import BatchKind, flops_per_step, mix_batches
from trainfare.trace.step_facts import average_draws
from trainfare.trace.torch_private import count_compiled_graphs
from trainfare.trace.training_phases import PhaseSignature, TrainingPhases

MAX_TRACED_BATCHES = 16
"""Batches that are traced until every kind of batch that occurs is, which under manual optimization is not known in
advance. A chosen value: a traced batch is slow, and a kind that comes more rarely counts as the one most like it."""
MAX_LATER_TRACES = 3
"""Attempts to trace a step of a later phase, or a kind of batch that comes late; a chosen value, above the batches that
the end of an epoch cuts off."""
MAX_WAITED_BATCHES = 8
"""Batches that are let pass until one of a suitable size comes, where sizes vary. A chosen value: of sizes spread as
those of padded text, one in three is suitable."""
MAX_SMALLER_BATCHES = 2
"""Incomplete last batches of an epoch that are let pass until a whole one ends in a step. A chosen value: where the
step of two epochs ended in one, that of every epoch does."""
MAX_COUNTED_BATCHES = 10_000
"""Batches whose size is looked at where sizes vary: their mean is then known to 1 % of their spread."""


def _is_of_torch(optimizer: Optimizer) -> bool:
    """Return whether an optimizer is torch's own, whose update is the same in each step."""
    return type(optimizer).__module__.startswith("torch.optim.")


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
        self.smaller_samples: int | None = None
        """Samples of the traced batch, where it is an incomplete last one of an epoch."""
        self.spread = BatchSpread()
        """The sizes of all batches."""
        self.phases = TrainingPhases()
        self.traces_later = False
        """A step of a later phase, or a kind of batch that comes late, is being traced, after the window."""
        self.probe = StepProbe(lambda: services.step_trace(loop.module, loop.optimizers))
        self._draws: dict[BatchKind, list[StepFacts]] = {}
        """The traces of each kind of batch; under automatic optimization there is one kind, the empty one."""
        self._measured_in: StepFacts | None = None
        self._measured_kinds: Counter[BatchKind] = Counter()
        self._waited = self._passed_smaller = 0
        self._of_first_step: StepFacts | None = None
        self._compiled_graphs = count_compiled_graphs()
        self._left = 0 if self.method.why_not else MAX_TRACED_BATCHES
        self._later_left = MAX_LATER_TRACES
        left, before = progress.plan().steps_left, 0 if loop.warmed_up else settings.steps_before_window
        # Of a short run the step before the last is traced, unless an epoch is one batch: the last may be incomplete.
        kept = 1 if progress.length.batches_per_epoch == 1 else 2
        self._after_steps = before if left is None else max(0, min(before, left - kept))

    def _choose_method(self) -> TracingMethod:
        if not self._settings.trace:
            return TracingMethod("FareMeter(trace=False) traces nothing")
        try:
            self._services.prepare()
        except Exception as error:  # noqa: BLE001 - without the tracer, times can still be measured
            return TracingMethod(f"the tracer cannot be loaded ({first_line(error)})")
        return tracing_method(self._progress.facts, self._loop.module)

    @property
    def problem(self) -> str:
        """Why no step was traced."""
        problem = self.probe.problem or "the run ended before a step could be traced"
        return self.method.why_not or f"{problem.rstrip('.')}: {WAY_OUT}"

    @property
    def wants_sizes(self) -> bool:
        """Whether the sizes of more batches are of use."""
        return self.spread.differs and self.spread.batches < MAX_COUNTED_BATCHES

    # The steps before the window.

    @property
    def _automatic(self) -> bool:
        return self._progress.length.automatic

    @property
    def wants_step(self) -> bool:
        """Whether a step is to be traced before the window opens."""
        if self.probe.fault or self._left <= 0 or self._progress.steps < self._after_steps:
            return False
        # Of a short run the window comes first: a kind of batch that is still lacking is traced after it.
        if self.step is None or (not self._automatic and self._lacks_kind() and self._has_room()):
            return True
        return self._wants_draw() or self._wants_another_size()

    def _list_untraced_kinds(self) -> list[BatchKind]:
        return [kind for kind in self._progress.kinds.counts if kind not in self._draws]

    def _lacks_kind(self) -> bool:
        """Return whether a kind of batch, or an optimizer that has not stepped yet, is still to be traced."""
        stepped = {index for kind in self._draws for index in kind}
        return len(stepped) < len(self._loop.optimizers) or bool(self._list_untraced_kinds())

    def _wants_draw(self) -> bool:
        """Return whether the work of a step may be random or periodic and is not known by enough traces yet."""
        if not self._may_wait():
            return False
        enough, draws = ALWAYS_DRAWS, self._draws.values()
        if self.probe.draws_choice:
            enough = SAME_DRAWS_OF_CHANCE
        elif self.probe.reads_values or not all(map(_is_of_torch, self._loop.optimizers)):
            enough = SAME_DRAWS
        if any(len(traces) >= enough and average_draws(traces).variation is None for traces in draws):
            return False
        return any(len(traces) < MAX_DRAWS for traces in draws)

    def _wants_another_size(self) -> bool:
        step = self.step
        if step is None or step.other is not None or not self._automatic:
            return False
        return self.spread.varies and self._may_wait()

    def _has_room(self) -> bool:
        left = self._progress.plan().steps_left
        return left is None or left - self._progress.steps > self._settings.measure_steps

    def _may_wait(self) -> bool:
        """Return whether a batch of a better size may be waited for, without losing the window to the run's end."""
        return self._has_room() and self._waited < MAX_WAITED_BATCHES

    def _may_pass_smaller(self) -> bool:
        left = self._progress.plan().steps_left
        more = left is None or left - self._progress.steps > 1
        return more and self._passed_smaller < MAX_SMALLER_BATCHES

    def _is_suitable(self, elements: int) -> bool:
        """Return whether a batch has the size to trace: the median, then the same for more draws, or another."""
        if self.step is None:
            return self.spread.is_typical(elements)
        if not self._automatic and self._lacks_kind():
            return True
        if self._wants_draw() and self._is_same_size(elements):
            return True
        low, high = sorted((max(1, elements), max(1, self.step.elements)))
        return self._wants_another_size() and high >= OTHER_FACTOR * low

    def _is_same_size(self, elements: int) -> bool:
        """Return whether a batch is as large as the first that was traced."""
        low, high = sorted((max(1, elements), max(1, elements if self.step is None else self.step.elements)))
        return high <= (1.0 + SAME_SIZE) * low

    @property
    def _ends_in_step(self) -> bool:
        return not self._automatic or self._loop.ends_in_step

    def start(self, elements: int, smaller_samples: int | None) -> None:
        """
        Start to trace a batch, if it is a suitable one.

        Args:
            elements: of its tensors.
            smaller_samples: of an incomplete last batch of an epoch its samples, else None.
        """
        if self._left <= 0 or not self._ends_in_step:
            return
        if count_compiled_graphs() > self._compiled_graphs:  # by a function that no module shows
            self.method, self._left = COMPILED, 0
            return
        # In the first step it is the only batch of an epoch.
        if smaller_samples is not None and self._may_pass_smaller() and not self._loop.in_first_step:
            self._passed_smaller += 1
        elif self._is_suitable(elements) or not self._may_wait():
            self.smaller_samples = smaller_samples if self.step is None else self.smaller_samples
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
        traced, in_first_step = self._finish(), self._loop.in_first_step
        self._left = 0 if self.probe.fault else self._left - (not in_first_step)
        if traced is None:
            return
        self._waited = 0
        other = None if self.step is None else self.step.other
        if kind in self._draws and not self._is_same_size(traced.elements):
            other = other or traced
        else:
            self._draws.setdefault(kind, []).append(traced)
            self._leave_out_first_step(self._draws[kind])
        self._of_first_step = traced if in_first_step else self._of_first_step
        if self._automatic:
            self.step = replace(self._average(self._draws[kind]), other=other)
            self.phases.trace(self.step)
        elif kind:
            self.step = traced

    def _leave_out_first_step(self, draws: list[StepFacts]) -> None:
        """
        Let the second step stand for the first, which also makes the optimizer's state.

        Where the first did other work, something before the training may have been traced with it.
        """
        if len(draws) == 2 and draws[0] is self._of_first_step:
            draws[:] = [draws[1]] * (2 if draws[0].flops == draws[1].flops else 1)

    def _finish(self) -> StepFacts | None:
        automatic = self._automatic
        return self.probe.finish(micro_batches=self._loop.passes if automatic else 1, whole=automatic)

    def drop(self) -> None:
        """Discard the trace of a batch that was cut off; a later batch is traced instead."""
        if self.probe.running:
            self.probe.drop()
            self._left -= 1
            self.traces_later = False

    # The steps after the window: of later phases, and kinds of batches that come late.

    def see_phase(self) -> None:
        """Look at the module: callbacks may have changed what it trains."""
        before = len(self.phases)
        if self._automatic:
            signature = PhaseSignature.of(self._loop.module, self._loop.passes)
            self.phases.see(signature, self._progress.steps_done())
        if len(self.phases) > before:
            self._later_left = MAX_LATER_TRACES
            self._left = 0 if self.step is not None else self._left

    @property
    def wants_later(self) -> bool:
        """Whether a step of the current phase, or a kind of batch, is to be traced after the window."""
        if self.method.why_not or self._later_left <= 0 or self.probe.fault:
            return False
        if not self._automatic:
            return bool(self._draws) and bool(self._list_untraced_kinds())
        return len(self.phases) > 1 and self.phases.untraced

    def start_later(self, elements: int, smaller_samples: int | None) -> None:
        """Start to trace a batch after the window; see `wants_later` and `start`."""
        if not (self.wants_later and self._ends_in_step):
            return
        if not self._automatic and not any(map(self._progress.kinds.may_come, self._list_untraced_kinds())):
            return
        if smaller_samples is not None and self._later_left > 1:
            self._later_left -= 1
            return
        self.traces_later = True
        self.probe.start(elements)

    def end_later(self, kind: BatchKind) -> None:
        """Keep the trace of a batch after the window."""
        self.traces_later = False
        self._later_left -= 1
        if not self.probe.running:
            return
        traced = self._finish()
        if traced is None:
            return
        if self._automatic:
            self.phases.trace(traced)
        elif kind not in self._draws:
            self._draws[kind] = [traced]
            self._later_left = MAX_LATER_TRACES

    # The step of the whole run.

    def note_window(self, kinds: Sequence[BatchKind]) -> None:
        """
        Keep what the window was measured in.

        Args:
            kinds: of its batches, under manual optimization.
        """
        self._measured_in, self._measured_kinds = self.phases.current, Counter(kinds)

    def work_of_the_window(self, step: StepFacts) -> float:
        """Return the FLOPs of the steps of the window, over those of the mean step."""
        measured = self._measured_in.flops if self._measured_in is not None else 0.0
        if not self._automatic and self._draws:
            measured = flops_per_step(self._measured_kinds, self._mean_by_kind())
        return measured / step.flops if measured and step.flops else 1.0

    def _mean_by_kind(self) -> dict[BatchKind, StepFacts]:
        return {kind: self._average(traces) for kind, traces in self._draws.items()}

    def _average(self, traces: Sequence[StepFacts]) -> StepFacts:
        # Where batches differ in shape too, which of both changes the work is not known.
        by_chance = (self.probe.reads_values or self.probe.draws_choice) and not self.spread.differs
        return average_draws(traces, random=by_chance)

    def final_step(self, steps: int | None) -> StepFacts | None:
        """
        Return the mean step of the run by its kinds of batches and its phases; None where no step was traced.

        Args:
            steps: of the whole run; None: not known.
        """
        if self.step is None:
            return None
        if not self._automatic:
            traced = {index for kind in self._draws for index in kind}
            names = [type(optimizer).__name__ for optimizer in self._loop.optimizers]
            left_out = [name for index, name in enumerate(names) if index not in traced]
            step = mix_batches(self._progress.kinds, self._mean_by_kind(), left_out)
        else:
            (traces,) = self._draws.values()  # averaged again, for all sizes are known now
            passes = self._progress.batches_per_step
            first, other = self._average([trace.with_passes(passes) for trace in traces]), self.step.other
            other = None if other is None else other.with_passes(passes)
            step = self._mean_of_phases(replace(first, other=other), steps or 0)
        return replace(step, notes=(*step.notes, self.method.note)) if self.method.note else step

    def _mean_of_phases(self, first: StepFacts, steps: int) -> StepFacts:
        mean = self.phases.mean_step(steps)
        if mean is None:
            return first
        step, said = mean
        return replace(step, differs=said, other=None if step.elements != first.elements else step.other)
