"""The rules that a check can report, with ids that stay the same from release to release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from trainfare_core.documents import data_rows

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
    rule.name: rule for row in data_rows("policy_rules.csv") for rule in [Rule(**cast("dict[str, Any]", row))]
}
"""By name, in the order of their ids."""
