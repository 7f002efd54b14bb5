"""Lightning before launch: what a Trainer does with a module up to its first step, done on the tensors of a trace."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import nn

from trainfare.fake_step.configured_step import making_fake, running_fake
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.loop_kind import LoopKind, PreparedModule
from trainfare.fake_step.real_tensors import RealTensors
from trainfare.fake_step.user_errors import user_errors
from trainfare.job import LiveJob, TrainingJob, describe, plan_of, steps_per_epoch
from trainfare.job.job_plan import describe_length
from trainfare.lightning.callbacks import describe_untraced_work, set_up_callbacks
from trainfare.lightning.later_epochs import LaterEpochs
from trainfare.lightning.step_forms import optimizers_of
from trainfare.lightning.trainer_stub import TrainerStub, attach
from trainfare.lightning.training_step import START_HOOKS, LightningStep
from trainfare_core.errors import InputError, TraceError


@final
class _PreparedModule(PreparedModule):
    def __init__(self, job: TrainingJob, module: nn.Module) -> None:
        self._job, self._module = job, module
        self._trainer = _attach_stub(job, module)

    def set_up(self, tensors: Faker | RealTensors) -> None:
        """Call `setup` of callbacks and module; a live Trainer has done so."""
        if not isinstance(self._job, LiveJob):
            with making_fake(tensors):
                set_up_callbacks(self._job.callbacks, self._trainer, self._module)
            _set_up(self._module, tensors)

    def configure(self, tensors: Faker | RealTensors) -> None:
        """Call `configure_model`."""
        _call_hook(self._module, "configure_model", fake=isinstance(tensors, Faker))

    @property
    def manual(self) -> bool:
        """The module has switched automatic optimization off."""
        return not getattr(self._module, "automatic_optimization", True)

    def later_steps(self) -> LaterEpochs:
        """Return what callbacks and the module's own hook change from epoch to epoch."""
        if self._job.accumulate_grad_batches > 1 and self.manual:
            msg = "Lightning refuses accumulate_grad_batches with manual optimization"
            raise InputError(f"{msg}: accumulate in training_step and leave it at 1")
        callbacks, length = _callbacks_of(self._job), describe_length(self._job)
        return LaterEpochs(self._module, self._trainer, callbacks, length, self._job.module)

    def step(self, tensors: Faker | RealTensors) -> LightningStep:
        """Return the step with the optimizers of `configure_optimizers`, and call the hooks before the first step."""
        fake = isinstance(tensors, Faker)
        with user_errors("configure_optimizers", fake=fake), running_fake(tensors):
            made = _call_hook(self._module, "configure_optimizers", fake=fake)
            optimizers, schedulers = optimizers_of(made)
        self._trainer.optimizers.extend(optimizers)
        self._trainer.lr_scheduler_configs.extend(schedulers)
        # Before the hooks, which may read `self.optimizers().optimizer`.
        step = LightningStep(self._module, optimizers, self._trainer, self._job.precision)
        with running_fake(tensors):
            for name in START_HOOKS:
                _call_hook(self._module, name, fake=fake)
        return step

    def step_of(
        self, version: nn.Module, optimizers: list[torch.optim.Optimizer], copier: Faker
    ) -> LightningStep:
        """Return the step of a version, which gets a stub of the Trainer of its own."""
        trainer = _attach_stub(self._job, version)
        trainer.optimizers.extend(optimizers)
        trainer.lr_scheduler_configs.extend(copier.value(self._trainer.lr_scheduler_configs))
        return LightningStep(version, optimizers, trainer, self._job.precision)

    @property
    def untraced(self) -> str:
        """What callbacks do beside the step."""
        return describe_untraced_work(_callbacks_of(self._job))


@final
class _LightningKind(LoopKind):
    """Lightning's Trainer: it trains any module with a `training_step`."""

    modules, meter = "a LightningModule", "Trainer(callbacks=[FareMeter()])"

    def takes(self, module: nn.Module) -> bool:
        """Return whether a module has a `training_step`, which `nn.Module` and Hugging Face's models have not."""
        return callable(getattr(module, "training_step", None))

    def kept_objects(self, job: TrainingJob) -> tuple[object, ...]:
        """Return the callbacks."""
        return _callbacks_of(job)

    def prepare(self, job: TrainingJob, module: nn.Module) -> _PreparedModule:
        """Attach a stub of the Trainer."""
        return _PreparedModule(job, module)

    def job_from_config(self, path: Path) -> TrainingJob:
        """Read a LightningCLI config."""
        from trainfare.lightning.cli_config import job_from_config

        return job_from_config(path)


KIND: Final = _LightningKind()
"""As `trainfare.loops` asks for it."""


def _attach_stub(job: TrainingJob, module: nn.Module) -> TrainerStub:
    """Attach a new stub of the Trainer to a module."""
    live = job.live.trainer if isinstance(job, LiveJob) else None
    trainer = TrainerStub(module, _trainer_attributes(job), live=live)
    attach(module, trainer)
    return trainer


def _set_up(module: nn.Module, tensors: Faker | RealTensors) -> None:
    """
    Call the module's `setup`: on fake tensors, else on real ones, which a data set that it reads may need.

    Where it raises all the same, e.g. because there are no data here, a module that has its parameters goes without it.
    """
    try:
        with making_fake(tensors):
            _call_hook(module, "setup", "fit", fake=isinstance(tensors, Faker))
    except TraceError as error:
        if isinstance(tensors, Faker):
            with contextlib.suppress(TraceError):
                _call_hook(module, "setup", "fit", fake=False)
                return
        if next(module.parameters(), None) is None:
            raise
        what = describe(error.__cause__) if error.__cause__ is not None else str(error)
        tensors.notes.append(f"setup was left out: it raised {what}")


def _call_hook(module: nn.Module, name: str, *args: Any, fake: bool) -> Any:
    """Call a hook of the module if it has it, and return its result."""
    hook = getattr(module, name, None)
    if not callable(hook):
        return None
    with user_errors(name, fake=fake):
        return hook(*args)


def _callbacks_of(job: TrainingJob) -> tuple[Any, ...]:
    """Return the callbacks of a job, those of the live Trainer where there is one."""
    return tuple(job.live.trainer.callbacks) if isinstance(job, LiveJob) else job.callbacks


def _trainer_attributes(job: TrainingJob) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "max_epochs": job.max_epochs if job.max_epochs is not None else -1,
        "max_steps": job.max_steps if job.max_steps is not None else -1,
        "world_size": job.world_size,
        "num_devices": job.devices,
        "num_nodes": job.num_nodes,
        "accumulate_grad_batches": job.accumulate_grad_batches,
        "precision": job.precision,
    }
    if isinstance(job, LiveJob):
        attributes["log_dir"] = job.live.trainer.default_root_dir
    else:
        attributes["datamodule"] = job.datamodule
        attributes["callbacks"] = list(job.callbacks)
        attributes["gradient_clip_val"] = job.gradient_clip_val
    plan, _ = plan_of(job, checkpoint_bytes=0)
    if plan.optimizer_steps is not None:
        attributes["estimated_stepping_batches"] = plan.optimizer_steps
    in_epoch = steps_per_epoch(job)
    if in_epoch is not None:
        attributes["num_training_batches"] = in_epoch * job.accumulate_grad_batches
    return attributes
