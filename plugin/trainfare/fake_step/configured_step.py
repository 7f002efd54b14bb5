"""Make a module ready for its step, as its kind of loop does, and trace the step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trainfare.fake_step.equal_blocks import equal_blocks
from trainfare.fake_step.fake_build import BuildMode, movable_fakes
from trainfare.fake_step.fake_step import join_sentences, trace_step
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.loop_kind import LoopKind
from trainfare.fake_step.real_tensors import RealTensors
from trainfare.fake_step.repeated_step import ShortVersions
from trainfare.fake_step.user_errors import user_errors
from trainfare.job import LiveJob, TrainingJob, describe
from trainfare.trace import StepFacts, torch_private
from trainfare.trace.repetition import NotRepeatedError


def trace_configured_step(
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
    """
    Set up a module, change it, and trace its step.

    Args:
        job: the run.
        module: built.
        batch: one micro-batch.
        tensors: made both.
        change: see `trace_changed`.
        kind: of the loop that trains the module.
        worthwhile: see `trace_changed`.
        first_batch: see `trace_step`.

    Raises:
        NotRepeatedError: the module's equal blocks cannot stand for each other; trace another copy as a whole.
        InputError, TraceError: see `trace_job`.
    """
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


def bytes_of(tensors: Sequence[Tensor]) -> int:
    """Return the bytes of the elements of all tensors."""
    with torch_private.without_torch_functions():  # which a class of the user's may refuse
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


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
