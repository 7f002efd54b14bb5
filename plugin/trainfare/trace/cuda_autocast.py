"""
The casts of CUDA's autocast, applied to torch functions on any device.

For fake tensors only, because casts change the computation. The tables are those of torch (`ATen/autocast_mode.h`; a
test compares them with the installed torch), under the names by which Python calls reach torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import torch

from trainfare.trace import torch_private
from trainfare.trace.kinds import read_pairs
from trainfare.trace.storages import tensors_in
from trainfare_core.errors import TraceError

CASTS: Final = read_pairs("autocast_casts.csv")
"""
How CUDA's autocast casts the floating operands of an operation: to the autocast dtype ("lower precision"), to "fp32",
or to the "widest" of their types. "fp32 result": `dtype=torch.float32` is passed where the call names none. "refused":
the operation is an error.
"""

_SAME_AS: Final = read_pairs("autocast_aliases.csv")
"""Names that torch's lists contain under an alias, or as a part of a composite operation."""


class CudaAutocast:
    """
    The casts of `torch.autocast("cuda", dtype)`.

    Args:
        dtype: float16 or bfloat16.

    Attributes:
        disabled_contexts: calls inside an autocast context of the step's own that is off on this machine; they are
            traced in full precision. A context of the step that is on changes nothing.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        # The installed torch may lack newer entries of the lists: RMS norm came after 2.8.
        self._listed = torch_private.autocast_operations()
        self._casts: dict[tuple[int, bool], tuple[torch.Tensor, torch.Tensor]] = {}
        self._task = -1
        self._outer_nesting = torch_private.autocast_nesting()
        self._task_nesting: int | None = None
        self.disabled_contexts = 0

    def follow_backward(self) -> None:
        """Let go of the casts of the weights where a backward has begun or ended."""
        task = torch_private.graph_task()
        if task != self._task:
            self._task, self._task_nesting = task, None
            self._casts.clear()

    def applies(self, *, optimizing: bool) -> bool:
        """Return whether autocast would be on for the next call on CUDA."""
        self.follow_backward()
        task = self._task
        if optimizing or (task != -1 and not torch_private.recomputing()):
            return False
        nesting = torch_private.autocast_nesting()
        if task == -1:
            inside = nesting > self._outer_nesting
        else:
            # Checkpointing enters two contexts (device and CPU) around a recomputation, so an odd depth means
            # one more, of the step's own.
            base = nesting if self._task_nesting is None else min(nesting, self._task_nesting)
            self._task_nesting = base
            inside = (nesting - base) % 2 == 1
        if inside and not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            self.disabled_contexts += 1
            return False
        return True

    def cast_arguments(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """
        Return the arguments as CUDA's autocast would pass them to the operation.

        Raises:
            TraceError: CUDA's autocast refuses the operation.
        """
        name = _SAME_AS.get(name, name)
        if kwargs.get("out") is not None:
            return args, kwargs
        how = CASTS.get(name)
        if how == "refused":
            msg = (
                f"the step calls {name} under mixed precision, which CUDA's autocast refuses. Use "
                "binary_cross_entropy_with_logits, or compute the loss outside autocast."
            )
            raise TraceError(msg)
        if name not in self._listed:
            return args, kwargs
        if how == "lower precision":
            return self._each(args, kwargs, self._lower)
        if how == "fp32":
            return self._each(args, kwargs, _full)
        if how == "fp32 result":
            return args, _with_dtype(name, args, kwargs)
        if how == "widest":
            wide = any(_eligible(t) and t.dtype == torch.float32 for t in tensors_in((args, kwargs)))
            return self._each(args, kwargs, _full if wide else self._lower)
        return args, kwargs

    def _each(
        self, args: Sequence[Any], kwargs: dict[str, Any], change: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        return cast("Sequence[Any]", _map_tensors(args, change)), cast(
            "dict[str, Any]", _map_tensors(kwargs, change)
        )

    def _lower(self, tensor: torch.Tensor) -> torch.Tensor:
        """Cast a tensor; a trainable fp32 leaf is cast once per forward, as autocast's weight cache does."""
        if tensor.dtype == self.dtype:
            return tensor
        leaf = tensor.dtype == torch.float32 and tensor.requires_grad and tensor.is_leaf
        if not leaf or tensor._is_view():  # noqa: SLF001 - the condition torch's cache itself has
            return tensor.to(self.dtype)
        key = (id(tensor), torch.is_grad_enabled())
        cast_pair = self._casts.get(key)
        if cast_pair is None:
            cast_pair = self._casts[key] = (tensor, tensor.to(self.dtype))
        return cast_pair[1]


def _eligible(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float32)


def _map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value) if _eligible(value) else value
    if type(value) in (list, tuple):
        return type(value)(_map_tensors(item, change) for item in cast("Sequence[Any]", value))
    if type(value) is dict:
        return {key: _map_tensors(item, change) for key, item in cast("Any", value).items()}
    return value


def _with_dtype(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    first = args[0] if args else kwargs.get("input", kwargs.get("self"))
    names_dtype = kwargs.get("dtype") is not None or any(isinstance(a, torch.dtype) for a in args)
    if names_dtype or not _eligible(first):
        return kwargs
    if name == "norm" and len(args) + len(kwargs) < 2:
        return kwargs
    return {**kwargs, "dtype": torch.float32}
