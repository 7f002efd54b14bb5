"""
FLOPs and bytes of a step by submodule.

A forward operation belongs to the innermost module whose `forward` runs. A backward operation belongs to the module
in which its autograd node was made: nodes are numbered in the order in which they are made, and the number tells the
module. Repeated blocks count as one: `layers.0` and `layers.1` are `layers.*` where all numbered children of `layers`
are of one class that has children itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn

from trainfare.trace import torch_private
from trainfare_core.job_profile import Phase

LOOPED: Final = 64
"""Launches of one operation on one shape in one call of a module, submodules left out, from which it is called a loop.
Chosen: layers launch a few of a shape, and a loop over chunks of 64 tokens launches 64 for 4,096 tokens."""

_FP8_MULTIPLE: Final = 16
"""Divides both sizes of the linear layers that Transformer Engine runs in fp8 and Lightning replaces by its own."""


def fold_names(module: nn.Module) -> dict[nn.Module, str]:
    """Return the dotted name of every submodule, blocks of one class as `*`; the module itself is ""."""
    names: dict[nn.Module, str] = {module: ""}
    pending = [module]
    while pending:
        parent = pending.pop()
        children = dict(parent.named_children())
        repeated = _are_blocks([child for name, child in children.items() if name.isdecimal()])
        for name, child in children.items():
            if child not in names:
                own_name = "*" if repeated and name.isdecimal() else name
                names[child] = f"{names[parent]}.{own_name}" if names[parent] else own_name
                pending.append(child)
    return names


def _are_blocks(children: list[nn.Module]) -> bool:
    return (
        len(children) > 1
        and len({type(child) for child in children}) == 1
        and any(True for _ in children[0].children())
    )


@dataclass(slots=True)
class ModuleWatch:
    """
    Knows in which submodule an operation runs.

    Args:
        module: the module whose submodules are told apart; another module counts as what calls it.
        fp8: whether Transformer Engine runs its linear layers.
    """

    module: nn.Module
    fp8: bool = False
    loops: dict[str, int] = field(default_factory=dict[str, int])
    """Modules by name that launch one operation on one shape `LOOPED` times in a call or more, and how many times."""
    _linears: dict[str, set[tuple[int, int]]] = field(
        default_factory=dict[str, set[tuple[int, int]]], init=False
    )
    """Sizes of the weights of linear layers by name, where Transformer Engine runs them: blocks share a name."""
    _names: dict[nn.Module, str] = field(default_factory=dict[nn.Module, str])
    _owners: dict[int, str] = field(default_factory=dict[int, str])
    _running: list[str] = field(default_factory=list[str])
    _launched: list[Counter[tuple[str, tuple[int, ...]]]] = field(
        default_factory=list[Counter[tuple[str, tuple[int, ...]]]]
    )
    """Launches of each running call by operation and shape."""
    _numbers: list[int] = field(default_factory=list[int])
    _since: list[str] = field(default_factory=list[str])

    def enter(
        self,
        stack: ExitStack,
        guard: Callable[..., Any],
        enter_block: Callable[[nn.Module, Any], bool],
        leave_block: Callable[[], None],
    ) -> None:
        """
        Follow the calls of modules until the stack is closed.

        Args:
            stack: ends it.
            guard: calls a function of ours with arguments; None where nothing is recorded, or the function has raised.
            enter_block: called with a block that repeats and with its arguments before its forward, the outermost one
                where blocks have blocks; returns whether to call `leave_block` after it. Not kept: the three hold the
                trace, and memory in a cycle would be released late.
            leave_block: called after such a forward.
        """
        self.find_names()
        self._running, self._numbers, self._since = [], [], []
        self._launched, self.loops = [Counter()], {}
        # Not by hooks for all modules, of which a compiled module warns.
        original = nn.Module.__call__

        def begin(module: nn.Module, arguments: Any) -> bool | None:
            name = self._names.get(module)
            if name is None:
                return None
            outermost = "*" in name and not (self._running and "*" in self._running[-1])
            self._running.append(name)
            self._launched.append(Counter())
            self._note()
            return outermost and bool(enter_block(module, arguments))

        def end(leaves: bool) -> None:  # noqa: FBT001 - the guard passes arguments by their places
            if leaves:
                leave_block()
            self._running.pop()
            self._launched.pop()
            self._note()

        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            leaves = guard(begin, module, (args, kwargs))
            if leaves is None:
                return original(module, *args, **kwargs)
            try:
                return original(module, *args, **kwargs)
            finally:
                guard(end, leaves)

        def restore() -> None:
            if nn.Module.__call__ is call:  # else somebody has replaced it since, over ours
                loose.__call__ = original

        loose: Any = nn.Module
        loose.__call__ = call
        stack.callback(restore)

    def find_names(self) -> None:
        """Find the names of all submodules and parameters."""
        self._names = fold_names(self.module)
        self._linears = {}
        for module, name in self._names.items():
            if self.fp8 and isinstance(module, nn.Linear):
                self._linears.setdefault(name, set()).add((module.out_features, module.in_features))
        self._owners = {
            id(parameter): name
            for module, name in self._names.items()
            for parameter in module.parameters(recurse=False)
        }

    def count_launch(self, operation: str, shape: tuple[int, ...]) -> None:
        """Count an operation of the forward pass in the call that runs now."""
        calls = self._launched[-1] if self._launched else Counter[tuple[str, tuple[int, ...]]]()
        calls[operation, shape] += 1
        times = calls[operation, shape]
        if times >= LOOPED:
            name = self._running[-1] if self._running else ""
            self.loops[name] = max(times, self.loops.get(name, 0))

    def is_in_fp8(self, name: str, sizes: Collection[int]) -> bool:
        """
        Return whether Transformer Engine runs a matrix product in fp8.

        Args:
            name: of the module that runs it.
            sizes: of the product; two of them are those of the layer's weight.
        """
        layers = [pair for pair in self._linears.get(name, ()) if set(pair) <= set(sizes)]
        return bool(layers) and not any(size % _FP8_MULTIPLE for pair in layers for size in pair)

    def running(self, phase: Phase, *, recomputed: bool) -> str:
        """Return the name of the module of an operation that runs now; "" outside of all, and for the optimizer."""
        if phase == "optimizer":
            return ""
        if self._running and (phase == "forward" or recomputed):
            return self._running[-1]
        return "" if phase == "forward" else self._of_node(torch_private.current_node())

    def owner(self, parameter: torch.Tensor) -> str:
        """Return the name of the module that holds a parameter."""
        return self._owners.get(id(parameter), "")

    def _note(self) -> None:
        """Note from which autograd node on the nodes are made by the module that runs now."""
        number = torch_private.next_sequence_number()
        if (
            not self._numbers or number >= self._numbers[-1]
        ):  # each thread counts for itself: those of the first count
            self._numbers.append(number)
            self._since.append(self._running[-1] if self._running else "")

    def _of_node(self, node: Any | None) -> str:
        if node is None:
            return ""
        variable = getattr(node, "variable", None)
        if variable is not None:  # adds a gradient
            return self.owner(variable)
        index = bisect_right(self._numbers, torch_private.node_key(node)[0]) - 1
        return self._since[index] if index >= 0 else ""
