"""`RunTable`: whole runs as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.interruptions.ends import RunEnds

HOPELESS_SLOWDOWN: Final = 10.0
"""A spot run expected to take ten times its uninterrupted hours is not offered: it may never end. A chosen value."""

NOT_SPOT: Final = -1
"""In the place of a row of `HAZARDS`: the machine is not taken back."""

S_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class RunTable:
    """
    Whole runs as columns, one row a (plan, cloud service, hazard); all arrays have shape (n,), times in seconds.

    Attributes:
        plan: row of the `CandidateTable` and `PredictionTable`.
        steps: optimizer steps, fewer where the plan's global batch is larger than the script's.
        startup_s, staging_s, training_s, validation_s, checkpoint_s: parts of the run; staging is the copy of the data.
        write_s: of one checkpoint.
        interruption_s: expected time to repeat lost work, to wait and to restart; 0 on machines that are not spot.
        waiting_s: of `interruption_s`, the wait for capacity, which is not billed.
        rounding_s: billed and not used: what billing steps and least billed times add.
        hours: all parts together: the median; the mean of spot runs that do not get on.
        billed_hours: the median of hours without the wait for spot capacity, with what is billed and not used.
        log_sigma: standard deviation of ln(hours) without interruptions.
        interruptions: expected number of interruptions.
        save_steps: optimizer steps between two checkpoints; NaN where none is written before the end.
        best_save_steps: optimizer steps between checkpoints that lose least on spot; NaN elsewhere.
        hazard: row of `HAZARDS`, or `NOT_SPOT`.
        in_block: on a capacity block, which is paid in whole days.
        restart_s: from new machines until the work goes on after an interruption.
        step_log_sigma: of ln(time of a step).
        machines: whose loss stops the run: nodes, or the hosts of a TPU slice.
        ends: when the spot runs that get on end, one row each.
        ends_row: row of `ends`, or -1.
    """

    plan: NDArray[np.int64]
    steps: Column
    startup_s: Column
    staging_s: Column
    training_s: Column
    validation_s: Column
    checkpoint_s: Column
    write_s: Column
    interruption_s: Column
    waiting_s: Column
    rounding_s: Column
    hours: Column
    billed_hours: Column
    log_sigma: Column
    interruptions: Column
    save_steps: Column
    best_save_steps: Column
    hazard: NDArray[np.int64]
    in_block: NDArray[np.bool_]
    restart_s: Column
    step_log_sigma: Column
    machines: NDArray[np.int64]
    ends: RunEnds
    ends_row: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.plan)

    @property
    def undisturbed_s(self) -> Column:
        """Time of the run without interruptions, s; finite also where a run with them is expected never to end."""
        return self.startup_s + self.staging_s + self.training_s + self.validation_s + self.checkpoint_s

    @property
    def mean_billed_hours(self) -> Column:
        """Mean of the billed hours: of log-normal ones without interruptions, and what those take on average."""
        lost_s = np.where(self.hazard == NOT_SPOT, 0.0, self.interruption_s)
        beside_s = lost_s + self.rounding_s - self.waiting_s
        return (self.undisturbed_s * np.exp(self.log_sigma**2 / 2) + beside_s) / S_PER_HOUR

    @property
    def gets_on(self) -> NDArray[np.bool_]:
        """Whether the run is not expected to take `HOPELESS_SLOWDOWN` times its uninterrupted hours."""
        return self.interruption_s <= (HOPELESS_SLOWDOWN - 1) * self.undisturbed_s
