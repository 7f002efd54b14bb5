"""Keeps on the CPU what a distributed script moves to GPUs, on a machine that has none."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import torch

from trainfare.job.user_code import replace_attribute

_CPU: Final = torch.device("cpu")


def stay_on_cpu(stack: ExitStack) -> None:
    """
    Ignore moves to a GPU until the stack is closed.

    For scripts that have made a process group: their processes take the GPU of their rank without checking for one.
    Creating a tensor on a GPU, as `torch.zeros(8, device=rank)` does, still raises an error.
    """

    def replace(home: Any, name: str, value: object) -> None:
        stack.enter_context(replace_attribute(home, name, value))

    for home in (torch.Tensor, torch.nn.Module):
        replace(home, "to", _replace_move(home.to))
        replace(home, "cuda", _stay)
    replace(torch.cuda, "current_device", lambda: 0)
    replace(torch.cuda, "synchronize", skip(torch.cuda.synchronize))
    ddp: Any = torch.nn.parallel.DistributedDataParallel
    replace(ddp, "__init__", _drop_devices(ddp.__init__))


def skip(original: Callable[..., object]) -> Callable[..., None]:
    """Return a function that does nothing, one for each name: torch's compiler knows functions by their identity."""

    @functools.wraps(original)
    def ignore(*args: object, **kwargs: object) -> None:
        del args, kwargs

    return ignore


def _stay(moved: Any, *args: Any, **kwargs: Any) -> Any:
    del args, kwargs
    return moved


def _replace_move(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def to(moved: Any, /, *args: Any, **kwargs: Any) -> Any:
        if args and _is_gpu(args[0]):
            args = (_CPU, *args[1:])
        if _is_gpu(kwargs.get("device")):
            kwargs["device"] = _CPU
        return original(moved, *args, **kwargs)

    return to


def _is_gpu(device: object) -> bool:
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    if isinstance(device, torch.device):
        return device.type == "cuda"
    return isinstance(device, int) and not isinstance(device, bool)


def _drop_devices(original: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(module: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(module, *args, **kwargs).arguments
        for name in ("device_ids", "output_device"):
            given.pop(name, None)
        original(**given)

    return init
