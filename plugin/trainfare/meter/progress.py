"""How far a metered run has come: its steps, batches and samples so far, and by them the plan of the whole run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from trainfare.job.input_kind import describe_input
from trainfare.job.loop import Loop
from trainfare.job.run_plan import PlannedRun, RunEnd, RunPlanner, StepComposition
from trainfare.meter.batch_facts import BatchSizes, size_that_shows
from trainfare.meter.settings import MeterSettings
from trainfare.trace import count_samples, count_tokens
from trainfare.trace.mixture import BatchKind, KindsOfBatches
from trainfare_core.job_profile import InputFacts


class RunProgress:
    """
    Counts what a run has done.

    Args:
        loop: before its first step.
        settings: the arguments of FareMeter.
    """

    def __init__(self, loop: Loop, settings: MeterSettings) -> None:
        self._loop, self._settings = loop, settings
        self.facts = loop.run_facts()
        self.length = loop.length()
        self.steps = 0
        """Optimizer steps of this session."""
        self.kinds = KindsOfBatches()
        """Of manual optimization: which optimizers stepped in each batch."""
        self.input: InputFacts | None = None
        """What the loader makes samples of; None: not known."""
        self.uncounted_updates = 0
        """Steps of torch's optimizers, where the loop itself counts none."""
        self._ended: RunEnd | None = None
        self._row_samples = 1.0
        """Samples by tensor shapes that a batch makes of a row of the data set, two of a pair for DPO."""
        self._samples: list[int | None] = []
        self._tokens: list[int | None] = []
        self._calls: int = self.length.calls_done
        self._batches: int = 0
        self._batches_of_steps: int = 0
        self._calls_of_steps: int = 0

    def read_length(self) -> None:
        """Read the length again, once the batches of a step are known."""
        self.length = self._loop.length()

    def see_first_batch(self, batch: Any) -> None:
        """Check the loader's batch size by a batch, and see what its samples are."""
        self.input = describe_input(self.facts.input, batch)
        if self.facts.batch_of_rows:
            self._row_samples = (count_samples(batch) or 0) / (self.facts.loader_batch_size or 1) or 1.0
            return
        size = size_that_shows(self.facts.loader_batch_size, [batch])
        self.facts = replace(self.facts, loader_batch_size=size)

    def count_samples(self, batch: Any) -> None:
        """Count the samples and tokens of a batch."""
        if self.facts.loader_batch_size is None:
            self._samples.append(count_samples(batch))
        self._tokens.append(count_tokens(batch))

    def replace_size(self, samples: int | None, tokens: int | None) -> None:
        """Count the last batch by another size."""
        if self._samples:
            self._samples[-1] = samples
        if self._tokens:
            self._tokens[-1] = tokens

    def count_incomplete(self, batch: Any) -> int | None:
        """
        Return the samples of a batch that is the last of its epoch and smaller than the others; None for any other.

        The others are as large as the DataLoader says, else as more than half of the batches so far.
        """
        if not self._loop.is_last_batch:
            return None
        usual, samples = self.facts.loader_batch_size, count_samples(batch)
        if usual is None and self._samples:
            size, count = Counter(self._samples).most_common(1)[0]
            usual = size if 2 * count > len(self._samples) else None
        if usual is None or (samples is None and self.length.batches_per_epoch == 1):
            return None
        rows = round((samples or 0) / self._row_samples)
        return rows if rows < usual else None

    def batch_end(self, kind: BatchKind) -> bool:
        """
        Count one batch.

        Args:
            kind: the optimizers that have stepped in it under manual optimization.

        Returns:
            Whether an optimizer has stepped.
        """
        if not self.length.automatic:
            self.kinds.add(kind)
        calls = self._loop.updates or self.uncounted_updates
        self._batches += 1
        if calls == self._calls:
            return False
        self.steps += 1
        self._batches_of_steps = self._batches
        self._calls_of_steps += calls - self._calls
        self._calls = calls
        return True

    def set_validation_batches(self, batches: int | None) -> None:
        """Keep the number of validation batches, which may not have been known before validation ran."""
        if self.length.validation_batches is None:
            self.length = replace(self.length, validation_batches=batches)

    def end(self, validation_batches: int) -> None:
        """
        Record how far the run came; called where it ended by itself, and not by an exception.

        Args:
            validation_batches: that ran in this session.
        """
        resumed = self.length.calls_done > 0
        self._ended = RunEnd(
            steps=self.steps_done(),
            epochs=self._loop.epochs,
            validation_batches=None if resumed else validation_batches,
            by_time=self._loop.length().time_is_up,
        )

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
        return self._planner(self._ended).plan()

    def planned_steps(self) -> int | None:
        """Return the optimizer steps that the loop was told to run, wherever it stopped."""
        return self._planner().plan().steps

    def _planner(self, ended: RunEnd | None = None) -> RunPlanner:
        return RunPlanner(
            self._loop.complete_length(self.length),
            composition=self.composition,
            total_samples=self._settings.total_samples,
            micro_batch_size=self.sizes().micro_batch_size,
            ended=ended,
        )

    def steps_done(self) -> int:
        """Return the optimizer steps of the whole run that are done now, earlier sessions included."""
        composition = self.composition
        calls = 1.0 if self.length.automatic or composition is None else composition.calls_per_step
        return int((self._loop.updates or self.uncounted_updates) / calls)

    def sizes(self) -> BatchSizes:
        """Return the samples of a micro-batch, by the batches counted so far."""
        return BatchSizes.of(
            argument=self._settings.batch_size,
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
        if self._settings.total_samples is not None:
            return self._settings.total_samples
        micro, batches = self.sizes().micro_batch_size, self.length.batches_per_epoch
        replicas = self.facts.replicas
        return None if micro is None or batches is None or replicas is None else micro * batches * replicas
