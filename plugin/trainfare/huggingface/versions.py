"""What Trainers of transformers 4.46 to 5 do alike under different names."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from trainfare.job.floors import is_older

_COUNTED = {"num_train_epochs", "num_examples", "len_dataloader", "max_steps", "num_update_steps_per_epoch"}
"""Variables of a loop before 4.49, all of which no other function is likely to have."""


@dataclass(frozen=True, slots=True)
class TrainingLength:
    """Length of a call of `train`, as the Trainer counts it."""

    epochs: int
    samples: int
    """Of an epoch."""
    batches_per_epoch: int | None
    """None: the loader has no length."""
    steps: int

    @classmethod
    def of_values(cls, values: tuple[Any, ...]) -> TrainingLength:
        """Return what `set_initial_training_values` has returned, which transformers have from 4.49 on."""
        epochs, samples, batches, steps = int(values[0]), int(values[2]), values[5], int(values[6])
        return cls(epochs, samples, None if epochs == sys.maxsize or batches is None else int(batches), steps)


def count_training(trainer: Any, loader: Any) -> TrainingLength:
    """
    Return the length of a call of `train` on a loader.

    Before 4.49 `_inner_training_loop` counts it itself; the arithmetic here is the one of 4.46 to 4.48.
    """
    from transformers.trainer_utils import has_length

    args: Any = trainer.args
    count: Any = getattr(trainer, "set_initial_training_values", None)
    if count is not None:
        total = (
            (count_batch(trainer),) if "total_train_batch_size" in inspect.signature(count).parameters else ()
        )
        return TrainingLength.of_values(count(args, loader, *total))
    accumulate, most = int(args.gradient_accumulation_steps), int(args.max_steps)
    if not has_length(loader):
        if most <= 0:
            raise ValueError("without a length of the data `max_steps` must say where the training ends")
        return TrainingLength(sys.maxsize, count_batch(trainer) * most, None, most)
    per_epoch = max(len(loader) // accumulate, 1)
    steps = most if most > 0 else math.ceil(args.num_train_epochs * per_epoch)
    epochs = math.ceil(most / per_epoch if most > 0 else args.num_train_epochs)
    return TrainingLength(epochs, int(trainer.num_examples(loader)), len(loader), steps)


def read_training(trainer: Any) -> TrainingLength:
    """Return the length that a Trainer before 4.49 has counted when it tells its callbacks that the training begins.

    It is read where the loop keeps it: to count again would call `__len__` of the user's data once more.
    """
    frame = inspect.currentframe()
    while frame is not None and not frame.f_locals.keys() >= _COUNTED:
        frame = frame.f_back
    if frame is None:  # a loop of another class's own
        return count_training(trainer, trainer.callback_handler.train_dataloader)
    kept = frame.f_locals
    epochs, batches = int(kept["num_train_epochs"]), kept["len_dataloader"]
    return TrainingLength(epochs, int(kept["num_examples"]), batches, int(kept["max_steps"]))


def count_batch(trainer: Any) -> int:
    """Return the samples of an optimizer step on all devices."""
    count: Any = getattr(trainer, "get_total_train_batch_size", None)  # from 4.53 on
    args: Any = trainer.args
    if count is not None:
        return int(count(args))
    return int(trainer._train_batch_size * args.gradient_accumulation_steps * args.world_size)  # noqa: SLF001


def take_batches(trainer: Any, batches: Iterator[Any], count: int) -> tuple[list[Any], Any]:
    """Return the micro-batches of a step and, where the Trainer divides by it, the number of their tokens."""
    take: Any = trainer.get_batch_samples
    device = (trainer.args.device,) if "device" in inspect.signature(take).parameters else ()  # from 4.50 on
    taken: tuple[list[Any], Any] = take(batches, count, *device)
    return taken


def validates_at_end(version: str | None = None) -> bool:
    """Return whether a run that validates every so many steps does so after its last one, too; from 5.4 on it does."""
    return not is_older(version or import_module("transformers").__version__, "5.4")


def set_intervals(trainer: Any, steps: int) -> None:
    """Give the Trainer's state the steps between evaluations, checkpoints and logs, which may be shares of the run."""
    state, args = trainer.state, trainer.args
    if hasattr(state, "compute_steps"):  # from 4.49 on
        state.compute_steps(args, steps)
        return
    for name in ("logging_steps", "eval_steps", "save_steps"):
        every = getattr(args, name)
        if every is not None:
            setattr(state, name, math.ceil(steps * every) if every < 1 else every)


def clip_gradients(trainer: Any, module: nn.Module) -> None:
    """Clip the gradients as the Trainer does; from 5.0 on it takes their norm without a limit, too."""
    most = trainer.args.max_grad_norm
    if hasattr(trainer, "_get_grad_norm"):
        norm = trainer._clip_grad_norm(module) if most > 0 else None  # noqa: SLF001
        trainer._get_grad_norm(module, grad_norm=norm)  # noqa: SLF001
    elif most is not None and most > 0:
        trainer.accelerator.clip_grad_norm_(module.parameters(), most)
