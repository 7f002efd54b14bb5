"""Several micro-batches of one run, of which a trace takes those that stand for all."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    ChosenBatchBase = functools.partial[Any]
else:
    ChosenBatchBase = functools.partial


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """
    Micro-batches as the training DataLoader yields them, for `TrainingJob(batch=Batches(...))`.

    Where they vary in size, the job is priced at their mean.

    Args:
        found: at least one batch; some 16 show how far a run's batches vary.

    >>> Batches(([1, 2], [3])).found
    ([1, 2], [3])
    """

    found: tuple[Any, ...]


class ChosenBatch(ChosenBatchBase):
    """A builder of one of several batches, which need not have the job's `batch_size`."""

    @classmethod
    def of(cls, batch: Any) -> ChosenBatch:
        """Return a builder that returns this batch."""
        return cls(_same, batch)


def _same(batch: Any) -> Any:
    return batch
