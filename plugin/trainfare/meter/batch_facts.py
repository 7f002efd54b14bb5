"""How many samples and tokens a batch holds, read from its shapes alone; never from its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch

__all__ = ["count_samples", "count_tokens", "loader_batch_size", "loader_workers"]

MAX_LEAVES = 64
TOKEN_KEY = "input_ids"  # noqa: S105 - a dictionary key, the usual name of a (samples, tokens) tensor


def count_samples(batch: Any) -> int | None:
    """
    Return the common length of the first axis of all tensors in a batch.

    Args:
        batch: what the training DataLoader yields.

    Returns:
        Samples, or None where the tensors do not agree or there is none: then nobody can tell by shape.
    """
    if isinstance(batch, torch.Tensor):
        return int(batch.shape[0]) if batch.ndim else None
    lengths: set[int] = set()
    waiting = [batch]
    seen = 0
    while waiting and seen < MAX_LEAVES:
        item = waiting.pop()
        seen += 1
        if isinstance(item, torch.Tensor):
            if item.ndim:
                lengths.add(int(item.shape[0]))
        elif isinstance(item, Mapping):
            waiting.extend(cast("Any", item).values())
        elif isinstance(item, list | tuple):
            waiting.extend(cast("Any", item))
    return lengths.pop() if len(lengths) == 1 else None


def count_tokens(batch: Any) -> int | None:
    """Return the size of a two-axis `input_ids`, padding included; None for any other batch."""
    if not isinstance(batch, Mapping):
        return None
    ids = cast("Any", batch).get(TOKEN_KEY)
    return int(ids.numel()) if isinstance(ids, torch.Tensor) and ids.ndim == 2 else None


def _loaders(trainer: Any) -> list[Any]:
    combined = getattr(trainer.fit_loop, "_combined_loader", None)
    return list(getattr(combined, "flattened", ()))


def loader_batch_size(trainer: Any) -> int | None:
    """Return the batch size of the one training DataLoader; None where there are several or none is said."""
    loaders = _loaders(trainer)
    if len(loaders) != 1:
        return None
    for owner in (loaders[0], getattr(loaders[0], "batch_sampler", None)):
        size = getattr(owner, "batch_size", None)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return None


def loader_workers(trainer: Any) -> int | None:
    """Return the worker processes of all training DataLoaders; None where one has no such number."""
    counts = [getattr(loader, "num_workers", None) for loader in _loaders(trainer)]
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if known and len(known) == len(counts) else None
