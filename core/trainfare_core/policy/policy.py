"""
`Policy`: the limits that a team sets for its training jobs, as `trainfare check` reads them from a file.

The models are the file's format: `docs/schema/policy-1.json` is made from them.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from trainfare_core.candidates import MAX_NODES
from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.documents import Document, Finite, Record
from trainfare_core.policy.rules import LIMIT_RULES, LimitRule, OnUnknown, WaivableRule
from trainfare_core.recommendation import DEFAULT_MAX_RUN_HOURS, Allowed, Constraints

__all__ = ["AllowList", "JobLimits", "Policy", "PolicyJob", "Waiver"]

Confidence: TypeAlias = Annotated[float, Field(ge=0.5, lt=1)]
Nodes: TypeAlias = Annotated[int, Field(ge=1, le=MAX_NODES)]
Names: TypeAlias = Annotated[tuple[str, ...], Field(min_length=1)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]
JobName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
"""Letters, digits, `_`, `.` and `-`: the name goes into file formats that give other characters a meaning."""


class AllowList(Record):
    """Where a job may run; a list that is not given allows everything."""

    providers: Names | None = Field(default=None, description='clouds, e.g. ["aws"]')
    regions: Names | None = Field(default=None, description='e.g. ["us-east-1"]')
    accelerators: Names | None = Field(
        default=None, description='e.g. ["H100-SXM-80GB"], or "H100" for every variant'
    )
    services: Names | None = Field(default=None, description='e.g. ["ec2", "sagemaker"]')
    instance_types: Names | None = Field(
        default=None, description='e.g. ["p5.48xlarge"], or "p5" for every size of the family'
    )
    exclude: Names | None = Field(
        default=None, description="clouds, services, regions, instance types and accelerators to leave out"
    )
    no_porting: bool | None = Field(
        default=None, description="only machines that run the script as it is; not given: false"
    )
    purchase: Names | None = Field(
        default=None, description='purchase options, e.g. ["on_demand", "spot"]; not given: on_demand'
    )

    def over(self, general: AllowList) -> AllowList:
        """Return this list with what it does not say taken from `general`."""
        return general.model_copy(update=self.model_dump(exclude_none=True))


class JobLimits(Record):
    """Limits of one run; at least one is given in a policy."""

    max_usd: Finite | None = Field(default=None, description="cost of the whole run, USD")
    max_hours: Finite | None = Field(default=None, description="duration of the whole run, hours")
    max_usd_per_hour: Finite | None = Field(
        default=None, description="price of all machines of the run together, USD per hour"
    )
    max_increase_usd: Finite | None = Field(
        default=None, description="increase of the cost over the base's, USD; applied where a base is given"
    )
    max_increase_percent: Finite | None = Field(
        default=None,
        description="increase of the cost over the base's, percent; applied where a base is given",
    )

    def given(self) -> tuple[LimitRule, ...]:
        """Return the limits that are set."""
        return tuple(rule for rule in LIMIT_RULES if getattr(self, rule) is not None)


class PolicyJob(JobLimits):
    """One job of a policy: what to trace, its limits, and what differs from the policy's own settings."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [rule]} for rule in LIMIT_RULES]})

    target: str = Field(
        description='what to check, e.g. "train.py:job", or a profile file; relative to the file'
    )
    confidence: Confidence | None = Field(default=None, description="as in the policy")
    on_unknown: OnUnknown | None = Field(default=None, description="as in the policy")
    max_nodes: Nodes | None = Field(default=None, description="as in the policy")
    allow: AllowList = Field(default_factory=AllowList, description="where this job may run")

    @model_validator(mode="after")
    def _limited(self) -> PolicyJob:
        if not self.given():
            raise ValueError(f"no limit is given; give one or more of {', '.join(LIMIT_RULES)}")
        return self


class Waiver(Record):
    """An exception to one rule for one job, until a day."""

    job: JobName = Field(description="name of the job")
    rule: WaivableRule = Field(description="the limit that does not count")
    owner: Text = Field(description="who answers for it")
    reason: Text = Field(description="why it is given")
    expires: date = Field(description="the last day on which it holds")

    def expired(self, day: date) -> bool:
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
    confidence: Confidence = Field(
        default=0.9, description="probability with which max_usd and max_hours must be kept"
    )
    on_unknown: OnUnknown = Field(
        default="fail", description="what a check that cannot tell does: pass, warn, or fail with exit code 3"
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
    all_clouds: bool = Field(
        default=False, description="rank the quotes of other clouds too; allowing a provider does so for it"
    )
    allow: AllowList = Field(default_factory=AllowList, description="where every job may run")
    keep_plan: bool = Field(
        default=False, description="only each script's own strategy, micro-batch and accumulation"
    )
    allow_changes: tuple[Allowed, ...] = Field(
        default=(),
        description="changes of a script's plan that may be priced, as in --allow: plan, batch-norm, batch, "
        "checkpointing, precision, model-parallel",
    )
    max_run_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=DEFAULT_MAX_RUN_HOURS, description="runs that take longer are not considered, hours"
    )
    run_cost: CostAssumptions = Field(
        default_factory=CostAssumptions, description="your own figures for what is assumed of a run's cost"
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
        allowed = job.allow.over(self.allow)
        return Constraints(
            max_usd=None if "max_usd" in without else job.max_usd,
            deadline_hours=None if "max_hours" in without else job.max_hours,
            max_usd_per_hour=None if "max_usd_per_hour" in without else job.max_usd_per_hour,
            confidence=self.confidence_of(job),
            providers=allowed.providers,
            regions=allowed.regions,
            accelerators=allowed.accelerators,
            purchase=allowed.purchase,
            services=allowed.services,
            instance_types=allowed.instance_types,
            excluded=allowed.exclude or (),
            no_porting=bool(allowed.no_porting),
            keep_plan=self.keep_plan,
            allow=self.allow_changes,
            max_run_hours=self.max_run_hours,
            all_clouds=self.all_clouds,
            run_cost=self.run_cost,
        )

    def waivers_of(self, name: str) -> tuple[Waiver, ...]:
        """Return the waivers of one job."""
        return tuple(waiver for waiver in self.waivers if waiver.job == name)

    @model_validator(mode="after")
    def _waivers_name_limits(self) -> Policy:
        seen: set[tuple[str, str]] = set()
        for place, waiver in enumerate(self.waivers):
            job = self.jobs.get(waiver.job)
            if job is None:
                raise _waiver_error(
                    place, f"no job is named {waiver.job!r}; the jobs are {', '.join(self.jobs)}"
                )
            limits = [*job.given(), *(["max_price_age_days"] if self.max_price_age_days is not None else [])]
            if waiver.rule not in limits:
                raise _waiver_error(
                    place, f"job {waiver.job!r} has no {waiver.rule}; it has {', '.join(limits)}"
                )
            if (waiver.job, waiver.rule) in seen:
                raise _waiver_error(
                    place, f"the second one for {waiver.rule} of job {waiver.job!r}; keep one"
                )
            seen.add((waiver.job, waiver.rule))
        return self


def _waiver_error(place: int, text: str) -> PydanticCustomError:
    return PydanticCustomError("waiver", "{text}", {"place": place, "text": text})
