"""Samples and tokens in a batch, read from its tensors' shapes, never from the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, cast

import torch
from torch.utils._pytree import tree_leaves

from trainfare.trace import count_samples, count_tokens


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """
    Samples and tokens of one micro-batch on one device.

    Attributes:
        micro_batch_size: samples, the mean where batches vary; None where it cannot be determined.
        tokens: mean over the batches that have token ids; None where none has.
        notes: assumptions, for the profile.
    """

    micro_batch_size: int | None
    tokens: int | None
    notes: tuple[str, ...]

    @property
    def tokens_per_sample(self) -> int | None:
        """Tokens, at least one; None where not known."""
        return (
            max(1, round(self.tokens / self.micro_batch_size))
            if self.tokens and self.micro_batch_size
            else None
        )

    @classmethod
    def of_batches(cls, loader: int | None, batches: Sequence[Any]) -> BatchSizes:
        """Take the batch size of the training DataLoader, unless the tensors of its batches show another one."""
        return cls.of(
            argument=None,
            loader=size_that_shows(loader, batches),
            by_shape=[count_samples(batch) for batch in batches],
            tokens=[count_tokens(batch) for batch in batches],
        )

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
        Take the first known of: the user's argument, the DataLoader's batch size, the mean by tensor shapes.

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
            size = round(mean(known))
            if min(known) != max(known):
                notes.append(
                    f"the batch size varies from {min(known)} to {max(known)}: the mean, {size}, is used"
                )
        if size is None:
            notes.append("the number of samples in a batch is not known: give FareMeter(batch_size=...)")
        known_tokens = [count for count in tokens if count]
        return cls(size, round(mean(known_tokens)) if known_tokens else None, tuple(notes))


def size_that_shows(loader: int | None, batches: Sequence[Any]) -> int | None:
    """
    Return the batch size of a DataLoader; None where the tensors of its batches have another number of samples.

    That of series, graphs or documents may not be that of what a step works on.

    Args:
        loader: what the DataLoader says.
        batches: some of its batches.
    """
    # A tokenizer's batch is a mapping that torch does not know.
    leaves = tree_leaves([{**cast("Any", x)} if isinstance(x, Mapping) else x for x in batches])
    shapes = {size for leaf in leaves if isinstance(leaf, torch.Tensor) for size in leaf.shape}
    counted = all(count_samples(batch) is not None for batch in batches)
    return None if counted and loader not in shapes else loader
