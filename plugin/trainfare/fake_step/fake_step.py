"""Run one optimizer step on fake or real tensors, calling the module's hooks in the order of Lightning's loops."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trainfare.fake_step.callbacks import is_lightnings
from trainfare.fake_step.fake_build import mixed_recurrent_inputs, run_fake, values_in_transformers
from trainfare.fake_step.known_values import KnownValues
from trainfare.fake_step.later_epochs import LaterEpochs
from trainfare.fake_step.step_forms import loss_of, takes_batch_index
from trainfare.fake_step.trainer_stub import TrainerStub
from trainfare.fake_step.unknown_scalars import ScalarReads, tolerant_metrics
from trainfare.fake_step.user_errors import ADVICE, FakeTraceError, user_errors
from trainfare.job import describe
from trainfare.trace import StepFacts, StepTrace
from trainfare.trace.mixture import BatchKind, KindsOfBatches, mixed_batches
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import OperationGroup, ParameterGroup
from trainfare_core.variants import computed_in

__all__ = ["AUTOCAST_DTYPES", "run_forward", "trace_step", "true_dtype"]

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


def trace_step(
    module: nn.Module,
    batch: Any,
    optimizers: list[torch.optim.Optimizer],
    trainer: TrainerStub,
    mode: FakeTensorMode | None,
    *,
    precision: str,
    batch_bytes: int = 0,
    from_loader: bool = True,
    first_batch: bool = True,
    later: LaterEpochs | None = None,
    keep: Callable[[StepTrace], None] = lambda _: None,
) -> StepFacts:
    """
    Run two batches and trace the second, in which the optimizer's state exists as in every later step.

    Under manual optimization, go on until every optimizer has stepped; the step is then the mean of those in between.

    Args:
        module: the module, with `trainer` attached.
        batch: one micro-batch.
        optimizers: bound to the module's parameters; empty when the module has none.
        trainer: the stub that the module reads as its Trainer; its `accumulate_grad_batches` are the forward and
            backward passes in one optimizer step.
        mode: the mode that the fake tensors belong to; None where the tensors are real. Then half precision is
            computed in bf16, which a CPU is made for, and recorded as what it is on a GPU.
        precision: Lightning's long form, e.g. "bf16-mixed".
        batch_bytes: of the batch; taken where the step reads no tensor that it has not made.
        from_loader: whether the module's batch-transfer hooks still have to be called.
        first_batch: whether the first batch runs; without it the optimizers step once with gradients of zero. Manual
            optimization runs it in any case.
        later: what changes the step in later epochs; None: the step of this moment alone is traced.
        keep: called with the trace of each step that is recorded.

    Raises:
        TraceError: the step needs values that fake tensors do not have, or the user's code raised.
    """
    known = None if mode is None else KnownValues(mode, run_fake)
    runner = _Runner(module, optimizers, trainer, precision, known, from_loader=from_loader)
    with _conditions(mode, known, precision) as autocast:
        batches = _Batches(
            runner,
            partial(
                StepTrace,
                module,
                optimizers,
                cuda_autocast_dtype=autocast,
                fp8=computed_in(precision) == "fp8",
            ),
            batch,
            batch_bytes,
            keep,
            first=first_batch,
        )
        micro_batches = trainer.accumulate_grad_batches
        if later is not None:
            later.begin()
        if not runner.manual or not optimizers:
            step = batches.whole()
            if later is not None:
                step = later.mean_step(step, micro_batches, batches.whole)
        else:
            batches.run()
            step = _whole_step(batches, runner, optimizers)
            if later is not None:
                step = later.unfollowed(step)
    notes = (*step.notes, *runner.notes, *([] if known is None else known.notes))
    step = replace(step, notes=tuple(dict.fromkeys(notes)))
    return step if mode is not None else _of_real_tensors(step, precision)


def run_forward(
    module: nn.Module,
    batch: Any,
    optimizers: list[torch.optim.Optimizer],
    trainer: TrainerStub,
    mode: FakeTensorMode,
    precision: str,
    log: contextlib.AbstractContextManager[Any],
) -> None:
    """
    Run the forward of one batch on fake tensors, as `trace_step` does before the backward.

    Args:
        module: see `trace_step`.
        batch: see `trace_step`.
        optimizers: see `trace_step`.
        trainer: see `trace_step`.
        mode: see `trace_step`.
        precision: see `trace_step`.
        log: entered for the forward; it may look at the operations.
    """
    known = KnownValues(mode, run_fake)
    runner = _Runner(module, optimizers, trainer, precision, known, from_loader=True)
    with _conditions(mode, known, precision) as autocast, log:
        runner.forward(StepTrace(module, cuda_autocast_dtype=autocast, recording=False), batch)


@contextlib.contextmanager
def _conditions(
    mode: FakeTensorMode | None, known: KnownValues | None, precision: str
) -> Generator[torch.dtype | None, None, None]:
    """Enter what a traced step runs under; give the dtype that its forward casts to as CUDA's autocast would."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        if mode is not None and known is not None:
            stack.enter_context(mode)
            stack.enter_context(known)
            stack.enter_context(values_in_transformers(lambda tensor: known.value_of(tensor) is not None))
        if precision in AUTOCAST_DTYPES:
            stack.enter_context(mixed_recurrent_inputs())
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
        operations=tuple(_of_dtype(one, names) for one in step.operations),
        parameters=tuple(_of_dtype(one, names) for one in step.parameters),
    )


def _whole_step(batches: _Batches, runner: _Runner, optimizers: list[torch.optim.Optimizer]) -> StepFacts:
    """Run batches until every optimizer has stepped, and return the mean step between two such batches."""
    everyone = set(range(len(optimizers)))
    # How often one of several optimizers steps is known when it has stepped twice.
    enough = 1 if len(optimizers) == 1 else 2
    while batches.kinds.stepped(since=1) != everyone or batches.kinds.fewest_steps() < enough:
        if len(batches.kinds) >= MAX_BATCHES:
            break
        if len(batches.kinds) == 1:
            runner.create_states()
        batches.run()
    stepped = batches.kinds.stepped()
    if not stepped:
        raise TraceError(
            f"no optimizer stepped in {MAX_BATCHES} calls of training_step: under manual optimization it must call "
            f"self.optimizers().step() in one of them. {ADVICE}"
        )
    left_out = [type(optimizers[place]).__name__ for place in sorted(everyone - stepped)]
    return mixed_batches(batches.kinds, batches.traced, left_out)


@contextlib.contextmanager
def _all_at_once(optimizer: torch.optim.Optimizer) -> Generator[None, None, None]:
    """Make an optimizer update all parameters by one call of each operation inside the block, where it can."""
    groups: list[dict[str, Any]] = optimizer.param_groups
    looped = [group for group in groups if group.get("foreach", False) is None and not group.get("fused")]
    for group in looped:
        group["foreach"] = True
    try:
        yield
    finally:
        for group in looped:
            group["foreach"] = None


class _Batches:
    """Traces one batch after the other, and keeps the last trace of every kind of batch."""

    def __init__(
        self,
        runner: _Runner,
        make_trace: Callable[..., StepTrace],
        batch: Any,
        batch_bytes: int,
        keep: Callable[[StepTrace], None],
        *,
        first: bool,
    ) -> None:
        self._runner, self._make_trace, self._keep = runner, make_trace, keep
        self._batch, self._batch_bytes, self._first = batch, batch_bytes, first
        self.kinds = KindsOfBatches()
        self.traced: dict[BatchKind, StepFacts] = {}

    def whole(self) -> StepFacts:
        """Run a batch, which makes the optimizer's state and is not recorded, and trace the next as a whole step."""
        if self._first or self.kinds:
            self._runner.run(self._make_trace(recording=False), self._batch, len(self.kinds))
        else:
            self._runner.create_states(leave_gradients=True)
        self.kinds.add(tuple(self._runner.stepped))
        return replace(self.run(), optimizer_calls=len(self._runner.stepped))

    def run(self) -> StepFacts:
        """Trace the next batch."""
        trace = self._make_trace()
        self._runner.run(trace, self._batch, len(self.kinds))
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
        kind = tuple(self._runner.stepped)
        self.kinds.add(kind)
        self.traced[kind] = facts
        return facts


def true_dtype(precision: str, *, real: bool) -> torch.dtype | None:
    """Return the dtype of parameters and inputs of a precision; None leaves them as they are."""
    dtype = TRUE_DTYPES.get(precision)
    return torch.bfloat16 if real and dtype is torch.float16 else dtype


def _of_dtype(group: _Group, names: dict[str, str]) -> _Group:
    return group.model_copy(update={"dtype": names[group.dtype]}) if group.dtype in names else group


class _Runner:
    def __init__(
        self,
        module: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        trainer: TrainerStub,
        precision: str,
        known: KnownValues | None,
        *,
        from_loader: bool,
    ) -> None:
        self.notes: list[str] = []
        self._module: Any = module
        self._optimizers = optimizers
        self._trainer = trainer
        self._from_loader = from_loader
        self._automatic = bool(getattr(module, "automatic_optimization", True))
        self.manual = not self._automatic
        self.stepped: list[int] = []
        """The optimizers that have stepped in the batch, by their places."""
        self._plain_steps: list[Callable[..., Any]] = []
        self._scaler = torch.amp.GradScaler("cpu") if precision == "16-mixed" else None
        self._trace: StepTrace | None = None
        self._fake = known is not None
        self._reads = ScalarReads(known)
        if self._fake:
            tolerant_metrics(module, self.notes)
        if self._automatic and len(optimizers) > 1:
            msg = f"configure_optimizers returned {len(optimizers)} optimizers under automatic optimization"
            raise TraceError(f"{msg}, which Lightning refuses: set self.automatic_optimization = False")
        for place, optimizer in enumerate(optimizers):
            self._count(optimizer, place)

    @property
    def passes(self) -> int:
        """Forward and backward passes in one optimizer step, of which one is traced."""
        return 1 if self.manual else max(1, int(self._trainer.accumulate_grad_batches))

    def create_states(self, *, leave_gradients: bool = False) -> None:
        """
        Step every optimizer once with gradients of zero, so that its state exists as in every later step.

        Under manual optimization an optimizer may first step in the batch that is traced for it.

        Args:
            leave_gradients: keep the gradients of zero, which a run has until `zero_grad` of its next step.
        """
        parameters = [p for o in self._optimizers for group in o.param_groups for p in group["params"]]
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        for optimizer, step in zip(self._optimizers, self._plain_steps, strict=True):
            if not optimizer.state:
                # Suppressed: e.g. one whose step needs a closure; its state stays unknown.
                with contextlib.suppress(Exception), _all_at_once(optimizer):
                    step()
            if not optimizer.state:
                with contextlib.suppress(Exception):
                    step()
        if not leave_gradients:
            for parameter, grad in zip(parameters, before, strict=True):
                parameter.grad = grad

    def run(self, trace: StepTrace, batch: Any, batch_idx: int) -> None:
        """Run one micro-batch and its optimizer step, recorded by the trace."""
        self._trace = trace
        self.stepped = []
        self._reads.count = 0
        with self._reads, trace, user_errors("training_step", fake=self._fake):
            batch = self._begun(batch, batch_idx)
            if self._automatic:
                outputs = self._automatic_step(batch, batch_idx)
            else:
                outputs = self._training_step(batch, batch_idx)
            self._hook("on_train_batch_end", outputs, batch, batch_idx)
        self._trace = None
        if self._reads.count and batch_idx:
            reads = f"training_step reads {self._reads.count} value(s) with item()"
            self.notes.append(f"{reads}: each makes the host wait for the device")

    def forward(self, trace: StepTrace, batch: Any) -> None:
        """Run the forward of one micro-batch, as `run` does before its backward."""
        with self._reads, trace, user_errors("training_step", fake=self._fake):
            self._training_step(self._begun(batch, 0), 0)

    def _begun(self, batch: Any, batch_idx: int) -> Any:
        """Call the hooks that come before `training_step`, and return the batch that they make of it."""
        if self._from_loader:
            for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
                batch = self._transferred(name, batch)
        self._hook("on_train_batch_start", batch, batch_idx)
        return batch

    def _automatic_step(self, batch: Any, batch_idx: int) -> object:
        outputs: list[object] = []
        optimizer = self._optimizers[0] if self._optimizers else None

        def closure() -> Tensor:
            output = self._training_step(batch, batch_idx)
            outputs.append(output)
            loss = loss_of(output)
            if optimizer is not None:
                self._zero_grad(optimizer, batch_idx)
            self._backward(loss)
            return loss

        if optimizer is None:
            closure()
        elif hasattr(self._module, "optimizer_step"):
            self._module.optimizer_step(self._trainer.current_epoch, batch_idx, optimizer, closure)
        else:
            loose: Any = optimizer
            loose.step(closure)
        if not outputs:
            raise TraceError("optimizer_step never called its closure, so nothing was trained: " + ADVICE)
        return outputs[-1]

    def _training_step(self, batch: Any, batch_idx: int) -> object:
        step: Callable[..., object] = self._module.training_step
        return step(batch, batch_idx) if takes_batch_index(step) else step(batch)

    def _zero_grad(self, optimizer: torch.optim.Optimizer, batch_idx: int) -> None:
        self._hook("on_before_zero_grad", optimizer)
        if hasattr(self._module, "optimizer_zero_grad"):
            self._module.optimizer_zero_grad(self._trainer.current_epoch, batch_idx, optimizer)
        else:
            optimizer.zero_grad()

    def _backward(self, loss: Tensor) -> None:
        loss = loss / self._trainer.accumulate_grad_batches
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        self._hook("on_before_backward", loss)
        self._trainer.strategy.backward(loss)
        self._hook("on_after_backward")

    def _count(self, optimizer: torch.optim.Optimizer, place: int) -> None:
        """Replace `optimizer.step`: run the closure, then step in the optimizer phase of the trace, and count it."""
        loose: Any = optimizer
        step: Callable[..., Any] = loose.step
        self._plain_steps.append(step)
        closure_parameter = inspect.signature(type(optimizer).step).parameters.get("closure")
        needs_closure = closure_parameter is not None and closure_parameter.default is inspect.Parameter.empty

        def counted(closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
            if needs_closure and self._fake:
                msg = f"{type(optimizer).__name__}.step reruns the training step"
                raise FakeTraceError(f"{msg} a number of times that depends on values. {ADVICE}", msg)
            if needs_closure:
                self._trainer.global_step += 1
                self.stepped.append(place)
                return step(closure=closure, **kwargs)  # the trace tells update and closure apart by itself
            result = closure() if closure is not None else None
            trace = self._trace
            if trace is None:
                return step(**kwargs)
            trace.begin_optimizer()
            try:
                self._before_step(optimizer)
                step(**kwargs)
            finally:
                trace.end_optimizer()
            self._trainer.global_step += 1
            self.stepped.append(place)
            return result

        @contextlib.contextmanager
        def toggle_model(sync_grad: bool = True) -> Generator[None, None, None]:  # noqa: FBT001, FBT002, ARG001
            self._module.toggle_optimizer(optimizer)
            try:
                yield
            finally:
                self._module.untoggle_optimizer(optimizer)

        # Learning-rate schedulers warn about a `step` that they have not wrapped; this one calls the wrapped one.
        vars(counted)["_wrapped_by_lr_sched"] = True
        loose.step = counted
        loose.optimizer = optimizer
        loose.toggle_model = toggle_model

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._scaler is not None and any(
            parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"]
        ):
            # A scaler unscales once until `update()`, which reads values: the next step gets a new scaler.
            self._scaler.unscale_(optimizer)
            self._scaler = torch.amp.GradScaler("cpu")
        self._hook("on_before_optimizer_step", optimizer)
        if self._automatic and self._trainer.gradient_clip_val:
            self._hook(
                "configure_gradient_clipping",
                optimizer,
                gradient_clip_val=self._trainer.gradient_clip_val,
                gradient_clip_algorithm=self._trainer.gradient_clip_algorithm,
            )

    def _transferred(self, name: str, batch: Any) -> Any:
        """Call a batch-transfer hook, which a datamodule may have instead of the module."""
        datamodule = self._trainer.datamodule
        own: object = getattr(datamodule.__class__, name, None)
        hook = None if own is None or is_lightnings(own) else getattr(datamodule, name)
        return self._hook(name, batch, 0, default=batch) if hook is None else hook(batch, 0)

    def _hook(self, name: str, *args: Any, default: Any = None, **kwargs: Any) -> Any:
        hook = getattr(self._module, name, None)
        return default if hook is None else hook(*args, **kwargs)
