"""Result of `trainfare strategy`: one line a method and the decision; its JSON has a published schema."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Document, Finite, Record
from trainfare_core.methods.methods import Method
from trainfare_core.methods.question import Question
from trainfare_core.prices.facts import PriceBookFacts
from trainfare_core.recommendation import Interval, Option

Chance: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Change(Record):
    """A signed relative difference in percent, 100 ln(ratio): the median and the central 80 %."""

    mid: float
    low_80: float
    high_80: float


class TracedFacts(Record):
    """Amounts of one training step under one method, from the trace of the user's module."""

    parameters: int = Field(description="scalars; weights packed in 4 bits are counted as they are used")
    trainable_parameters: int
    flops_per_sample: Finite = Field(description="forward, backward and optimizer, recomputation included")
    optimizer_state_bytes: int
    saved_activation_bytes: int = Field(description="of one micro-batch")
    weights_bytes: int


class MethodLine(Record):
    """One method: its work, machine, cost and chance to reach the target."""

    strategy: Method
    impossible_because: str | None = Field(
        default=None, description="reason for which it was excluded before pricing"
    )
    unknown_because: str | None = Field(default=None, description="possible, but without a cost: the reason")
    traced: TracedFacts | None = None
    knobs: tuple[str, ...] = Field(default=(), description="settings, in the order to try them")
    samples: Interval | None = Field(default=None, description="until the target is reached")
    samples_because: str | None = None
    optimizer_steps: int | None = None
    machine: Option | None = Field(default=None, description="the cheapest machine for this strategy")
    usd: Interval | None = Field(default=None, description="to the target, all learning-rate trials together")
    hours: Interval | None = None
    quality: Change | None = Field(
        default=None, description="against the reference strategy; positive is better"
    )
    quality_value: Interval | None = Field(
        default=None, description="the metric itself, where one value is known"
    )
    p_reach: Chance | None = Field(
        default=None, description="chance that the target is reached; None: unknown"
    )
    p_within: Chance | None = Field(default=None, description="chance that budget and deadline are kept")
    p_cheapest: Chance | None = Field(
        default=None, description="chance that no other reaches the target for less"
    )
    expected_usd: Finite | None = Field(
        default=None,
        description="with the cost of falling back to another strategy where it misses the target",
    )
    falls_back_to: Method | None = None
    analogs: int = Field(default=0, description="number of similar published comparisons")
    analog_sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class PilotPlan(Record):
    """A pilot: short runs that measure which method is best."""

    usd: Finite
    saves_usd: Finite = Field(description="expected saving from knowing the best strategy")
    worth_it: bool
    strategies: tuple[Method, ...]
    data_share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="largest part of the data it trains on"
    )
    design: str


class MethodsAnswer(Document):
    """How to train; `lines` is sorted by preference."""

    schema_version: Literal[1] = 1
    tool_version: str
    name: str
    question: Question
    kind: Literal["train", "pilot", "none"]
    strategy: Method | None = Field(
        description="recommended; where kind is `pilot`, the best guess before it"
    )
    runner_up: Method | None
    sentence: str
    doubts: tuple[str, ...]
    pilot: PilotPlan | None
    reference: Method | None = Field(description="the strategy that `quality` is relative to")
    lines: tuple[MethodLine, ...]
    assumptions: tuple[str, ...]
    price_books: tuple[PriceBookFacts, ...]
