"""The operations of a forward pass, one number each, to compare modules that have more and fewer equal blocks."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from trainfare.trace import torch_private
from trainfare.trace.modes import OperationMode
from trainfare.trace.repetition import Item


class ForwardLog:
    """
    Numbers the operations of forward passes: equal operations get equal numbers, also in different passes.

    Operations are equal in name, shapes, dtypes, gradients that are wanted, arguments that are flags, and in whether
    autograd saves tensors, recomputes them later, or neither. That floats are 0 or not counts, their values do not:
    rates and scales may differ from block to block.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    @contextmanager
    def into(self, items: list[Item]) -> Generator[None, None, None]:
        """Append the operations that run inside the block."""

        def note(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
            saving = torch.is_grad_enabled(), torch_private.packs_saved_tensors()
            token = (
                str(func),
                saving,
                _describe_value(args),
                _describe_value(tuple(kwargs.items())),
                _describe_value(out),
            )
            items.append(Item(self._numbers.setdefault(token, len(self._numbers))))

        with OperationMode(note):
            yield


def _describe_value(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.requires_grad
    if isinstance(value, (list, tuple)):
        return tuple(_describe_value(item) for item in cast("list[Any]", value))
    if isinstance(value, float):
        return bool(value)
    return value if isinstance(value, (bool, str, type(None), torch.dtype)) else None
