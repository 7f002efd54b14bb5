"""Run one optimizer step of a module on fake or real tensors, as the `TrainingStep` of its loop does it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trainfare.fake_step.fake_build import allow_mixed_recurrent_inputs, run_fake, values_in_transformers
from trainfare.fake_step.fake_tensors import copy_containers
from trainfare.fake_step.known_values import KnownValues
from trainfare.fake_step.random_work import MOST_DRAWS, RandomWork
from trainfare.fake_step.step_runner import StepRunner
from trainfare.fake_step.user_errors import ADVICE
from trainfare.job import describe
from trainfare.job.loop import TrainingStep
from trainfare.trace import StepFacts, StepTrace, torch_private
from trainfare.trace.mixture import MAX_CHARACTERS, BatchKind, KindsOfBatches, mix_batches
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import OperationGroup, ParameterGroup
from trainfare_core.number_format import list_items
from trainfare_core.variants import find_compute_type

_Group = TypeVar("_Group", OperationGroup, ParameterGroup)

_TRANSFORMER_ENGINE = {
    "transformer-engine": torch.bfloat16,
    "transformer-engine-float16": torch.float16,
}
"""The dtype of weights and inputs, and of what does not run in fp8."""
AUTOCAST_DTYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16, **_TRANSFORMER_ENGINE}
"""The dtype of each precision under which Lightning runs the forward in autocast."""
MAX_BATCHES = 33
"""Batches that are traced under manual optimization until every optimizer has stepped: enough for an accumulation over
32. A chosen value: each takes as long as a trace of the step."""
TRUE_DTYPES = {
    "16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64, **_TRANSFORMER_ENGINE,
}  # fmt: skip
"""The dtype of parameters and inputs of each precision that changes it from fp32."""


class LaterSteps(Protocol):
    """What changes the step of a module in the course of a run."""

    @property
    def change_step(self) -> bool:
        """Whether there is anything that may change the step."""
        ...

    def begin(self) -> None:
        """Make the changes that come before the first step."""
        ...

    def note_unfollowed(self, step: StepFacts) -> StepFacts:
        """Return a step under manual optimization, of which later changes are not followed, with that said."""
        ...

    def mean_step(self, first: StepFacts, micro_batches: int, retrace: Callable[[], StepFacts]) -> StepFacts:
        """
        Return the mean step of the run.

        Args:
            first: the first step.
            micro_batches: of a step, as the job says.
            retrace: traces a step of the module as it is then.
        """
        ...


def trace_step(
    module: nn.Module,
    batch: Any,
    training: TrainingStep,
    mode: FakeTensorMode | None,
    *,
    precision: str,
    batch_bytes: int = 0,
    first_batch: bool = True,
    later: LaterSteps | None = None,
    keep: Callable[[StepTrace], None] = lambda _: None,
    compare_batches: bool = True,
) -> StepFacts:
    """
    Run two batches and trace the second, in which the optimizer's state exists as in every later step.

    Where its work depends on random draws, or batches do different work, trace more and return their mean. Under
    manual optimization, go on until every optimizer has stepped; the step is then the mean of those in between.

    Args:
        module: the module.
        batch: one micro-batch; each run gets a copy of it.
        training: its step.
        mode: the mode that the fake tensors belong to; None where the tensors are real. Then half precision is
            computed in bf16, which a CPU is made for, and recorded as what it is on a GPU.
        precision: Lightning's long form, e.g. "bf16-mixed".
        batch_bytes: of the batch; taken where the step reads no tensor that it has not made.
        first_batch: whether the first batch runs as every other one, and later ones are compared with it; else it runs
            its forward alone, and the optimizers step once with gradients of zero. Manual optimization runs it in any
            case.
        later: what changes the step later in the run; None: the step of this moment alone is traced.
        keep: called with the trace of each step that is recorded.
        compare_batches: whether later batches are compared with the traced one; those that are like the first are not.

    Raises:
        TraceError: the step needs values that fake tensors do not have, or the user's code raised.
    """
    known = None if mode is None else KnownValues(mode, run_fake)
    random_work = RandomWork(real=mode is None)
    runner = StepRunner(module, training, known, random_work)
    optimizers = runner.optimizers
    with _conditions(mode, known, precision) as autocast, random_work:
        batches = _Batches(
            runner,
            random_work,
            partial(
                StepTrace,
                module,
                optimizers,
                cuda_autocast_dtype=autocast,
                fp8=find_compute_type(precision) == "fp8",
            ),
            partial(copy_containers, batch, cloned=mode is None),
            batch_bytes,
            keep,
            _first=first_batch,
            _compare=compare_batches and first_batch,
        )
        micro_batches = training.passes
        if later is not None:
            later.begin()
        if not training.manual or not optimizers:
            step = batches.whole()
            if later is not None:
                step = later.mean_step(step, micro_batches, batches.whole)
        else:
            batches.run()
            step = _whole_step(batches, runner, optimizers)
            if later is not None:
                step = later.note_unfollowed(step)
    notes = (*step.notes, *runner.notes, *([] if known is None else known.notes))
    step = replace(step, notes=tuple(dict.fromkeys(notes)))
    return step if mode is not None else _of_real_tensors(step, precision)


def run_forward(
    module: nn.Module,
    batch: Any,
    training: TrainingStep,
    mode: FakeTensorMode,
    precision: str,
    log: contextlib.AbstractContextManager[Any],
) -> RandomWork:
    """
    Run the forward of one batch on fake tensors, as `trace_step` does before the backward.

    Args:
        module: see `trace_step`.
        batch: see `trace_step`.
        training: see `trace_step`.
        mode: see `trace_step`.
        precision: see `trace_step`.
        log: entered for the forward; it may look at the operations.

    Returns:
        Whether the forward depends on random draws.
    """
    known, random_work = KnownValues(mode, run_fake), RandomWork(real=False)
    runner = StepRunner(module, training, known, random_work)
    with _conditions(mode, known, precision) as autocast, random_work, log:
        runner.forward(StepTrace(module, cuda_autocast_dtype=autocast, recording=False), batch)
    return random_work


@contextlib.contextmanager
def _conditions(
    mode: FakeTensorMode | None, known: KnownValues | None, precision: str
) -> Generator[torch.dtype | None, None, None]:
    """Enter what a traced step runs under; give the dtype that its forward casts to as CUDA's autocast would."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch_private.run_eagerly())
        if mode is not None and known is not None:
            stack.enter_context(mode)
            stack.enter_context(known)
            stack.enter_context(values_in_transformers(lambda tensor: known.value_of(tensor) is not None))
        if precision in AUTOCAST_DTYPES:
            stack.enter_context(allow_mixed_recurrent_inputs())
        true = true_dtype(precision, real=mode is None)
        if true is not None:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(true)
        autocast = AUTOCAST_DTYPES.get(precision)
        yield torch.bfloat16 if mode is None and autocast is not None else autocast


def _of_real_tensors(step: StepFacts, precision: str) -> StepFacts:
    half = AUTOCAST_DTYPES.get(precision, TRUE_DTYPES.get(precision)) is torch.float16
    names = {"bf16": "fp16"} if half else {}
    return replace(
        step,
        how="real",
        operations=tuple(_of_dtype(operation, names) for operation in step.operations),
        parameters=tuple(_of_dtype(parameter, names) for parameter in step.parameters),
    )


def _whole_step(batches: _Batches, runner: StepRunner, optimizers: list[torch.optim.Optimizer]) -> StepFacts:
    """Run batches until every optimizer has stepped, and return the mean step between two such batches."""
    everyone = set(range(len(optimizers)))
    # How often one of several optimizers steps is known when it has stepped twice.
    enough = 1 if len(optimizers) == 1 else 2
    while batches.kinds.list_stepped(since=1) != everyone or batches.kinds.fewest_steps() < enough:
        if len(batches.kinds) >= MAX_BATCHES:
            break
        if len(batches.kinds) == 1:
            runner.create_states()
        batches.run()
    stepped = batches.kinds.list_stepped()
    if not stepped:
        names = list_items([type(optimizer).__name__ for optimizer in optimizers], MAX_CHARACTERS)
        raise TraceError(
            f"no optimizer stepped in {MAX_BATCHES} calls of training_step{runner.place}: the Trainer counts a step "
            f"where self.optimizers().step() is called (of {names}), and steps made in another way leave "
            "trainer.global_step at 0, so that neither max_steps nor FareMeter sees them: call it there, with a "
            "closure where the optimizer evaluates the loss again"
        )
    batches.draw_more()
    left_out = [type(optimizers[index]).__name__ for index in sorted(everyone - stepped)]
    return mix_batches(batches.kinds, batches.mean_steps(), left_out)


@dataclass(slots=True, eq=False)
class _Batches:
    """Traces one batch after the other, and keeps the traces of every kind of batch."""

    _runner: StepRunner
    _random_work: RandomWork
    _make_trace: Callable[..., StepTrace]
    _make_batch: Callable[[], Any]
    _batch_bytes: int
    _keep: Callable[[StepTrace], None]
    _first: bool
    _compare: bool
    kinds: KindsOfBatches = field(default_factory=KindsOfBatches)
    _traced: dict[BatchKind, list[StepFacts]] = field(default_factory=dict[BatchKind, list[StepFacts]])
    _works: dict[BatchKind, int] = field(default_factory=dict[BatchKind, int])

    def whole(self) -> StepFacts:
        """Run a batch, which makes the optimizer's state and is not recorded, and trace the next as a whole step."""
        if self._first or self.kinds:
            self._runner.run(self._make_trace(recording=False), self._make_batch(), len(self.kinds))
        else:
            self._runner.forward(self._make_trace(recording=False), self._make_batch())
            self._runner.create_states(leave_gradients=True)
        self.kinds.add(tuple(self._runner.stepped))
        self._traced.clear()
        calls = len(self.run())
        self._compare_batches()
        self.draw_more()
        steps = [step for steps in self._traced.values() for step in steps]
        return replace(self._random_work.average(steps), optimizer_calls=calls)

    def mean_steps(self) -> dict[BatchKind, StepFacts]:
        """Return the mean traced step of each kind of batch; the last one where their work is not random."""
        return {kind: self._random_work.average(steps[::-1]) for kind, steps in self._traced.items()}

    def _compare_batches(self) -> None:
        """Find out whether later batches do other work than the one just traced; those are traced then."""
        if not self._compare or self._random_work.has_source():
            return
        flops = sum(step.flops for steps in self._traced.values() for step in steps)
        most = self._random_work.most_compared(flops)
        self._runner.compare_batches(partial(self._make_trace, recording=False), self._make_batch, most)
        if self._random_work.has_source():
            self._traced.clear()
            self.run()

    def draw_more(self) -> None:
        """Trace more batches where their work is random, until the mean of each kind of them is known."""
        notes = len(self._runner.notes)
        for _ in range(MOST_DRAWS):
            passes = self._runner.passes
            if not any(self._random_work.wants_more(steps, passes) for steps in self._traced.values()):
                break
            try:
                self.run()
            except TraceError:  # e.g. the limit of CPU time: those before it are known
                break
        del self._runner.notes[notes:]

    def run(self) -> BatchKind:
        """Trace the next batch, and return its kind."""
        trace = self._make_trace()
        self._runner.run(trace, self._make_batch(), len(self.kinds))
        if trace.fault is not None:
            raise TraceError(f"the trace itself failed and is incomplete: {describe(trace.fault)}. {ADVICE}")
        memory, passes = trace.memory(), self._runner.passes
        if memory.input_bytes == 0:
            memory = memory.model_copy(update={"input_bytes": self._batch_bytes})
        facts = StepFacts(
            how="fake",
            operations=trace.operations(micro_batches=passes),
            modules=trace.modules(micro_batches=passes),
            parameters=trace.parameters(),
            optimizer=trace.optimizer_facts(),
            batch_norms=trace.batch_norms(),
            memory=memory,
            notes=tuple(trace.notes),
        )
        self._keep(trace)
        kind, work = tuple(self._runner.stepped), self._random_work.works[-1]
        if self._runner.manual and self._works.setdefault(kind, work) != work:
            self._random_work.note_difference()
        self.kinds.add(kind)
        self._traced.setdefault(kind, []).append(facts)
        return kind


def join_sentences(*sentences: str) -> str:
    """Return what is said of a step as one sentence that a profile can hold."""
    return list_items([text for text in sentences if text], MAX_CHARACTERS, separator="; ")


def true_dtype(precision: str, *, real: bool) -> torch.dtype | None:
    """Return the dtype of parameters and inputs of a precision; None leaves them as they are."""
    dtype = TRUE_DTYPES.get(precision)
    return torch.bfloat16 if real and dtype is torch.float16 else dtype


def _of_dtype(group: _Group, names: dict[str, str]) -> _Group:
    return group.model_copy(update={"dtype": names[group.dtype]}) if group.dtype in names else group
