"""Which calls of a model a backward pass comes back to: they have a step's batch, where no DataLoader gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from trainfare.trace import count_samples, count_tokens, torch_private


class TrainedCalls:
    """The sizes of what a model was called with since a batch began; no tensor is kept."""

    def __init__(self) -> None:
        self._calls: list[tuple[int | None, int | None]] = []
        self._trained: set[int] = set()

    def begin(self) -> None:
        """Forget the calls so far: another batch begins."""
        self._calls, self._trained = [], set()

    def note(self, batch: Any, result: Any) -> None:
        """Take note of a call, and be told where a backward pass comes to what it gave."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch_private.in_backward():
            return
        trained, number = self._trained, len(self._calls)

        def see(_: torch.Tensor) -> None:
            trained.add(number)

        see_call: Callable[[torch.Tensor], None] = see
        with torch_private.without_torch_functions():
            self._calls.append((count_samples(batch), count_tokens(batch)))
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor) and leaf.requires_grad and not leaf.is_leaf:
                    leaf.register_hook(see_call)  # type: ignore[no-untyped-call]

    def find(self) -> tuple[int | None, int | None] | None:
        """Return samples and tokens of the first call that has trained; None where none is known to."""
        return self._calls[min(self._trained)] if self._trained else None
