"""The policy's own rules: what a file may say."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from builders.policies import policy_of, waiver
from trainfare_core.policy.policy import AllowList, Policy, PolicyJob
from trainfare_core.policy.rules import RULES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_usd": None}, "no limit is given"),
        ({"max_usd": -1}, "greater than or equal to 0"),
        ({"max_hours": float("inf")}, "finite"),
        ({"confidence": 0.3}, "greater than or equal to 0.5"),
        ({"on_unknown": "ignore"}, "'pass', 'warn' or 'fail'"),
        ({"allow": {"regions": []}}, "at least 1 item"),
        ({"max_used": 3}, "Extra inputs"),
        ({"loader_samples_per_s_per_vcpu": 0}, "greater than 0"),
        ({"loader_measured_on": "g2-standard-12"}, "give loader_samples_per_s_per_vcpu with it"),
        (
            {"loader_samples_per_s_per_vcpu": 9, "loader_measured_on": "g2-standard-13"},
            "such as g2-standard-1",
        ),
    ],
)
def test_a_job_is_checked(change: dict[str, Any], words: str) -> None:
    """Limits are finite and not negative, one at least is given, and unknown keys are errors."""
    with pytest.raises(ValidationError, match=words):
        PolicyJob.model_validate({"target": "t.py:job", "max_usd": 5, **change})


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "é", "x" * 81])
def test_a_job_name_is_plain(name: str) -> None:
    """A name goes into XML, SARIF and comments: it has no character that means something there."""
    with pytest.raises(ValidationError, match="pattern"):
        Policy.model_validate({"jobs": {name: {"target": "t.py:job", "max_usd": 5}}})


def test_waivers_name_a_job_and_a_limit_that_it_has() -> None:
    """A waiver that can never apply is an error, as is a second one for the same rule."""
    with pytest.raises(ValidationError, match="no job is named 'smal'; the jobs are small"):
        policy_of(waiver(job="smal"), max_usd=1)
    with pytest.raises(ValidationError, match="has no max_hours; it has max_usd"):
        policy_of(waiver("max_hours"), max_usd=1)
    with pytest.raises(ValidationError, match="the second one for max_usd"):
        policy_of(waiver(), waiver(), max_usd=1)
    assert policy_of(waiver("max_price_age_days"), max_usd=1, age=30).waivers


def test_a_waiver_holds_to_the_end_of_its_last_day() -> None:
    """It expires on the day after."""
    until = waiver(expires=date(2026, 12, 31))
    assert not until.has_expired(date(2026, 12, 31))
    assert until.has_expired(date(2027, 1, 1))


def test_a_job_takes_from_the_policy_what_it_does_not_say() -> None:
    """Allow-lists are merged list by list; confidence and on_unknown are the job's own where it has them."""
    job = PolicyJob(
        target="t", max_usd=5, max_hours=2, confidence=0.8, allow=AllowList(regions=("eu-west-1",))
    )
    policy = Policy(
        jobs={"a": job}, on_unknown="warn", allow=AllowList(providers=("aws",), regions=("us-east-1",))
    )
    constraints = policy.constraints_of(job, without={"max_usd"})
    assert (constraints.providers, constraints.regions, constraints.confidence) == (
        ("aws",),
        ("eu-west-1",),
        0.8,
    )
    assert (constraints.max_usd, constraints.deadline_hours) == (None, 2)
    assert policy.on_unknown_of(job) == "warn"


def test_rule_ids_stay_as_they_are() -> None:
    """Suppressions and alerts of code scanning refer to the ids: they are only ever added to."""
    assert {rule.id: name for name, rule in RULES.items()} == {
        "TF001": "max_usd",
        "TF002": "max_hours",
        "TF003": "max_usd_per_hour",
        "TF004": "max_increase_usd",
        "TF005": "max_increase_percent",
        "TF006": "max_price_age_days",
        "TF007": "no_answer",
        "TF008": "not_checked",
        "TF009": "waiver",
        "TF010": "policy_change",
    }
