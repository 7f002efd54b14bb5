"""What decides the length of a Trainer's run, read in `on_train_start`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from trainfare.job.callback_schedules import accumulation_of, trigger_of
from trainfare.job.run_plan import LoopLength
from trainfare.lightning.replicas import replicas_of


def read_trainer(trainer: Any) -> LoopLength:
    """
    Read a Trainer of either namespace once its loaders exist.

    Args:
        trainer: in `on_train_start` or later; before that, the number of batches is not known.
    """
    loop = trainer.fit_loop.epoch_loop
    automatic = bool(trainer.lightning_module.automatic_optimization)
    return LoopLength(
        batches_per_epoch=_whole(trainer.num_training_batches),
        estimated_steps=_whole(trainer.estimated_stepping_batches) if automatic else None,
        max_epochs=_whole(trainer.max_epochs),
        max_steps=_whole(trainer.max_steps),
        max_time_s=_max_time_s(trainer)[0],
        time_is_up=_max_time_s(trainer)[1],
        accumulate_grad_batches=max(1, int(trainer.accumulate_grad_batches)),
        accumulation=accumulation_of(trainer.callbacks, int(trainer.accumulate_grad_batches)),
        automatic=automatic,
        optimizers=max(1, len(trainer.optimizers)),
        replicas=replicas_of(trainer),
        calls_done=int(trainer.global_step),
        validates=bool(trainer.enable_validation),
        validation_batches=batches_of(getattr(loop.val_loop, "_max_batches", None)),
        validate_every_n_batches=_whole(getattr(trainer, "val_check_batch", None)),
        validate_by_time=getattr(trainer, "_val_check_time_interval", None) is not None,
        validate_every_n_epochs=trainer.check_val_every_n_epoch,
        checkpoints=tuple(trigger_of(callback) for callback in trainer.checkpoint_callbacks),
        no_length="the training set has no length: give FareMeter(total_samples=...) or Trainer(max_steps=...)",
    )


def batches_of(limits: Sequence[float] | None) -> int | None:
    """Return the batches of one validation run over all its loaders; None where a loader has no length."""
    if not limits or any(math.isinf(limit) for limit in limits):
        return None
    return int(sum(limits))


def _whole(value: Any) -> int | None:
    """Return a whole number; None for the values by which Lightning says "no limit": None, -1 and inf."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return int(value)


def _max_time_s(trainer: Any) -> tuple[float | None, bool]:
    """Return the time limit of a Trainer, None where it has none, and whether it is up."""
    for callback in trainer.callbacks:
        remaining: Any = getattr(callback, "time_remaining", None)
        elapsed: Any = getattr(callback, "time_elapsed", None)
        if callable(remaining) and callable(elapsed):
            left_s = remaining()
            if isinstance(left_s, int | float):
                return float(left_s) + float(cast("Any", elapsed)()), left_s <= 0
    return None, False
