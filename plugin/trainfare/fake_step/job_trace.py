"""
Turn a `TrainingJob` into a `JobProfile` before launch, without an accelerator and with almost no memory.

The module's own `training_step`, backward, `configure_optimizers` and optimizer step run on fake tensors; where the
step reads values that these do not have, on real ones, within limits.
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

from trainfare.fake_step.configured_step import bytes_of, making_fake, running_fake
from trainfare.fake_step.equal_blocks import WORTHWHILE, equal_blocks
from trainfare.fake_step.fake_step import join_sentences, trace_step, true_dtype
from trainfare.fake_step.fake_tensors import Faker, new_mode, rng_untouched
from trainfare.fake_step.loop_kind import LoopKind, find_kind
from trainfare.fake_step.module_parts import attributes_kept
from trainfare.fake_step.real_tensors import RealTensors, check_size, restore_after
from trainfare.fake_step.repeated_step import ShortVersions
from trainfare.fake_step.several_batches import batches_of, trace_batches, with_tokens
from trainfare.fake_step.user_errors import ADVICE, FakeTraceError, name_meter, user_errors
from trainfare.job import (
    REAL_LIMITS,
    ChosenBatch,
    LiveJob,
    RealLimits,
    TrainingJob,
    describe,
    is_builder,
    plan_of,
)
from trainfare.job.input_kind import describe_input
from trainfare.job.run_facts import InputSource
from trainfare.job.training_job import build_value
from trainfare.trace import StepFacts, group_parameters
from trainfare.trace.repetition import NotRepeatedError
from trainfare.trace.user_classes import spare_classes
from trainfare_core.errors import InputError, TraceError
from trainfare_core.job_profile import (
    MAX_TEXT_CHARACTERS,
    BatchFacts,
    InputFacts,
    JobProfile,
    OperationGroup,
    ParallelFacts,
    ProfileSource,
)
from trainfare_core.number_format import percent, shorten_text
from trainfare_core.variants import find_compute_type

_FP8_ROWS = 8
"""Divides the rows of every input of a layer that Transformer Engine runs in fp8."""


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
        InputError: no loop trains the module, the batch and `batch_size` contradict each other, or a number is beyond
            what a profile can hold.
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


RunPass = Callable[[Callable[[], JobProfile]], JobProfile]
"""Runs one pass of a trace; what the pass raises, it raises."""


def run_here(work: Callable[[], JobProfile]) -> JobProfile:
    """Run a pass in this process."""
    return work()


def trace_changed(
    job: TrainingJob,
    change: Callable[[nn.Module], Sequence[str]] | None,
    *,
    real: RealLimits | None = REAL_LIMITS,
    worthwhile: float = WORTHWHILE,
    first_batch: bool = True,
    run_pass: RunPass = run_here,
) -> JobProfile:
    """
    Trace one optimizer step of a job whose module is changed before its optimizers are made.

    That takes a pass on fake tensors; where the module's equal blocks cannot stand for each other, another one; and
    where a value is needed that fake tensors do not have, a pass on real ones.

    Args:
        job: the run; its module stays unchanged, the change is made to a copy on fake tensors.
        change: called with the module, built and set up; returns notes for the profile.
        real: see `trace_job`.
        worthwhile: see `equal_blocks`; 0 traces every block.
        first_batch: False where another trace has found that batches of this module are alike; see `trace_step`.
        run_pass: runs each pass; in processes of their own, no pass sees what the user's code did in another one.

    Raises:
        InputError, TraceError: see `trace_job`; an exception in `change` becomes a TraceError.
    """
    if isinstance(job, LiveJob) and job.live.profile is not None:
        return _take_traced(job, job.live.profile, changed=change is not None, real=real)
    job = with_tokens(job)
    several = batches_of(job.batch)
    if several is not None:
        return trace_batches(
            job,
            several,
            lambda chosen: trace_changed(
                chosen, change, real=real, worthwhile=worthwhile, first_batch=first_batch, run_pass=run_pass
            ),
        )

    def trace_fake(worthwhile: float) -> JobProfile:
        faker = Faker(new_mode(), true_dtype(job.precision, real=False))
        try:
            with rng_untouched():
                return _trace_on_tensors(job, change, faker, worthwhile=worthwhile, first_batch=first_batch)
        except FakeTraceError as error:
            error.parameters = _sizes_of(faker.parameters)
            raise

    try:
        try:
            return run_pass(lambda: trace_fake(worthwhile))
        except NotRepeatedError:
            return run_pass(lambda: trace_fake(0))
    except FakeTraceError as error:
        if real is None:
            raise TraceError(str(error)) from error
        reason = error
    return run_pass(lambda: _trace_on_real_tensors(job, change, real, reason))


def _take_traced(job: LiveJob, profile: JobProfile, *, changed: bool, real: RealLimits | None) -> JobProfile:
    """Return the profile of a step that was traced on real tensors while the script ran; it has no other."""
    if real is None:
        raise TraceError("a loop of the script's own is traced on real tensors, which --no-real forbids")
    if changed or job.precision != profile.precision:
        other = "with a change" if changed else f"in {job.precision}"
        msg = f"a loop of the script's own is traced as it runs, in {profile.precision}, and not {other}"
        raise TraceError(f"{msg}: describe the run as a TrainingJob")
    return profile


def _sizes_of(parameters: Sequence[nn.Parameter]) -> list[tuple[int, bool]]:
    return [(bytes_of([parameter]), parameter.requires_grad) for parameter in parameters]


def _trace_on_real_tensors(
    job: TrainingJob,
    change: Callable[[nn.Module], Sequence[str]] | None,
    limits: RealLimits,
    reason: FakeTraceError,
) -> JobProfile:
    """Trace a step that fake tensors do not carry to its end, if the module is not too large."""
    live = job.module if isinstance(job.module, nn.Module) else None
    if live is not None and change is not None:
        with user_errors("copying the module", fake=False):
            job, live = replace(job, module=copy.deepcopy(live)), None
    try:
        check_size(reason.parameters if live is None else _sizes_of(list(live.parameters())), limits)
        with rng_untouched(), contextlib.nullcontext() if live is None else restore_after(live):
            tensors = RealTensors(limits, true_dtype(job.precision, real=True))
            tensors.notes.append(f"traced on real tensors, because {reason.because}")
            with spare_classes(), tensors:
                return _trace_on_tensors(job, change, tensors)
    except TraceError as error:
        if not reason.needs_value:
            raise
        first = str(reason).partition(f" {ADVICE}")[0]
        raise TraceError(f"{first} On real tensors: {error}") from error


def _trace_on_tensors(
    job: TrainingJob,
    change: Callable[[nn.Module], Sequence[str]] | None,
    tensors: Faker | RealTensors,
    *,
    worthwhile: float = 0,
    first_batch: bool = True,
) -> JobProfile:
    module, kind = _module_of(job, tensors)
    first = next(module.parameters(), None)
    with user_errors("making the batch", fake=isinstance(tensors, Faker)):
        batch = _make_batch(job.batch, tensors)
    # On the device that the Trainer would move it to.
    batch = tensors.batch(batch, None if first is None else first.device)
    if not isinstance(job, LiveJob):
        _check_batch_size(job, tensors.batch_tensors)
    untouched = _grads_untouched(job.module) if isinstance(tensors, Faker) else contextlib.nullcontext()
    with untouched, attributes_kept(kind.kept_objects(job)), name_meter(kind.meter):
        step = _trace_configured_step(
            job, module, batch, tensors, change, kind, worthwhile=worthwhile, first_batch=first_batch
        )
    return _profile_of(job, module, step, tensors, kind, describe_input(InputSource(), batch))


def _trace_configured_step(
    job: TrainingJob,
    module: nn.Module,
    batch: Any,
    tensors: Faker | RealTensors,
    change: Callable[[nn.Module], Sequence[str]] | None,
    kind: LoopKind,
    *,
    worthwhile: float,
    first_batch: bool,
) -> StepFacts:
    """Make a module ready for its step as its kind of loop does, change it, and trace the step."""
    fake = isinstance(tensors, Faker)
    batch_bytes = bytes_of(tensors.batch_tensors)
    precision = "32-true" if kind.casts_itself else job.precision
    with torch.enable_grad():
        prepared = kind.prepare(job, module)
        prepared.set_up(tensors)
        with making_fake(tensors):
            prepared.configure(tensors)
            if change is not None:
                with user_errors("changing the module", fake=fake):
                    tensors.notes += change(tensors.convert_module(module))
        tensors.convert_module(module)
        if isinstance(job, LiveJob) and job.live.wrap_module is not None:
            with user_errors("the strategy", fake=fake):
                tensors.notes += job.live.wrap_module(module)
        if isinstance(tensors, Faker):
            tensors.parameters = list(module.parameters())
        later = prepared.later_steps()
        same = not prepared.manual and (later is None or not later.change_step)
        training = prepared.step(tensors)
        if isinstance(tensors, Faker) and worthwhile and same:
            try:
                blocks = equal_blocks(module, worthwhile)
                versions = None if blocks is None else ShortVersions(
                    module=module, batch=batch, tensors=tensors, blocks=blocks, training=training,
                    make_step=prepared.step_of, precision=precision, batch_bytes=batch_bytes, first_batch=first_batch,
                )  # fmt: skip
                repeated = None if versions is None else versions.trace(job.accumulate_grad_batches)
            except Exception as error:  # the user's code may do anything with a version of the module
                raise NotRepeatedError(describe(error)) from error
            if repeated is not None:
                return replace(repeated, differs=join_sentences(repeated.differs, prepared.untraced))
    step = trace_step(
        module,
        batch,
        training,
        tensors.mode if isinstance(tensors, Faker) else None,
        precision=precision,
        batch_bytes=batch_bytes,
        first_batch=first_batch,
        later=later,
    )
    return replace(step, differs=join_sentences(step.differs, prepared.untraced))


def _module_of(job: TrainingJob, tensors: Faker | RealTensors) -> tuple[nn.Module, LoopKind]:
    """Return the module of a job on the tensors of the trace, and the kind of loop that trains it."""
    fake = isinstance(tensors, Faker)
    if is_builder(job.module):
        with user_errors("building the module", fake=fake), making_fake(tensors):
            module = build_value(job.module)
    else:
        module = job.module
    kind: LoopKind = (job.live.kind if isinstance(job, LiveJob) else None) or find_kind(module)
    if is_builder(job.module):
        return tensors.convert_module(module), kind
    with user_errors("copying the module onto fake tensors", fake=fake):
        return tensors.copy_module(module), kind


def _make_batch(batch: Any, tensors: Faker | RealTensors) -> Any:
    """Make the batch of real tensors, whose values a step may read; where that fails, of fake ones."""
    try:
        return build_value(batch)
    except Exception as error:  # noqa: BLE001 - e.g. too little memory, or a device that is not here
        try:
            with running_fake(tensors):
                return build_value(batch)
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


def _profile_of(
    job: TrainingJob, module: nn.Module, step: StepFacts, tensors: Faker | RealTensors, kind: LoopKind,
    facts: InputFacts | None,
) -> JobProfile:  # fmt: skip
    from trainfare_core.installation import __version__

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
    if find_compute_type(job.precision) == "fp8":
        notes.append(_fp8_note(job.precision, step.operations))
    samples = round(job.samples_per_step * step.batches_per_step)
    tokens = None if job.tokens_per_sample is None else job.tokens_per_sample * samples
    norms = step.batch_norms.synchronize(asked=job.sync_batchnorm)
    try:
        return JobProfile(
            name=type(module).__name__[:200],
            source=ProfileSource(
                how=step.how,
                tool_version=__version__,
                torch_version=str(torch.__version__),
                compiled=tensors.compiled,
                loop=kind.loop,
                in_loop=live is not None,
            ),
            precision=job.precision,
            operations=step.operations,
            modules=step.modules,
            parameters=group_parameters([(p, False) for p in kind.frozen_parameters], step.parameters),
            optimizer=step.optimizer,
            memory=step.memory,
            batch=BatchFacts(
                micro_batch_size=job.batch_size if counted else None,
                samples_per_step=samples if counted else None,
                tokens_per_step=tokens,
                input=facts,
                batch_norm=bool(norms.of_device),
                synchronized_norms=norms.synchronized_norms,
                variation=step.variation,
                scales=None if live is None else live.facts.scales,
            ),
            parallel=ParallelFacts(
                strategy=job.strategy,
                devices=job.devices,
                num_nodes=job.num_nodes,
                accumulate_grad_batches=max(1, round(job.accumulate_grad_batches * step.batches_per_step)),
            ),
            plan=plan,
            work_note="; ".join(filter(None, (live.batch_note if live else "", step.differs))) or None,
            notes=tuple(dict.fromkeys(shorten_text(note, MAX_TEXT_CHARACTERS) for note in notes)),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"the job is beyond what a profile can hold: {field}: {first['msg']}") from error


def _fp8_note(precision: str, operations: Sequence[OperationGroup]) -> str:
    """
    Return what was assumed of a step in fp8.

    Raises:
        TraceError: nothing runs in fp8.
    """
    products = [group for group in operations if group.kind == "matmul" and group.flops]
    eight = [group for group in products if group.dtype == "fp8"]
    if not eight:
        raise TraceError(
            f"precision {precision}: the step has no product of a torch.nn.Linear of which 16 divides both sizes, so "
            "nothing runs in fp8: use bf16-true or 16-true, which take the same time"
        )
    share = sum(group.flops for group in eight) / sum(group.flops for group in products)
    odd = any(group.phase == "forward" and group.shape[1] % _FP8_ROWS for group in eight)
    return (
        f"{percent(share)} of the FLOPs of matrix products are in fp8, in linear layers whose sizes 16 divides, "
        "and the casts of their operands are counted; activations are counted in 16 bits"
        + (
            f"; Transformer Engine refuses inputs with a number of rows (samples x tokens) that {_FP8_ROWS} does not "
            "divide, and this batch has such"
            if odd
            else ""
        )
    )


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
