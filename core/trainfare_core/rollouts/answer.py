"""`RolloutAnswer`: the machines for a run of reinforcement learning, by phase; a document."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainfare_core.documents import Answer, Finite, Interval, Record
from trainfare_core.job_profile import Rollout
from trainfare_core.prediction.rollout import PhaseName


class RolloutPhase(Record):
    """One phase of a step on one machine."""

    phase: PhaseName
    time_s: Interval = Field(description="seconds for one generation: with `updates` updates, for that phase")
    memory_bytes: Interval = Field(description="of one device; vLLM on devices of its own: of one of those")


class RolloutMachine(Record):
    """One machine, or several alike, and the phases on it."""

    provider: str
    service: str
    instance_type: str
    region: str
    accelerator: str
    devices: int = Field(description="of one machine, all of which are paid")
    generating_devices: int = Field(description="of them, devices on which vLLM alone runs")
    nodes: int
    strategy: str
    micro_batch: float
    accumulate: int
    phases: tuple[RolloutPhase, ...] = Field(description="generation, scoring, update")
    round_s: Interval = Field(description="one generation with its scoring and updates")
    worst_phase: PhaseName = Field(description="with the most memory, which decides whether the job fits")
    usable_memory_bytes: Finite
    fits: bool = Field(description="the upper end of the memory of every phase is within the usable memory")
    usd_per_hour: Finite = Field(description="of all nodes, at the cheapest region")
    run_hours: Interval | None = Field(description="None: the run's length is not known")
    run_usd: Interval | None = Field(description="None: see `cost_unknown_because`")


class Refusal(Record):
    """Machine shapes without a prediction."""

    because: str
    machines: int


class RolloutAnswer(Answer):
    """What generation, scoring and updates take on each machine."""

    job: str
    rollout: Rollout
    updates: Finite = Field(description="optimizer steps that follow one generation")
    optimizer_steps: int | None = Field(description="of the whole run")
    machines: tuple[RolloutMachine, ...] = Field(description="those that fit first, by the price of an hour")
    machines_in_all: int = Field(
        description="machines with a prediction, of which `machines` is the beginning"
    )
    refused: tuple[Refusal, ...] = Field(description="why machines have no prediction")
    interval_is: Literal["chosen", "measured"] = Field(
        description="what the interval of the time of generation rests on: chosen, or errors on published runs"
    )
    cost_unknown_because: str | None = Field(description="why there are no dollars")
    notes: tuple[str, ...]
