"""Hugging Face's Trainer before launch: its own `training_step`, clipping and optimizer, on the tensors of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import MethodType
from typing import Any, final

import torch
from torch import nn
from torch.optim import Optimizer

from trainfare.fake_step.configured_step import running_fake
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.loop_kind import LoopKind, PreparedModule
from trainfare.fake_step.real_tensors import RealTensors
from trainfare.fake_step.user_errors import user_errors
from trainfare.huggingface.run_facts import find_frozen_parameters, find_other_modules
from trainfare.huggingface.versions import clip_gradients
from trainfare.job import TrainingJob
from trainfare.job.loop import TrainingStep


@final
class HuggingFaceKind(LoopKind, PreparedModule):
    """
    The loop of one Trainer, without which its model has no step.

    Args:
        trainer: in a call of `train`.
        items: tokens by which the loss is divided, as the Trainer gives them to the model.
    """

    modules = "a model that a Hugging Face Trainer trains"
    loop, meter = "huggingface", "FareMeter().attach(trainer)"

    def __init__(self, trainer: Any, items: Any) -> None:
        self._trainer, self._items = trainer, items
        self._items_here: Any = None
        """The same on the tensors of the trace."""

    def kept_objects(self, job: TrainingJob) -> tuple[object, ...]:
        """Return the Trainer and its state."""
        del job
        return (self._trainer, self._trainer.state)

    @property
    def frozen_parameters(self) -> Sequence[nn.Parameter]:
        """See `Loop.frozen_parameters`."""
        return find_frozen_parameters(self._trainer)

    def set_up(self, tensors: Faker | RealTensors) -> None:
        """Put the other modules of the Trainer, such as a reference model, on the tensors of a trace."""
        if isinstance(tensors, Faker):
            for name, other in find_other_modules(self._trainer).items():
                setattr(self._trainer, name, tensors.copy_module(other))

    def prepare(self, job: TrainingJob, module: nn.Module) -> HuggingFaceKind:
        """Give the Trainer a module on the tensors of a trace."""
        loose: Any = module
        self._trainer.model = self._trainer.model_wrapped = module
        if "mixed" in job.precision:  # accelerate does so around autocast
            convert: Any = import_module("accelerate.utils").convert_outputs_to_fp32
            loose.forward = MethodType(convert(loose.forward.__func__), module)
        return self

    def step(self, tensors: Faker | RealTensors) -> _Step:
        """Make the optimizer as the Trainer does, or copy that which it was given."""
        trainer, optimizer = self._trainer, self._trainer.optimizer
        with user_errors("create_optimizer", fake=isinstance(tensors, Faker)):
            if optimizer is not None and isinstance(tensors, Faker):
                optimizer = tensors.copy_optimizer(optimizer)
            with running_fake(tensors):
                optimizer = optimizer or trainer.create_optimizer()
                self._items_here = self._items
                if isinstance(self._items, torch.Tensor):
                    self._items_here = torch.ones_like(self._items)
        return self.step_of(trainer.model, [optimizer])

    def step_of(self, version: nn.Module, optimizers: list[Optimizer], copier: Faker | None = None) -> _Step:
        """Return the step of a version of the module."""
        del copier
        return _Step(self._trainer, version, optimizers[0], self._items_here)


class _Step(TrainingStep):
    name = "training_step"

    def __init__(self, trainer: Any, module: nn.Module, optimizer: Optimizer, items: Any) -> None:
        self._trainer, self._module, self._optimizer, self._items = trainer, module, optimizer, items

    @property
    def optimizers(self) -> list[Optimizer]:
        return [self._optimizer]

    @property
    def passes(self) -> int:
        return int(self._trainer.args.gradient_accumulation_steps)

    def run(self, batch: Any, index: int) -> None:
        del index
        trainer: Any = self._trainer
        trainer.model = trainer.model_wrapped = self._module
        trainer.optimizer, trainer.current_gradient_accumulation_steps = self._optimizer, self.passes
        trainer.training_step(self._module, batch, self._items)
        trainer.optimizer.step()
        self._module.zero_grad()

    def forward(self, batch: Any, index: int = 0) -> None:
        del index
        trainer, module = self._trainer, self._module.train()
        trainer.model = trainer.model_wrapped = module
        trainer.compute_loss(module, trainer._prepare_inputs(batch), num_items_in_batch=self._items)  # noqa: SLF001

    def before_update(self, optimizer: Optimizer) -> None:
        """Clip the gradients."""
        del optimizer
        clip_gradients(self._trainer, self._module)

    def count_update(self) -> None:
        self._trainer.state.global_step += 1
