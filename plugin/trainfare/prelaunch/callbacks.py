"""The part of Lightning's callbacks that a trace takes into account: changes of the module before the first step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from trainfare.prelaunch.user_errors import user_errors

__all__ = ["set_up_callbacks"]

_CHANGING: Final = {
    "BaseFinetuning", "ModelPruning", "WeightAveraging", "StochasticWeightAveraging", "GradientAccumulationScheduler",
}  # fmt: skip
"""Lightning's callbacks that change what a step does during the run."""
_SET_UP: Final = {"BaseFinetuning", "ModelPruning"}
"""Lightning's callbacks whose `setup` changes the module; that of the others writes, measures or searches."""
_LEFT_OUT: Final = ("trainfare", "lightning", "pytorch_lightning")


def set_up_callbacks(callbacks: Iterable[Any], trainer: Any, module: Any) -> list[str]:
    """
    Call `setup` of those callbacks that may change the module: the user's own, and Lightning's for fine-tuning.

    Args:
        callbacks: of either namespace.
        trainer: what they read as the Trainer.
        module: the module, before its own `setup`.

    Returns:
        A note for each callback that changes the step later.

    Raises:
        TraceError: one raised.
    """
    notes: list[str] = []
    for callback in callbacks:
        names = {base.__name__ for base in type(callback).__mro__}
        home = str(getattr(callback.__class__.setup, "__module__", "")).partition(".")[0]
        if home not in _LEFT_OUT or not names.isdisjoint(_SET_UP):
            with user_errors(f"setup of the callback {type(callback).__name__}"):
                callback.setup(trainer, module, "fit")
        if not names.isdisjoint(_CHANGING):
            name = type(callback).__name__
            notes.append(f"the callback {name} changes the step during the run: traced is the first step")
    return notes
