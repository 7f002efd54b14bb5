"""A script with Keras: what is replaced up to its call of `Model.fit`, and the job of that call."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Generator
from functools import partial, wraps
from importlib import import_module
from typing import Any, Final

from trainfare.fake_step.fake_tensors import seeded_random
from trainfare.fake_step.several_batches import read_batches, whole_batches
from trainfare.job import Batches, LiveJob, LiveRun, place_of_caller
from trainfare.job.fit_call import FitCall, Recorder, skip_call
from trainfare.job.loading import load_in_this_process, report_user_errors
from trainfare.job.loop import do_nothing
from trainfare.job.made_up_data import MadeUpData
from trainfare.job.on_import import on_import
from trainfare.job.user_code import raise_error, replace_attribute
from trainfare.meter.batch_facts import BatchSizes
from trainfare.script.loop_scripts import LoopScript, ScriptRun
from trainfare_core.errors import TargetError

_MODEL: Final = "keras.src.models.model"
"""The module of `keras.Model`, and of its base class for the backend, `Trainer`."""
_UPDATES: Final = "keras.src.optimizers.base_optimizer"
_WRITE: Final = ("save", "save_weights", "export")
_ONLY_FIT: Final = "of Keras only Model.fit is priced; or describe the run as a TrainingJob"


class _FitStoppedError(Exception):
    """Ends a call of `fit` before its first epoch."""


@contextlib.contextmanager
def _intercept_keras(recorder: Recorder) -> Generator[None, None, None]:
    """
    Stop each call of `fit` before its first epoch, once Keras is imported.

    Args:
        recorder: takes the calls.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(on_import(_MODEL, partial(_replace_model, stack, recorder)))
        yield


def _watch_updates(run: ScriptRun) -> None:
    """Refuse an update of an optimizer of Keras outside of `fit`, of which no step is priced."""
    updates, stack = itertools.count(1), run.until_training

    def replace() -> None:
        base: Any = sys.modules[_UPDATES].BaseOptimizer
        original = base.apply

        @wraps(original)
        def apply(self: Any, *args: Any, **kwargs: Any) -> Any:
            if next(updates) >= run.optimizer_step:
                words = f"Keras's {type(self).__name__}.apply, without Model.fit, at {place_of_caller()}"
                msg = f"{run.name} trains with {words}, and was stopped there: {_ONLY_FIT}"
                error = TargetError(msg + run.recorder.explain())
                run.end(partial(raise_error, error))
            return original(self, *args, **kwargs)

        stack.enter_context(replace_attribute(base, "apply", apply))

    stack.enter_context(on_import(_UPDATES, replace))


def _replace_model(stack: contextlib.ExitStack, recorder: Recorder) -> None:
    home: Any = sys.modules[_MODEL]
    original = home.Trainer.fit
    signature = inspect.signature(original)

    @wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        keras: Any = import_module("keras")
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        call = FitCall(
            self, {"callbacks": given.get("callbacks") or ()}, _MODEL, place_of_caller(), _load_fit_call
        )

        class Stop(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_begin(self, logs: Any = None) -> None:
                from trainfare.keras.run_facts import find_fit

                del logs
                call.arguments["fit"] = find_fit(call.trainer)
                recorder.note_call(call, "Model.fit")
                raise _FitStoppedError

        # Those of the user's may write, and are told of no run.
        with contextlib.suppress(_FitStoppedError):
            original(**{**given, "callbacks": [Stop()], "verbose": 0})
        history = keras.callbacks.History()
        history.history = defaultdict(lambda: [math.nan])
        return history

    stack.enter_context(replace_attribute(home.Trainer, "fit", fit))
    for name in _WRITE:
        skipped = skip_call(getattr(home.Model, name), f"Model.{name}", recorder, do_nothing)
        stack.enter_context(replace_attribute(home.Model, name, skipped))


def _load_fit_call(call: FitCall, notes: tuple[str, ...], _made_up: MadeUpData | None) -> LiveJob:
    """
    Return the job of a call of `fit`.

    Args:
        call: under way, before its first epoch.
        notes: on the script, for the profile.

    Raises:
        TargetError: the backend is not torch, the data cannot be read, or there is no batch.
    """
    from trainfare.keras.loop_kind import KerasKind
    from trainfare.keras.run_facts import (
        BACKEND,
        count_passes,
        read_length,
        read_precision,
        read_run,
        view_model,
    )

    model, fit, passes = call.trainer, call.arguments["fit"], count_passes(call.trainer)
    if BACKEND != "torch":
        msg = f"{call.place}: the backend of Keras is {BACKEND}, and only a step of torch is traced"
        raise TargetError(f"{msg}: set KERAS_BACKEND=torch, or measure a run with trainfare.keras.FareMeter")
    run, epochs = read_run(model, fit), fit["epoch_iterator"]
    with load_in_this_process() as times, report_user_errors("setting up the data"), seeded_random():
        loader = epochs.data_adapter.get_torch_dataloader()
        batches = whole_batches(read_batches(loader), run.loader_batch_size)
        validated = None
        if fit.get("validation_data") is not None:
            data = {name: fit[f"val_{name}"] for name in ("x", "y", "sample_weight")}
            size, steps = fit["validation_batch_size"] or fit["batch_size"], fit["validation_steps"]
            validated = type(epochs)(**data, batch_size=size, steps_per_epoch=steps).num_batches
    if not batches:
        raise TargetError(f"{call.place}: the training data gave no batch")
    facts = read_length(fit, call.arguments["callbacks"], fit["initial_epoch"], passes, validated)
    sizes = BatchSizes.of_batches(run.loader_batch_size, batches)
    compiled = ("jit_compile=True: the trace is eager",) if model.jit_compile else ()
    model.train()
    return LiveJob(
        module=view_model(model),
        batch=Batches(batches, times.add_to(run.input, loader, sizes.micro_batch_size)),
        batch_size=sizes.micro_batch_size or 1,
        tokens_per_sample=sizes.tokens_per_sample,
        precision=read_precision(model),
        accumulate_grad_batches=passes,
        strategy=run.parallel.strategy,
        live=LiveRun(
            model,
            facts,
            batch_size_known=sizes.micro_batch_size is not None,
            notes=(*notes, *compiled, *sizes.notes),
            kind=KerasKind(model),
        ),
    )


SCRIPT: Final = LoopScript(_intercept_keras, _watch_updates, "trainfare.keras.probe")
"""As `trainfare.loops` asks for it."""
