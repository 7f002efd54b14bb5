"""The `FareMeter` of Hugging Face's Trainer: `FareMeter().attach(trainer)` before `trainer.train()`."""
# A property that a function makes is not known as one.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from torch import nn
from torch.optim import Optimizer

from trainfare_core.errors import InputError, MissingExtraError

try:
    import transformers
    from transformers import Trainer, TrainerCallback
except ImportError as problem:
    raise MissingExtraError("transformers", "huggingface") from problem

from trainfare.huggingface.run_facts import find_frozen_parameters, read_length, read_run
from trainfare.huggingface.versions import TrainingLength, read_training
from trainfare.job.floors import check_version
from trainfare.job.loop import LoopLog, Phase, ToldLoop, do_nothing
from trainfare.job.processes import count_nodes
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import replace_attribute
from trainfare.meter.fare_log import warn_user
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.guarded_meter import GuardedMeter
from trainfare.meter.settings import TrainKeywords, check_keywords, with_meter_keywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

check_version("transformers", transformers.__version__)

_STATE: Final = "trainfare"
"""Of the meter's state in that of the Trainer. No class has this name: the Trainer would make another FareMeter."""
_TRACKERS: Final = ("TensorBoardCallback", "WandbCallback", "MLflowCallback")


def _read_count(name: str) -> Any:
    read: Callable[[Any], Any] = attrgetter(f"trainer.{name}")
    return property(lambda loop: int(read(loop) or 0))


class _CallbackLog(LoopLog):
    """The tracker of one of the Trainer's own callbacks, past `Trainer.log`, which runs the user's code."""

    def __init__(self, callback: Any, step: int) -> None:
        self._callback, self._step = callback, step

    @property
    def name(self) -> str:
        return type(self._callback).__name__

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        callback, step, values = self._callback, self._step, dict(metrics)
        board, wandb, mlflow = (getattr(callback, name, None) for name in ("tb_writer", "_wandb", "_ml_flow"))
        if board is not None:
            for name, value in values.items():
                board.add_scalar(name, value, step)
        elif wandb is not None and wandb.run is not None:
            wandb.log({**values, "train/global_step": step})
        elif mlflow is not None and mlflow.active_run():  # else it would begin another run
            mlflow.log_metrics(values, step=step)


class _TrainerLoop(ToldLoop):
    """The calls of `train` of one Trainer, one after another."""

    resumes_in_folder = True
    updates = _read_count("state.global_step")
    epochs = _read_count("state.epoch")
    rank = _read_count("args.process_index")
    world_size = _read_count("args.world_size")
    passes = _read_count("args.gradient_accumulation_steps")

    trainer: Any = None
    """A `transformers.Trainer`; None before it is known."""
    training: TrainingLength | None = None
    """Length of the call, as the Trainer has counted it; None where none is under way."""
    left = 0
    """Micro-batches of this optimizer step after the present one."""
    validated = 0
    """Batches of the validation that has run last."""

    @property
    def ends_in_step(self) -> bool:
        """The batch is the last of those that were loaded for the step."""
        return not self.left

    @property
    def is_last_batch(self) -> bool:
        """The last batch was loaded, and this is the last one that was."""
        return not self.left and bool(self.trainer.accelerator.gradient_state.end_of_dataloader)

    @property
    def module(self) -> nn.Module:
        """The model, inside what wraps it for several processes; a compiled one with its wrapper."""
        wrapped: nn.Module = self.trainer.model_wrapped
        compiled = any(type(part).__name__ == "OptimizedModule" for part in wrapped.modules())
        return wrapped if compiled else self.trainer.model

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        optimizer = self.trainer.optimizer  # accelerate's wrapper, or none
        return [getattr(optimizer, "optimizer", optimizer)]

    @property
    def frozen_parameters(self) -> Sequence[nn.Parameter]:
        return find_frozen_parameters(self.trainer)

    def run_facts(self) -> RunFacts:
        return read_run(self.trainer, self.module, cast("TrainingLength", self.training).samples)

    def length(self) -> LoopLength:
        return read_length(self.trainer, cast("TrainingLength", self.training), None)

    def validation_batches(self) -> int | None:
        return self.validated

    def folder(self) -> Path:
        return Path(self.trainer.args.output_dir)

    def logs(self) -> Sequence[LoopLog]:
        """Return those of the `report_to` for which transformers brings a callback."""
        callbacks = [c for c in self.trainer.callback_handler.callbacks if type(c).__name__ in _TRACKERS]
        return [_CallbackLog(callback, self.updates) for callback in callbacks]

    def show_in_bar(self, give_text: Callable[[], str]) -> Callable[[], None]:
        """Show a text behind the numbers of tqdm's bar, or in the comment of a notebook's."""
        stack = contextlib.ExitStack()

        def watch(bar: Any) -> None:
            update = bar.update

            @functools.wraps(update)
            def update_with_fare(*args: Any, **kwargs: Any) -> Any:
                text = give_text()
                if kwargs.get("comment"):
                    kwargs["comment"] = ", ".join(filter(None, (kwargs["comment"], text)))
                else:
                    bar.postfix = text
                return update(*args, **kwargs)

            stack.enter_context(replace_attribute(bar, "update", update_with_fare))

        for callback in self.trainer.callback_handler.callbacks:
            for bar in (getattr(callback, name, None) for name in ("training_bar", "training_tracker")):
                if bar is not None:
                    watch(bar)
        return stack.close

    def show(self, line: str) -> bool:
        """Print above the progress bar."""
        bars = [getattr(c, "training_bar", None) for c in self.trainer.callback_handler.callbacks]
        return bool([bar.write(line) for bar in bars if bar is not None])


def _hook(call: Callable[[FitMeter], None], *, every_batch: bool = False) -> Callable[..., None]:
    """Return a hook of the Trainer that calls the meter."""

    def hook(self: GuardedMeter, *_: Any, **__: Any) -> None:
        self.call_guarded(call, every_batch=every_batch)

    return hook


class FareMeter(GuardedMeter, TrainerCallback):  # type: ignore[misc]
    """
    Measure a few training steps and report what the whole run costs on every machine that can be rented.

    It does what `trainfare.FareMeter` does in Lightning, with the same report and files, and the results of the
    training are bitwise those of a run without it. Evaluation and saving are no part of a step.

    Args:
        settings: those of `trainfare.FareMeter`, but for `pilot`.

    Raises:
        InputError: an argument that cannot be used; the message names it.
    """

    @with_meter_keywords(TrainKeywords)
    def __init__(self, **settings: Unpack[TrainKeywords]) -> None:
        message = "FareMeter({}=...): with Hugging Face it takes"
        super().__init__(check_keywords(TrainKeywords, message, settings))
        self._loop = _TrainerLoop()

    def attach(self, trainer: Any) -> FareMeter:
        """
        Measure each call of `train` of a Trainer from now on, and return this FareMeter.

        Args:
            trainer: a `transformers.Trainer`, of any class derived from it.

        Raises:
            InputError: it is no such Trainer, or this FareMeter has one.
        """
        if not isinstance(trainer, Trainer) or self._loop.trainer is not None:
            raise InputError("FareMeter.attach: one FareMeter takes one transformers.Trainer, once")
        self._loop.trainer = loose = cast("Any", trainer)
        self._loop.saving = trainer, "_save_checkpoint"
        loose.add_callback(self)
        loose.train = functools.update_wrapper(functools.partial(self._train, loose.train), loose.train)
        return self

    def _train(self, train: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Train, told of what the Trainer does, and leave the Trainer as it was."""
        with contextlib.ExitStack() as stack:
            self._watch_trainer(stack)
            try:
                return train(*args, **kwargs)
            except BaseException as error:
                self._end_early(error)
                raise
            finally:
                self.call_guarded(lambda meter: meter.close())
                self._forget()

    def _forget(self) -> None:
        super()._forget()
        self._loop.training = None

    def _watch_trainer(self, stack: contextlib.ExitStack) -> None:
        """Be told of length, batches and phases, of which the Trainer tells its callbacks nothing."""
        loop, trainer = self._loop, self._loop.trainer

        def wrap(owner: Any, name: str, before: Callable[..., None], after: Callable[[Any], None]) -> None:
            original: Any = getattr(owner, name, None)

            @functools.wraps(original)
            def call(*args: Any, **kwargs: Any) -> Any:
                before(*args, **kwargs)
                result = original(*args, **kwargs)
                after(result)
                return result

            if original is not None:  # as in another version of transformers
                stack.enter_context(replace_attribute(owner, name, call))

        def begin_load(*_: Any, **__: Any) -> None:
            if id(self) not in map(id, trainer.callback_handler.callbacks):  # taken away in mid-run
                self.call_guarded(lambda meter: meter.give_up())
                self._forget()
            loop.tell(Phase.DATA_WAIT, "begin")

        def end_load(batches: Any) -> None:
            loop.tell(Phase.DATA_WAIT, "end")
            loop.left = len(batches[0])

        def begin_step(model: Any = None, inputs: Any = None, *_: Any, **__: Any) -> None:  # by name as well
            del model
            loop.left -= 1
            self.call_guarded(lambda meter: meter.batch_start(inputs), every_batch=True)

        def end_step(_: Any) -> None:
            if loop.ends_in_step:  # clipping is a part of the update
                loop.tell(Phase.OPTIMIZER, "begin")
                self.call_guarded(lambda meter: meter.before_step(loop.optimizers[0]), every_batch=True)

        def begin_save(*_: Any, **__: Any) -> None:
            loop.tell(Phase.PAUSE, "begin")
            states = getattr(trainer.state, "stateful_callbacks", None)
            if isinstance(states, dict):  # as in another version of transformers
                states[_STATE] = self.state_dict()

        def begin_validation(*_: Any, **__: Any) -> None:
            loop.validated = 0
            self.call_guarded(lambda meter: meter.validation_start())

        def end_validation(_: Any) -> None:
            self.call_guarded(lambda meter: meter.validation_end())

        def set_length(values: Any) -> None:
            loop.training = TrainingLength.of_values(values)

        wrap(trainer, "set_initial_training_values", do_nothing, set_length)
        wrap(trainer, "get_batch_samples", begin_load, end_load)
        wrap(trainer, "training_step", begin_step, end_step)
        wrap(trainer, "_evaluate", begin_validation, end_validation)
        wrap(trainer, "_save_checkpoint", begin_save, functools.partial(loop.tell, Phase.PAUSE, "end"))
        for owner, name, phase in (
            (trainer, "compute_loss", Phase.FORWARD),
            (trainer.accelerator, "backward", Phase.BACKWARD),
            (trainer, "evaluate", Phase.PAUSE),
            (trainer, "save_model", Phase.PAUSE),
        ):
            tell = functools.partial(loop.tell, phase)
            wrap(owner, name, functools.partial(tell, "begin"), functools.partial(tell, "end"))

    on_epoch_begin = _hook(lambda meter: meter.epoch_start())
    on_substep_end = _hook(lambda meter: meter.batch_end(), every_batch=True)
    on_train_end = _hook(lambda meter: meter.end())
    on_log = _hook(lambda meter: meter.log_now())

    def on_train_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Read the plan of the run and start to measure."""
        first_rank = bool(state.is_world_process_zero)
        trainer = self._loop.trainer
        if trainer is not None and not hasattr(trainer, "set_initial_training_values"):  # before 4.49
            self._loop.training = read_training(trainer)
        if self._loop.training is not None:
            self.call_guarded(lambda meter: meter.give_up())  # auto_find_batch_size has begun once more
            self._forget_earlier()
            states: Any = getattr(state, "stateful_callbacks", None)
            self.load_state_dict(states and states.get(_STATE))
            self._prepare_meter(count_nodes(int(args.world_size)), first_rank=first_rank)
            self.call_guarded(lambda meter: meter.start(self._loop))
        elif first_rank:
            warn_user("FareMeter is off: attach it to the Trainer, by FareMeter().attach(trainer)")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the batch; at the budget, let the Trainer save and end."""
        del state
        self.call_guarded(lambda meter: meter.batch_end(), every_batch=True)
        if self._stops_here:
            control.should_save = control.should_training_stop = True
            if args.save_strategy == "best":  # an evaluation in this step would decide on saving
                control.should_evaluate = False

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Note the end of the update."""
        self._loop.tell(Phase.OPTIMIZER, "end")

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """Count a batch of validation."""
        self._loop.validated += 1
