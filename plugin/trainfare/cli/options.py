"""
The options that several commands share, and `grouped`, which lets a command take them as one dataclass.

Typer reads a function's signature and has no option groups of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import typer

from trainfare.prices.sources import OnStale, PriceChoice
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Constraints

__all__ = [
    "Accelerators",
    "AgedPriceOptions",
    "AllClouds",
    "Allow",
    "AllowStale",
    "AsOf",
    "CacheFolder",
    "DataGb",
    "DataIn",
    "Deadline",
    "DecisionPriceOptions",
    "Excluded",
    "InstanceTypes",
    "JobArgument",
    "KeepPlan",
    "LoaderOptions",
    "LockFile",
    "MaxAccelerators",
    "MaxNodes",
    "MinNetwork",
    "NoPorting",
    "Objectives",
    "OutputFile",
    "OwnPrices",
    "PriceOptions",
    "Providers",
    "Purchase",
    "QuotaFile",
    "RankedPurchase",
    "Regions",
    "Residency",
    "RunLimits",
    "Services",
    "TableOrJson",
    "ValuePerHour",
    "grouped",
    "hours_of",
    "moment",
]

_SEVERAL: Final = "several with commas"
_PURCHASE: Final = f"on_demand, spot, reserved_1y, ..., or any; {_SEVERAL}"
_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DEADLINE: Final = re.compile(rf"{_NUMBER}|(?:{_NUMBER}\s*[mhdw]\s*)+", re.ASCII)
_PART: Final = re.compile(rf"({_NUMBER})\s*([mhdw]?)", re.ASCII)
_HOURS_PER_UNIT: Final = {"m": 1 / 60, "": 1.0, "h": 1.0, "d": 24.0, "w": 168.0}


def _separated(names: list[str] | None) -> list[str] | None:
    """Return the names of an option that may be repeated; an empty one stays, so that it is refused, not ignored."""
    return None if names is None else [part.strip() for name in names for part in name.split(",")]


JobArgument = Annotated[
    str | None,
    typer.Argument(
        help="profile file, '-' for standard input, or a TARGET: a script with its arguments after --, or train.py:job"
    ),
]
Providers = Annotated[
    list[str] | None, typer.Option("--provider", help=f"cloud, e.g. aws; {_SEVERAL}", callback=_separated)
]
AllClouds = Annotated[
    bool, typer.Option("--all-clouds", help="also the quotes of clouds such as Lambda, RunPod and Oracle")
]
Services = Annotated[
    list[str] | None, typer.Option("--service", help=f"e.g. sagemaker; {_SEVERAL}", callback=_separated)
]
Regions = Annotated[
    list[str] | None, typer.Option("--region", help=f"e.g. us-east-1; {_SEVERAL}", callback=_separated)
]
Accelerators = Annotated[
    list[str] | None,
    typer.Option(
        "--accelerator",
        help=f"e.g. H100-SXM-80GB, or H100 for every variant; {_SEVERAL}",
        callback=_separated,
    ),
]
InstanceTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--instance-type",
        help=f"e.g. p5.48xlarge, or p5 for every size of the family; {_SEVERAL}",
        callback=_separated,
    ),
]
Excluded = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="NAME",
        help=f"cloud, service, region, instance type or accelerator to leave out; {_SEVERAL}",
        callback=_separated,
    ),
]
Residency = Annotated[
    list[str] | None,
    typer.Option(
        help=f"where the region must lie: eu, europe, north-america, us, ...; {_SEVERAL}",
        callback=_separated,
    ),
]
MaxAccelerators = Annotated[
    int | None,
    typer.Option(
        min=1, help="most accelerators rented for one run, of all its machines together, used or not"
    ),
]
QuotaFile = Annotated[
    Path | None,
    typer.Option(
        "--quota", metavar="FILE", help="TOML file of what your accounts may rent (docs/choosing.md)"
    ),
]
MinNetwork = Annotated[
    float | None,
    typer.Option("--min-network-gbit", help="least network between machines, Gbit/s of one machine"),
]
DataIn = Annotated[
    str | None,
    typer.Option("--data-in", metavar="CLOUD:REGION", help="where the training data lie, e.g. aws:us-east-1"),
]
DataGb = Annotated[
    float | None,
    typer.Option(help="size of the training data, GB; each machine copies them before it starts"),
]
Objectives: TypeAlias = Literal["cheapest", "fastest", "best_value"]
ValuePerHour = Annotated[
    float | None,
    typer.Option(
        help="what an hour is worth by which the run ends earlier, USD; best_value adds it to the cost"
    ),
]
NoPorting = Annotated[bool, typer.Option("--no-porting", help="only machines that run the script as it is")]
MaxNodes = Annotated[
    int | None,
    typer.Option(
        min=1, max=64, help="most machines in one run; default: 4, or the job's own number if larger"
    ),
]
KeepPlan = Annotated[
    bool, typer.Option("--keep-plan", help="only the script's own strategy, micro-batch and accumulation")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        help="plan: a faster strategy (also DeepSpeed's ZeRO) or micro-batch also where the script's own fit; "
        "batch-norm: fewer samples under BatchNorm; batch: another global batch where all accelerators cannot "
        "share the script's, both of which change what is trained; checkpointing: activation checkpointing where "
        "nothing else fits; precision: another one where it is faster, which changes rounding, and weights in fewer "
        "bits where nothing else fits; model-parallel: a language model split over devices (tensor, pipeline, context, "
        f"expert) where nothing else fits or it is faster, for which the script must be written; {_SEVERAL}",
        callback=_separated,
    ),
]
Purchase = Annotated[list[str] | None, typer.Option(help=_PURCHASE, callback=_separated)]
RankedPurchase = Annotated[
    list[str] | None, typer.Option(help=f"{_PURCHASE}; default: on_demand", callback=_separated)
]
Deadline = Annotated[
    str | None, typer.Option("--deadline", help="time in which the run must end: 12, 12h, 1d12h, 2w or 90m")
]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="new file to write instead of printing")
]
TableOrJson = Annotated[Literal["table", "json"], typer.Option("--format", help="output format")]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="folder of the fetched price lists; default: TRAINFARE_PRICE_CACHE, or your user cache",
    ),
]
LockFile = Annotated[
    Path | None,
    typer.Option("--lock", metavar="FILE", help="use only the prices of this lock file, e.g. trainfare.lock"),
]
OwnPrices = Annotated[
    Path | None,
    typer.Option(
        "--own-prices",
        metavar="FILE",
        help="TOML file of your discounts and rates; default: the file that TRAINFARE_OWN_PRICES names",
    ),
]
AllowStale = Annotated[
    bool, typer.Option("--allow-stale", help="also use live prices fetched more than 30 days ago")
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="DATE",
        help="count price ages to YYYY-MM-DD or YYYY-MM-DDTHH:MM in UTC; default: now",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """What a run may cost, how long it may take and where it may run."""

    max_usd: Annotated[float | None, typer.Option(help="budget of the whole run, USD")] = None
    deadline: Deadline = None
    confidence: Annotated[
        float, typer.Option(help="probability with which budget and deadline must be kept, 0.5 to 1")
    ] = 0.9
    provider: Providers = None
    service: Services = None
    region: Regions = None
    instance_type: InstanceTypes = None
    accelerator: Accelerators = None
    exclude: Excluded = None
    residency: Residency = None
    max_accelerators: MaxAccelerators = None
    quota: QuotaFile = None
    min_network_gbit: MinNetwork = None
    no_porting: NoPorting = False
    purchase: RankedPurchase = None
    all_clouds: AllClouds = False
    max_nodes: MaxNodes = None
    max_hours: Annotated[
        float | None, typer.Option(help="leave out runs that take longer, hours; default: 1440, 60 days")
    ] = None
    keep_plan: KeepPlan = False
    allow: Allow = None
    data_in: DataIn = None
    data_gb: DataGb = None

    @property
    def any_precision(self) -> bool:
        """Whether plans may change the precision, for which a TARGET is traced in all of them."""
        return "precision" in (self.allow or ()) and not self.keep_plan

    def check_given(self) -> None:
        """
        Check that there is a limit to check, before anything is traced.

        Raises:
            InputError: neither budget nor deadline is given.
        """
        if self.max_usd is None and self.deadline is None:
            raise InputError("nothing to check: give --max-usd, --deadline, or both")

    def constraints(
        self, *, value_usd_per_month: float | None = None, value_usd_per_hour: float | None = None
    ) -> Constraints:
        """
        Return the limits as the ranking takes them.

        Raises:
            InputError: a number out of range, or `--deadline` is not a time.
        """
        from trainfare.prices.constraints import constraints_of
        from trainfare.prices.quota_file import read_quotas
        from trainfare.prices.run_cost_table import read_run_cost

        return constraints_of(
            max_usd=self.max_usd,
            deadline_hours=hours_of(self.deadline),
            value_usd_per_month=value_usd_per_month,
            value_usd_per_hour=value_usd_per_hour,
            confidence=self.confidence,
            providers=self.provider,
            regions=self.region,
            purchase=self.purchase,
            all_clouds=self.all_clouds,
            services=self.service,
            instance_types=self.instance_type,
            accelerators=self.accelerator,
            exclude=self.exclude,
            residency=self.residency,
            max_accelerators=self.max_accelerators,
            quotas=() if self.quota is None else read_quotas(self.quota),
            min_network_gbit_per_s=self.min_network_gbit,
            no_porting=self.no_porting,
            max_run_hours=self.max_hours,
            keep_plan=self.keep_plan,
            allow=self.allow,
            data_in=self.data_in,
            data_gb=self.data_gb,
            run_cost=read_run_cost(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOptions:
    """Which prices to read, and the moment to count their age to."""

    lock: LockFile = None
    own_prices: OwnPrices = None
    as_of: AsOf = None

    def choice(self, **more: Any) -> PriceChoice:
        """
        Return the prices to load.

        Args:
            more: fields of the choice that are no options of the command.

        Raises:
            InputError: `--as-of` is not a date.
        """
        given = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return PriceChoice(now=moment(given.pop("as_of")), **given, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgedPriceOptions(PriceOptions):
    """Prices, and the age from which they are a warning or a failure."""

    max_price_age_days: Annotated[
        float | None,
        typer.Option(help="oldest acceptable price, in days; default: the lock's limit, or none"),
    ] = None
    on_stale: Annotated[
        OnStale | None,
        typer.Option(
            help="prices past that age: warn, or fail with exit code 3; default: as the lock says, or warn"
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionPriceOptions(AgedPriceOptions):
    """Prices to rank with: live ones fetched more than 30 days ago only with `--allow-stale`."""

    allow_stale: AllowStale = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """What the user states of the input pipeline."""

    loader_samples_per_s_per_vcpu: Annotated[
        float | None,
        typer.Option(
            help="samples that your input pipeline makes on one vCPU, a second; default: as measured, or unknown"
        ),
    ] = None

    def stated(self, profile: JobProfile) -> JobProfile:
        """
        Return the profile with what is stated.

        Raises:
            InputError: not a finite number above 0, or a job whose batch size is not known.
        """
        rate = self.loader_samples_per_s_per_vcpu
        if rate is None:
            return profile
        if not (math.isfinite(rate) and rate > 0):
            raise InputError(f"--loader-samples-per-s-per-vcpu {rate}: give a finite number above 0")
        if profile.batch.samples_per_step is None:
            raise InputError("--loader-samples-per-s-per-vcpu: the job's batch size is not known")
        batch = profile.batch.model_copy(update={"loader_samples_per_s_per_vcpu": rate})
        return profile.model_copy(update={"batch": batch})


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """
    Return the command with each parameter that is a dataclass replaced by the dataclass's fields.

    Typer then makes one option of each field; the command receives the dataclass filled in.
    """
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())
    groups: dict[str, Any] = {
        each.name: each.annotation for each in parameters if dataclasses.is_dataclass(each.annotation)
    }
    members = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{member: values.pop(member) for member in members[name]})
        command(**values)

    flat = [
        member.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in parameters
        for member in (members[each.name].values() if each.name in groups else (each,))
    ]
    run.__dict__["__signature__"] = inspect.Signature(flat)
    return run


def hours_of(deadline: str | None) -> float | None:
    """
    Return `--deadline` in hours: a number of hours, or numbers followed by m, h, d or w, which add up.

    Raises:
        InputError: anything else.
    """
    if deadline is None:
        return None
    text = deadline.strip().lower()
    if _DEADLINE.fullmatch(text) is None:
        raise InputError(f"--deadline {deadline!r}: not a time; give hours such as 12, 12h, 1d12h, 2w or 90m")
    return sum(float(number) * _HOURS_PER_UNIT[unit] for number, unit in _PART.findall(text))


def moment(as_of: str | None) -> datetime:
    """
    Return the moment of `--as-of`: the end of a day, a minute of it in UTC, or now for None.

    Raises:
        InputError: neither a day nor a day with a time.
    """
    if as_of is None:
        return datetime.now(tz=timezone.utc)
    from trainfare_core.prices.freshness import end_of_day  # imports polars, which --help does not need

    try:
        if len(as_of) == len("2026-01-31"):
            return end_of_day(date.fromisoformat(as_of))
        return datetime.strptime(f"{as_of.removesuffix('Z')}+0000", "%Y-%m-%dT%H:%M%z")
    except ValueError as error:
        raise InputError(
            f"--as-of {as_of!r}: give a day as YYYY-MM-DD, or YYYY-MM-DDTHH:MM in UTC"
        ) from error
