"""
`Recommendation`: the result of the ranking (stage 6), shown by every report; its JSON has a published schema.

Intervals are the central 80 % of what is believed: 10 % below `low_80`, 10 % above `high_80`.
The doubt about a price grows with its age, which is counted to the day `priced_on`; nothing else depends on the clock.
"""

from __future__ import annotations

from trainfare_core.documents import Interval
from trainfare_core.limits.constraints import DEFAULT_MAX_RUN_HOURS, Allowed, Constraints, QuotaLimit
from trainfare_core.prices.facts import PriceBookFacts
from trainfare_core.recommendation.answer import (
    Alternative,
    AssumedNumber,
    CostOutlook,
    CriticalBatchFacts,
    FutureCost,
    JobSummary,
    Objective,
    OutlookPart,
    Recommendation,
    Rejection,
    RejectionReason,
    RunnerUp,
    WaitingValue,
)
from trainfare_core.recommendation.launch import PREDICTION_TAG, PREDICTION_VARIABLE, Launch, PricedPlan
from trainfare_core.recommendation.note import Note, NoteKind
from trainfare_core.recommendation.option import (
    Cause,
    Commitment,
    CostParts,
    ModelSplit,
    Option,
    QualityRatio,
    Sharding,
    SpotFallback,
    SpotOutlook,
    StepParts,
    TrainerArguments,
)
from trainfare_core.recommendation.plan_facts import NEUTRAL, PlanFacts, PlanWriter
from trainfare_core.recommendation.saving import ChangeRange, LeverName, Saving, SavingGroup

__all__ = [
    "DEFAULT_MAX_RUN_HOURS",
    "NEUTRAL",
    "PREDICTION_TAG",
    "PREDICTION_VARIABLE",
    "Allowed",
    "Alternative",
    "AssumedNumber",
    "Cause",
    "ChangeRange",
    "Commitment",
    "Constraints",
    "CostOutlook",
    "CostParts",
    "CriticalBatchFacts",
    "FutureCost",
    "Interval",
    "JobSummary",
    "Launch",
    "LeverName",
    "ModelSplit",
    "Note",
    "NoteKind",
    "Objective",
    "Option",
    "OutlookPart",
    "PlanFacts",
    "PlanWriter",
    "PriceBookFacts",
    "PricedPlan",
    "QualityRatio",
    "QuotaLimit",
    "Recommendation",
    "Rejection",
    "RejectionReason",
    "RunnerUp",
    "Saving",
    "SavingGroup",
    "Sharding",
    "SpotFallback",
    "SpotOutlook",
    "StepParts",
    "TrainerArguments",
    "WaitingValue",
]
