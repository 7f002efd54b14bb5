"""
Run a job's step on real tensors on the CPU, where fake ones do not do: its module, its batch, and the limits.

The user's own module is put back afterwards: weights, buffers, gradients, attributes, and the random states.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainfare.fake_step import module_parts
from trainfare.fake_step.fake_tensors import copy_nested
from trainfare.fake_step.module_parts import tensor_leaves
from trainfare.job import RealLimits
from trainfare.trace import torch_private
from trainfare_core.errors import TraceError

_GIB: Final = 2**30
_WATCHED_BYTES: Final = 2**20
"""Results from this size on make the process's memory be looked at: a chosen value, above it a look costs nothing."""
_STATM: Final = Path("/proc/self/statm")
"""Linux's memory of this process, in pages."""
_RAISE: Final = "allow more with --real-gib and --real-cpu-seconds, or measure one step with FareMeter"


class RealTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """
    The counterpart of `Faker` for a step on real tensors, and the mode that keeps it within its limits.

    Args:
        limits: of memory and CPU time.
        float_dtype: floating-point parameters, buffers and inputs become this dtype, as in "bf16-true".
        clock: CPU seconds of this process.
        memory: bytes of memory that this process uses; None where the system does not say.

    Attributes:
        compiled: whether the module is compiled; it runs eagerly.
        notes: what could not be done, one sentence each.
        batch_tensors: the tensors of the last batch, however it is nested.
    """

    def __init__(
        self,
        limits: RealLimits,
        float_dtype: torch.dtype | None = None,
        *,
        clock: Callable[[], float] = time.process_time,
        memory: Callable[[], int | None] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
        self.float_dtype = float_dtype
        self.compiled = False
        self.notes: list[str] = []
        self.batch_tensors: list[Tensor] = []
        self._limits = limits
        self._clock, self._memory = clock, memory or _resident_bytes
        self._began_s, self._began_bytes = clock(), self._memory()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self._clock() - self._began_s > self._limits.cpu_s:
            msg = f"two steps on real tensors take more than {self._limits.cpu_s:g} s of CPU time"
            raise TraceError(f"{msg}: {_RAISE}")
        if any(tensor.numel() * tensor.element_size() >= _WATCHED_BYTES for tensor in tensor_leaves(out)):
            used = self._memory()
            if used is not None and used - (self._began_bytes or 0) > self._limits.memory_gib * _GIB:
                msg = f"two steps on real tensors take more than {self._limits.memory_gib:g} GiB"
                raise TraceError(f"{msg}: {_RAISE}")
        return out

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Give the module's floating-point tensors the dtype of the precision."""
        members = module_parts.all_modules(module)
        self.compiled |= any(module_parts.is_compile_wrapper(member) for member in members) or any(
            vars(member).get("_compiled_call_impl") is not None for member in members
        )
        return module if self.float_dtype is None else module.to(self.float_dtype)

    def copy_module(self, module: nn.Module) -> nn.Module:
        """Return the user's own module: it is put back afterwards (`restore_after`)."""
        return self.convert_module(module)

    def batch(self, batch: Any, device: torch.device | None = None) -> Any:
        """Copy a batch to a device, floating-point tensors in `float_dtype` where that is set."""
        self.batch_tensors = []

        def convert(value: Tensor) -> Tensor:
            dtype = (
                self.float_dtype
                if self.float_dtype is not None and value.is_floating_point()
                else value.dtype
            )
            tensor = value.detach().to(device or value.device, dtype, copy=True)
            tensor.requires_grad_(value.requires_grad)
            self.batch_tensors.append(tensor)
            return tensor

        return copy_nested(batch, convert)


def check_size(parameters: Sequence[tuple[int, bool]], limits: RealLimits) -> None:
    """
    Refuse a module whose weights, gradients and optimizer state would not fit the limit.

    Args:
        parameters: bytes of each parameter, and whether it trains.
        limits: of memory.

    Raises:
        TraceError: it would not fit.
    """
    weights = sum(size for size, _ in parameters)
    # A gradient and, with Adam, two moments of each weight that trains.
    needed = weights + 3 * sum(size for size, trains in parameters if trains)
    if needed > limits.memory_gib * _GIB:
        msg = f"on real tensors, weights, gradients and optimizer state would take {needed / _GIB:.1f} GiB"
        raise TraceError(f"{msg}, above the limit of {limits.memory_gib:g} GiB: {_RAISE}")


@contextlib.contextmanager
def restore_after(module: nn.Module) -> Generator[None, None, None]:
    """Put back a module's parameters, buffers, gradients and attributes, with the contents of lists and dicts."""
    members = module_parts.all_modules(module)
    tensors = list(
        {
            id(value): value
            for member in members
            for value in (*module_parts.tensors_of(member), *vars(member).values())
            if isinstance(value, Tensor)
        }.values()
    )
    with torch_private.without_torch_functions():  # a subclass of the user's may refuse any of these
        # The methods of torch, which a class of the user's may have replaced.
        values = [
            (t, Tensor.detach(t).clone(), t.requires_grad, t.grad if t.is_leaf else None) for t in tensors
        ]
        for tensor, _, _, grad in values:
            if grad is not None:
                tensor.grad = None
    try:
        with module_parts.attributes_kept(members):
            yield
    finally:
        with torch.no_grad(), torch_private.without_torch_functions():
            for tensor, value, trains, grad in values:
                if tensor.dtype != value.dtype:
                    tensor.data = value  # the precision had changed its dtype
                else:
                    Tensor.copy_(tensor, value)
                if tensor.is_leaf:
                    tensor.requires_grad_(trains)
                    tensor.grad = grad


def _resident_bytes() -> int | None:
    try:
        import resource

        # Without pages of files: those of libraries come as they are used, in a fork once more.
        _, resident, of_files = _STATM.read_text(encoding="ascii").split()[:3]
        return (int(resident) - int(of_files)) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return None
