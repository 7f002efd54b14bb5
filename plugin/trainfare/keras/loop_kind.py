"""A model of Keras on the torch backend before launch: its own `train_step`, on the tensors of a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainfare.fake_step.configured_step import running_fake
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.known_values import keep_value
from trainfare.fake_step.loop_kind import LoopKind, PreparedModule
from trainfare.fake_step.real_tensors import RealTensors
from trainfare.job import TrainingJob
from trainfare.job.loop import TrainingStep
from trainfare.job.user_code import replace_attribute
from trainfare.keras.run_facts import count_passes, list_modules, list_optimizers, view_optimizer

_READ_ELEMENTS = 2
"""Of a variable whose values the step may read, as a learning rate. Chosen: the state of a generator of Keras."""


@final
class KerasKind(LoopKind, PreparedModule):
    """
    The loop of one model, which a trace has as `view_model` shows it: a copy of the model would be made of its config.

    Args:
        model: in a call of `fit`.
    """

    modules, loop, name, casts_itself = "a model that Keras fits", "keras", "train_step", True
    meter = "model.fit(..., callbacks=[FareMeter()])"

    def __init__(self, model: Any) -> None:
        self._model, self._module = model, nn.Module()
        self._places: list[tuple[dict[str, Any], str, Tensor]] = []
        """Where the model holds a tensor, and which stands for it in the trace."""
        self._pairs: list[tuple[Any, Optimizer]] = []
        self._given: tuple[Any, ...] = ()
        """What `apply` of the optimizer that steps was called with."""

    def prepare(self, job: TrainingJob, module: nn.Module) -> KerasKind:
        """Take the view of the model on the tensors of a trace."""
        del job
        self._module = module
        return self

    def step(self, tensors: Faker | RealTensors) -> TrainingStep:
        """Give each tensor of the model, its optimizers and metrics one of the trace."""
        model, optimizers = self._model, list_optimizers(self._model)
        views = {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}
        twins = {id(variable.value): views[str(number)] for number, variable in enumerate(model.weights)}
        variables = [*model.variables, *model.metrics_variables]
        variables += [variable for optimizer in optimizers for variable in optimizer.variables]
        for variable in variables:
            if id(variable.value) not in twins:
                twins[id(variable.value)] = _copy(variable.value, tensors)
        self._places = [(vars(variable), "_value", twins[id(variable.value)]) for variable in variables]
        for number, module in enumerate(list_modules(model)):
            loose: Any = module
            for name, value in loose._parameters.items():  # noqa: SLF001
                self._places.append((loose._parameters, name, twins[id(value)]))  # noqa: SLF001
            for name in loose._buffers:  # noqa: SLF001
                self._places.append((loose._buffers, name, views[f"buffer{number}_{name}"]))  # noqa: SLF001
        with self._on_trace(), running_fake(tensors):
            self._pairs = [(optimizer, view_optimizer(optimizer)) for optimizer in optimizers]
        for optimizer, view in self._pairs:
            vars(view)["step"] = partial(self._update, optimizer, optimizer.apply)
        return cast("TrainingStep", self)

    def step_of(self, version: nn.Module, optimizers: list[Optimizer], copier: Faker) -> TrainingStep:
        """Return this: a view has no blocks, so there are no versions."""
        del version, optimizers, copier
        return cast("TrainingStep", self)

    @property
    def optimizers(self) -> list[Optimizer]:
        """Views of those of the model."""
        return [view for _, view in self._pairs]

    @property
    def passes(self) -> int:
        """Batches of one update."""
        return count_passes(self._model)

    def run(self, batch: Any, index: int) -> None:
        """Run the model's own step."""
        del index
        with self._on_trace(), contextlib.ExitStack() as stack:
            for optimizer, view in self._pairs:
                stack.enter_context(replace_attribute(optimizer, "apply", partial(self._divert, view)))
            self._model.train_step(batch)

    def forward(self, batch: Any, index: int = 0) -> None:
        """Run the whole step: what of a `train_step` is the forward is not known."""
        self.run(batch, index)

    def before_update(self, optimizer: Optimizer) -> None:
        """Do nothing: clipping is a part of the update."""

    def count_update(self) -> None:
        """Do nothing: Keras counts."""

    def _divert(self, view: Any, *args: Any, **kwargs: Any) -> None:
        """Step by the view, whose steps the trace knows."""
        self._given = (args, kwargs)
        view.step()

    def _update(self, optimizer: Any, apply: Callable[..., Any]) -> None:
        """Step as Keras does; outside a step of the model with the gradients that there are."""
        with self._on_trace():
            if self.passes > 1:  # the batch that is traced is the one in which gradients are applied
                inner = getattr(optimizer, "inner_optimizer", optimizer)
                vars(inner._iterations)["_value"] = torch.tensor(self.passes - 1, dtype=torch.int32)  # noqa: SLF001
            variables = optimizer._trainable_variables  # noqa: SLF001
            args, kwargs = self._given or (([variable.value.grad for variable in variables], variables), {})
            self._given = ()
            apply(*args, **kwargs)

    @contextlib.contextmanager
    def _on_trace(self) -> Generator[None, None, None]:
        """Let the model hold the tensors of the trace."""
        before = [(holder, name, holder[name]) for holder, name, _ in self._places]
        try:
            for holder, name, twin in self._places:
                holder[name] = twin
            yield
        finally:
            for holder, name, value in before:
                holder[name] = value


def _copy(value: Tensor, tensors: Faker | RealTensors) -> Tensor:
    if not isinstance(tensors, Faker):
        return value.detach().clone()
    twin = tensors.tensor(value)
    if value.numel() <= _READ_ELEMENTS:
        keep_value(twin, value.detach())
    return twin
