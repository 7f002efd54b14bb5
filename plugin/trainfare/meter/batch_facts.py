"""Samples and tokens in a batch, read from its tensors' shapes and the DataLoaders, never from the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any, cast

import torch

__all__ = ["BatchSizes", "count_samples", "count_tokens", "loader_batch_size", "loader_workers"]

MAX_ITEMS = 64
"""Items of a nested batch that are visited; a chosen value that bounds the time spent on one batch."""
TOKEN_KEY = "input_ids"  # noqa: S105 - a dictionary key: the usual name of a (samples, tokens) tensor


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """
    Samples and tokens of one micro-batch on one device.

    Attributes:
        micro_batch_size: samples; None where it cannot be determined.
        tokens: median over the batches that have token ids; None where none has.
        notes: assumptions, for the profile.
    """

    micro_batch_size: int | None
    tokens: int | None
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        *,
        argument: int | None,
        loader: int | None,
        by_shape: Sequence[int | None],
        tokens: Sequence[int | None],
    ) -> BatchSizes:
        """
        Take the first known of: the user's argument, the DataLoader's batch size, the median by tensor shapes.

        Args:
            argument: `FareMeter(batch_size=...)`.
            loader: batch size of the training DataLoader.
            by_shape: samples by tensor shapes, one entry for every batch counted.
            tokens: tokens by tensor shapes, likewise.
        """
        known = [size for size in by_shape if size]
        notes: list[str] = []
        size = argument or loader
        if size is None and known and len(known) == len(by_shape):
            size = median_low(known)
            if min(known) != max(known):
                notes.append(f"the batch size varies from {min(known)} to {max(known)}: {size} is used")
        if size is None:
            notes.append("the number of samples in a batch is not known: give FareMeter(batch_size=...)")
        known_tokens = [count for count in tokens if count]
        return cls(size, median_low(known_tokens) if known_tokens else None, tuple(notes))


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
    """Return the number of elements of a two-axis `input_ids`, padding included; None for any other batch."""
    if not isinstance(batch, Mapping):
        return None
    ids = cast("Any", batch).get(TOKEN_KEY)
    return int(ids.numel()) if isinstance(ids, torch.Tensor) and ids.ndim == 2 else None


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
