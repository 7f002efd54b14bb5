"""`Savings`: the changes that would make a run cheaper, most first in each group; a document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainfare_core.changes.cost_change import ChangeRange, CostSide, Signed
from trainfare_core.documents import Document, Finite, Record
from trainfare_core.recommendation import TrainerArguments
from trainfare_core.savings.levers import LeverName, SavingGroup


class Saving(Record):
    """One change of the run, made alone."""

    lever: LeverName
    group: SavingGroup
    after: CostSide = Field(description="the machine that is the best with the change, and its cost")
    plan: TrainerArguments | None = Field(description="the plan of that machine")
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


class JointSaving(Record):
    """Two changes made together."""

    levers: Annotated[tuple[LeverName, ...], Field(min_length=2)]
    saved_usd: Signed = Field(description="median before less median after")
    usd: Finite = Field(description="of the run with both, median")
    machine: str


class NotPriced(Record):
    """A change whose effect is not known."""

    what: str = Field(description="the change, e.g. 'channels-last'")
    because: str


class Savings(Document):
    """What would make a run cheaper."""

    schema_version: Literal[1] = 1
    tool_version: str
    job: str
    loop: str = Field(description="that trains the script; empty: not known")
    before: CostSide = Field(description="the best machine for the run as it is")
    savings: tuple[Saving, ...] = Field(
        description="by group, in the order same_result, rounding, interruption_or_term, training; most first in each"
    )
    together: tuple[JointSaving, ...] = Field(
        description="pairs of the four that save most, and save more than each alone; most first"
    )
    saves_nothing: tuple[LeverName, ...] = Field(description="changes that were priced and save nothing")
    not_priced: tuple[NotPriced, ...]
    unknown_because: str | None = Field(default=None, description="why the run itself has no cost")
