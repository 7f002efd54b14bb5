"""`Savings`: the changes that would make a run cheaper, most first in each group; a document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainfare_core.changes.cost_change import CostSide
from trainfare_core.documents import Document, Finite, Record, Signed
from trainfare_core.recommendation import LeverName, Saving


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
