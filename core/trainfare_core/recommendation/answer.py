"""`Recommendation`: the ranked answer, and what it says beside its options."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError, model_validator

from trainfare_core.documents import Count, Document, Finite, Flops, Interval, Record, Signed, first_problem
from trainfare_core.errors import InputError
from trainfare_core.hardware.earlier_runs import DeviceFigures, EarlierRuns
from trainfare_core.job_profile import BatchScale
from trainfare_core.limits.constraints import Constraints
from trainfare_core.prices.facts import PriceBookFacts
from trainfare_core.recommendation.launch import Launch, identify_plan
from trainfare_core.recommendation.option import Option
from trainfare_core.recommendation.saving import Saving


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
                raise ValueError(f"{name} lacks the cost of now or after {self.horizon_months} months")
        return self

    def at(self, months: int, question: Literal["compute", "quality"] = "compute") -> FutureCost:
        """Return the cost after so many months, one of those listed."""
        costs = self.same_compute if question == "compute" else self.same_quality
        return next(cost for cost in costs if cost.months == months)


Objective: TypeAlias = Literal["cheapest", "fastest", "best_value"]
"""best_value: fewest dollars with `Constraints.value_usd_per_hour` for each hour of the run."""
RejectionReason: TypeAlias = Literal[
    "does_not_fit",
    "may_not_fit",
    "unknown_accelerator",
    "cannot_train",
    "needs_porting",
    "no_prediction",
    "over_quota",
    "over_budget",
    "past_deadline",
    "too_long",
    "price_too_old",
    "filtered",
]


class AssumedNumber(Record):
    """A figure that is neither measured nor a price; `name` is its key in the table `run_cost` of trainfare.toml."""

    name: str
    value: Finite | None = Field(description="None: not known, and nothing is charged for it")
    source: str | None = Field(
        default=None, description="where a published value comes from, or why it is not known"
    )
    meaning: str = Field(description="what it is, its unit, and the source of the default")
    stated: bool = Field(description="stated by the user")
    run_usd: Finite = Field(description="dollars of the answer's run that rest on it")
    share: Finite = Field(description="of the answer's dollars")


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

    change: str = Field(description='e.g. "lowest cost kept with 90 %"')
    flag: str = Field(description="what to say to admit it, e.g. --deadline 22h")
    option: Option


class RunnerUp(Record):
    """The best option on another accelerator or cloud, and the relative changes that make it the answer, if any."""

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
    parameters: Count
    trainable_parameters: Count
    step_flops: Flops
    batch_flops: tuple[Flops, Flops] | None = Field(
        default=None, description="of a step of the smallest and of the largest batches, where they vary"
    )
    work_note: str | None = Field(
        default=None, description="what a step is, where steps differ from each other"
    )
    optimizer_steps: Count | None
    steps_note: str | None = Field(
        default=None, description="what the number of steps is, where it is not simply the Trainer's plan"
    )
    warmup_steps: Count | None = Field(
        default=None,
        description="of the learning rate's warm-up, where it is stated in steps; None: not known",
    )
    global_batch_size: Count | None
    scales: BatchScale | None = Field(
        default=None, description="what more devices do to the batch as the script stands; None: not known"
    )
    optimizers: tuple[str, ...] = Field(
        default=(), description="class names; empty in documents of older versions"
    )
    trace_coverage: Finite
    input_known: bool = Field(
        default=True,
        description="the input pipeline was measured or stated, or takes nothing; else published rates count",
    )
    measured_on: str | None
    measured_step_s: Finite | None


class CriticalBatchFacts(Record):
    """The batch from which a larger one needs clearly more samples; or why it is not predicted."""

    samples: Interval | None = Field(description="None: not predicted")
    source: Literal["stated", "noise_scale", "token_law", "prior"] | None
    unknown_because: str | None = None


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
    critical_batch: CriticalBatchFacts | None = Field(
        default=None, description="None: the global batch of the job is not known"
    )
    options: tuple[Option, ...]
    options_total: int = Field(description="feasible options before the list was cut")
    raised_max_nodes: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="machines of one run that were tried, where a run on the usual numbers takes too long and none was "
        "asked for; None: the usual or the asked numbers",
    )
    cheapest_rank: int | None
    fastest_rank: int | None
    best_value_rank: int | None = Field(
        default=None,
        description="by the value of an hour; the least product of dollars and hours where none was given",
    )
    runner_up: RunnerUp | None = Field(
        default=None, description="None where one accelerator of one cloud alone is ranked"
    )
    rejections: tuple[Rejection, ...]
    price_books: tuple[PriceBookFacts, ...]
    assumptions: tuple[str, ...]
    own_prices: tuple[str, ...] = Field(
        default=(), description="your discounts and rates that are in the prices, or not in force"
    )
    implementations: str = Field(
        default="",
        description="which implementation of the model is meant and what others would cost; empty: not compared",
    )
    assumed_numbers: tuple[AssumedNumber, ...] = Field(
        default=(), description="figures that the cost of the best option rests on"
    )
    unknown_because: str | None = Field(description="why there is no answer, where `options` is empty")
    alternatives: tuple[Alternative, ...] = Field(
        default=(),
        description="where no option runs the script as it is: the nearest runs, and what admits them",
    )
    earlier_runs: tuple[EarlierRuns, ...] = Field(
        default=(),
        description="of this project in the ledger, by which the steps on their accelerators are corrected",
    )
    device_figures: tuple[DeviceFigures, ...] = Field(
        default=(), description="measured on accelerators, by which the steps there are corrected"
    )
    best_spot: Option | None = Field(
        default=None, description="cheapest drop-in at a spot price, where no purchase option was named"
    )
    fastest_scaled: Option | None = Field(
        default=None,
        description="of a script that says its devices itself: the fastest drop-in whose devices each have the batch "
        "that one has in the script, where it takes a fifth less time than the fastest option; None elsewhere",
    )
    no_spot_because: str | None = Field(
        default=None,
        description="why no spot machine is offered that could run the job without interruptions",
    )
    own_plan: Option | None = Field(
        default=None,
        description="the script's own devices, nodes, strategy and micro-batch on the cheapest machine that runs them; "
        "None where they are one device, or no machine does",
    )
    best_commitment: Option | None = Field(
        default=None,
        description="the reserved machine whose term pays from the least use, with that share; its dollars are of "
        "a term that is used whole; None where none pays, or `constraints.use` is stated and they are ranked",
    )
    other_clouds: Option | None = Field(
        default=None, description="cheapest drop-in among the quotes of clouds that were not ranked"
    )
    outlook: CostOutlook | None = Field(
        default=None,
        description="what the cheapest option costs later; None where nothing runs unchanged within a century",
    )
    savings: tuple[Saving, ...] = Field(
        default=(),
        description="changes that would make the cheapest run cheaper, each alone, in the order of `savings-1`; empty: "
        "none does, or they were not priced",
    )
    launch: Launch | None = Field(
        default=None, description="what starts the script; None where no TARGET was given"
    )

    def best(self, objective: Objective) -> Option | None:
        """Return the drop-in that is best at an objective; None where no option runs the script as it is."""
        ranks: dict[Objective, int | None] = {
            "cheapest": self.cheapest_rank,
            "fastest": self.fastest_rank,
            "best_value": self.best_value_rank,
        }
        rank = ranks[objective]
        return next((option for option in self.options if option.rank == rank), None)

    def identify_plans(self) -> Recommendation:
        """Return the answer with a `plan_id` for each plan that can be exported."""
        singles = ("best_spot", "fastest_scaled", "own_plan", "best_commitment", "other_clouds")
        plans = {name: plan for name in singles if (plan := getattr(self, name)) is not None}
        identified: dict[str, object] = {
            name: identify_plan(plan, self.job.name) for name, plan in plans.items()
        }
        options = tuple(identify_plan(option, self.job.name) for option in self.options)
        return self.model_copy(update={**identified, "options": options})

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
