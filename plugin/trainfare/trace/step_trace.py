"""
What one training step does, operation by operation, on real or fake tensors.

`StepTrace` only watches: outputs, weights, the autograd graph and the random state are what they would have
been. The one exception is `cuda_autocast_dtype`, which makes a *fake* step cast as CUDA's autocast would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, cast

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from trainfare.trace import module_facts, torch_private
from trainfare.trace.cuda_autocast import CudaAutocast
from trainfare.trace.fused_calls import Region, open_region
from trainfare.trace.memory import MemoryWatch
from trainfare.trace.modes import CallMode, OperationMode, leave
from trainfare.trace.recorder import Recorder
from trainfare_core.job_profile import MemoryFacts, OperationGroup, OptimizerFacts, ParameterGroup

__all__ = ["StepTrace"]

_PROPERTY_ACCESS = frozenset({"__get__", "__set__", "__delete__"})


class StepTrace:
    """
    Watches one training step and answers what it did.

    Args:
        module: whose parameters and buffers are told apart from activations.
        optimizers: whose state is counted. The update of any torch optimizer is recognised by its step hooks.
        cuda_autocast_dtype: make forward cast as CUDA's autocast to this dtype would. For fake tensors only.

    Enter a `FakeTensorMode` first and the trace inside it. `stop` may be called from any path, any number of
    times, on the thread that started; it leaves every mode and hook, also where `start` failed half-way. A
    fault of the trace itself never reaches the watched code: recording ends, `fault` holds it, `notes` says
    so.

    FLOPs are counted for matrix-like work, one multiply-add as two; elementwise work, normalisation, softmax
    and reductions are 0 FLOPs with their bytes; causal attention is not halved. An operation without a
    formula has kind "unknown".
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimizers: Sequence[Optimizer] = (),
        *,
        cuda_autocast_dtype: torch.dtype | None = None,
    ) -> None:
        self._module = module
        self._optimizers = list(optimizers)
        self._autocast_dtype = cuda_autocast_dtype
        self._autocast: CudaAutocast | None = None
        self._recorder = Recorder(MemoryWatch(list(module.parameters()), list(module.buffers())))
        self._scopes: list[Optimizer | None] = []
        self._stack: ExitStack | None = None
        self._marked = False
        self._fake_mode: Any = None
        self.fault: Exception | None = None

    def __enter__(self) -> StepTrace:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def notes(self) -> list[str]:
        """What could not be seen or was assumed, one sentence each."""
        notes = list(self._recorder.notes)
        if self._autocast is not None and self._autocast.islands:
            notes.append(
                "the step enters an autocast context of its own that is off on this machine: traced in full "
                "precision there"
            )
        unknown = self._recorder.ledger.unknown_names()
        if unknown:
            notes.append(f"no FLOP formula, bytes counted: {', '.join(unknown)}"[:500])
        if self.fault is not None:
            notes.append(f"the trace is incomplete: {type(self.fault).__name__}: {self.fault}"[:500])
        return notes

    def start(self) -> None:
        """
        Begin to watch.

        Raises:
            RuntimeError: it is watching already.
        """
        if self._stack is not None:
            raise RuntimeError("this StepTrace is watching already: stop it before starting it again")
        self._stack = ExitStack()
        try:
            self._enter(self._stack)
        except BaseException:
            self.stop()
            raise

    def _enter(self, stack: ExitStack) -> None:
        self._fake_mode = torch_private.fake_mode()
        self._recorder.memory.begin()
        self._set_optimizing()
        # A dispatch mode over compiled code slows it for good.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        for register, hook in (
            (register_optimizer_step_pre_hook, self._before_step),
            (register_optimizer_step_post_hook, self._after_step),
        ):
            stack.callback(register(hook).remove)
        if self._autocast_dtype is not None:
            self._autocast = CudaAutocast(self._autocast_dtype)
        operations = OperationMode(self._dispatched)
        for mode in (CallMode(self._called, operations), operations):
            stack.callback(leave, mode)
            cast("Any", mode).__enter__()

    def stop(self) -> None:
        """Leave every mode and hook; what was recorded stays."""
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()
            self._recorder.memory.live.close()
            self._marked, self._scopes = False, []
            self._recorder.optimizing, self._recorder.region = False, None

    def begin_optimizer(self) -> None:
        """Say that what follows is the optimizer's update: unscaling, clipping, the step."""
        self._marked = True
        self._set_optimizing()

    def end_optimizer(self) -> None:
        """Say that the update is over."""
        self._marked = False
        self._set_optimizing()

    def operations(self, *, micro_batches: int = 1) -> tuple[OperationGroup, ...]:
        """
        Return the operations of one optimizer step, in a fixed order.

        Args:
            micro_batches: how many such forward and backward passes one optimizer step has. They are
                multiplied, the gradients of all but the first are added up, and the update stays one.
        """
        gradients = module_facts.accumulated_gradients(self._module.parameters())
        return self._recorder.ledger.groups(micro_batches, gradients)

    def memory(self) -> MemoryFacts:
        """
        Return the memory of one micro-batch, in bytes.

        Saved activations are storages that autograd keeps, or that backward reads and forward made, each
        once; parameters, buffers and the batch itself (`input_bytes`) are not among them. Casts of weights
        that mixed precision keeps are.
        """
        return module_facts.memory_facts(self._module, self._recorder)

    def parameters(self) -> tuple[ParameterGroup, ...]:
        """Return the module's parameters by dtype and whether they train; a shared weight counts once."""
        return module_facts.parameter_groups(self._module)

    def optimizer_facts(self) -> OptimizerFacts:
        """Return what the optimizers keep between steps; ask after a step, which makes the state."""
        return module_facts.optimizer_facts(self._optimizers)

    # ---- phases

    def _set_optimizing(self) -> None:
        """Tell the recorder whether an update runs: in `step` but not its closure, or between the marks."""
        optimizer = self._scopes[-1] if self._scopes else None
        recorder = self._recorder
        recorder.optimizing = optimizer is not None or self._marked
        recorder.parameter_groups = 1 if optimizer is None else len(optimizer.param_groups)
        recorder.folded_parameters = (
            sum(1 for parameter in self._module.parameters() if parameter.requires_grad)
            if optimizer is None
            else module_facts.folded_parameters(optimizer)
        )

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Mark the update; a closure inside it, which runs forward and backward, is not the update."""
        self._scopes.append(optimizer)
        self._set_optimizing()
        closure = next((value for value in (*args, *kwargs.values()) if callable(value)), None)
        if closure is None or isinstance(closure, Optimizer):
            return None
        wrapped = self._outside_the_update(closure)
        named = {key: wrapped if value is closure else value for key, value in kwargs.items()}
        return tuple(wrapped if value is closure else value for value in args), named

    def _outside_the_update(self, closure: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._scopes.append(None)
            self._marked = False
            self._set_optimizing()
            try:
                return closure(*args, **kwargs)
            finally:
                if self._scopes:
                    self._scopes.pop()
                self._set_optimizing()

        return run

    def _after_step(self, *_: Any) -> None:
        if self._scopes:
            self._scopes.pop()
        self._marked = False
        self._set_optimizing()

    # ---- what the modes show

    def _dispatched(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        if self.fault is not None or self._stack is None:
            return
        if torch_private.fake_mode() is not self._fake_mode:
            return  # somebody works out a shape on the side, as DTensor does at its global size
        try:
            self._recorder.saw(func, args, kwargs, out)
        except Exception as error:  # noqa: BLE001 - the training must not notice a fault of the trace
            self.fault = error

    def _called(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = str(getattr(func, "__name__", ""))
        if self.fault is not None or self._stack is None or name in _PROPERTY_ACCESS:
            return func(*args, **kwargs)
        recorder, autocast = self._recorder, self._autocast
        casting = autocast is not None and autocast.applies(optimizing=recorder.optimizing)
        if autocast is not None and casting:
            args, kwargs = autocast.cast_arguments(name, args, kwargs)
        outer_call, outer_region = recorder.user_call, recorder.region
        recorder.user_call = torch_private.in_backward()
        region = self._region(name, args, kwargs) if outer_region is None else None
        if region is not None:
            recorder.region = region
        try:
            with self._watching_saved(), torch_private.without_cpu_autocast() if casting else nullcontext():
                out = func(*args, **kwargs)
        finally:
            recorder.user_call, recorder.region = outer_call, outer_region
        if region is not None:
            self._close(region, out)
        return out

    def _region(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Region | None:
        try:
            return None if torch_private.functorch_active() else open_region(name, args, kwargs)
        except Exception as error:  # noqa: BLE001 - as in _dispatched
            self.fault = error
            return None

    def _close(self, region: Region, out: Any) -> None:
        try:
            self._recorder.close_region(region, out)
        except Exception as error:  # noqa: BLE001 - as in _dispatched
            self.fault = error

    def _watching_saved(self) -> AbstractContextManager[Any]:
        # Around single calls: hooks that stand around the step make torch.func refuse to run inside it.
        recorder = self._recorder
        if recorder.region is not None or recorder.optimizing or not torch.is_grad_enabled():
            return nullcontext()
        if not torch_private.saved_tensor_hooks_free():
            return nullcontext()
        return saved_tensors_hooks(self._pack, _unpack)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.fault is None and self._stack is not None:
            try:
                self._recorder.memory.kept(tensor)
            except Exception as error:  # noqa: BLE001 - as in _dispatched
                self.fault = error
        return tensor


def _unpack(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
