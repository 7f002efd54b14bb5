"""Make a module ready for its step, its optimizers and its Trainer, and trace the step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainfare.fake_step.callbacks import set_up_callbacks
from trainfare.fake_step.fake_build import BuildMode, movable_fakes
from trainfare.fake_step.fake_step import trace_step
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.later_epochs import LaterEpochs, RunLength
from trainfare.fake_step.real_tensors import RealTensors
from trainfare.fake_step.repeated_step import Optimized, repeated_step
from trainfare.fake_step.step_forms import optimizers_of
from trainfare.fake_step.trainer_stub import TrainerStub, attach
from trainfare.fake_step.user_errors import user_errors
from trainfare.job import LiveJob, TrainingJob, describe, plan_of, steps_per_epoch, trainer_facts
from trainfare.trace import StepFacts
from trainfare.trace.repetition import NotRepeatedError
from trainfare_core.errors import InputError, TraceError

__all__ = ["bytes_of", "callbacks_of", "configured_step", "making_fake", "running_fake"]


def configured_step(
    job: TrainingJob,
    module: nn.Module,
    batch: Any,
    tensors: Faker | RealTensors,
    change: Callable[[nn.Module], Sequence[str]] | None,
    *,
    worthwhile: float,
    first_batch: bool,
) -> StepFacts:
    """
    Set up a module, change it, and trace its step.

    Args:
        job: the run.
        module: built.
        batch: one micro-batch.
        tensors: made both.
        change: see `trace_changed`.
        worthwhile: see `trace_changed`.
        first_batch: see `trace_step`.

    Raises:
        NotRepeatedError: the module's equal blocks cannot stand for each other; trace another copy as a whole.
        InputError, TraceError: see `trace_job`.
    """
    fake = isinstance(tensors, Faker)
    batch_bytes = bytes_of(tensors.batch_tensors)
    with torch.enable_grad():
        trainer = _trainer_of(job, module)
        if not isinstance(job, LiveJob):
            with making_fake(tensors):
                set_up_callbacks(job.callbacks, trainer, module)
            _set_up(module, tensors)
        with making_fake(tensors):
            _call_hook(module, "configure_model", fake=fake)
            if change is not None:
                with user_errors("changing the module", fake=fake):
                    tensors.notes += change(tensors.convert_module(module))
        tensors.convert_module(module)
        if isinstance(tensors, Faker):
            tensors.parameters = list(module.parameters())
        automatic = getattr(module, "automatic_optimization", True)
        if job.accumulate_grad_batches > 1 and not automatic:
            msg = "Lightning refuses accumulate_grad_batches with manual optimization"
            raise InputError(f"{msg}: accumulate in training_step and leave it at 1")
        later = LaterEpochs(module, trainer, callbacks_of(job), _length_of(job), job.module)
        if isinstance(tensors, Faker) and automatic and worthwhile and not later.change_step:
            try:
                repeated = repeated_step(
                    module,
                    batch,
                    tensors,
                    lambda version: _optimized(version, _trainer_of(job, version), tensors),
                    precision=job.precision,
                    micro_batches=job.accumulate_grad_batches,
                    batch_bytes=batch_bytes,
                    worthwhile=worthwhile,
                    first_batch=first_batch,
                )
            except Exception as error:  # the user's code may do anything with a version of the module
                raise NotRepeatedError(describe(error)) from error
            if repeated is not None:
                return repeated
        made = _optimized(module, trainer, tensors)
    return trace_step(
        module,
        batch,
        made.optimizers,
        trainer,
        tensors.mode if isinstance(tensors, Faker) else None,
        precision=job.precision,
        batch_bytes=batch_bytes,
        first_batch=first_batch,
        later=later,
    )


def _trainer_of(job: TrainingJob, module: nn.Module) -> TrainerStub:
    """Attach a new stub of the Trainer to a module."""
    live = job.live.trainer if isinstance(job, LiveJob) else None
    trainer = TrainerStub(module, _trainer_facts(job), live=live)
    attach(module, trainer)
    return trainer


def _optimized(module: nn.Module, trainer: TrainerStub, tensors: Faker | RealTensors) -> Optimized:
    """Make the optimizers of a module, and call the hooks that come before the first step."""
    fake = isinstance(tensors, Faker)
    with user_errors("configure_optimizers", fake=fake), running_fake(tensors):
        optimizers, schedulers = optimizers_of(_call_hook(module, "configure_optimizers", fake=fake))
    trainer.optimizers.extend(optimizers)
    trainer.lr_scheduler_configs.extend(schedulers)
    with running_fake(tensors):
        for name in ("on_fit_start", "on_train_start", "on_train_epoch_start"):
            _call_hook(module, name, fake=fake)
    return Optimized(module, optimizers, trainer)


def _set_up(module: nn.Module, tensors: Faker | RealTensors) -> None:
    """
    Call the module's `setup`: on fake tensors, else on real ones, which a data set that it reads may need.

    Where it raises all the same, e.g. because there are no data here, a module that has its parameters goes without it.
    """
    try:
        with making_fake(tensors):
            _call_hook(module, "setup", "fit", fake=isinstance(tensors, Faker))
    except TraceError as error:
        if isinstance(tensors, Faker) and _set_up_really(module):
            return
        if next(module.parameters(), None) is None:
            raise
        what = describe(error.__cause__) if error.__cause__ is not None else str(error)
        tensors.notes.append(f"setup was left out: it raised {what}")


def _set_up_really(module: nn.Module) -> bool:
    """Call `setup` with real tensors; return whether it raised nothing."""
    try:
        _call_hook(module, "setup", "fit", fake=False)
    except TraceError:
        return False
    return True


def bytes_of(tensors: Sequence[Tensor]) -> int:
    """Return the bytes of the elements of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _call_hook(module: nn.Module, name: str, *args: Any, fake: bool) -> Any:
    """Call a hook of the module if it has it, and return its result."""
    hook = getattr(module, name, None)
    if not callable(hook):
        return None
    with user_errors(name, fake=fake):
        return hook(*args)


def callbacks_of(job: TrainingJob) -> tuple[Any, ...]:
    """Return the callbacks of a job, those of the live Trainer where there is one."""
    return tuple(job.live.trainer.callbacks) if isinstance(job, LiveJob) else job.callbacks


def _length_of(job: TrainingJob) -> RunLength:
    facts = trainer_facts(job)
    return RunLength(facts.batches_per_epoch, facts.max_epochs, facts.max_steps)


def _trainer_facts(job: TrainingJob) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "max_epochs": job.max_epochs if job.max_epochs is not None else -1,
        "max_steps": job.max_steps if job.max_steps is not None else -1,
        "world_size": job.world_size,
        "num_devices": job.devices,
        "num_nodes": job.num_nodes,
        "accumulate_grad_batches": job.accumulate_grad_batches,
        "precision": job.precision,
    }
    if not isinstance(job, LiveJob):
        facts["datamodule"] = job.datamodule
        facts["callbacks"] = list(job.callbacks)
        facts["gradient_clip_val"] = job.gradient_clip_val
    plan, _ = plan_of(job, checkpoint_bytes=0)
    if plan.optimizer_steps is not None:
        facts["estimated_stepping_batches"] = plan.optimizer_steps
    in_epoch = steps_per_epoch(job)
    if in_epoch is not None:
        facts["num_training_batches"] = in_epoch * job.accumulate_grad_batches
    return facts


@contextlib.contextmanager
def making_fake(tensors: Faker | RealTensors) -> Generator[None, None, None]:
    """Make fake what a module builds inside the block, if the trace is on fake tensors."""
    if isinstance(tensors, RealTensors):
        yield
        return
    with movable_fakes(), BuildMode(tensors.mode):
        yield


def running_fake(tensors: Faker | RealTensors) -> contextlib.AbstractContextManager[Any]:
    """Run what is inside the block on fake tensors, if the trace is on those."""
    return tensors.mode if isinstance(tensors, Faker) else contextlib.nullcontext()
