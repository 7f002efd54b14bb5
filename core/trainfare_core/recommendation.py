"""
`Recommendation`: the result of the ranking (stage 6), shown by every report; its JSON has a published schema.

Intervals are the central 80 % of what is believed: 10 % below `low_80`, 10 % above `high_80`.
The doubt about a price grows with its age, which is counted to the day `priced_on`; nothing else depends on the clock.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, ValidationError, model_validator

from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.documents import Document, Finite, Interval, Record, first_problem
from trainfare_core.errors import InputError
from trainfare_core.prices.facts import PriceBookFacts

__all__ = [
    "DEFAULT_MAX_RUN_HOURS",
    "Allowed",
    "Alternative",
    "AssumedNumber",
    "Cause",
    "Constraints",
    "CostOutlook",
    "CostParts",
    "FutureCost",
    "Interval",
    "JobSummary",
    "Objective",
    "Option",
    "OutlookPart",
    "PriceBookFacts",
    "Recommendation",
    "Rejection",
    "RejectionReason",
    "RunnerUp",
    "SpotFallback",
    "SpotOutlook",
    "StepParts",
    "TrainerArguments",
    "WaitingValue",
]

Objective: TypeAlias = Literal["cheapest", "fastest"]
RejectionReason: TypeAlias = Literal[
    "does_not_fit",
    "may_not_fit",
    "unknown_accelerator",
    "cannot_train",
    "needs_porting",
    "no_prediction",
    "over_budget",
    "past_deadline",
    "too_long",
    "price_too_old",
    "filtered",
]
Allowed: TypeAlias = Literal["plan", "batch-norm", "batch"]
"""Changes of a script that a user may allow: a faster strategy or micro-batch where its own fits; fewer samples on a
device under BatchNorm; another global batch where all accelerators cannot share the script's."""

DEFAULT_MAX_RUN_HOURS: Final = 1440.0
"""60 days: machines are rented, patched and retired in less. A chosen value."""

Cause: TypeAlias = Literal["compute", "memory", "launch", "communication", "input"]
Signed: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class StepParts(Record):
    """Time of one optimizer step by cause, in seconds; hidden communication is not part of the step."""

    compute_s: Finite = Field(description="operations limited by arithmetic")
    memory_s: Finite = Field(description="operations limited by memory bandwidth")
    launch_s: Finite = Field(description="waiting for the host to launch operations")
    communication_s: Finite = Field(description="collectives that nothing hides")
    communication_hidden_s: Finite = Field(description="collectives overlapped with backward")
    input_s: Finite = Field(description="waiting for the input pipeline")

    def seconds(self) -> dict[Cause, float]:
        """Return the parts that add up to the step."""
        return {
            "compute": self.compute_s,
            "memory": self.memory_s,
            "launch": self.launch_s,
            "communication": self.communication_s,
            "input": self.input_s,
        }


class CostParts(Record):
    """Cost of the run by cause, in USD."""

    training_usd: Finite
    startup_usd: Finite
    validation_usd: Finite
    checkpoint_usd: Finite
    interruption_usd: Finite = Field(description="work lost and repeated, and restarts, on spot machines")
    storage_usd: Finite = Field(description="disks")
    staging_usd: Finite = Field(default=0.0, description="copy of the data before the first step")
    transfer_usd: Finite = Field(default=0.0, description="data sent to the machine's region")


class AssumedNumber(Record):
    """A figure that is neither measured nor a price; `name` is its key in the table `run_cost` of trainfare.toml."""

    name: str
    value: float
    meaning: str = Field(description="what it is, its unit, and the source of the default")
    stated: bool = Field(description="stated by the user")
    run_usd: Finite = Field(description="dollars of the answer's run that rest on it")
    share: Finite = Field(description="of the answer's dollars")


class TrainerArguments(Record):
    """Arguments of Lightning's Trainer, and the loader's batch size, that make the script's plan this one."""

    devices: Annotated[int, Field(ge=1)] = Field(description="per machine")
    num_nodes: Annotated[int, Field(ge=1)]
    strategy: str
    precision: str
    accumulate_grad_batches: Annotated[int, Field(ge=1)]
    batch_size: int | None = Field(description="samples of one device's loader batch; None: not known")

    @property
    def code(self) -> str:
        """The arguments as Python, to paste."""
        given = self.model_dump(exclude={"batch_size"})
        texts = {name: repr(value) for name, value in given.items()}
        if self.strategy.endswith(")"):  # a strategy's object, which has no name in Lightning's registry
            texts["strategy"] = self.strategy
        return f"Trainer({', '.join(f'{name}={text}' for name, text in texts.items())})"


Chance: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class SpotFallback(Record):
    """A run on spot machines that changes to the same machines on demand after some interruptions."""

    after: Annotated[int, Field(ge=1)] = Field(description="interruptions")
    chance: Chance = Field(description="of changing")
    run_usd: Finite = Field(description="expected")
    p50_hours: Finite
    p90_hours: Finite
    chance_in_time: Chance | None = Field(description="of keeping the deadline; None: there is none")


class SpotOutlook(Record):
    """What interruptions mean for a run on spot machines."""

    interruptions: Finite = Field(description="expected in the run, of any of its machines")
    per_machine_hour: Interval = Field(description="interruptions; the rate is known no better")
    rate_source: str
    waiting_hours: Finite = Field(
        description="expected wait for capacity, in the hours of the run, not billed"
    )
    p50_hours: Finite = Field(description="half of such runs have ended by then")
    p90_hours: Finite
    chance_in_time: Chance | None = Field(description="of keeping the deadline; None: there is none")
    save_every_n_steps: Annotated[int, Field(ge=1)] = Field(
        description="steps between checkpoints that lose least"
    )
    fallback: SpotFallback | None = Field(
        default=None, description="None: the price of the machine on demand in this region is not known"
    )


class Option(Record):
    """One way to run the job: an offer, the number of machines, and how the job is spread over them."""

    rank: Annotated[int, Field(ge=1)]
    provider: str
    service: str
    instance_type: str
    region: str
    zone: str | None
    purchase_option: str
    accelerator: str
    accelerator_count: Annotated[float, Field(gt=0)] = Field(description="per machine")
    nodes: Annotated[int, Field(ge=1)]
    sharding: Literal["none", "ddp", "fsdp", "zero1", "zero2", "hybrid"]
    micro_batch_size: int | None
    accumulate_grad_batches: int
    plan_changes: tuple[str, ...] = Field(
        default=(), description="what differs from the script's own plan besides the number of devices"
    )
    trainer: TrainerArguments | None = Field(default=None, description="None in documents of older versions")
    step_s: Interval
    samples_per_s: Interval | None
    run_hours: Interval
    run_usd: Interval
    usd_per_hour: Finite = Field(description="all nodes together, as last seen")
    usd_per_hour_now: Interval | None = Field(
        default=None, description="all nodes together: how far the price may have moved since it was seen"
    )
    loader_samples_per_s_per_vcpu: Finite | None = Field(
        default=None, description="what the input pipeline must make on each vCPU to keep up; None: not known"
    )
    memory_gib: Interval = Field(description="peak per device")
    device_memory_gib: Finite
    bound_by: Cause
    step_parts: StepParts
    cost_parts: CostParts
    probability_within: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="chance that all limits given are kept; None: none was given"
    )
    needs_porting: bool = Field(
        description="the script does not run there as it is: another backend, runtime or CPU architecture"
    )
    arm64_host: bool = Field(
        default=False, description="the host CPU is arm64: x86-64 wheels and containers do not run there"
    )
    spot: SpotOutlook | None = Field(default=None, description="None: the machine is not taken back")
    on_front: bool = Field(description="no other option is both cheaper and faster")
    price_observed_on: str = Field(
        description="date of the price, as precise as its source: 2026-07-20, 2026-03"
    )
    price_source: str
    price_source_class: str = Field(
        default="unstated",
        description="price_api, api_copy, catalogue, quote, own (your rate or discount) or unstated",
    )
    price_fetched_at: str | None = Field(
        default=None, description="when the price was fetched, ISO 8601 in UTC; None: shipped, not fetched"
    )
    price_by_contract: bool = Field(
        default=False, description="a negotiated rate: in force however long ago it was agreed"
    )
    notes: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        """The name `FareMeter(machine=...)` takes, e.g. aws:p4d.24xlarge@us-east-1."""
        return f"{self.provider}:{self.instance_type}@{self.region}"


class Rejection(Record):
    """Offers or plans that are not ranked, by reason, with the nearest miss spelled out."""

    reason: RejectionReason
    count: Annotated[int, Field(ge=0)] = Field(description="prices")
    machines: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="machine types without any ranked price, each counted under the first reason that it has; "
        "None in documents of older versions",
    )
    detail: str = Field(
        description="the nearest miss, e.g. 'T4-16GB: needs 19.3 GiB, has 14.6, misses by 4.7 GiB'"
    )


class Alternative(Record):
    """A run that a request leaves out, and what admits it."""

    change: str = Field(description='e.g. "fastest within the budget"')
    flag: str = Field(description="what to say to admit it, e.g. --deadline 22h")
    option: Option


class RunnerUp(Record):
    """The best option on another type of machine, and the relative changes that make it the answer; None: none does."""

    rank: int = Field(description="of the runner-up in `options`")
    price_higher: Finite | None = Field(default=None, description="rise of the answer's price of an hour")
    step_slower: Finite | None = Field(default=None, description="rise of the answer's step time")
    runner_up_price_cheaper: Finite | None = Field(
        default=None, description="fall of the runner-up's price of an hour"
    )
    runner_up_step_faster: Finite | None = Field(
        default=None, description="fall of the runner-up's step time"
    )


class JobSummary(Record):
    """Facts of the job for reports."""

    name: str
    precision: str
    parameters: int
    trainable_parameters: int
    step_flops: int
    batch_flops: tuple[int, int] | None = Field(
        default=None, description="of a step of the smallest and of the largest batches, where they vary"
    )
    work_note: str | None = Field(
        default=None, description="what a step is, where steps differ from each other"
    )
    optimizer_steps: int | None
    steps_note: str | None = Field(
        default=None, description="what the number of steps is, where it is not simply the Trainer's plan"
    )
    global_batch_size: int | None
    trace_coverage: float
    input_known: bool = Field(
        default=True, description="the input pipeline was measured or stated; else no time is counted for it"
    )
    measured_on: str | None
    measured_step_s: float | None


class Constraints(Record):
    """Limits and filters that the user gave."""

    max_usd: Finite | None = None
    deadline_hours: Finite | None = None
    value_usd_per_month: Finite | None = Field(
        default=None, description="what having the trained model a month earlier is worth"
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
        "samples a device under BatchNorm, batch: another global batch where all accelerators cannot share the "
        "script's, both of which change what is trained",
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
                msg = f"{name} lacks the cost of now or after {self.horizon_months} months"
                raise ValueError(msg)
        return self

    def at(self, months: int, question: Literal["compute", "quality"] = "compute") -> FutureCost:
        """Return the cost after so many months, one of those listed."""
        costs = self.same_compute if question == "compute" else self.same_quality
        return next(cost for cost in costs if cost.months == months)


class Recommendation(Document):
    """The ranked answer; `options` is sorted by the objective with a total order, best first."""

    schema_version: Literal[1] = 1
    tool_version: str
    job: JobSummary
    basis: Literal["whole_run", "per_1000_steps"] = Field(
        description="per_1000_steps: the run's length is unknown; hours and dollars are for 1,000 steps"
    )
    objective: Objective
    constraints: Constraints
    priced_on: str | None = Field(
        default=None,
        description="day to which the ages of prices are counted; None: prices were taken as of now",
    )
    options: tuple[Option, ...]
    options_total: int = Field(description="feasible options before the list was cut")
    cheapest_rank: int | None
    fastest_rank: int | None
    runner_up: RunnerUp | None = Field(
        default=None, description="None where only one type of machine is ranked"
    )
    rejections: tuple[Rejection, ...]
    price_books: tuple[PriceBookFacts, ...]
    assumptions: tuple[str, ...]
    assumed_numbers: tuple[AssumedNumber, ...] = Field(
        default=(), description="figures that the cost of the best option rests on"
    )
    unknown_because: str | None = Field(description="why there is no answer, where `options` is empty")
    alternatives: tuple[Alternative, ...] = Field(
        default=(),
        description="where no option runs the script as it is: the nearest runs, and what admits them",
    )
    best_spot: Option | None = Field(
        default=None, description="cheapest drop-in at a spot price, where no purchase option was named"
    )
    no_spot_because: str | None = Field(
        default=None,
        description="why no spot machine is offered that could run the job without interruptions",
    )
    other_clouds: Option | None = Field(
        default=None, description="cheapest drop-in among the quotes of clouds that were not ranked"
    )
    outlook: CostOutlook | None = Field(
        default=None,
        description="what the cheapest option costs later; None where nothing runs unchanged within a century",
    )

    def best(self, objective: Objective) -> Option | None:
        """Return the drop-in that is cheapest or fastest; None where no option runs the script as it is."""
        rank = self.cheapest_rank if objective == "cheapest" else self.fastest_rank
        return next((option for option in self.options if option.rank == rank), None)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "recommendation") -> Recommendation:
        """
        Read what `trainfare recommend --format json` or FareMeter wrote.

        Args:
            text: JSON as written by `to_json`.
            where: what to call it in an error, e.g. the file's name.

        Raises:
            InputError: not JSON, not a recommendation, a value out of range, or a newer schema.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            msg = f"{where}: not a recommendation of schema 1: {first_problem(error)}"
            raise InputError(f"{msg}. Write it again with `trainfare recommend --format json`") from error
