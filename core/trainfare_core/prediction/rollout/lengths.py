"""How long completions are: a range as a distribution up to the cap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainfare_core.arrays import Array


@dataclass(frozen=True, slots=True)
class CompletionLengths:
    """
    Completions whose ln(length) is uniform from the shortest to the longest; a chosen distribution.

    Lengths of completions are skewed: most are short, and a few reach the cap.

    >>> lengths = CompletionLengths(100, 1000)
    >>> round(lengths.mean_tokens), round(float(lengths.longest_of(1))), round(float(lengths.longest_of(99)))
    (391, 316, 977)

    Attributes:
        low_tokens: of the shortest completion.
        high_tokens: of the longest.
    """

    low_tokens: float
    high_tokens: float

    @property
    def _log_range(self) -> float:
        return math.log(self.high_tokens / self.low_tokens)

    @property
    def mean_tokens(self) -> float:
        """Mean length."""
        if self.high_tokens == self.low_tokens:
            return self.high_tokens
        return (self.high_tokens - self.low_tokens) / self._log_range

    @property
    def mean_square_tokens(self) -> float:
        """Mean of the squared length, which the reads of a growing cache follow."""
        if self.high_tokens == self.low_tokens:
            return self.high_tokens**2
        return (self.high_tokens**2 - self.low_tokens**2) / (2 * self._log_range)

    def longest_of(self, count: Array | float) -> Array:
        """Return the usual longest length of so many completions: the quantile count / (count + 1)."""
        share = np.asarray(count, dtype=np.float64) / (np.asarray(count) + 1.0)
        return np.asarray(self.low_tokens * np.exp(share * self._log_range))
