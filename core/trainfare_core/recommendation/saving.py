"""`Saving`: one change of a run that makes it cheaper; a part of `Recommendation`, `BudgetCheck` and `Savings`."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Finite, Interval, Record, Signed
from trainfare_core.number_format import percent
from trainfare_core.recommendation.option import TrainerArguments

LeverName: TypeAlias = Literal[
    "compile",
    "plan",
    "recomputation",
    "loader",
    "validation",
    "checkpoints",
    "region",
    "service",
    "cloud",
    "precision",
    "spot",
    "commitment",
    "batch",
]
SavingGroup: TypeAlias = Literal["same_result", "rounding", "interruption_or_term", "training"]
"""What a change does to the run's result, in the order in which savings are listed: nothing; rounding alone; nothing,
but the run may be interrupted or binds to a term; another global batch, which changes what is trained."""

WIDE: Final = 0.05
"""Width of an interval from which its ends are whole percent. A chosen value: tenths of a percent say nothing there."""


class ChangeRange(Record):
    """Ends of a change: errors that base and head share cancel."""

    low_80: Signed = Field(description="lower end of the central 80 %")
    high_80: Signed
    low: Signed = Field(description="the change is at least this with the asked confidence")
    high: Signed = Field(description="it is at most this with the asked confidence")

    def to_percent(self) -> str:
        """
        Return the central 80 % of a fraction as text.

        >>> ChangeRange(low_80=0.6, high_80=0.751, low=0.5, high=0.8).to_percent()
        '[+60 % to +75 %]'
        """
        decimals = 0 if self.high_80 - self.low_80 >= WIDE else 1
        low, high = (percent(end, decimals, sign=True) for end in (self.low_80, self.high_80))
        return f"[{low} to {high}]"


class Saving(Record):
    """One change of the run, made alone."""

    lever: LeverName
    group: SavingGroup
    machine: str = Field(
        description="the best with the change, e.g. 2 x aws:p4d.24xlarge@us-east-1 (on_demand)"
    )
    usd: Interval = Field(description="of the whole run there")
    hours: Interval
    plan: TrainerArguments | None = Field(description="of that machine")
    saved_usd: Finite = Field(description="median before less median after")
    saved_usd_range: ChangeRange = Field(
        description="of what is saved: errors that both runs share cancel; below 0 it costs more"
    )
    saved_hours: Signed = Field(description="medians; negative: the cheaper run takes longer")
    pairs: int | None = Field(
        description="pairs of measured steps that the interval's step rests on, which differ in that one thing; None: "
        "the step is the same, or is on another accelerator"
    )
    well_known: bool = Field(
        description="false: what the change does to a step was not scored on ten pairs of measured steps"
    )
