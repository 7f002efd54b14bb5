"""Batch size and workers of a Trainer's DataLoaders."""

from __future__ import annotations

from typing import Any


def _loaders(trainer: Any) -> list[Any]:
    combined = getattr(trainer.fit_loop, "_combined_loader", None)
    return list(getattr(combined, "flattened", ()))


def loader_batch_size(trainer: Any) -> int | None:
    """Return the batch size of the only training DataLoader; None for several, or one without a batch size."""
    loaders = _loaders(trainer)
    if len(loaders) != 1:
        return None
    for owner in (loaders[0], getattr(loaders[0], "batch_sampler", None)):
        size = getattr(owner, "batch_size", None)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return None


def loader_workers(trainer: Any) -> int | None:
    """Return the worker processes of all training DataLoaders; None where one does not give its number."""
    counts = [getattr(loader, "num_workers", None) for loader in _loaders(trainer)]
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if known and len(known) == len(counts) else None
