"""
State of one metered run: the warm-up, the traced steps, then a window of measured steps.

While training runs, this module draws no random number, does not wait for the device, calls no collective and
opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from trainfare.job.loop import Loop
from trainfare.meter.noise_scale import NoiseReader
from trainfare.meter.progress import RunProgress
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.meter.step_window import StepWindow
from trainfare.meter.timing.phase_marks import PhaseMarks
from trainfare.meter.traced_steps import TracedSteps
from trainfare.trace import batch_elements
from trainfare.trace.mixture import BatchKind
from trainfare.trace.modes import leave_rest, left_later


def parameters_of(optimizer: Any) -> set[int]:
    """Return the identities of an optimizer's parameters."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


class MeteredRun:
    """
    One metered run: it hands each batch to its progress, to the choice of traced steps and to the window.

    Args:
        loop: before its first step.
        settings: the arguments of FareMeter.
        services: clock and tracing.
        on_fault: called with an error in the handling of a phase.
    """

    def __init__(
        self,
        loop: Loop,
        settings: MeterSettings,
        services: MeterServices,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.services = services
        self.progress = RunProgress(loop, settings)
        self.traced = TracedSteps(loop, settings, services, self.progress)
        self.window = StepWindow(self.progress.facts, settings.measure_steps, services.now)
        self.watches_batches = True
        """Batches are looked at: until the window is closed, and after it where their sizes differ."""
        self._stepped: list[int] = []
        """The optimizers that have stepped in the current batch of manual optimization, by their places."""
        self._past_loop: set[int] = set()
        """The same of optimizers that were stepped without the loop's knowledge."""
        self._first_measured = 0
        self._new_epoch = True
        self._sees_batch = False
        self._traces = False
        """The next batches are for a trace."""
        self.noise: NoiseReader | None = None
        """Reads the norms of gradients after the window."""
        if settings.noise_scale:
            facts, length = self.progress.facts, self.progress.length
            self.noise = NoiseReader(loop, facts, length, services.noise_every_steps)
        self._on_fault = on_fault
        self._unwatch: Callable[[], None] | None = None
        self._unhook: Callable[[], None] | None = None
        self._advance()

    @property
    def done(self) -> bool:
        """The window was measured."""
        return self.window.done

    def find_folder(self) -> Path:
        """Return the folder of the files: `report_dir`, else the loop's."""
        return self.loop.folder() if self.settings.report_dir is None else Path(self.settings.report_dir)

    def attach(self) -> None:
        """Be told of the loop's phases from now on."""
        if self._unwatch is not None:
            return
        marks = PhaseMarks(self.window.timer, self.window.validation, self.traced.probe, self.leave)
        self._unwatch = self.loop.watch(marks, self._on_fault)
        if not self.progress.length.automatic:
            self._unhook = register_optimizer_step_post_hook(self._note_update).remove

    def detach(self) -> None:
        """Stop listening, unless a hook of torch counts the steps: that must be removed with the meter too."""
        if self._unwatch is not None and self._unhook is None:
            self._unwatch()
            self._unwatch = None

    def leave(self) -> None:
        """Undo every change until the next batch; a learning-rate finder takes callbacks away and puts them back."""
        try:
            self.traced.probe.drop()
        finally:
            if left_later:  # a call of its own would be one more in each step
                leave_rest()
            if self.noise is not None:
                self.noise.drop()
            self._forget_updates()
            self.detach()

    def release(self) -> None:
        """Undo every change: leave the dispatch mode, leave the loop's phases, end the window."""
        self.window.timer.end()
        self.leave()

    def batch_start(self, batch: Any) -> None:
        """Look at the batch's size, start the trace if this batch is to be traced, else read its gradients' norms."""
        if self.watches_batches:
            self._watch_batch(batch)
        if self.noise is not None and self.done:
            self.noise.batch_start(batch, is_traced=self.traced.probe.running)

    def _watch_batch(self, batch: Any) -> None:
        if left_later:  # a call of its own would be one more in each step
            leave_rest()
        if self._new_epoch:
            self._new_epoch = False
            self.traced.see_phase()
        elements = batch_elements(batch)
        smaller_samples = self._count(batch, elements)
        if self.done:
            self.traced.start_later(elements, smaller_samples)
        elif self._traces:
            self.traced.start(elements, smaller_samples)
        if self.traced.probe.running or self.window.is_open:
            self.attach()

    def _count(self, batch: Any, elements: int) -> int | None:
        """Count the size of a batch; the incomplete last one of an epoch is left out, and its samples are returned."""
        progress, traced = self.progress, self.traced
        if not self._sees_batch:
            self._sees_batch = True
            progress.see_first_batch(batch)
        self.watches_batches = not self.done or traced.wants_sizes or traced.wants_later
        smaller_samples = progress.count_incomplete(batch)
        if smaller_samples is not None:
            return smaller_samples
        traced.spread.add(elements)
        if self.window.is_open:
            self.window.spread.add(elements)
        progress.count_samples(batch)
        return None

    def see_sizes(self, batches: Iterable[Any], of_run: int) -> None:
        """
        Count the sizes of batches that no step is made of.

        Args:
            batches: of the run.
            of_run: how many it has; 0: not known.
        """
        self.traced.spread.of_run = of_run
        for batch in batches:
            self.traced.spread.add(batch_elements(batch))
            self.progress.count_samples(batch)

    def epoch_start(self) -> None:
        """Look at the module again with the next batch: callbacks may change it at the start of an epoch."""
        self._new_epoch = self.watches_batches = True

    def before_step(self, optimizer: Any) -> None:
        """Mark the start of the optimizer's part in the trace; under manual optimization, note which one steps."""
        if left_later:  # a call of its own would be one more in each step
            leave_rest()
        if not self.progress.length.automatic:
            places = (index for index, other in enumerate(self.loop.optimizers) if other is optimizer)
            self._stepped.extend(places)
        self.traced.probe.begin_optimizer()

    def _note_update(self, optimizer: Any, *_: Any) -> None:
        """Note which optimizer of the loop has stepped, also inside another: SAM's own steps are no `step` of it."""
        try:
            parameters = parameters_of(optimizer)
            self._past_loop.update(
                index for index, other in enumerate(self.loop.optimizers) if parameters & parameters_of(other)
            )
        except Exception as error:  # noqa: BLE001 - a fault of FareMeter must not reach the training
            self._forget_updates()
            self._on_fault(error)

    def _forget_updates(self) -> None:
        unhook, self._unhook = self._unhook, None
        if unhook is not None:
            unhook()

    def _end_kind(self) -> BatchKind:
        """Return the optimizers that have stepped in this batch: as the loop knows, else where it counts none."""
        kind = tuple(self._stepped)
        if self.loop.updates:
            self._forget_updates()
        elif not kind:
            kind = tuple(sorted(self._past_loop))
            self.progress.uncounted_updates += len(kind)
        self._stepped.clear()
        self._past_loop.clear()
        return kind

    def batch_end(self) -> bool:
        """
        Count one batch.

        Returns:
            Whether the window was closed by this batch.
        """
        kind = self._end_kind()
        self.traced.end(kind)
        stepped = self.progress.batch_end(kind)
        if self.window.begun:
            return self._measure(stepped=stepped)
        if stepped:
            self._advance()
        return False

    def later_batch_end(self) -> None:
        """Count one batch after the window: the kinds of manual optimization, and a step that was traced late."""
        if self.noise is not None:
            self.noise.batch_end()
        if self.progress.length.automatic:
            if self.traced.traces_later:
                self.traced.end_later(())
                self.detach()
            return
        kind = self._end_kind()
        if self.traced.traces_later:
            self.traced.end_later(kind)
            self.detach()
        self.progress.kinds.add(kind)
        self.watches_batches = self.watches_batches or self.traced.wants_later

    def _advance(self) -> None:
        """Choose what the next step is for."""
        self._traces = self.traced.wants_step
        if not self._traces and self.progress.steps >= self.settings.steps_before_window:
            self._first_measured = len(self.progress.kinds)
            self.window.open()

    def _measure(self, *, stepped: bool) -> bool:
        if self.window.is_open:
            if not self.window.batch_end(stepped=stepped):
                return False
            self.detach()
        if self.window.may_close():
            self.close_window()
            return True
        return False

    def measure_noise(self) -> tuple[float | None, str]:
        """Return the noise scale in samples, and a sentence on it; waits for the device."""
        if self.noise is None:
            return None, "no noise scale: FareMeter(noise_scale=True) measures it"
        return self.noise.measure(self.progress.sizes().micro_batch_size)

    def close_window(self) -> None:
        """Compute the times of the steps recorded so far; waits for the device at most once."""
        if self.window.begun and not self.done:
            self.window.close()
            self.watches_batches = self.traced.spread.differs or self.traced.wants_later
            self.traced.note_window(self.progress.kinds.since(self._first_measured))

    def validation_end(self) -> None:
        """Record the end of a validation run, whose number of batches may not have been known before it."""
        if left_later:  # a call of its own would be one more in each step
            leave_rest()
        batches = self.loop.validation_batches()
        self.window.validation.end(batches)
        self.progress.set_validation_batches(batches)

    def end(self) -> None:
        """Record how far the run came; called where it ended by itself, and not by an exception."""
        self.progress.end(self.window.validation.batches)
