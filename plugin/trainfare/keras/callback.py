"""The `FareMeter` of Keras 3: `model.fit(..., callbacks=[FareMeter()])`."""
# A property that a function makes is not known as one.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from torch.optim import Optimizer

from trainfare.job.loop import Phase, ToldLoop
from trainfare.job.processes import find_processes
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import put_attribute
from trainfare.keras import run_facts
from trainfare.keras.run_facts import BACKEND, keras
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.guarded_meter import GuardedMeter
from trainfare.meter.settings import FitKeywords, check_keywords, with_meter_keywords
from trainfare_core.job_profile import OperationGroup

if TYPE_CHECKING:
    from typing_extensions import Unpack

_END_OF_DATA: Final = ("StopIteration", "OutOfRangeError")
"""What a step of JAX or TensorFlow raises where data without a length end, and `fit` handles."""


def _read(name: str) -> Any:
    return property(attrgetter(name))


class _FitLoop(ToldLoop):
    """One call of `fit`, from an epoch on."""

    module, optimizers, epochs, passes = map(_read, ("view", "views", "epochs_done", "accumulated"))

    def __init__(self, model: Any, first_epoch: int) -> None:
        self.model, self.first_epoch, self.epochs_done = model, first_epoch, first_epoch
        self.fit = run_facts.find_fit(model)
        self.owners = run_facts.list_optimizers(model)
        self.views = [run_facts.view_optimizer(owner) for owner in self.owners]
        self.view, self.accumulated = run_facts.view_model(model), run_facts.count_passes(model)
        self.done_before = self.length().calls_done
        self.batches = run_facts.count_accumulated(model)
        """Batches so far, with those that were accumulated before this call."""
        self.index = 0
        """Batches so far in this epoch."""
        self.validated: int | None = None

    @property
    def updates(self) -> int:
        return self.done_before + self.batches // self.accumulated

    @property
    def batches_in_epoch(self) -> int | None:
        return getattr(self.fit.get("epoch_iterator"), "num_batches", None)

    @property
    def is_last_batch(self) -> bool:
        return self.index + 1 == self.batches_in_epoch

    @property
    def ends_in_step(self) -> bool:
        return (self.batches + 1) % self.accumulated == 0

    def run_facts(self) -> RunFacts:
        return run_facts.read_run(self.model, self.fit)

    def complete_facts(self, facts: RunFacts, operations: Sequence[OperationGroup]) -> RunFacts:
        del operations
        return replace(facts, precision=run_facts.read_precision(self.model))

    def length(self) -> LoopLength:
        callbacks = getattr(self.fit.get("callbacks"), "callbacks", ())
        return run_facts.read_length(self.fit, callbacks, self.first_epoch, self.accumulated, None)

    def validation_batches(self) -> int | None:
        return self.validated

    def folder(self) -> Path:
        return Path()


class FareMeter(GuardedMeter, keras.callbacks.Callback):  # type: ignore[misc]
    """
    Measure a few training steps and report what the whole run costs on every machine that can be rented.

    It does what `trainfare.FareMeter` does in Lightning, with the same report and files, and the results of the
    training are bitwise those of a run without it. A step is traced where the backend of Keras is torch. Evaluation,
    and what other callbacks do at the end of an epoch, are no part of a step.

    Args:
        settings: those of `trainfare.FareMeter`, but for `pilot`, `log_metrics`, `on_budget`, `noise_scale`.

    Raises:
        InputError: an argument that cannot be used; the message names it.
    """

    @with_meter_keywords(FitKeywords)
    def __init__(self, **settings: Unpack[FitKeywords]) -> None:
        message = "FareMeter({}=...): with Keras it takes"
        self._given = check_keywords(FitKeywords, message, settings)
        super().__init__(self._given)
        self._together = 1
        self._loop: _FitLoop | None = None
        self._undo = contextlib.ExitStack()
        self._since_s = 0.0
        """When the call before has ended, or the epoch begun."""
        self._shown_s: float | None = None
        """What the clock shows while several steps of one call are counted; None: the time."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Make the meter; its window, and the steps before it, have as many calls as steps are asked for."""
        del logs
        self.call_guarded(
            lambda meter: meter.release()
        )  # of a `fit` that an exception has ended between steps
        self._forget()
        self._together = int(getattr(self._model, "steps_per_execution", 1) or 1)
        given, services = self._given, type(self).services
        counts = {name: getattr(given, name) * self._together for name in ("warmup_steps", "measure_steps")}
        self._settings = given.model_copy(update=counts)
        self.services = replace(
            services, now=lambda: services.now() if self._shown_s is None else self._shown_s
        )
        self._prepare_meter(1, first_rank=not find_processes()[0])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start to measure with the first epoch; later ones end the pause between two."""
        del logs
        self._tell(Phase.PAUSE, "end")
        self.call_guarded(lambda meter: self._begin_epoch(meter, epoch))
        self._tell(Phase.DATA_WAIT, "begin")

    def _begin_epoch(self, meter: FitMeter, epoch: int) -> None:
        if self._loop is None:
            self._loop = _FitLoop(self._model, epoch)
            meter.start(self._loop)
            self._watch_model(self._loop)
        self._loop.index, self._since_s = 0, self.services.now()
        meter.epoch_start()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Pause, where the last batch was not known as such."""
        del logs
        if self._loop is not None:
            self._loop.epochs_done = epoch + 1
            if self._loop.index != self._loop.batches_in_epoch:
                self._tell(Phase.PAUSE, "begin")

    def on_test_begin(self, logs: Any = None) -> None:
        """Begin a validation, which is no part of a step."""
        del logs
        self.call_guarded(lambda meter: meter.validation_start())

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Count a batch of validation: Keras would wait for each with a callback that sees its end."""
        del logs
        if self._loop is not None:
            self._loop.validated = batch + self._together

    def on_test_end(self, logs: Any = None) -> None:
        """End a validation."""
        del logs
        self.call_guarded(lambda meter: meter.validation_end())

    def on_train_end(self, logs: Any = None) -> None:
        """Report, and leave the model as it was."""
        del logs
        self.call_guarded(lambda meter: meter.end())
        self.call_guarded(lambda meter: meter.close())
        self._forget()

    def _forget(self) -> None:
        super()._forget()
        self._undo.close()
        self._loop = None

    def _watch_model(self, loop: _FitLoop) -> None:
        """Be told of each call of the model's step, and of each update."""
        call: Callable[..., Any] = self._model.train_function

        def train(*args: Any, **kwargs: Any) -> Any:
            batch = args[0][0] if BACKEND == "torch" else None  # else an iterator
            self._tell(Phase.DATA_WAIT, "end")
            self.call_guarded(lambda meter: meter.batch_start(batch), every_batch=True)
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                if type(error).__name__ not in _END_OF_DATA:
                    self._end_early(error)
                raise
            if BACKEND == "torch":
                self._end_batches(loop.index + 1)
            return result

        # Not by a generator, which Python may end while it exits.
        self._undo.callback(put_attribute(self._model, "train_function", train))
        if BACKEND == "torch" and not self._model.jit_compile:  # else it would be a part of the compiled step
            for optimizer, view in zip(loop.owners, loop.views, strict=True):
                apply = self._watch_update(optimizer.apply, view)
                self._undo.callback(put_attribute(optimizer, "apply", apply))

    def _watch_update(self, call: Callable[..., Any], view: Optimizer) -> Callable[..., Any]:
        def apply(*args: Any, **kwargs: Any) -> Any:
            self._tell(Phase.OPTIMIZER, "begin")
            self.call_guarded(lambda meter: meter.before_step(view), every_batch=True)
            try:
                return call(*args, **kwargs)
            finally:
                self._tell(Phase.OPTIMIZER, "end")

        return apply

    def _end_batches(self, until: int) -> None:
        """Count the batches of a call, up to a number of this epoch; those of one call took the same time."""
        loop = self._loop
        if loop is not None:
            self.call_guarded(lambda meter: self._count_batches(meter, loop, until), every_batch=True)
            self._tell(Phase.PAUSE if loop.index == loop.batches_in_epoch else Phase.DATA_WAIT, "begin")

    def _count_batches(self, meter: FitMeter, loop: _FitLoop, until: int) -> None:
        until = min(until, loop.batches_in_epoch or until)  # the last call of an epoch may have fewer
        count, now_s = until - loop.index, 0.0 if BACKEND == "torch" else self.services.now()
        for number in range(1, count + 1):
            loop.batches += 1
            if count > 1:
                self._shown_s = self._since_s + (now_s - self._since_s) * number / count
            meter.batch_end()
            loop.index += 1
        self._shown_s, self._since_s = None, now_s

    def _tell(self, phase: Phase, what: Literal["begin", "end"]) -> None:
        """Tell of a phase; the step of another backend loads its data itself."""
        if self._loop is not None and (BACKEND == "torch" or phase is Phase.PAUSE):
            self._loop.tell(phase, what)

    if BACKEND != "torch":

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Count the steps of a call, which Keras has waited for; on torch it would wait for nothing but this."""
            del logs
            self._end_batches(batch + 1)
