"""The rules that a check can report, with ids that stay the same from release to release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

OnUnknown: TypeAlias = Literal["pass", "warn", "fail"]
LimitRule: TypeAlias = Literal[
    "max_usd", "max_hours", "max_usd_per_hour", "max_increase_usd", "max_increase_percent"
]
WaivableRule: TypeAlias = Literal[LimitRule, "max_price_age_days"]
RuleName: TypeAlias = Literal[WaivableRule, "no_answer", "not_checked", "waiver", "policy_change"]

LIMIT_RULES: Final[tuple[LimitRule, ...]] = get_args(LimitRule)
"""The limits of a job, in the order in which they are reported."""


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule.

    Attributes:
        id: what code scanning and suppressions refer to; never given to another rule.
        name: as in the policy file, or what kind of finding it is.
        title: what is wrong where it is broken.
        help: what to do then.
    """

    id: str
    name: RuleName
    title: str
    help: str


RULES: Final[dict[RuleName, Rule]] = {
    rule.name: rule
    for rule in (
        Rule(
            "TF001",
            "max_usd",
            "The training run costs more than its budget",
            "Shorten the run, choose a cheaper machine, raise max_usd, or give a waiver with an expiry date.",
        ),
        Rule(
            "TF002",
            "max_hours",
            "The training run takes longer than allowed",
            "Shorten the run, allow faster or more machines, raise max_hours, or give a waiver with an expiry date.",
        ),
        Rule(
            "TF003",
            "max_usd_per_hour",
            "The machines of the training run cost more per hour than allowed",
            "Allow smaller machines, lower max_nodes, raise max_usd_per_hour, or give a waiver with an expiry date.",
        ),
        Rule(
            "TF004",
            "max_increase_usd",
            "The change raises the cost of the training run by more dollars than allowed",
            "Read why the cost changed; undo the change, raise max_increase_usd, or give a waiver with an expiry date.",
        ),
        Rule(
            "TF005",
            "max_increase_percent",
            "The change raises the cost of the training run by more percent than allowed",
            "Read why the cost changed; undo it, raise max_increase_percent, or give a waiver with an expiry date.",
        ),
        Rule(
            "TF006",
            "max_price_age_days",
            "The prices are older than allowed",
            "Run `trainfare prices update`, or write a new lock with `trainfare prices lock`.",
        ),
        Rule(
            "TF007",
            "no_answer",
            "The training run cannot be priced",
            "Give the run a length, allow more machines, or say with on_unknown what such a check does.",
        ),
        Rule(
            "TF008",
            "not_checked",
            "The job could not be checked",
            "Correct what the message names: the target, its code, or a name in the policy.",
        ),
        Rule(
            "TF009",
            "waiver",
            "A waiver has expired, or holds for more than a year",
            "Remove the waiver and keep the limit, or have its owner decide on a new date.",
        ),
        Rule(
            "TF010",
            "policy_change",
            "The change loosens the policy that it is judged by",
            "Bring the policy's change in by itself, approved by the owners of the file; until then the base's counts.",
        ),
    )
}
