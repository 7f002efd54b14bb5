"""
Every private name of torch that the trace needs, behind one small function each.

Torch 2.5 to 2.7 lack some of them, for which a function says what it does instead. Except
`enable_higher_order_operators` and `run_eagerly`, the functions read state and change nothing.
"""
# ruff: noqa: SLF001 - this file exists to collect torch's private names

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from types import FrameType
from typing import Any, cast

import torch
from torch import overrides as torch_overrides
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _python_dispatch as torch_dispatch
from torch.utils import checkpoint as torch_checkpoint

# Untyped: torch's annotations have none of the attributes used below.
_torch = cast("Any", torch)
_C = _torch._C
_dispatch = cast("Any", torch_dispatch)
_DEVICE: Any = _torch.ops.prim.device.default

StopRecomputation: type[Exception] = cast("Any", torch_checkpoint)._StopRecomputationError
"""Raised inside a recomputed block as soon as it has remade every tensor that backward asks for."""
NO_TORCH_FUNCTION: Any = _C._disabled_torch_function_impl
"""The `__torch_function__` of a tensor class that has none."""
RUN_BACKWARD = "_engine_run_backward"
"""The function of `torch.autograd` that `backward`, `grad` and `torch.func` end in."""
_RECOMPUTING = ("unpack_hook", "backward")
"""Functions of `torch.utils.checkpoint` that run a block again: without and with `use_reentrant`."""


class _PushedHooks(threading.local):
    """The saved-tensor hooks that this thread has pushed and not popped."""

    def __init__(self) -> None:
        self.hooks: list[tuple[Any, Any]] = []


def _follow_hooks(autograd: Any) -> Callable[[bool], Any]:
    """Return what says which saved-tensor hooks are on top; torch before 2.6 does not, so pushing them is noted."""
    if hasattr(autograd, "_top_saved_tensors_default_hooks"):
        top: Callable[[bool], Any] = autograd._top_saved_tensors_default_hooks
        return top
    pushed = _PushedHooks()
    push, pop = autograd._push_saved_tensors_default_hooks, autograd._pop_saved_tensors_default_hooks

    def push_noted(pack: Any, unpack: Any) -> None:
        push(pack, unpack)
        pushed.hooks.append((pack, unpack))

    def pop_noted() -> None:
        pop()
        del pushed.hooks[-1:]

    autograd._push_saved_tensors_default_hooks = push_noted
    autograd._pop_saved_tensors_default_hooks = pop_noted
    return lambda _: pushed.hooks[-1] if pushed.hooks else None


_top_hooks = _follow_hooks(_C._autograd)


def count_compiled_graphs() -> int:
    """Return how many graphs torch.compile has made in this process."""
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


def in_backward() -> bool:
    """Return whether the autograd engine is running on this thread."""
    return bool(_C._current_graph_task_id() != -1)


def recomputing() -> bool:
    """
    Return whether activation checkpointing runs a part of forward again; call it from a torch function of the user's.

    Backward itself runs without grad mode. So does a part of the block, in `no_grad` or the forward of a
    `torch.autograd.Function`: there the call is looked for on the stack.
    """
    if not in_backward():
        return False
    return torch.is_grad_enabled() or _is_called_by_checkpoint()


def _is_called_by_checkpoint() -> bool:
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename == torch_checkpoint.__file__ and code.co_name in _RECOMPUTING:
            return True
        if code.co_name == "_engine_run_backward":
            return False
        frame = frame.f_back
    return False


def packs_saved_tensors() -> bool:
    """Return whether what autograd saves now goes through hooks, as inside a checkpointed block."""
    return _top_hooks(False) is not None


def graph_task() -> int:
    """Return the number of the running backward pass, -1 outside of one."""
    return int(_C._current_graph_task_id())


def call_after_backward(call: Callable[[], None]) -> None:
    """Call a function where the running backward pass has ended, after what was asked for so before."""
    _torch.autograd.Variable._execution_engine.queue_callback(call)


def current_node() -> Any | None:
    """Return the autograd node whose backward runs on this thread."""
    return _C._current_autograd_node()


def next_sequence_number() -> int:
    """Return the sequence number of the next autograd node made on this thread."""
    return int(_torch.autograd._get_sequence_nr())


def node_key(node: Any) -> tuple[int, str]:
    """Return a key that is unique among the autograd nodes of a step."""
    return int(node._sequence_nr()), str(node.name())


def edge_shape(node: Any, index: int) -> tuple[int, ...] | None:
    """Return the shape of the gradient that `node` takes as input `index`; None where unknown."""
    try:
        return tuple(int(size) for size in node._input_metadata[index].shape)
    except (AttributeError, IndexError, RuntimeError, TypeError):
        return None


def fake_mode() -> Any | None:
    """Return the active `FakeTensorMode`, if any."""
    return _C._get_dispatch_mode(_C._TorchDispatchModeKey.FAKE)


def inner_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors inside a tensor that wraps others (a DTensor); for any other tensor, itself."""
    if not is_wrapper_subclass(type(tensor)):
        return [tensor]
    names, _ = cast("Any", tensor).__tensor_flatten__()
    parts = [getattr(tensor, name) for name in names]
    return [plain for part in parts if isinstance(part, torch.Tensor) for plain in inner_tensors(part)]


def functorch_active() -> bool:
    """Return whether a `torch.func` transform (grad, vmap, ...) is on the stack."""
    return bool(_C._are_functorch_transforms_active())


def can_push_saved_tensor_hooks() -> bool:
    """Return whether saved-tensor hooks may be pushed: none are active that ours would hide, torch.func allows it."""
    return bool(_C._autograd._saved_tensors_hooks_is_enabled() and _top_hooks(True) is None)


def storage_address(storage: torch.UntypedStorage) -> int:
    """Return the address of a storage, which is unique as long as the storage lives."""
    return int(cast("Any", storage)._cdata)


def list_stored_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return indices and values of a COO tensor, coalesced or not."""
    return [cast("Any", tensor)._indices(), cast("Any", tensor)._values()]


def autocast_nesting() -> int:
    """Return how many autocast contexts this thread has entered."""
    depth = int(_C.autocast_increment_nesting()) - 1
    _C.autocast_decrement_nesting()
    return depth


@functools.cache
def autocast_operations() -> frozenset[str]:
    """Return the aten operations for which the installed torch has a CUDA autocast kernel."""
    kernels = _C._dispatch_has_kernel_for_dispatch_key
    names: list[str] = _C._dispatch_get_all_op_names()
    listed = [name for name in names if name.startswith("aten::") and kernels(name, "AutocastCUDA")]
    return frozenset(name.removeprefix("aten::").partition(".")[0] for name in listed)


def without_cpu_autocast() -> Any:
    """Return a context in which no autocast kernel of any device casts its arguments."""
    return _C._DisableAutocast()


def without_torch_functions() -> Any:
    """Return a context in which no torch-function mode and no `__torch_function__` of a tensor class is called."""
    return _C.DisableTorchFunction()


@contextlib.contextmanager
def without_modes() -> Generator[None, None, None]:
    """Run what is inside the block past every torch-function and dispatch mode, such as that of a trace."""
    with _C.DisableTorchFunction(), _dispatch._disable_current_modes():
        yield


def casts_under_modes() -> bool:
    """Return whether `Tensor.as_subclass` runs under the dispatch modes, as before torch 2.6."""
    return not hasattr(_C._autograd, "_top_saved_tensors_default_hooks")


def asks_device(func: Any, args: Sequence[Any]) -> bool:
    """Return whether a call asks a fake tensor for its device, as C++ does more often than it runs an operation."""
    return func is _DEVICE and isinstance(args[0], FakeTensor)


def is_wrapper_subclass(kind: type) -> bool:
    """Return whether a tensor class wraps other tensors (DTensor, NestedTensor, quantized weights)."""
    return bool(_dispatch.is_traceable_wrapper_subclass_type(kind))


def dispatch_modes() -> list[Any]:
    """Return the dispatch modes of this thread, outermost first."""
    return list(_dispatch._get_current_dispatch_mode_stack())


def function_modes() -> list[Any]:
    """Return the torch-function modes of this thread, outermost first."""
    return list(cast("Any", torch_overrides)._get_current_function_mode_stack())


def import_compiler() -> None:
    """Import torch's compiler, which cannot be imported where `Tensor.__new__` is replaced: it compares signatures."""
    importlib.import_module("torch._dynamo")


def _do_nothing(_: object) -> None:
    """Stand for a function of one argument."""


def run_eagerly() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which what torch.compile has made runs as it was before; torch 2.6 has a stance for it."""
    if hasattr(torch.compiler, "set_stance"):
        return cast("Any", torch.compiler).set_stance("force_eager")  # type: ignore[no-any-return]
    return _without_frames(sys.modules.get("torch._dynamo.eval_frame"))


@contextlib.contextmanager
def _without_frames(frames: Any) -> Generator[None, None, None]:
    """Let no call of a compiled function give its frame to the compiler."""
    original = getattr(frames, "_maybe_set_eval_frame", None)
    if original is None:  # nothing was compiled
        yield
        return
    frames._maybe_set_eval_frame = _do_nothing
    try:
        yield
    finally:
        frames._maybe_set_eval_frame = original


def enable_higher_order_operators(mode: type, run: Callable[..., Any]) -> None:
    """
    Let a dispatch mode run higher-order operators (flex attention, ...), which older torch refuses.

    Args:
        mode: the mode's class; it is registered with every higher-order operator.
        run: called with the operator, the mode, and the operator's arguments.
    """
    if hasattr(_dispatch.TorchDispatchMode, "supports_higher_order_operators"):
        return
    for operator in _torch._ops._higher_order_ops.values():
        table = "python_key_table" if hasattr(operator, "python_key_table") else "python_key_mode_table"
        if mode not in getattr(operator, table):
            operator.py_impl(mode)(functools.partial(run, operator))


def tf32_convolution() -> bool:
    """Return whether cuDNN may run fp32 convolutions and recurrent layers in TF32 (torch's default: yes)."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return str(_torch.backends.cudnn.fp32_precision) == "tf32"


def tf32_matmul() -> bool:
    """Return whether cuBLAS may run fp32 matrix products in TF32 (torch's default: no)."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:
        return str(_torch.backends.cuda.matmul.fp32_precision) == "tf32"


def choose_fused_attention(dtype: torch.dtype, head_dim: int, *, masked: bool) -> str | None:
    """
    Return which fused attention CUDA uses under torch's switches; None where only the unfused one is left.

    Flash attention takes fp16 and bf16, head dimensions up to 256 and no mask
    (`aten/src/ATen/native/transformers/cuda/sdp_utils.cpp`).
    """
    switches = _torch.backends.cuda
    if (
        switches.flash_sdp_enabled()
        and not masked
        and dtype in (torch.float16, torch.bfloat16)
        and head_dim <= 256
    ):
        return "flash"
    return "efficient" if switches.mem_efficient_sdp_enabled() or switches.cudnn_sdp_enabled() else None
