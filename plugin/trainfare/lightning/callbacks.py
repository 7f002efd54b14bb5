"""The part of Lightning's callbacks that a trace takes into account: what changes the module or the step."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable
from importlib import import_module
from typing import Any, Final, cast

from torch import nn

from trainfare.fake_step.user_errors import user_errors

_SET_UP: Final = {"BaseFinetuning", "ModelPruning"}
"""Lightning's callbacks whose `setup` changes the module; that of the others writes, measures or searches."""
_UNTRACED: Final = {"WeightAveraging", "StochasticWeightAveraging"}
"""Lightning's callbacks that do work of their own beside the step."""
_AT_EPOCH_START: Final = {"BaseFinetuning", "GradientAccumulationScheduler"}
"""Lightning's callbacks that change the step at the start of an epoch."""
_PRUNING: Final = "ModelPruning"
"""Lightning's callback that changes it at the end of one."""
_FREEZES: Final = ("requires_grad", "freeze")
"""Words in the source of a user's hook which tell that it changes what is trained."""
_PRUNED: Final = "_parameters_to_prune"
"""ModelPruning's (module, name) pairs, found in `setup`."""


def set_up_callbacks(callbacks: Iterable[Any], trainer: Any, module: Any) -> None:
    """
    Call `setup` of those callbacks that may change the module: the user's own, and Lightning's for fine-tuning.

    Args:
        callbacks: of either namespace.
        trainer: what they read as the Trainer.
        module: the module, before its own `setup`.

    Raises:
        TraceError: one raised.
    """
    for callback in callbacks:
        if not is_lightnings(callback.__class__.setup) or not _bases(callback).isdisjoint(_SET_UP):
            with user_errors(f"setup of the callback {type(callback).__name__}"):
                callback.setup(trainer, module, "fit")


def changes_at_start(callback: Any) -> bool:
    """Return whether a callback changes the step in `on_train_epoch_start`: Lightning's, or a user's that says so."""
    own_hook: object = getattr(callback.__class__, "on_train_epoch_start", None)
    if own_hook is None or is_lightnings(own_hook):
        return not _bases(callback).isdisjoint(_AT_EPOCH_START)
    with contextlib.suppress(OSError, TypeError):  # it has no source
        return any(word in inspect.getsource(callback.__class__.on_train_epoch_start) for word in _FREEZES)
    return False


def prunes(callback: Any) -> bool:
    """Return whether a callback is Lightning's for pruning."""
    return _PRUNING in _bases(callback)


def prune(callback: Any, epoch: int, original: object, module: nn.Module) -> None:
    """
    Give a module what pruning after an epoch adds to its step: a mask for each pruned parameter.

    Which values a mask leaves out changes no operation, so it is one of ones, which needs no values.

    Args:
        callback: set up with a module.
        epoch: the one that has ended.
        original: that module.
        module: the module to change: the same, or a copy of it.
    """
    stated = callback._apply_pruning, callback.amount  # noqa: SLF001 - what its argument apply_pruning was
    applies, amount = (value(epoch) if callable(value) else value for value in stated)
    if not applies or not amount:
        return
    masks: Any = import_module("torch.nn.utils.prune")
    members = _map_modules_by_name(module)
    names: dict[int, str] = {}
    if isinstance(original, nn.Module):
        names = {id(member): name for name, member in _map_modules_by_name(original).items()}
    for member, name in getattr(callback, _PRUNED):
        twin: nn.Module = members[names[id(member)]] if id(member) in names else member
        if not hasattr(twin, f"{name}_mask"):
            masks.identity(twin, name)


def _map_modules_by_name(module: nn.Module) -> dict[str, nn.Module]:
    return dict(cast("Iterable[tuple[str, nn.Module]]", module.named_modules()))


def describe_untraced_work(callbacks: Iterable[Any]) -> str:
    """Return a sentence on callbacks that work beside the step; empty where there is none."""
    names = [type(callback).__name__ for callback in callbacks if _bases(callback) & _UNTRACED]
    return f"without the work of {' and '.join(names)}, which is not traced" if names else ""


def is_lightnings(method: object) -> bool:
    """Return whether a method is Lightning's or trainfare's, which no class of the user's overrides."""
    home = str(getattr(method, "__module__", "")).partition(".")[0]
    return home in ("lightning", "pytorch_lightning", "trainfare")


def _bases(callback: Any) -> set[str]:
    return {base.__name__ for base in type(callback).__mro__}
