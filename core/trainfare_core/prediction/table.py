"""The result of a prediction: columns, one row a candidate plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column, Rows


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """
    Predictions as columns; all arrays have shape (n,), row i belongs to candidate i.

    Attributes:
        step_s: median of the optimizer step, seconds; NaN where there is no prediction.
        log_sigma: standard deviation of ln(step_s); the central 80 % is step_s * exp(+-1.2816 * log_sigma).
        compute_s, memory_s, launch_s, communication_s, input_s: parts of the step, they add up to step_s.
        communication_hidden_s: communication that overlaps with backward, not part of step_s.
        memory_bytes: median of what the process uses of its device at the peak: the allocator's peak and what comes on
            top of it (caches, context, buffers of the collective library); NaN where there is no prediction.
        memory_log_sigma: standard deviation of ln(memory_bytes).
        usable_memory_bytes: of one device, for a training process.
        fits: the upper 80 % bound of memory_bytes is within usable_memory_bytes.
        unknown_because: the reason why there is no prediction; "" where there is one.
        nearest: index of the measured group that is most like it; -1 where none was compared.
        is_guess: nothing like it was measured: time and cost are a guess.
    """

    step_s: Column
    log_sigma: Column
    compute_s: Column
    memory_s: Column
    launch_s: Column
    communication_s: Column
    communication_hidden_s: Column
    input_s: Column
    memory_bytes: Column
    memory_log_sigma: Column
    usable_memory_bytes: Column
    fits: NDArray[np.bool_]
    unknown_because: NDArray[np.str_]
    nearest: Rows
    is_guess: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.step_s)

    @property
    def missing_bytes(self) -> Column:
        """Bytes by which the upper 80 % bound of memory exceeds the usable memory; 0 where it fits."""
        upper = self.memory_bytes * np.exp(1.2816 * self.memory_log_sigma)
        return np.maximum(upper - self.usable_memory_bytes, 0.0)
