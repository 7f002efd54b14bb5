"""The dictionaries in which a module keeps its parts, and the wrappers of `torch.compile`."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Generator, Iterable
from typing import Any, cast

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

HOOKS = tuple(name for name in vars(nn.Module()) if "_hooks" in name)
"""Attributes in which a module keeps its hooks."""

LIGHTNING_LINKS = ("_trainer", "_fabric", "_compiler_ctx")
"""Attributes of a LightningModule that refer to objects outside it."""

_COMPILED_METHODS = ("forward", "training_step", "validation_step", "test_step", "predict_step")
"""Methods that Lightning compiles when it is given a compiled module."""


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return the module's own dictionary of parameters; changing it changes the module."""
    return cast("dict[str, nn.Parameter | None]", vars(module)["_parameters"])


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the module's own dictionary of buffers; changing it changes the module."""
    return cast("dict[str, Tensor | None]", vars(module)["_buffers"])


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the module's own dictionary of submodules; changing it changes the module."""
    return cast("dict[str, nn.Module | None]", vars(module)["_modules"])


def tensors_of(module: nn.Module) -> list[Tensor]:
    """List the parameters and buffers that the module itself holds."""
    tensors = [*parameters_of(module).values(), *buffers_of(module).values()]
    return [value for value in tensors if value is not None]


def tensor_leaves(value: Any) -> list[Tensor]:
    """List the tensors of a nested structure, such as a batch."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def all_modules(module: nn.Module) -> list[nn.Module]:
    """List the module and its submodules, each once; both a compile wrapper and the module inside it are listed."""
    modules: dict[int, nn.Module] = {}
    waiting = [module]
    while waiting:
        member = waiting.pop()
        if id(member) not in modules:
            modules[id(member)] = member
            waiting.extend(child for child in children_of(member).values() if child is not None)
    return list(modules.values())


def is_compile_wrapper(module: nn.Module) -> bool:
    """Return whether a module is what `torch.compile(module)` returns."""
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in children_of(module)


def unwrap_compiled(module: nn.Module) -> nn.Module:
    """Return the module inside any `torch.compile` wrappers."""
    while is_compile_wrapper(module):
        module = cast("nn.Module", children_of(module)["_orig_mod"])
    return module


def strip_compile(state: dict[str, Any]) -> bool:
    """Remove compiled methods from a module's attributes; return whether there were any."""
    stripped = state.get("_compiled_call_impl") is not None
    if stripped:
        state["_compiled_call_impl"] = None
    if state.get("_compiler_ctx") is not None:
        stripped = True
        state["_compiler_ctx"] = None
        for name in _COMPILED_METHODS:
            state.pop(name, None)
    return stripped


def state_of(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that a copy of the module gets, from its `__getstate__` where it has one."""
    getter: Any = getattr(type(module), "__getstate__", None)
    if getter is None or getter is getattr(object, "__getstate__", None):
        return dict(vars(module))
    state: Any = getter(module)
    return dict(cast("dict[str, Any]", state)) if isinstance(state, dict) else dict(vars(module))


@contextlib.contextmanager
def attributes_kept(objects: Iterable[object]) -> Generator[None, None, None]:
    """Put back the attributes of objects afterwards, with the contents of those that are lists, dicts or sets."""
    attributes = [(vars(owner), dict(vars(owner))) for owner in objects]
    contents = [
        (value, kind, items_of(value, kind))
        for _, values in attributes
        for value in values.values()
        if (kind := container_class(value)) is not None
    ]
    try:
        yield
    finally:
        for container, kind, content in contents:
            kind.clear(container)
            put_items(container, kind, content)
        for now, before in attributes:
            now.clear()
            now.update(before)


def container_class(value: object) -> Any:
    """Return the built-in class of a container; a subclass of the user's may take anything to make, and to copy."""
    return next((kind for kind in (OrderedDict, dict, list, set) if isinstance(value, kind)), None)


def items_of(container: Any, kind: Any) -> list[Any]:
    """Return what a container of a built-in class holds, whatever methods its own class has."""
    return list(kind.items(container) if hasattr(kind, "items") else kind.__iter__(container))


def put_items(container: Any, kind: Any, items: list[Any]) -> None:
    """Add to a container of a built-in class, whatever methods its own class has."""
    if hasattr(kind, "items"):
        for key, value in items:
            kind.__setitem__(container, key, value)
    else:
        (kind.extend if hasattr(kind, "extend") else kind.update)(container, items)
