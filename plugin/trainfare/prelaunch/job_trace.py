"""
Turn a `TrainingJob` into a `JobProfile` before launch, without an accelerator and with almost no memory.

The module's own `training_step`, backward, `configure_optimizers` and optimizer step run on fake tensors; where the
step reads values that these do not have, on real ones, within limits. FareMeter uses the same code on a fake copy of
a live module where the real step cannot be recorded.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trainfare.job import (
    REAL_LIMITS,
    ChosenBatch,
    LiveJob,
    RealLimits,
    TrainingJob,
    built,
    canonical_precision,
    describe,
    is_builder,
    plan_of,
    steps_per_epoch,
    trainer_facts,
)
from trainfare.prelaunch.callbacks import set_up_callbacks, untraced_work
from trainfare.prelaunch.fake_build import BuildMode, movable_fakes
from trainfare.prelaunch.fake_step import trace_step, true_dtype
from trainfare.prelaunch.fake_tensors import Faker, describe_batch, new_mode, rng_untouched
from trainfare.prelaunch.later_epochs import LaterEpochs, RunLength, joined
from trainfare.prelaunch.module_parts import attributes_kept
from trainfare.prelaunch.real_tensors import RealTensors, check_size, restored
from trainfare.prelaunch.several_batches import batches_of, trace_batches, with_tokens
from trainfare.prelaunch.step_forms import optimizers_of
from trainfare.prelaunch.trainer_stub import TrainerStub, attach
from trainfare.prelaunch.user_errors import ADVICE, FakeTraceError, user_errors
from trainfare.trace import StepFacts
from trainfare_core.errors import InputError, TraceError
from trainfare_core.job_profile import BatchFacts, JobProfile, ParallelFacts, ProfileSource

__all__ = ["describe_batch", "trace_changed", "trace_fake_copy", "trace_job"]

_LONGEST_NOTE = 500
"""Characters; a job profile allows no more."""


def trace_job(job: TrainingJob, *, real: RealLimits | None = REAL_LIMITS) -> JobProfile:
    """
    Trace one optimizer step of a job without hardware.

    Args:
        job: the run; its `module` and `batch` are built here when they are callables. A module that exists
            already is copied onto fake tensors and stays bitwise unchanged.
        real: limits of a second attempt on real tensors, for a step that reads a value which depends on the weights;
            None forbids it.

    Returns:
        Operations of one optimizer step on one device, parameters, memory, batch and plan.

    Raises:
        InputError: the batch and `batch_size` contradict each other, or a number is beyond what a profile can hold.
        TraceError: the step cannot be traced; the message names the operation, the line and what to do.

    >>> import torch
    >>> from pytorch_lightning.demos.boring_classes import BoringModel
    >>> from trainfare import TrainingJob, trace_job
    >>> job = TrainingJob(module=BoringModel, batch=lambda: torch.zeros(8, 32), batch_size=8, max_steps=100)
    >>> profile = trace_job(job)
    >>> profile.name, sum(group.count for group in profile.parameters), profile.plan.optimizer_steps
    ('BoringModel', 66, 100)
    >>> sorted({group.kind for group in profile.operations if group.flops})
    ['matmul']
    """
    return trace_changed(job, None, real=real)


def trace_changed(
    job: TrainingJob,
    change: Callable[[nn.Module], Sequence[str]] | None,
    *,
    real: RealLimits | None = REAL_LIMITS,
) -> JobProfile:
    """
    Trace one optimizer step of a job whose module is changed before its optimizers are made.

    Args:
        job: the run; its module stays unchanged, the change is made to a copy on fake tensors.
        change: called with the module, built and set up; returns notes for the profile.
        real: see `trace_job`.

    Raises:
        InputError, TraceError: see `trace_job`; an exception in `change` becomes a TraceError.
    """
    job = with_tokens(job)
    several = batches_of(job.batch)
    if several is not None:
        return trace_batches(job, several, lambda one: trace_changed(one, change, real=real))
    if job.precision.startswith("transformer-engine"):
        msg = f"precision {job.precision}: which layers run in fp8 is decided on the device and cannot be traced"
        raise TraceError(
            f"{msg}. Trace it as bf16-mixed for an upper bound, or measure one step with FareMeter"
        )
    faker = Faker(new_mode(), true_dtype(job.precision, real=False))
    with rng_untouched():
        try:
            return _traced(job, change, faker)
        except FakeTraceError as error:
            if real is None:
                raise TraceError(str(error)) from error
            reason = error
    return _traced_on_real_tensors(job, change, real, faker, reason)


def _traced_on_real_tensors(
    job: TrainingJob,
    change: Callable[[nn.Module], Sequence[str]] | None,
    limits: RealLimits,
    faker: Faker,
    reason: FakeTraceError,
) -> JobProfile:
    """Trace a step that fake tensors do not carry to its end, if the module is not too large."""
    live = job.module if isinstance(job.module, nn.Module) else None
    if live is not None and change is not None:
        with user_errors("copying the module", fake=False):
            job, live = replace(job, module=copy.deepcopy(live)), None
    try:
        parameters = faker.parameters if live is None else list(live.parameters())
        check_size([(_bytes_of([each]), each.requires_grad) for each in parameters], limits)
        with rng_untouched(), contextlib.nullcontext() if live is None else restored(live):
            tensors = RealTensors(limits, true_dtype(job.precision, real=True))
            tensors.notes.append(f"traced on real tensors, because {reason.because}")
            with tensors:
                return _traced(job, change, tensors)
    except TraceError as error:
        if not reason.needs_value:
            raise
        first = str(reason).removesuffix(f" {ADVICE}")
        raise TraceError(f"{first} On real tensors: {error}") from error


def _traced(
    job: TrainingJob, change: Callable[[nn.Module], Sequence[str]] | None, tensors: Faker | RealTensors
) -> JobProfile:
    module = _module_of(job, tensors)
    batch = _batch_of(job, tensors, _device_of(module))
    if not isinstance(job, LiveJob):
        _check_batch_size(job, tensors.batch_tensors)
    live = job.live.trainer if isinstance(job, LiveJob) else None
    trainer = TrainerStub(module, _trainer_facts(job), live=live)
    attach(module, trainer)
    with _grads_untouched(job.module) if isinstance(tensors, Faker) else contextlib.nullcontext():
        with attributes_kept(_callbacks_of(job)):
            step = _configured_step(job, module, batch, trainer, tensors, change)
        step = replace(step, differs=joined(step.differs, untraced_work(_callbacks_of(job))))
    return _profile_of(job, module, step, tensors)


def trace_fake_copy(
    module: nn.Module,
    batch: Any,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    precision: str,
    micro_batches: int = 1,
    trainer: object | None = None,
) -> StepFacts:
    """
    Trace one step of a live module on an uncompiled fake copy; the module and random states stay untouched.

    Args:
        module: the live LightningModule.
        batch: result of `describe_batch` for one micro-batch, as `training_step` receives it.
        optimizers: the live optimizers, in the order of `trainer.optimizers`.
        precision: of the run, e.g. `trainer.precision`.
        micro_batches: forward and backward passes in one optimizer step.
        trainer: the live Trainer; the attributes that a module commonly reads are copied from it.

    Raises:
        TraceError: the copy cannot be traced; the message says why.
    """
    with rng_untouched(), _grads_untouched(module):
        faker = Faker(new_mode())
        with user_errors("copying the module onto fake tensors"):
            twin = faker.copy_module(module)
            twins = [faker.copy_optimizer(optimizer) for optimizer in optimizers]
            fake_batch = faker.batch(batch, _device_of(twin))
        stub = TrainerStub(twin, {}, live=trainer)
        stub.accumulate_grad_batches = micro_batches
        stub.optimizers.extend(twins)
        attach(twin, stub)
        step = trace_step(
            twin,
            fake_batch,
            twins,
            stub,
            faker.mode,
            precision=canonical_precision(precision),
            batch_bytes=_bytes_of(faker.batch_tensors),
            from_loader=False,
        )
    return replace(step, compiled=faker.compiled, notes=_notes([*step.notes, *faker.notes]))


def _module_of(job: TrainingJob, tensors: Faker | RealTensors) -> nn.Module:
    fake = isinstance(tensors, Faker)
    if is_builder(job.module):
        with user_errors("building the module", fake=fake), _building(tensors):
            made = built(job.module)
    else:
        made = job.module
    if not isinstance(made, nn.Module) or not callable(getattr(made, "training_step", None)):
        msg = f"TrainingJob.module gave a {type(made).__name__}"
        raise InputError(
            f"{msg}: it must be a LightningModule, or a function without arguments that returns one"
        )
    if is_builder(job.module):
        return tensors.convert_module(made)
    with user_errors("copying the module onto fake tensors", fake=fake):
        return tensors.copy_module(made)


@contextlib.contextmanager
def _building(tensors: Faker | RealTensors) -> Generator[None, None, None]:
    """Make fake what a module builds inside the block, if the trace is on fake tensors."""
    if isinstance(tensors, RealTensors):
        yield
        return
    with movable_fakes(), BuildMode(tensors.mode):
        yield


def _running(tensors: Faker | RealTensors) -> contextlib.AbstractContextManager[Any]:
    return tensors.mode if isinstance(tensors, Faker) else contextlib.nullcontext()


def _device_of(module: nn.Module) -> torch.device | None:
    """Return the device that the Trainer would move a batch to."""
    first = next(module.parameters(), None)
    return None if first is None else first.device


def _batch_of(job: TrainingJob, tensors: Faker | RealTensors, device: torch.device | None) -> Any:
    with user_errors("making the batch", fake=isinstance(tensors, Faker)):
        made = _made_batch(job.batch, tensors)
    return tensors.batch(made, device)


def _made_batch(batch: Any, tensors: Faker | RealTensors) -> Any:
    """Make the batch of real tensors, whose values a step may read; where that fails, of fake ones."""
    try:
        return built(batch)
    except Exception as error:  # noqa: BLE001 - e.g. too little memory, or a device that is not here
        try:
            with _running(tensors):
                return built(batch)
        except Exception:  # noqa: BLE001 - the first error is the one that the user's run would raise
            raise error from None


def _check_batch_size(job: TrainingJob, tensors: Sequence[Tensor]) -> None:
    """Refuse a batch whose tensors all have another first size than `batch_size`, and that size nowhere."""
    if isinstance(job.batch, ChosenBatch):
        return
    shapes = [tuple(tensor.shape) for tensor in tensors if tensor.ndim > 0]
    if not shapes or any(job.batch_size in shape for shape in shapes):
        return
    if len({shape[0] for shape in shapes}) == 1:
        msg = f"TrainingJob.batch_size is {job.batch_size}, and the batch holds {shapes[0][0]} samples"
        raise InputError(f"{msg}: give the micro-batch of one device, and its number of samples")


def _configured_step(
    job: TrainingJob,
    module: nn.Module,
    batch: Any,
    trainer: TrainerStub,
    tensors: Faker | RealTensors,
    change: Callable[[nn.Module], Sequence[str]] | None,
) -> StepFacts:
    fake = isinstance(tensors, Faker)
    with torch.enable_grad():
        if not isinstance(job, LiveJob):
            with _building(tensors):
                set_up_callbacks(job.callbacks, trainer, module)
            _set_up(module, tensors)
        with _building(tensors):
            _call_hook(module, "configure_model", fake=fake)
            if change is not None:
                with user_errors("changing the module", fake=fake):
                    tensors.notes += change(tensors.convert_module(module))
        tensors.convert_module(module)
        if isinstance(tensors, Faker):
            tensors.parameters = list(module.parameters())
        with user_errors("configure_optimizers", fake=fake), _running(tensors):
            optimizers, schedulers = optimizers_of(_call_hook(module, "configure_optimizers", fake=fake))
        if job.accumulate_grad_batches > 1 and not getattr(module, "automatic_optimization", True):
            msg = "Lightning refuses accumulate_grad_batches with manual optimization"
            raise InputError(f"{msg}: accumulate in training_step and leave it at 1")
        trainer.optimizers.extend(optimizers)
        trainer.lr_scheduler_configs.extend(schedulers)
        with _running(tensors):
            for name in ("on_fit_start", "on_train_start", "on_train_epoch_start"):
                _call_hook(module, name, fake=fake)
    return trace_step(
        module,
        batch,
        optimizers,
        trainer,
        tensors.mode if isinstance(tensors, Faker) else None,
        precision=job.precision,
        batch_bytes=_bytes_of(tensors.batch_tensors),
        later=LaterEpochs(module, trainer, _callbacks_of(job), _length_of(job), job.module),
    )


def _set_up(module: nn.Module, tensors: Faker | RealTensors) -> None:
    """
    Call the module's `setup`: on fake tensors, else on real ones, which a data set that it reads may need.

    Where it raises all the same, e.g. because there are no data here, a module that has its parameters goes without it.
    """
    try:
        with _building(tensors):
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


def _bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _call_hook(module: nn.Module, name: str, *args: Any, fake: bool) -> Any:
    """Call a hook of the module if it has it, and return its result."""
    hook = getattr(module, name, None)
    if not callable(hook):
        return None
    with user_errors(name, fake=fake):
        return hook(*args)


def _callbacks_of(job: TrainingJob) -> tuple[Any, ...]:
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


def _profile_of(
    job: TrainingJob, module: nn.Module, step: StepFacts, tensors: Faker | RealTensors
) -> JobProfile:
    from trainfare_core._version import __version__

    parameter_bytes = sum(group.parameter_bytes for group in step.parameters)
    checkpoint_bytes = parameter_bytes + step.memory.buffer_bytes + step.optimizer.state_bytes
    plan, plan_notes = plan_of(
        job,
        checkpoint_bytes=checkpoint_bytes,
        optimizer_calls_per_step=max(1, step.optimizer_calls),
        batches_per_step=step.batches_per_step,
        weights_bytes=parameter_bytes + step.memory.buffer_bytes,
    )
    live = job.live if isinstance(job, LiveJob) else None
    notes = [*(() if live is None else live.notes), *step.notes, *tensors.notes, *plan_notes]
    counted = live is None or live.batch_size_known
    if step.optimizer.names == ():
        notes.append("configure_optimizers returned no optimizer: nothing is updated")
    if tensors.compiled:
        notes.append(
            "the step runs under torch.compile; the trace is eager, an upper bound of bytes and launches"
        )
    if job.precision in ("32-true", "16-mixed", "bf16-mixed"):
        notes.append("TF32 is not assumed: fp32 products are counted as fp32")
    samples = round(job.samples_per_step * step.batches_per_step)
    tokens = None if job.tokens_per_sample is None else job.tokens_per_sample * samples
    try:
        return JobProfile(
            name=type(module).__name__[:200],
            source=ProfileSource(
                how=step.how,
                tool_version=__version__,
                torch_version=str(torch.__version__),
                compiled=tensors.compiled,
            ),
            precision=job.precision,
            operations=step.operations,
            modules=step.modules,
            parameters=step.parameters,
            optimizer=step.optimizer,
            memory=step.memory,
            batch=BatchFacts(
                micro_batch_size=job.batch_size if counted else None,
                samples_per_step=samples if counted else None,
                tokens_per_step=tokens,
                batch_norm=step.batch_norm,
            ),
            parallel=ParallelFacts(
                strategy=job.strategy,
                devices=job.devices,
                num_nodes=job.num_nodes,
                accumulate_grad_batches=max(1, round(job.accumulate_grad_batches * step.batches_per_step)),
            ),
            plan=plan,
            work_note=step.differs or None,
            notes=_notes(notes),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"the job is beyond what a profile can hold: {place}: {first['msg']}") from error


def _notes(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note[:_LONGEST_NOTE] for note in notes))


@contextlib.contextmanager
def _grads_untouched(module: object) -> Generator[None, None, None]:
    """
    Restore every gradient afterwards, and refuse a trace that wrote gradients to the real parameters.

    A function of the module that refers to the original module (`self.f = lambda x: self.layer(x)`) still does so in
    the copy, and then the trace trains the original.
    """
    real = list(module.parameters()) if isinstance(module, nn.Module) else []
    before = [parameter.grad for parameter in real]
    leaked = False
    try:
        yield
    finally:
        for parameter, grad in zip(real, before, strict=True):
            if parameter.grad is not grad:
                leaked = True
                parameter.grad = grad
    if leaked:
        msg = "a function in the module is bound to the original module, so a fake copy would train the original"
        raise FakeTraceError(
            f"{msg}: give TrainingJob a function that builds the module, or measure with FareMeter", msg
        )
