"""
What a change does to the policy that it is judged by.

A branch is judged by the policy of its base: one that could raise its own limits would have none. What it changes in
the policy is reported, and does nothing until it is the base's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel

from trainfare_core.policy.policy import Policy, Waiver

Effect: TypeAlias = Literal["looser", "stricter", "gone", "new"]

_APART: Final = frozenset({"jobs", "waivers", "schema_version"})


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """
    One thing that a change does to a policy.

    Attributes:
        message: in a sentence.
        effect: `looser` where it may let more pass; `gone` and `new` of a job.
    """

    message: str
    effect: Effect


def list_policy_changes(base: Policy, head: Policy) -> tuple[PolicyChange, ...]:
    """
    Return what a change does to a policy, in the order of the policy's keys.

    Args:
        base: the policy that counts.
        head: that of the change.

    >>> from trainfare_core.policy.policy import PolicyJob
    >>> base = Policy(jobs={"net": PolicyJob(target="train.py", max_usd=1)})
    >>> head = Policy(jobs={"net": PolicyJob(target="train.py", max_usd=10_000_000)})
    >>> [change.message for change in list_policy_changes(base, head)]
    ['this change raises max_usd of job net from 1 to 10,000,000']
    """
    changes = list(_compare_fields(base, head, ""))
    for name, job in base.jobs.items():
        if name in head.jobs:
            changes += _compare_fields(job, head.jobs[name], f" of job {name}")
        else:
            changes.append(PolicyChange(f"this change takes job {name} out of the policy", "gone"))
    changes += [
        PolicyChange(f"job {name} is new: its limits are those of this change", "new")
        for name in head.jobs
        if name not in base.jobs
    ]
    new_jobs = head.jobs.keys() - base.jobs.keys()
    changes += [
        PolicyChange(f"this change adds a waiver {_describe_waiver(waiver)}", "looser")
        for waiver in head.waivers
        if waiver not in base.waivers and waiver.job not in new_jobs
    ]
    changes += [
        PolicyChange(f"this change removes the waiver {_describe_waiver(waiver)}", "stricter")
        for waiver in base.waivers
        if waiver not in head.waivers and waiver.job in head.jobs
    ]
    return tuple(changes)


def rule_by_base(base: Policy, head: Policy) -> Policy:
    """
    Return the policy by which a change is judged: the base's, with the targets and the new jobs of the change.

    Args:
        base: the policy that counts.
        head: that of the change.
    """
    jobs = {
        name: base.jobs[name].model_copy(update={"target": job.target}) if name in base.jobs else job
        for name, job in head.jobs.items()
    }
    waivers = [waiver for waiver in base.waivers if waiver.job in jobs]
    waivers += [waiver for waiver in head.waivers if waiver.job not in base.jobs]
    return base.model_copy(update={"jobs": jobs, "waivers": tuple(waivers)})


def _compare_fields(base: BaseModel, head: BaseModel, owner: str, table: str = "") -> Iterator[PolicyChange]:
    """Yield the keys of a table that differ."""
    for key in type(base).model_fields:
        before, after = getattr(base, key), getattr(head, key)
        if before == after or (not table and key in _APART):
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _compare_fields(before, after, owner, f"{table}{key}.")
        else:
            yield _compare_values(f"{table}{key}{owner}", before, after)


def _compare_values(name: str, before: object, after: object) -> PolicyChange:
    verb, effect = "changes", "looser"
    if after is None:
        verb = "drops"
    elif before is None:
        verb, effect = "sets", "stricter" if name.startswith("max_") else "looser"
    elif _is_number(before) and _is_number(after):
        rises = float(str(after)) > float(str(before))
        verb = "raises" if rises else "lowers"
        # A limit is stricter where it is lower, a probability where it is higher.
        effect = "stricter" if rises == name.startswith("confidence") else "looser"
    values = "" if before is None else f" from {_format_value(before)}"
    values += "" if after is None else f" to {_format_value(after)}"
    return PolicyChange(
        f"this change {verb} {name}{values}", "stricter" if effect == "stricter" else "looser"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _format_value(value: object) -> str:
    if _is_number(value):
        return f"{value:,.12g}"
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return json.dumps(value, ensure_ascii=False, default=str)


def _describe_waiver(waiver: Waiver) -> str:
    until = waiver.expires.isoformat()
    return f"of {waiver.rule} for job {waiver.job}, by {waiver.owner} until {until}: {waiver.reason}"
