"""
`Constraints`: the limits and filters of a request, each with the names, the texts and the check that belong to it.

From its fields are made the keywords of `recommend`, the options of the command line, the keys of a policy and of a
strategy file, and what a report says of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypedDict, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trainfare_core.documents import Finite, Record
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.limits.limit_fields import Command, Limit, list_names
from trainfare_core.prices.commitments import TERM_HOURS

Names: TypeAlias = "str | Sequence[str] | None"
"""What a user gives for names: one, several, or None for all."""

Allowed: TypeAlias = Literal["plan", "batch-norm", "batch", "checkpointing", "precision", "model-parallel"]
"""Changes of a script that a user may allow: a faster strategy or micro-batch where its own fits; fewer samples
under BatchNorm; another global batch where all accelerators cannot share the script's; activation checkpointing
where nothing fits without it, or with "plan" where it is faster; another precision where it is faster, one with
narrower weights where nothing fits without, or with "plan" where it is faster; a decoder split over devices (tensor,
pipeline, context and expert parallelism) where nothing fits without or it is faster, which the script must be written
for."""

Scale: TypeAlias = Literal["batch", "samples", "quality"]
"""What other numbers of devices keep of a run: the global batch; each device's batch and the samples seen; or each
device's batch and the quality reached, for which a larger global batch needs more samples."""

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


_PLACE: Final = re.compile(r"[a-z0-9_-]+:[A-Za-z0-9_-]+")
"""A cloud and a region."""


def _check_place(place: str) -> str:
    if _PLACE.fullmatch(place) is None:
        raise ValueError("a cloud and a region")
    return place


NameList: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(list_names)]
_Place: TypeAlias = Annotated[str, AfterValidator(_check_place)]
_Changes: TypeAlias = Annotated[
    tuple[Allowed, ...],
    BeforeValidator(list_names),
    AfterValidator(lambda names: tuple(dict.fromkeys(names))),
]
_AS_IT_IS: Final = "only machines that run the script as it is"
_BOTH: Final[tuple[Command, ...]] = ("run", "strategy")


class Constraints(Record):
    """Limits and filters that the user gave."""

    max_usd: Annotated[
        Finite | None,
        Limit("budget of the whole run, USD", said="at most {usd}", job="cost of the whole run, USD"),
    ] = None
    deadline_hours: Annotated[
        Finite | None,
        Limit(
            "time in which the run must end: 12, 12h, 1d12h, 2w or 90m",
            option="deadline",
            typed=str,
            said="within {hours}",
            job="duration of the whole run, hours",
            policy_key="max_hours",
        ),
    ] = None
    value_usd_per_month: Annotated[
        Finite | None,
        Limit(
            "value of having the model one month earlier, USD; decides whether to train now or wait",
            commands=("value",),
            option="value_per_month",
            said="having the model a month earlier is worth {usd}",
        ),
    ] = Field(default=None, description="what having the trained model a month earlier is worth")
    value_usd_per_hour: Annotated[
        Finite | None,
        Limit(
            "what an hour is worth by which the run ends earlier, USD; best_value adds it to the cost",
            commands=("value",),
            option="value_per_hour",
            said="each hour less is worth {usd}",
        ),
    ] = Field(default=None, description="what each hour is worth by which the run ends earlier")
    confidence: Annotated[
        float,
        Field(ge=0.5, lt=1),
        Limit(
            "probability with which budget and deadline must be kept, 0.5 to 1",
            wrong="{name}: {value} is not between 0.5 and 1; 0.9 means nine runs in ten",
            said="kept with a probability of at least {percent}",
            policy="probability with which max_usd and max_hours must be kept",
        ),
    ] = 0.9
    providers: Annotated[
        NameList | None,
        Limit("cloud, e.g. aws", commands=_BOTH, said="cloud: {names}", allow='clouds, e.g. ["aws"]'),
    ] = None
    regions: Annotated[
        NameList | None,
        Limit("e.g. us-east-1", commands=_BOTH, said="region: {names}", allow='e.g. ["us-east-1"]'),
    ] = None
    purchase: Annotated[
        NameList | None,
        Limit(
            "on_demand, spot, reserved_1y, ..., or any",
            unset="on_demand",
            commands=_BOTH,
            said="purchase: {purchase}",
            allow='purchase options, e.g. ["on_demand", "spot"]; not given: on_demand',
        ),
    ] = None
    use: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Limit(
            "share of a term that you would use, 0 to 1: ranks reservations and savings plans by their used hours",
            commands=_BOTH,
            allow="share of a commitment's term that is used, e.g. 0.6; not given: none is priced",
            wrong="{name}: {value} is no share of a term; give a number above 0 and at most 1, such as 0.6",
            said="{percent} of a commitment's term used",
        ),
    ] = Field(
        default=None,
        description="share of the term of a reservation or savings plan that is used; None: none of them is ranked",
    )
    accelerators: Annotated[
        NameList | None,
        Limit(
            "e.g. H100-SXM-80GB, or H100 for every variant",
            commands=_BOTH,
            said="accelerator: {names}",
            allow='e.g. ["H100-SXM-80GB"], or "H100" for every variant',
        ),
    ] = None
    services: Annotated[
        NameList | None,
        Limit("e.g. sagemaker", commands=_BOTH, said="service: {names}", allow='e.g. ["ec2", "sagemaker"]'),
    ] = None
    instance_types: Annotated[
        NameList | None,
        Limit(
            "e.g. p5.48xlarge, or p5 for every size of the family",
            commands=_BOTH,
            said="instance type: {names}",
            allow='e.g. ["p5.48xlarge"], or "p5" for every size of the family',
        ),
    ] = None
    excluded: Annotated[
        NameList,
        Limit(
            "cloud, service, region, instance type or accelerator to leave out",
            commands=_BOTH,
            keyword="exclude",
            metavar="NAME",
            said="without: {names}",
            allow="clouds, services, regions, instance types and accelerators to leave out",
        ),
    ] = Field(
        default=(), description="providers, services, regions, instance types and accelerators to leave out"
    )
    residency: Annotated[
        NameList | None,
        Limit("where the region must lie: eu, europe, north-america, us, ...", said="residency: {names}"),
    ] = Field(
        default=None, description="where the region must lie: continents, eu, or ISO 3166 country codes"
    )
    max_accelerators: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Limit(
            "most accelerators rented for one run, of all its machines together, used or not",
            wrong="{name}: {value} is not a limit; give 1 or more",
            said="at most {value} accelerators",
        ),
    ] = Field(default=None, description="of all machines of a run together")
    quotas: Annotated[
        tuple[QuotaLimit, ...],
        Limit(
            "TOML file of what your accounts may rent (docs/choosing.md)",
            keyword="quota",
            typed=Path,
            metavar="FILE",
            said="{quotas} of your accounts",
        ),
    ] = Field(
        default=(), description="what the accounts may rent; machines that none is about are not limited"
    )
    min_network_gbit_per_s: Annotated[
        Finite | None,
        Limit(
            "least network between machines, Gbit/s of one machine",
            option="min_network_gbit",
            said="a network of at least {value:g} Gbit/s",
        ),
    ] = Field(
        default=None, description="of one machine; machines whose network is not published are left out"
    )
    no_porting: Annotated[
        bool, Limit(_AS_IT_IS, commands=_BOTH, said=_AS_IT_IS, allow=f"{_AS_IT_IS}; not given: false")
    ] = Field(default=False, description="only machines that run the script unchanged")
    max_nodes: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="most machines of a run; None: 4, or the job's own number if larger"
    )
    keep_plan: Annotated[
        bool, Limit(commands=_BOTH, policy="only each script's own strategy, micro-batch and accumulation")
    ] = Field(default=False, description="only the script's own strategy, micro-batch and accumulation")
    allow: Annotated[
        _Changes,
        Limit(
            "plan: a faster strategy (also DeepSpeed's ZeRO) or micro-batch also where the script's own fit; "
            "batch-norm: fewer samples under BatchNorm; batch: another global batch where all accelerators cannot "
            "share the script's, both of which change what is trained; checkpointing: activation checkpointing where "
            "nothing else fits; precision: another one where it is faster, which changes rounding, and weights in "
            "fewer bits where nothing else fits; model-parallel: a language model split over devices (tensor, "
            "pipeline, context, expert) where nothing else fits or it is faster, for which the script must be written",
            commands=_BOTH,
            wrong=f"{{name}}: {{value!r}} is not one of {', '.join(get_args(Allowed))}",
            policy="changes of a script's plan that may be priced, as in --allow: "
            f"{', '.join(get_args(Allowed))}",
            policy_key="allow_changes",
        ),
    ] = Field(
        default=(),
        description="plan: the fastest strategy and micro-batch also where the script's own fit; batch-norm: fewer "
        "samples under BatchNorm, batch: another global batch where all accelerators cannot share the "
        "script's, both of which change what is trained; checkpointing: activation checkpointing where nothing else "
        "fits; precision: other precisions where they are faster, which changes rounding; weights in fewer bits, which "
        "changes what is trained, where nothing else fits; model-parallel: a decoder split over devices where nothing "
        "else fits or it is faster, which the script must be written for",
    )
    scale: Annotated[
        Scale | None,
        Limit(
            "what more devices keep: batch, the global batch; samples, the batch of each device and the samples seen "
            "(weak scaling); quality, the same with the samples that the larger batch needs",
            unset="what the script does there",
            commands=_BOTH,
            typed=str,
            wrong=f"{{name}}: {{value!r}} is not one of {', '.join(get_args(Scale))}",
            said="more devices keep the {value}",
            policy=f"what more devices keep, as in --scale: {', '.join(get_args(Scale))}",
        ),
    ] = Field(
        default=None,
        description="what other numbers of devices keep: batch, the global batch; samples, the batch of each device "
        "and the samples seen; quality, the same with the samples that the larger batch needs; None: what the script "
        "does there",
    )
    critical_batch: Annotated[
        str | None,
        Limit(
            "samples of the batch from which a larger one needs clearly more samples: 900, or 400..3000",
            metavar="N|LOW..HIGH",
            unset="predicted",
            said="a critical batch of {value}",
        ),
    ] = Field(
        default=None,
        description="of the job, in samples: a number, or the ends of its 80 % interval; None: predicted",
    )
    max_run_hours: Annotated[
        float,
        Field(gt=0, allow_inf_nan=False),
        Limit(
            "leave out runs that take longer, hours",
            unset="1440, 60 days",
            option="max_hours",
            wrong="max_hours: {value} is not a limit; give a finite number above 0",
            policy="runs that take longer are not considered, hours",
        ),
    ] = Field(default=DEFAULT_MAX_RUN_HOURS, description="runs that take longer are not ranked")
    max_usd_per_hour: Annotated[
        Finite | None, Limit(commands=(), job="price of all machines of the run together, USD per hour")
    ] = Field(default=None, description="limit on the price of all nodes together")
    data_in: Annotated[
        _Place | None,
        Limit(
            "where the training data lie, e.g. aws:us-east-1",
            metavar="CLOUD:REGION",
            wrong="{name}: {value!r} is no place; give a cloud and a region, such as aws:us-east-1",
        ),
    ] = Field(
        default=None,
        description="where the training data lie, e.g. aws:us-east-1; None: transfer costs nothing",
    )
    data_gb: Annotated[
        Finite | None,
        Limit(
            "size of the training data, GB; each machine copies them before it starts",
            said="{value:g} GB of data{place}",
        ),
    ] = Field(default=None, description="of training data; None: no copy is counted")
    run_cost: Annotated[
        CostAssumptions,
        Limit(
            commands=(),
            said="stated: {stated}",
            policy="your own figures for what is assumed of a run's cost",
        ),
    ] = Field(default_factory=CostAssumptions, description="what is assumed")
    all_clouds: Annotated[
        bool,
        Limit(
            "also the quotes of clouds such as Lambda, RunPod and Oracle",
            policy="rank the quotes of other clouds too; allowing a provider does so for it",
        ),
    ] = Field(
        default=False,
        description="rank the quotes of other clouds too; naming a provider does so for that one",
    )

    @model_validator(mode="after")
    def _commitments_have_a_use(self) -> Constraints:
        if self.use is None and self.purchase and set(self.purchase) <= set(TERM_HOURS):
            raise ValueError(
                f"purchase: {', '.join(self.purchase)}: a term is paid whether used or not: give use, the share of it "
                "that you use, such as 0.6, or add on_demand"
            )
        return self

    @model_validator(mode="after")
    def _data_have_a_size(self) -> Constraints:
        if self.data_in is not None and self.data_gb is None:
            raise ValueError(f"data_in: {self.data_in}: give data_gb too, the size of the data in GB")
        return self

    @property
    def any_precision(self) -> bool:
        """Whether plans may have another precision than the script's."""
        return "precision" in self.allow and not self.keep_plan

    @property
    def any_split(self) -> bool:
        """Whether plans may split the model over devices."""
        return "model-parallel" in self.allow and not self.keep_plan


class LimitKeywords(TypedDict, total=False):
    """The fields of `Constraints` as keywords of `recommend`; None is the field's default."""

    max_usd: float | None
    deadline_hours: float | None
    value_usd_per_month: float | None
    value_usd_per_hour: float | None
    confidence: float | None
    providers: Names
    regions: Names
    purchase: Names
    use: float | None
    accelerators: Names
    services: Names
    instance_types: Names
    exclude: Names
    residency: Names
    max_accelerators: int | None
    quota: str | Path | None
    min_network_gbit_per_s: float | None
    no_porting: bool
    keep_plan: bool
    allow: Names
    scale: str | None
    critical_batch: str | None
    max_run_hours: float | None
    max_usd_per_hour: float | None
    data_in: str | None
    data_gb: float | None
    run_cost: CostAssumptions | None
    all_clouds: bool
