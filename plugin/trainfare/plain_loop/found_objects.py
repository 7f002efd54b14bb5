"""What a loop that runs unchanged is found by: its line, its models, and what its optimizers and loaders say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from torch import nn
from torch.optim import Optimizer

from trainfare.job import place_of_caller
from trainfare.job.user_code import put_user_first

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


def find_models(modules: Sequence[nn.Module], parameters: set[int]) -> list[nn.Module]:
    """Return the outermost modules that have some of the parameters, by their identities."""
    inner = {id(child) for module in modules for child in _read_part(module, "_modules")}
    outermost = [module for module in modules if id(module) not in inner]
    return [module for module in outermost if any(id(p) in parameters for p in module.parameters())]


def _read_part(module: nn.Module, name: str) -> list[Any]:
    """Return the children of a module; one whose `__init__` has not run has none."""
    return [*(cast("dict[str, dict[str, Any]]", vars(module)).get(name) or {}).values()]
