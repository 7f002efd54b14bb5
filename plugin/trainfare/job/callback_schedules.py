"""What the attributes of a run's callbacks say of its length: accumulation by epoch, and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from trainfare.job.run_plan import CheckpointTrigger


def accumulation_of(callbacks: Iterable[Any], accumulated: int) -> tuple[tuple[int, int], ...]:
    """
    Return the schedule of a `GradientAccumulationScheduler` by its attribute, which both namespaces have.

    Args:
        callbacks: of a Trainer.
        accumulated: batches per step that the Trainer was made with; a schedule of that alone is none.
    """
    for callback in callbacks:
        scheduling = getattr(callback, "scheduling", None)
        if isinstance(scheduling, dict) and set(cast("dict[int, int]", scheduling).values()) - {accumulated}:
            return tuple(sorted(cast("dict[int, int]", scheduling).items()))
    return ()


def early_end_of(callbacks: Iterable[Any], max_time_s: float | None, module: object = None) -> str:
    """Return what may end a run before its last step, in words; "" where nothing of Lightning's does."""
    names = {base.__name__ for callback in callbacks for base in type(callback).__mro__}
    time = [] if max_time_s is None else [f"max_time ({max_time_s:g} s)"]
    # Lightning ends an epoch where this hook returns -1.
    code = getattr(getattr(module, "on_train_batch_start", None), "__code__", None)
    hook = ["on_train_batch_start"] if -1 in getattr(code, "co_consts", ()) else []
    return " or ".join((["EarlyStopping"] if "EarlyStopping" in names else []) + hook + time)


def trigger_of(callback: Any) -> CheckpointTrigger:
    """Return when a checkpoint callback of Lightning saves."""
    saves = getattr(callback, "save_top_k", 1) != 0
    return CheckpointTrigger(
        every_n_steps=int(getattr(callback, "_every_n_train_steps", 0) or 0) if saves else 0,
        every_n_epochs=int(getattr(callback, "_every_n_epochs", 0) or 0) if saves else 0,
        by_time=saves and getattr(callback, "_train_time_interval", None) is not None,
        weights_only=bool(getattr(callback, "save_weights_only", False)),
    )
