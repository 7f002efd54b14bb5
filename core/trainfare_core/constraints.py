"""`Constraints`: the limits and filters of a request."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.documents import Finite, Record

__all__ = ["DEFAULT_MAX_RUN_HOURS", "Allowed", "Constraints", "QuotaLimit"]

Allowed: TypeAlias = Literal["plan", "batch-norm", "batch", "checkpointing", "precision", "model-parallel"]
"""Changes of a script that a user may allow: a faster strategy or micro-batch where its own fits; fewer samples
under BatchNorm; another global batch where all accelerators cannot share the script's; activation checkpointing
where nothing fits without it, or with "plan" where it is faster; another precision where it is faster, one with
narrower weights where nothing fits without, or with "plan" where it is faster; a decoder split over devices (tensor,
pipeline, context and expert parallelism) where nothing fits without or it is faster, which the script must be written
for."""

DEFAULT_MAX_RUN_HOURS: Final = 1440.0
"""60 days: machines are rented, patched and retired in less. A chosen value."""


class QuotaLimit(Record):
    """What an account may rent of some machines at a time, in each region: so many vCPUs, accelerators or machines."""

    provider: str
    service: str | None = Field(default=None, description="None: every service of the provider")
    region: str | None = Field(default=None, description="None: as much in every region")
    family: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="instance types (p5.48xlarge), their families (p5, or p for all of P) and accelerators (H100)"
    )
    purchase: tuple[str, ...] | None = Field(default=None, description="None: every purchase option")
    vcpus: Finite | None = None
    accelerators: Finite | None = None
    machines: Finite | None = Field(
        default=None, description="of all the machines named together; SageMaker counts each instance type so"
    )

    @model_validator(mode="after")
    def _counts_one_thing(self) -> QuotaLimit:
        if [self.vcpus, self.accelerators, self.machines].count(None) != 2:
            raise ValueError("give one of vcpus, accelerators and machines")
        return self

    def count(self) -> tuple[Literal["vcpus", "accelerators", "machines"], float]:
        """
        Return what is counted, and how much of it may be rented.

        >>> QuotaLimit(provider="aws", family=("p",), vcpus=384).count()
        ('vcpus', 384.0)
        """
        if self.vcpus is not None:
            return "vcpus", self.vcpus
        if self.accelerators is not None:
            return "accelerators", self.accelerators
        return "machines", self.machines or 0.0


class Constraints(Record):
    """Limits and filters that the user gave."""

    max_usd: Finite | None = None
    deadline_hours: Finite | None = None
    value_usd_per_month: Finite | None = Field(
        default=None, description="what having the trained model a month earlier is worth"
    )
    value_usd_per_hour: Finite | None = Field(
        default=None, description="what each hour is worth by which the run ends earlier"
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    providers: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    purchase: tuple[str, ...] | None = None
    accelerators: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None
    instance_types: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = Field(
        default=(), description="providers, services, regions, instance types and accelerators to leave out"
    )
    residency: tuple[str, ...] | None = Field(
        default=None, description="where the region must lie: continents, eu, or ISO 3166 country codes"
    )
    max_accelerators: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="of all machines of a run together"
    )
    quotas: tuple[QuotaLimit, ...] = Field(
        default=(), description="what the accounts may rent; machines that none is about are not limited"
    )
    min_network_gbit_per_s: Finite | None = Field(
        default=None, description="of one machine; machines whose network is not published are left out"
    )
    no_porting: bool = Field(default=False, description="only machines that run the script unchanged")
    keep_plan: bool = Field(
        default=False, description="only the script's own strategy, micro-batch and accumulation"
    )
    allow: tuple[Allowed, ...] = Field(
        default=(),
        description="plan: the fastest strategy and micro-batch also where the script's own fit; batch-norm: fewer "
        "samples under BatchNorm, batch: another global batch where all accelerators cannot share the "
        "script's, both of which change what is trained; checkpointing: activation checkpointing where nothing else "
        "fits; precision: other precisions where they are faster, which changes rounding; weights in fewer bits, which "
        "changes what is trained, where nothing else fits; model-parallel: a decoder split over devices where nothing "
        "else fits or it is faster, which the script must be written for",
    )
    max_run_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=DEFAULT_MAX_RUN_HOURS, description="runs that take longer are not ranked"
    )
    max_usd_per_hour: Finite | None = Field(
        default=None, description="limit on the price of all nodes together"
    )
    data_in: str | None = Field(
        default=None,
        description="where the training data lie, e.g. aws:us-east-1; None: transfer costs nothing",
    )
    data_gb: Finite | None = Field(default=None, description="of training data; None: no copy is counted")
    run_cost: CostAssumptions = Field(default_factory=CostAssumptions, description="what is assumed")
    all_clouds: bool = Field(
        default=False,
        description="rank the quotes of other clouds too; naming a provider does so for that one",
    )

    @property
    def any_precision(self) -> bool:
        """Whether plans may have another precision than the script's."""
        return "precision" in self.allow and not self.keep_plan

    @property
    def any_split(self) -> bool:
        """Whether plans may split the model over devices."""
        return "model-parallel" in self.allow and not self.keep_plan
