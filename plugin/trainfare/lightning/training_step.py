"""The step of a LightningModule: its hooks in the order of Lightning's loops, around its own forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainfare.fake_step.user_errors import ADVICE
from trainfare.job.loop import TrainingStep
from trainfare.lightning.callbacks import is_lightnings
from trainfare.lightning.step_forms import loss_of, takes_batch_index
from trainfare.lightning.trainer_stub import TrainerStub
from trainfare_core.errors import TraceError

START_HOOKS: Final = ("on_fit_start", "on_train_start", "on_train_epoch_start")
"""Hooks of a module between `configure_optimizers` and its first step."""
StepHook = Literal[
    "on_before_batch_transfer", "on_after_batch_transfer", "on_train_batch_start", "optimizer_step", "training_step",
    "on_before_zero_grad", "optimizer_zero_grad", "on_before_backward", "backward", "on_after_backward",
    "on_before_optimizer_step", "configure_gradient_clipping", "on_train_batch_end",
]  # fmt: skip
"""Hooks of a module in a step."""
HOOKS: Final = ("setup", "configure_model", "configure_optimizers", *START_HOOKS, *get_args(StepHook))
"""Hooks of a module that are called before launch, as docs/scripts.md lists them."""


class LightningStep(TrainingStep):
    """
    The step of a LightningModule, or of any module with its `training_step`.

    Args:
        module: with `trainer` attached.
        optimizers: bound to its parameters.
        trainer: the stub that the module reads as its Trainer.
        precision: Lightning's long form.

    Raises:
        TraceError: several optimizers under automatic optimization.
    """

    name = "training_step"

    def __init__(
        self,
        module: nn.Module,
        optimizers: list[Optimizer],
        trainer: TrainerStub,
        precision: str,
    ) -> None:
        self._module: Any = module
        self._optimizers = optimizers
        self._trainer = trainer
        self.manual = not bool(getattr(module, "automatic_optimization", True))
        self._scaler = torch.amp.GradScaler("cpu") if precision == "16-mixed" else None
        if not self.manual and len(optimizers) > 1:
            msg = f"configure_optimizers returned {len(optimizers)} optimizers under automatic optimization"
            raise TraceError(f"{msg}, which Lightning refuses: set self.automatic_optimization = False")
        for optimizer in optimizers:
            self._wrap(optimizer)

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those that `configure_optimizers` made."""
        return self._optimizers

    @property
    def passes(self) -> int:
        """Batches of one optimizer step under automatic optimization."""
        return 1 if self.manual else max(1, int(self._trainer.accumulate_grad_batches))

    def run(self, batch: Any, index: int) -> None:
        """Run one micro-batch with the hooks around it."""
        batch = self._begin(batch, index)
        outputs = self._training_step(batch, index) if self.manual else self._automatic_step(batch, index)
        self._hook("on_train_batch_end", outputs, batch, index)

    def forward(self, batch: Any, index: int = 0) -> None:
        """Run `training_step`."""
        self._training_step(self._begin(batch, index), index)

    def _wrap(self, optimizer: Optimizer) -> None:
        """Give an optimizer what a LightningOptimizer has besides."""
        loose: Any = optimizer

        @contextlib.contextmanager
        def toggle_model(sync_grad: bool = True) -> Generator[None, None, None]:  # noqa: FBT001, FBT002, ARG001
            self._module.toggle_optimizer(optimizer)
            try:
                yield
            finally:
                self._module.untoggle_optimizer(optimizer)

        loose.optimizer = optimizer
        loose.toggle_model = toggle_model

    def _begin(self, batch: Any, index: int) -> Any:
        """Call the hooks that come before `training_step`, and return the batch that they make of it."""
        for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
            batch = self._transfer_batch(name, batch)
        self._hook("on_train_batch_start", batch, index)
        return batch

    def _automatic_step(self, batch: Any, index: int) -> object:
        outputs: list[object] = []
        optimizer = self._optimizers[0] if self._optimizers else None

        def closure() -> Tensor:
            output = self._training_step(batch, index)
            outputs.append(output)
            loss = loss_of(output)
            if optimizer is not None:
                self._zero_grad(optimizer, index)
            self._backward(loss)
            return loss

        if optimizer is None:
            closure()
        elif hasattr(self._module, "optimizer_step"):
            self._module.optimizer_step(self._trainer.current_epoch, index, optimizer, closure)
        else:
            loose: Any = optimizer
            loose.step(closure)
        if not outputs:
            raise TraceError("optimizer_step never called its closure, so nothing was trained: " + ADVICE)
        return outputs[-1]

    def _training_step(self, batch: Any, index: int) -> object:
        step: Callable[..., object] = self._module.training_step
        return step(batch, index) if takes_batch_index(step) else step(batch)

    def _zero_grad(self, optimizer: torch.optim.Optimizer, index: int) -> None:
        self._hook("on_before_zero_grad", optimizer)
        if hasattr(self._module, "optimizer_zero_grad"):
            self._module.optimizer_zero_grad(self._trainer.current_epoch, index, optimizer)
        else:
            optimizer.zero_grad()

    def _backward(self, loss: Tensor) -> None:
        loss = loss / self._trainer.accumulate_grad_batches
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        self._hook("on_before_backward", loss)
        self._trainer.strategy.backward(loss)
        self._hook("on_after_backward")

    def before_update(self, optimizer: Optimizer) -> None:
        """Unscale and clip the gradients, as Lightning does in its optimizer's step."""
        if self._scaler is not None and any(
            parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"]
        ):
            # A scaler unscales once until `update()`, which reads values: the next step gets a new scaler.
            self._scaler.unscale_(optimizer)
            self._scaler = torch.amp.GradScaler("cpu")
        self._hook("on_before_optimizer_step", optimizer)
        if not self.manual and self._trainer.gradient_clip_val:
            self._hook(
                "configure_gradient_clipping",
                optimizer,
                gradient_clip_val=self._trainer.gradient_clip_val,
                gradient_clip_algorithm=self._trainer.gradient_clip_algorithm,
            )

    def count_update(self) -> None:
        """Count an optimizer's step as `trainer.global_step` does."""
        self._trainer.global_step += 1

    def _transfer_batch(self, name: StepHook, batch: Any) -> Any:
        """Call a batch-transfer hook, which a datamodule may have instead of the module."""
        datamodule = self._trainer.datamodule
        own: object = getattr(datamodule.__class__, name, None)
        hook = None if own is None or is_lightnings(own) else getattr(datamodule, name)
        return self._hook(name, batch, 0, default=batch) if hook is None else hook(batch, 0)

    def _hook(self, name: StepHook, *args: Any, default: Any = None, **kwargs: Any) -> Any:
        hook = getattr(self._module, name, None)
        return default if hook is None else hook(*args, **kwargs)
