"""`CostOutlook`: what a run will cost later, and whether to wait."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from trainfare_core.documents import Finite, Record

Signed: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class FutureCost(Record):
    """What the same run costs some months after the day of its price, USD, with central intervals."""

    months: Annotated[int, Field(ge=0)]
    median: Finite
    low_50: Finite
    high_50: Finite
    low_80: Finite
    high_80: Finite
    low_90: Finite
    high_90: Finite
    chance_cheaper: Annotated[float, Field(ge=0, le=1)] = Field(
        description="than now; whatever the run really takes, it takes on both days"
    )


class OutlookPart(Record):
    """One cause of a change of the cost."""

    part: Literal["hardware", "price", "software"]
    decline_per_year: Signed = Field(description="median, fraction; negative rises")
    low_90: Signed
    high_90: Signed
    counted: bool = Field(description="in the costs of the same computation, and so in the verdict")


class WaitingValue(Record):
    """Break-even value of waiting, USD a month: what a month earlier must be worth to train now."""

    mid: Signed
    low: Signed = Field(
        description="waiting saves more than this with the asked confidence; below 0 it costs"
    )
    high: Signed = Field(description="waiting saves less than this with the asked confidence")


class CostOutlook(Record):
    """What the cheapest option's run will cost later, and whether to wait; dates count from its price."""

    rank: int = Field(description="of the option it is about")
    price_observed_on: str = Field(description="the day that `months` count from")
    horizon_months: int = Field(description="the wait that the verdict is about")
    verdict: Literal["train now", "wait", "cannot tell"]
    because: str
    waiting: WaitingValue
    same_compute: tuple[FutureCost, ...] = Field(
        description="the same computation on what can be rented then"
    )
    same_quality: tuple[FutureCost, ...] = Field(
        description="the same quality with the methods of then, which need new code: not counted"
    )
    parts: tuple[OutlookPart, ...]
    assumptions: tuple[str, ...]

    @model_validator(mode="after")
    def _has_both_ends(self) -> CostOutlook:
        for name, costs in (("same_compute", self.same_compute), ("same_quality", self.same_quality)):
            if not {0, self.horizon_months} <= {cost.months for cost in costs}:
                raise ValueError(f"{name} lacks the cost of now or after {self.horizon_months} months")
        return self

    def at(self, months: int, question: Literal["compute", "quality"] = "compute") -> FutureCost:
        """Return the cost after so many months, one of those listed."""
        costs = self.same_compute if question == "compute" else self.same_quality
        return next(cost for cost in costs if cost.months == months)
