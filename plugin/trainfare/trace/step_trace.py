"""
Record one training step, operation by operation, on real or fake tensors.

Recording changes nothing: outputs, weights, the autograd graph and the random state are the same as without it.
The one exception is `cuda_autocast_dtype`, which makes a step on *fake* tensors cast as CUDA's autocast would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, TypeVar, cast

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from trainfare.trace import module_facts, torch_private
from trainfare.trace.cuda_autocast import CudaAutocast
from trainfare.trace.fused_calls import Region, open_region, run_call
from trainfare.trace.ledger import Ledger
from trainfare.trace.live_memory import MemoryChange
from trainfare.trace.memory import MemoryWatch
from trainfare.trace.modes import CallMode, OperationMode, leave
from trainfare.trace.module_work import ModuleWatch
from trainfare.trace.recorder import Recorder
from trainfare.trace.user_classes import UntracedStepError, check_classes, check_mode, spare_classes
from trainfare_core.job_profile import (
    MemoryFacts,
    ModuleWork,
    OperationGroup,
    OptimizerFacts,
    ParameterGroup,
)
from trainfare_core.number_format import list_items, shorten_text

_T = TypeVar("_T")
_NAMES_CHARACTERS = 300
"""Of the names in one note. Chosen: with the sentence around them they stay below the 500 that a profile allows."""

# Reading a tensor's attribute reaches a torch-function mode as a call, and does no work.
_PROPERTY_ACCESS = frozenset({"__get__", "__set__", "__delete__"})

_VALUE_READS = frozenset({"tolist", "numpy", "__array__"})
"""Calls that read values of a tensor on the CPU without an operation."""


# Calls that run backward, where a user's function may call torch.func: it refuses to run under saved-tensor hooks.
_RUN_BACKWARD = frozenset({"backward", "grad"})


class StepTrace:
    """
    Records the operations, FLOPs, bytes and memory of one training step.

    Args:
        module: its parameters and buffers are distinguished from activations.
        optimizers: their state is counted. The update of any torch optimizer is recognised by its step hooks.
        cuda_autocast_dtype: make forward cast as CUDA's autocast to this dtype would. For fake tensors only.
        recording: False runs the step in the same way and records nothing.
        fp8: count the products of linear layers in fp8, with the casts of their operands, as if Transformer Engine had
            replaced the layers.
        vetted_only: end the recording where the step holds a tensor class or a torch mode that is not known to be left
            as it is (`user_classes`); `fault` is then an `UntracedStepError`. For a step that trains.
        make_recorder: makes the recorder, of the memory and the modules that it watches.

    Enter a `FakeTensorMode` first and the trace inside it. `stop` may be called any number of times, on the
    thread that called `start`; it removes every mode and hook, also after a `start` that failed half-way. An
    exception in the trace itself does not reach the training: recording ends, `fault` holds the exception and
    `notes` reports it.

    FLOPs are counted for matrix-like work, a multiply-add as two. Elementwise work, normalisation, softmax and
    reductions count 0 FLOPs and their bytes; causal attention is not halved. An operation without a formula
    has kind "unknown".
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimizers: Sequence[Optimizer] = (),
        *,
        cuda_autocast_dtype: torch.dtype | None = None,
        recording: bool = True,
        fp8: bool = False,
        vetted_only: bool = False,
        make_recorder: Callable[[MemoryWatch, ModuleWatch], Recorder] = Recorder,
    ) -> None:
        self._module = module
        self._optimizers = list(optimizers)
        self._autocast_dtype = cuda_autocast_dtype
        self._recording = recording
        self._autocast: CudaAutocast | None = None
        with torch_private.without_torch_functions():
            watch = MemoryWatch(list(module.parameters()), list(module.buffers()))
            self._recorder = make_recorder(watch, ModuleWatch(module, fp8))
        self._vetted_only = vetted_only
        self._modes: tuple[CallMode, OperationMode] | None = None
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
        """What could not be recorded or was assumed, one sentence each."""
        notes = list(self._recorder.notes)
        if self._autocast is not None and self._autocast.disabled_contexts:
            notes.append(
                "the step enters an autocast context of its own that is off on this machine: traced in full "
                "precision there"
            )
        unknown = self._recorder.ledger.unknown_names()
        if unknown:
            notes.append(f"no FLOP formula, bytes counted: {list_items(unknown, _NAMES_CHARACTERS)}")
        loops = self._recorder.modules.loops
        if loops:
            names = list_items(sorted(name or "the step itself" for name in loops), _NAMES_CHARACTERS)
            notes.append(
                f"one call launches an operation up to {max(loops.values()):,} times, as a loop does: where a library "
                "has one kernel for it (a scan, linear attention), a step takes less time and memory with that library "
                f"than is predicted here: {names}"
            )
        if isinstance(self.fault, UntracedStepError):
            notes.append(str(self.fault))
        elif self.fault is not None:
            fault = shorten_text(f"{type(self.fault).__name__}: {self.fault}", _NAMES_CHARACTERS)
            notes.append(f"the trace is incomplete: {fault}")
        return notes

    @property
    def reads_values(self) -> bool:
        """Whether the host read a value in forward or backward, by which the work of the step may be chosen."""
        return self._recorder.reads_values

    @property
    def draws_choice(self) -> bool:
        """Whether forward or backward drew a single random number on the host, as for leaving out a layer."""
        return self._recorder.draws_choice

    def start(self) -> None:
        """
        Begin to record.

        Raises:
            RuntimeError: it is recording already.
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
        self._records([type(tensor) for tensor in (*self._module.parameters(), *self._module.buffers())])
        for mode in (*torch_private.dispatch_modes(), *torch_private.function_modes()):
            self._meet_mode(type(mode))
        if self.fault is not None:
            return
        self._recorder.real = self._fake_mode is None
        with torch_private.without_torch_functions():
            self._recorder.memory.begin()
        self._recorder.modules.enter(stack, self._guard_module, self._enter_block, self._leave_block)
        self._set_optimizing()
        # Compiled code that has run under a dispatch mode stays slower afterwards.
        stack.enter_context(torch_private.run_eagerly())
        for register, hook in (
            (register_optimizer_step_pre_hook, self._before_step),
            (register_optimizer_step_post_hook, self._after_step),
        ):
            stack.callback(register(hook).remove)
        if self._autocast_dtype is not None:
            self._autocast = CudaAutocast(self._autocast_dtype)
        stack.enter_context(spare_classes(self._meet_mode))
        operations = OperationMode(self._record_dispatch, self._records)
        self._modes = CallMode(self._record_call, operations), operations
        for own in self._modes:
            stack.callback(leave, own)
            cast("Any", own).__enter__()

    def stop(self) -> None:
        """Remove every mode and hook; what was recorded stays available."""
        self._record_guarded(lambda: self._recorder.launches.end())
        stack, self._stack, self._modes = self._stack, None, None
        if stack is not None:
            stack.close()
            self._recorder.memory.live.close()
            self._marked, self._scopes = False, []
            self._recorder.optimizing, self._recorder.region = False, None

    def begin_optimizer(self) -> None:
        """Mark the start of the optimizer's update: unscaling, clipping, the step."""
        self._marked = True
        self._record_guarded(self._set_optimizing)

    def end_optimizer(self) -> None:
        """Mark the end of the optimizer's update."""
        self._marked = False
        self._record_guarded(self._set_optimizing)

    def operations(self, *, micro_batches: int = 1) -> tuple[OperationGroup, ...]:
        """
        Return the operations of one optimizer step, in a fixed order.

        Args:
            micro_batches: forward and backward passes in one optimizer step. The recorded pass is multiplied by
                it, adding the gradients of all but the first is included, and the update is counted once.
        """
        gradients = module_facts.list_accumulated_gradients(self._module.parameters())
        return self._recorder.ledger.groups(micro_batches, gradients)

    def modules(self, *, micro_batches: int = 1) -> tuple[ModuleWork, ...]:
        """Return the same work as `operations` by submodule; arguments as there."""
        recorder = self._recorder
        gradients = module_facts.gradient_owners(self._module.parameters(), recorder.modules.owner)
        return recorder.ledger.modules(micro_batches, gradients, self.operations(micro_batches=micro_batches))

    def memory(self) -> MemoryFacts:
        """
        Return the memory of one micro-batch, in bytes.

        Saved activations are storages that autograd keeps, or that forward made and backward reads, each
        counted once. They include the casts of weights that mixed precision keeps, and exclude parameters,
        buffers and the batch itself (`input_bytes`).
        """
        return module_facts.memory_facts(self._module, self._recorder)

    def ledger(self) -> Ledger:
        """Return the operations before they are added up to those of an optimizer step."""
        return self._recorder.ledger

    def memory_changes(self) -> list[MemoryChange]:
        """Return the allocations and releases of the step in their order."""
        return self._recorder.memory.changes()

    def parameters(self) -> tuple[ParameterGroup, ...]:
        """Return the module's parameters by dtype and whether they train; a shared weight counts once."""
        return module_facts.parameter_groups(self._module)

    def batch_norms(self) -> module_facts.BatchNorms:
        """Return the submodules that train and normalise over samples."""
        return module_facts.batch_norms(self._module)

    def optimizer_facts(self) -> OptimizerFacts:
        """Return what the optimizers keep between steps; call it after a step, which creates the state."""
        return module_facts.optimizer_facts(self._optimizers)

    # ---- phases

    def _set_optimizing(self) -> None:
        """Update the recorder's phase: an update runs in `step` outside its closure, or between the two marks."""
        optimizer = self._scopes[-1] if self._scopes else None
        recorder = self._recorder
        recorder.optimizing = optimizer is not None or self._marked
        recorder.parameter_groups = 1 if optimizer is None else len(optimizer.param_groups)
        recorder.looped_parameters = (
            sum(1 for parameter in self._module.parameters() if parameter.requires_grad)
            if optimizer is None
            else module_facts.count_looped_parameters(optimizer)
        )

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Mark the update; a closure inside it, which runs forward and backward, is not the update."""
        self._leave_modes_of_fault()
        return self._record_guarded(self._enter_step, optimizer, args, kwargs)

    def _enter_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._enter_scope(optimizer)
        closure = next((value for value in (*args, *kwargs.values()) if callable(value)), None)
        if closure is None or isinstance(closure, Optimizer):
            return None
        wrapped = self._outside_update(closure)
        passed = {key: wrapped if value is closure else value for key, value in kwargs.items()}
        return tuple(wrapped if value is closure else value for value in args), passed

    def _outside_update(self, closure: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._record_guarded(self._enter_scope, None)
            try:
                return closure(*args, **kwargs)
            finally:
                self._record_guarded(self._leave_scope)

        return run

    def _enter_scope(self, optimizer: Optimizer | None) -> None:
        self._scopes.append(optimizer)
        self._marked = self._marked and optimizer is not None
        self._set_optimizing()

    def _leave_scope(self) -> None:
        if self._scopes:
            self._scopes.pop()
        self._set_optimizing()

    def _after_step(self, *_: Any) -> None:
        self._marked = False
        self._record_guarded(self._leave_scope)

    # ---- callbacks of the modes and modules

    def _records(self, kinds: Sequence[Any]) -> bool:
        """Return whether a call with tensors of these classes is recorded."""
        if self._vetted_only and kinds:
            self._record_guarded(check_classes, kinds)
        return self.fault is None and self._stack is not None

    def _meet_mode(self, kind: Any) -> None:
        if self._vetted_only:
            self._record_guarded(check_mode, kind)

    def _leave_modes_of_fault(self) -> None:
        """Leave the modes early in a step that is recorded no more; torch brings one back after a call of it."""
        if self.fault is None or torch_private.in_backward() or self._modes is None:
            return
        if torch.is_inference_mode_enabled():  # see `leave`
            return
        calls, operations = self._modes
        if not operations.running:
            leave(operations)
            leave(calls)

    def _guard_module(self, function: Callable[..., _T], *args: Any) -> _T | None:
        self._leave_modes_of_fault()
        return self._record_guarded(function, *args)

    def _leave_block(self) -> None:
        self._recorder.launches.leave_block()

    def _enter_block(self, block: torch.nn.Module, arguments: Any) -> bool:
        return self._recording and self._recorder.memory.enter_block(block, arguments)

    def _record_dispatch(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        if self._recording:
            self._record_guarded(self._record_operation, func, args, kwargs, out)

    def _record_operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        # Under another fake mode a shape is computed on the side, as DTensor does at its global size.
        if torch_private.fake_mode() is self._fake_mode:
            if self._autocast is not None:
                self._autocast.follow_backward()
            self._recorder.record(func, args, kwargs, out)

    def _record_guarded(self, record: Callable[..., _T], *args: Any) -> _T | None:
        """Run a part of the trace; an exception in it ends the recording and does not reach the training."""
        if self.fault is not None or self._stack is None:
            return None
        try:
            with torch_private.without_torch_functions():  # of a class of the user's, which counts its calls
                return record(*args)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
            self.fault = error
            return None

    def _record_call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = str(getattr(func, "__name__", ""))
        if name in _PROPERTY_ACCESS:
            return func(*args, **kwargs)
        casts: AbstractContextManager[Any] = nullcontext()
        if (
            self._autocast is not None
            and self.fault is None
            and self._autocast.applies(optimizing=self._recorder.optimizing)
        ):
            # Not guarded: a step that CUDA's autocast refuses is not traced, before launch alone.
            args, kwargs = self._autocast.cast_arguments(name, args, kwargs)
            casts = torch_private.without_cpu_autocast()
        call = self._record_guarded(self._open_call, name, args, kwargs)
        if call is None:
            return func(*args, **kwargs)
        region, saved_tensors, outer = call
        try:
            with saved_tensors, casts:
                out = run_call(name, func, args, kwargs)
        except torch_private.StopRecomputation:
            if region is not None:
                self._record_guarded(lambda: self._recorder.regions.stop(region))
            raise
        finally:
            self._record_guarded(self._close_call, *outer)
        if region is not None:
            self._record_guarded(lambda: self._recorder.close_region(region, out))
        return out

    def _open_call(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Region | None, AbstractContextManager[Any], tuple[bool, Region | None]]:
        """Begin a call; return its region, the hooks for what it saves, and what `_close_call` goes back to."""
        recorder = self._recorder
        recorder.reads_values |= name in _VALUE_READS and not recorder.optimizing
        outer = recorder.user_call, recorder.region
        recorder.user_call = torch_private.in_backward()
        region = None
        if self._recording and recorder.region is None and not torch_private.functorch_active():
            region = open_region(name, args, kwargs)
        if region is not None:
            recorder.region = region
        return region, self._hook_saved_tensors(name), outer

    def _close_call(self, user_call: bool, region: Region | None) -> None:  # noqa: FBT001 - guarded
        self._recorder.user_call, self._recorder.region = user_call, region

    def _hook_saved_tensors(self, name: str) -> AbstractContextManager[Any]:
        # Hooks are pushed around single calls: around the whole step they would make torch.func raise inside it.
        recorder = self._recorder
        unsaved = recorder.region is not None or recorder.optimizing or not torch.is_grad_enabled()
        unsaved = unsaved or name in _RUN_BACKWARD or not torch_private.can_push_saved_tensor_hooks()
        if not self._recording or unsaved:
            return nullcontext()
        return saved_tensors_hooks(self._pack, _unpack)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        self._record_guarded(lambda: self._recorder.memory.save(tensor))
        return tensor


def _unpack(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
