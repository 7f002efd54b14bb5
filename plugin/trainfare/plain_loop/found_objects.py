"""What a loop that runs unchanged is found by: its line, its models, and what its optimizers and loaders say."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

from torch import nn
from torch.optim import Optimizer

from trainfare.job import place_of_caller
from trainfare.job.user_code import put_user_first, replace_attribute
from trainfare.meter.metered_run import parameters_of
from trainfare.plain_loop.backward_watch import list_optimizers
from trainfare.plain_loop.run_facts import ACCELERATE, unwrap_optimizer
from trainfare.trace import torch_private

_FABRICS: Final = ("lightning.fabric.wrappers", "lightning_fabric.wrappers")
_FABRIC: Final = ("Fabric", ("setup", "setup_module"))
PREPARE: Final = (
    ("lightning.fabric.fabric", *_FABRIC),
    ("lightning_fabric.fabric", *_FABRIC),
    ("accelerate.accelerator", "Accelerator", ("prepare",)),
)
"""Modules, classes and methods with which a loop without a Trainer begins."""


def find_line() -> str:
    """Return the line of the script that is running."""
    return put_user_first(place_of_caller() or "a line of a library")


def describe_loader(iterator: Any) -> SimpleNamespace:
    """Return what is asked of a DataLoader, of which only the iterator is known."""
    sampler, workers = iterator._index_sampler, iterator._num_workers  # noqa: SLF001
    data, collate = iterator._dataset, iterator._collate_fn  # noqa: SLF001
    return SimpleNamespace(
        batch_sampler=sampler, num_workers=workers, iterator=iterator, dataset=data, collate_fn=collate
    )


def count_batches(loader: Any) -> int | None:
    """Return the batches of an epoch, None where they are not known."""
    try:
        return len(loader.batch_sampler)
    except (AttributeError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class DataSharing:
    """
    How processes would share the data of a loader.

    Attributes:
        is_shared: each has a part of an epoch; False: each reads all of it.
        samples: of an epoch, of which each process has as many; None: whole batches are shared.
        processes: by which the samples are divided already.
        drops_last: a last batch that is not full is left out.
    """

    is_shared: bool
    samples: int | None = None
    processes: int = 1
    drops_last: bool = False


def read_sharing(loader: Any, caller: str) -> DataSharing:
    """
    Return how processes would share the data of a loader.

    Args:
        loader: as `describe_loader` gives it.
        caller: module whose code asks the loader for batches.
    """
    batches = loader.batch_sampler
    drops_last = bool(getattr(batches, "drop_last", False))
    if caller == ACCELERATE:
        return DataSharing(is_shared=True, drops_last=drops_last)
    sampler = getattr(batches, "sampler", None)
    processes = getattr(sampler, "num_replicas", None)
    data: Any = getattr(sampler, "dataset", sampler)
    if processes is None and not (caller in _FABRICS and count_batches(loader)):
        return DataSharing(is_shared=False)
    samples = len(data) if hasattr(data, "__len__") else None
    return DataSharing(True, samples, processes or 1, drops_last)


class ReadAhead:
    """Knows which batch a loop begins, of a loader that has read the next one already, as Accelerate's do."""

    def __init__(self) -> None:
        self._next: Any = None
        self.caller = ""
        """Module whose code asked a DataLoader for the last batch."""

    def find_begun(self, batch: Any) -> Any:
        """Return the batch that the loop begins where a DataLoader gives one; called from what asks for it."""
        frame: Any = inspect.currentframe()
        self.caller = str(frame.f_back.f_back.f_globals.get("__name__"))
        if self.caller != ACCELERATE:
            return batch
        begun, self._next = batch if self._next is None else self._next, batch
        return begun

    def forget(self) -> None:
        """Begin another pass over the data."""
        self._next = None


def join_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a model is called with, as a batch."""
    return args[0] if len(args) == 1 and not kwargs else [args, kwargs]


def read_gradients(optimizers: Sequence[Optimizer]) -> list[tuple[int, int] | None]:
    """Return what tells whether the gradients of some optimizers have changed, each by identity and version."""
    with torch_private.without_torch_functions():
        groups = (group for optimizer in optimizers for group in optimizer.param_groups)
        gradients = [parameter.grad for group in groups for parameter in group["params"]]
        return [None if gradient is None else (id(gradient), gradient._version) for gradient in gradients]  # noqa: SLF001


def is_exhausted(iterator: Any) -> bool:
    """Return whether a DataLoader's iterator has given its last batch; never true where it has no known length."""
    try:
        return bool(iterator._num_yielded == len(iterator._index_sampler))  # noqa: SLF001
    except TypeError:
        return False


def moves_parameters(optimizer: Optimizer, arguments: Sequence[Any]) -> bool:
    """Return whether a step has gradients, or a closure that makes them."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return any(map(callable, arguments)) or any(parameter.grad is not None for parameter in parameters)


def find_beside(
    stepped: Sequence[Optimizer], earlier: Container[Optimizer]
) -> tuple[list[Optimizer], set[int]]:
    """
    Return optimizers with those that may step beside them, and their parameters by identity.

    Args:
        stepped: that have stepped.
        earlier: that belong to what came before the loop.
    """
    optimizers, taken = [*stepped], set[int]().union(*map(parameters_of, stepped))
    for other in list_optimizers():
        own = parameters_of(other) if hasattr(other, "param_groups") else set[int]()
        wraps = unwrap_optimizer(other) is not other
        if own and not (own & taken or wraps or other in earlier):
            optimizers.append(other)
            taken |= own
    return optimizers, taken


def watch_prepare(
    stack: ExitStack, home: str, kind: str, names: Sequence[str], begin: Callable[[Any], None]
) -> None:
    """Call a function with the owner of some methods before each call with a model, until the stack is closed."""
    owner: Any = getattr(sys.modules[home], kind)

    def watch(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(argument, nn.Module) for argument in (*args, *kwargs.values())):
                begin(args[0])
            return original(*args, **kwargs)

        return call

    for name in names:
        stack.enter_context(replace_attribute(owner, name, watch(getattr(owner, name))))


def find_models(modules: Sequence[nn.Module], parameters: set[int]) -> list[nn.Module]:
    """Return the outermost modules that have some of the parameters, by their identities."""
    inner = {id(child) for module in modules for child in _read_part(module, "_modules")}
    outermost = [module for module in modules if id(module) not in inner]
    return [module for module in outermost if any(id(p) in parameters for p in module.parameters())]


def _read_part(module: nn.Module, name: str) -> list[Any]:
    """Return the children of a module; one whose `__init__` has not run has none."""
    return [*(cast("dict[str, dict[str, Any]]", vars(module)).get(name) or {}).values()]
