"""How large a batch of any form is: elements of its tensors, samples, tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import torch

MAX_ITEMS = 64
"""Items of a nested batch that are visited; a chosen value that bounds the time spent on one batch."""
TOKEN_KEY = "input_ids"  # noqa: S105 - a dictionary key: the usual name of a (samples, tokens) tensor
PAIR_KEYS = ("prompt_input_ids", "chosen_input_ids", "rejected_input_ids")
"""Of TRL before 1.0, whose DPO puts the prompt before both answers, and pads the shorter answer."""


def batch_elements(batch: Any) -> int:
    """
    Return the number of elements of all tensors in a batch of any form, 0 where there is none.

    Args:
        batch: what the training DataLoader yields: tensors inside mappings, sequences, dataclasses or other objects.

    >>> batch_elements({"ids": torch.zeros(4, 7), "masks": [torch.zeros(4, 7), None]})
    56
    """
    elements, pending, seen = 0, [batch], set[int]()
    while pending and len(seen) < MAX_ITEMS:
        item = pending.pop()
        if id(item) in seen or isinstance(item, (str, bytes, int, float, type(None))):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            elements += _numel(item)
        elif isinstance(item, Mapping):
            pending.extend(cast("Any", item).values())
        elif isinstance(item, list | tuple | set):
            pending.extend(cast("Any", item))
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            pending.extend(getattr(item, field.name, None) for field in dataclasses.fields(item))
        else:
            pending.extend(getattr(item, "__dict__", {}).values())
    return elements


def count_samples(batch: Any) -> int | None:
    """
    Return the common length of the first axis of all tensors in a batch.

    Args:
        batch: what the training DataLoader yields.

    Returns:
        Samples; None where there is no tensor or the lengths differ.
    """
    if isinstance(batch, torch.Tensor):
        return int(batch.shape[0]) if batch.ndim else None
    lengths: set[int] = set()
    pending = [batch]
    visited = 0
    while pending and visited < MAX_ITEMS:
        item = pending.pop()
        visited += 1
        if isinstance(item, torch.Tensor):
            if item.ndim:
                lengths.add(int(item.shape[0]))
        elif isinstance(item, Mapping):
            pending.extend(cast("Any", item).values())
        elif isinstance(item, list | tuple):
            pending.extend(cast("Any", item))
    return lengths.pop() if len(lengths) == 1 else None


def count_tokens(batch: Any) -> int | None:
    """Return the tokens of a two-axis `input_ids`, or of TRL's pairs, padding included; None for any other batch."""
    if not isinstance(batch, Mapping):
        return None
    given = cast("Any", batch)
    parts = [_numel_of_ids(given.get(key)) for key in PAIR_KEYS if TOKEN_KEY not in given]
    if parts and None not in parts:
        prompt, chosen, rejected = cast("list[int]", parts)
        return 2 * (prompt + max(chosen, rejected))
    return _numel_of_ids(given.get(TOKEN_KEY))


def _numel_of_ids(ids: Any) -> int | None:
    return int(ids.numel()) if isinstance(ids, torch.Tensor) and ids.ndim == 2 else None


def _numel(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.numel())
    except Exception:  # noqa: BLE001 - a nested tensor has no number of elements in some layouts
        return 0
