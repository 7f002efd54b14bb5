"""`Request`: what to rank for, beside the job and the prices; checked once, when it is made."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, get_args

from trainfare_core.batch_scaling import MOST_TIMES
from trainfare_core.candidates import MAX_NODES, PlanSpace
from trainfare_core.errors import InputError
from trainfare_core.hardware.earlier_runs import Evidence
from trainfare_core.recommendation import NEUTRAL, Constraints, Objective, PlanWriter

DEFAULT_LIMIT: Final = 30
"""Options to list unless asked otherwise: what fits on one page. A chosen value."""

MAX_LIMIT: Final = 100_000
"""Options that can be listed at most: more than any price book has machines, and still a document of some 100 MB."""

DEFAULT_PURCHASE: Final = ("on_demand",)
"""Spot machines are taken back and their prices move, reservations bind for years, capacity blocks must be booked:
they are ranked when asked for."""


def objective_of(objective: Objective | None, constraints: Constraints) -> Objective:
    """
    Return the objective: the one asked for, else the best value where an hour has one, else the cheapest.

    >>> objective_of(None, Constraints(value_usd_per_hour=5))
    'best_value'
    """
    if objective is not None:
        return objective
    return "cheapest" if constraints.value_usd_per_hour is None else "best_value"


@dataclass(frozen=True, slots=True)
class Request:
    """
    What to rank for.

    Attributes:
        constraints: budget in USD, deadline in hours, confidence, and names of providers, regions and purchase options
            as the price book spells them; None for purchase means `DEFAULT_PURCHASE`.
        objective: "cheapest", "fastest" or "best_value": what comes first.
        limit: options to list, besides the cost-time front and the first of every cloud service and purchase option.
        max_nodes: largest number of machines in one run, 1 to 64; None: that of the constraints, else 4, or the job's
            own number if larger.
        all_regions: list every region and zone; else each machine once, at its cheapest.
        as_of: an aware moment; ages of prices count to the end of its day in UTC. None takes every price as of now.
        writer: of plans, in the words of the loop that trains the script.
        earlier_runs: what runs of the job's project say of its step, as `ledger.correction` made it for this job, and
            figures of devices.

    Raises:
        InputError: a number out of range, or an objective that is none of the three, or lacks its value of an hour.
    """

    constraints: Constraints = field(default_factory=Constraints)
    objective: Objective = "cheapest"
    limit: int = DEFAULT_LIMIT
    max_nodes: int | None = None
    all_regions: bool = False
    as_of: datetime | None = None
    writer: PlanWriter = NEUTRAL
    earlier_runs: tuple[Evidence, ...] = ()

    @property
    def plan_space(self) -> PlanSpace:
        """Which plans are tried."""
        constraints = self.constraints
        return PlanSpace(
            self.max_nodes,
            keep_plan=constraints.keep_plan,
            lower_batch_norm="batch-norm" in constraints.allow,
            other_batch="batch" in constraints.allow,
            deepspeed="plan" in constraints.allow,
            checkpointing="checkpointing" in constraints.allow,
            precision="precision" in constraints.allow,
            model_parallel="model-parallel" in constraints.allow,
            weak_scaling=None if constraints.scale is None else constraints.scale != "batch",
            most_times_batch=MOST_TIMES if constraints.scale == "quality" else math.inf,
        )

    def __post_init__(self) -> None:
        objectives = get_args(Objective)
        if self.objective not in objectives:
            near = difflib.get_close_matches(str(self.objective), objectives, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"objective: {self.objective!r} is not one of {', '.join(objectives)}{hint}")
        if self.objective == "best_value" and self.constraints.value_usd_per_hour is None:
            raise InputError("objective best_value: give value_usd_per_hour too, what an hour less is worth")
        for name, value, highest in (
            ("limit", self.limit, MAX_LIMIT),
            ("max_nodes", self.max_nodes, MAX_NODES),
        ):
            if value is not None and not 1 <= value <= highest:
                raise InputError(f"{name}: {value} is not between 1 and {highest}")
        # The answer shows its constraints, this one too.
        most = self.constraints.max_nodes if self.max_nodes is None else self.max_nodes
        object.__setattr__(self, "max_nodes", most)
        object.__setattr__(self, "constraints", self.constraints.model_copy(update={"max_nodes": most}))
