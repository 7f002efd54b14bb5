"""The forms that Lightning allows for `configure_optimizers`, for a loss and for `training_step`'s signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer

from trainfare.fake_step.user_errors import ADVICE
from trainfare_core.errors import TraceError


def optimizers_of(configured: Any) -> tuple[list[Optimizer], list[SimpleNamespace]]:
    """
    Return the optimizers in any form that `configure_optimizers` may have in Lightning.

    Returns:
        The optimizers, and one namespace with a `scheduler` for each learning-rate scheduler.

    Raises:
        TraceError: a form that Lightning refuses.
    """
    if configured is None:
        return [], []
    forms = _make_list(configured)
    if len(forms) == 2 and isinstance(forms[0], list) and _all_optimizers(_make_list(forms[0])):
        return _make_list(forms[0]), [_scheduler(item) for item in _make_list(forms[1])]
    if _all_optimizers(forms):
        return forms, []
    if forms and all(
        isinstance(form, dict) and isinstance(cast("Any", form).get("optimizer"), Optimizer) for form in forms
    ):
        schedulers: list[Any] = [
            form["lr_scheduler"] for form in forms if form.get("lr_scheduler") is not None
        ]
        return [form["optimizer"] for form in forms], [_scheduler(item) for item in schedulers]
    got = type(cast("object", configured)).__name__
    forms_taken = "an optimizer, a list of them, (optimizers, schedulers), or a dict with 'optimizer'"
    raise TraceError(
        f"configure_optimizers returned a {got}, which Lightning does not take: return {forms_taken}"
    )


def loss_of(output: object) -> Tensor:
    """
    Return the loss from the output of `training_step`.

    Raises:
        TraceError: it has none; Lightning would skip the step or raise.
    """
    loss = cast("Any", output).get("loss") if isinstance(output, Mapping) else output
    if isinstance(loss, Tensor):
        return loss
    got = "a dict without 'loss'" if isinstance(output, Mapping) else f"a {type(loss).__name__}"
    if output is None:
        got = "None (a skipped step)"
    msg = f"training_step returned {got}, and automatic optimization needs a loss"
    raise TraceError(f"{msg}: return the loss tensor or a dict with the key 'loss'")


def takes_batch_index(step: Callable[..., object]) -> bool:
    """
    Return whether `training_step` takes a batch index after the batch, under any name.

    Raises:
        TraceError: it takes `dataloader_iter` and fetches its own batches.
    """
    parameters = list(inspect.signature(step).parameters.values())
    if any(parameter.name == "dataloader_iter" for parameter in parameters):
        raise TraceError(
            f"training_step takes dataloader_iter: it fetches batches, and a trace has none. {ADVICE}"
        )
    takes_index = any(parameter.name == "batch_idx" for parameter in parameters)
    return takes_index or (len(parameters) >= 2 and parameters[1].kind is not inspect.Parameter.VAR_KEYWORD)


def _all_optimizers(values: list[Any]) -> bool:
    return all(isinstance(value, Optimizer) for value in values)


def _make_list(value: Any) -> list[Any]:
    return list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else [value]


def _scheduler(value: Any) -> SimpleNamespace:
    return SimpleNamespace(scheduler=value["scheduler"] if isinstance(value, dict) else value)
