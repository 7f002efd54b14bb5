"""
`Policy`: the limits that a team sets for its training jobs, as `trainfare check` reads them from a file.

The models are the file's format: `docs/schema/policy-1.json` is made from them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from trainfare_core.candidates import MAX_NODES
from trainfare_core.documents import Document, Finite, Record
from trainfare_core.ledger.run_record import LedgerSettings
from trainfare_core.limits.constraints import DEFAULT_MAX_RUN_HOURS, Allowed, Constraints, Scale
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.limits.limit_fields import LimitField, add_limits, limits_of
from trainfare_core.policy.rules import LIMIT_RULES, LimitRule, OnUnknown, WaivableRule
from trainfare_core.recommendation.launch import Launch

Confidence: TypeAlias = Annotated[float, Field(ge=0.5, lt=1)]
Nodes: TypeAlias = Annotated[int, Field(ge=1, le=MAX_NODES)]
Names: TypeAlias = Annotated[tuple[str, ...], Field(min_length=1)]


def _check_text(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("text", "give a text that is not blank")
    if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in text):
        raise PydanticCustomError("text", "a control character is not allowed here")
    return text


Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_text)]
"""What a person wrote."""
JobName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
"""Letters, digits, `_`, `.` and `-`: the name goes into file formats that give other characters a meaning."""


_Table: TypeAlias = Literal["job", "allow", "policy"]
_LIMITS: Final = limits_of(Constraints)


def _keys_of(table: _Table, limits: Iterable[LimitField] = _LIMITS) -> dict[str, LimitField]:
    """Return the limits that a policy has beside a job's target, in its tables `allow` or at its top, by their keys."""
    return {limit.policy_key: limit for limit in limits if getattr(limit.limit, table)}


def allow_list_base(limits: Iterable[LimitField]) -> type[Record]:
    """Return a record with the limits of the tables `allow`; a list of names there has one at least."""
    # An error that names all keys has `purchase` last.
    keys = sorted(_keys_of("allow", limits).items(), key=lambda item: item[0] == "purchase")
    return add_limits(
        Record,
        {
            key: (Names if limit.takes_names else limit.info.annotation, limit.limit.allow)
            for key, limit in keys
        },
    )


if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile

    _AllowedLimits = Record
else:
    _AllowedLimits = allow_list_base(_LIMITS)


class AllowList(_AllowedLimits):
    """Where a job may run; a list that is not given allows everything."""

    if TYPE_CHECKING:

        def __init__(self, **limits: Any) -> None: ...

    def over(self, general: AllowList) -> AllowList:
        """Return this list with what it does not say taken from `general`."""
        return general.model_copy(update=self.model_dump(exclude_none=True))


def _describe_field(table: _Table, key: str, **more: Any) -> Any:
    """Return a field with the text that `Constraints` has for a key of a policy."""
    return Field(description=getattr(_keys_of(table)[key].limit, table), **more)


class JobLimits(Record):
    """Limits of one run; at least one is given in a policy."""

    max_usd: Finite | None = _describe_field("job", "max_usd", default=None)
    max_hours: Finite | None = _describe_field("job", "max_hours", default=None)
    max_usd_per_hour: Finite | None = _describe_field("job", "max_usd_per_hour", default=None)
    max_increase_usd: Finite | None = Field(
        default=None, description="increase of the cost over the base's, USD; applied where a base is given"
    )
    max_increase_percent: Finite | None = Field(
        default=None,
        description="increase of the cost over the base's, percent, with the confidence; applied where a base is given",
    )

    def list_rules(self) -> tuple[LimitRule, ...]:
        """Return the limits that are set."""
        return tuple(rule for rule in LIMIT_RULES if getattr(self, rule) is not None)


class PolicyJob(JobLimits):
    """One job of a policy: what to trace, its limits, and what differs from the policy's own settings."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [rule]} for rule in LIMIT_RULES]})

    target: Text = Field(
        description='what to check, e.g. "train.py:job", or a profile file; relative to the file'
    )
    confidence: Confidence | None = Field(default=None, description="as in the policy")
    on_unknown: OnUnknown | None = Field(default=None, description="as in the policy")
    max_nodes: Nodes | None = Field(default=None, description="as in the policy")
    allow: AllowList = Field(default_factory=AllowList, description="where this job may run")
    loader_samples_per_s_per_vcpu: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="samples that the input pipeline makes on one vCPU, a second"
    )
    loader_measured_on: Text | None = Field(
        default=None, description="machine type or processor on which it makes them; not given: not known"
    )

    @model_validator(mode="after")
    def _check_limits(self) -> PolicyJob:
        if not self.list_rules():
            raise ValueError(f"no limit is given; give one or more of {', '.join(LIMIT_RULES)}")
        if self.loader_measured_on is None:
            return self
        from trainfare_core.hardware.hosts import explain_unknown_host, find_host

        if self.loader_samples_per_s_per_vcpu is None:
            raise ValueError("loader_measured_on: give loader_samples_per_s_per_vcpu with it")
        if find_host(self.loader_measured_on) is None:
            raise ValueError(f"loader_measured_on: {explain_unknown_host(self.loader_measured_on)}")
        return self

    def state_loader(self, profile: JobProfile) -> JobProfile:
        """Return the job's profile with the rate of its loader, where that is stated."""
        from trainfare_core.prediction.input_pipeline import state_loader

        rate = self.loader_samples_per_s_per_vcpu
        return profile if rate is None else state_loader(profile, rate, self.loader_measured_on or "")


class Waiver(Record):
    """An exception to one rule for one job, until a day."""

    job: JobName = Field(description="name of the job")
    rule: WaivableRule = Field(description="the limit that does not count")
    owner: Text = Field(description="who answers for it")
    reason: Text = Field(description="why it is given")
    expires: date = Field(description="the last day on which it holds")

    def has_expired(self, day: date) -> bool:
        """Return whether it no longer holds on a day."""
        return day > self.expires


class Policy(Document):
    """
    The limits of a team's jobs.

    >>> job = PolicyJob(target="train.py:job", max_usd=500)
    >>> Policy(jobs={"resnet": job}).confidence_of(job)
    0.9
    """

    schema_version: Literal[1] = Field(default=1, description="of this format")
    confidence: Confidence = _describe_field("policy", "confidence", default=0.9)
    on_unknown: OnUnknown = Field(
        default="fail", description="what a check that cannot tell does: pass, warn, or fail with exit code 3"
    )
    on_policy_change: Literal["warn", "fail"] = Field(
        default="fail",
        description="what a check does where the change that it judges loosens this policy; read from the base's",
    )
    max_nodes: Nodes | None = Field(
        default=None, description="most machines in one run; not given: 4, or the job's own number if larger"
    )
    max_price_age_days: Finite | None = Field(
        default=None, description="oldest acceptable price, days; not given: the lock's limit, or none"
    )
    on_stale: Literal["warn", "fail"] | None = Field(
        default=None,
        description="prices past that age: warn, or fail with exit code 3; not given: as the lock says, or warn",
    )
    lock: Text | None = Field(default=None, description="price lock to use, relative to the file")
    own_prices: Text | None = Field(
        default=None, description="TOML file of your discounts and rates, relative to the file"
    )
    all_clouds: bool = _describe_field("policy", "all_clouds", default=False)
    allow: AllowList = Field(default_factory=AllowList, description="where every job may run")
    keep_plan: bool = _describe_field("policy", "keep_plan", default=False)
    allow_changes: tuple[Allowed, ...] = _describe_field("policy", "allow_changes", default=())
    scale: Scale | None = _describe_field("policy", "scale", default=None)
    max_run_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] = _describe_field(
        "policy", "max_run_hours", default=DEFAULT_MAX_RUN_HOURS
    )
    run_cost: CostAssumptions = _describe_field("policy", "run_cost", default_factory=CostAssumptions)
    export: Launch = Field(default_factory=Launch, description="what `trainfare export` fills in")
    ledger: LedgerSettings = Field(
        default_factory=LedgerSettings, description="where FareMeter and `trainfare ledger` keep runs"
    )
    jobs: Annotated[dict[JobName, PolicyJob], Field(min_length=1)] = Field(
        description="the jobs, by name", json_schema_extra={"additionalProperties": False}
    )
    waivers: tuple[Waiver, ...] = Field(default=(), description="exceptions, each for one job and one rule")

    def confidence_of(self, job: PolicyJob) -> float:
        """Return the probability with which the job's limits must be kept."""
        return self.confidence if job.confidence is None else job.confidence

    def on_unknown_of(self, job: PolicyJob) -> OnUnknown:
        """Return what a check of the job that cannot tell does."""
        return job.on_unknown or self.on_unknown

    def constraints_of(self, job: PolicyJob, without: Collection[str] = ()) -> Constraints:
        """Return the job's limits and allow-lists as the ranking takes them, some limits left out."""
        tables: dict[_Table, Record] = {"job": job, "allow": job.allow.over(self.allow), "policy": self}
        values = {
            limit.name: getattr(record, key)
            for table, record in tables.items()
            for key, limit in _keys_of(table).items()
            if key not in without
        }
        given = {name: value for name, value in values.items() if value is not None}
        return Constraints.model_validate({**given, "confidence": self.confidence_of(job)})

    def waivers_of(self, name: str) -> tuple[Waiver, ...]:
        """Return the waivers of one job."""
        return tuple(waiver for waiver in self.waivers if waiver.job == name)

    @model_validator(mode="after")
    def _waivers_name_limits(self) -> Policy:
        seen: set[tuple[str, str]] = set()
        for index, waiver in enumerate(self.waivers):
            job = self.jobs.get(waiver.job)
            if job is None:
                raise _waiver_error(
                    index, f"no job is named {waiver.job!r}; the jobs are {', '.join(self.jobs)}"
                )
            limits = [
                *job.list_rules(),
                *(["max_price_age_days"] if self.max_price_age_days is not None else []),
            ]
            if waiver.rule not in limits:
                raise _waiver_error(
                    index, f"job {waiver.job!r} has no {waiver.rule}; it has {', '.join(limits)}"
                )
            if (waiver.job, waiver.rule) in seen:
                raise _waiver_error(
                    index, f"the second one for {waiver.rule} of job {waiver.job!r}; keep one"
                )
            seen.add((waiver.job, waiver.rule))
        return self


def _waiver_error(index: int, text: str) -> PydanticCustomError:
    return PydanticCustomError("waiver", "{text}", {"place": index, "text": text})
