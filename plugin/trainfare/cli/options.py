"""The options that several commands share, but for limits, which `limit_options` makes."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from trainfare.prices.sources import OnStale, PriceChoice
from trainfare_core.errors import InputError
from trainfare_providers.disk.folder import CACHE_VARIABLE

if TYPE_CHECKING:
    from trainfare_core.hardware.earlier_runs import Evidence
    from trainfare_core.job_profile import JobProfile

Objectives: TypeAlias = Literal["cheapest", "fastest", "best_value"]
ImplementationOption = Annotated[
    Literal["eager", "compile", "fused"] | None,
    typer.Option(
        help="eager: Hugging Face's modules, compile: torch.compile, fused: Megatron, Transformer Engine, litgpt, "
        "nanoGPT, llm.c and their like; default: as the script runs it, eager without one"
    ),
]
JobArgument = Annotated[
    str | None,
    typer.Argument(
        help="profile file, '-' for standard input, or a TARGET: a script with its arguments after --, or train.py:job"
    ),
]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="new file to write instead of printing")
]
Force = Annotated[bool, typer.Option("--force", help="overwrite the file of --output")]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        envvar=CACHE_VARIABLE,
        show_envvar=False,
        file_okay=False,
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
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
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
class LedgerOptions:
    """Whose runs and measured devices correct the prediction."""

    ledger: Annotated[
        str | None,  # by builtin names alone: `RankingOptions` inherits it
        typer.Option(
            metavar="FOLDER",
            help="ledger whose runs of this project and measured devices correct the step; default: yours, but none "
            "in CI or with --lock",
        ),
    ] = None
    no_ledger: Annotated[bool, typer.Option("--no-ledger", help="correct by nothing of a ledger")] = False

    def read_runs(self, profile: JobProfile, *, locked: bool = False) -> tuple[Evidence, ...]:
        """
        Return what runs of the job's project and measured devices say of it.

        Raises:
            InputError: both options, no such folder, or settings that cannot be read.
        """
        if self.no_ledger and self.ledger is not None:
            raise InputError("--ledger and --no-ledger: give one of them")
        from trainfare.ledger.earlier_runs import read_earlier_runs

        return () if self.no_ledger else read_earlier_runs(profile, self.ledger, locked=locked)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What the user states of the job: the devices that its launcher starts, and the input pipeline."""

    launched: Annotated[
        str | None,
        typer.Option(
            metavar="N|NxM",
            help="devices that the launcher starts, as torchrun: 8, or 8x2 for 8 on each of 2 machines; default: "
            "those of each machine, where the script's batch follows them",
        ),
    ] = None
    loader_samples_per_s_per_vcpu: Annotated[
        float | None,
        typer.Option(
            help="samples that your input pipeline makes on one vCPU, a second; default: as measured, or unknown"
        ),
    ] = None
    loader_measured_on: Annotated[
        str | None,
        typer.Option(
            metavar="MACHINE",
            help="machine type or processor on which it makes them, such as g2-standard-12: others make as many as "
            "their processors' scores say; default: not known, and as many everywhere, with the doubt of that",
        ),
    ] = None

    def apply_to(self, profile: JobProfile) -> JobProfile:
        """
        Return the profile with what is stated.

        Raises:
            InputError: not a finite number above 0, a machine that is not known or has no rate, a job whose batch size
                is not known, or a script whose devices are not the launcher's.
        """
        if self.launched is not None:
            from trainfare_core.batch_scaling import launch_on  # imports NumPy, which --help does not need

            profile = launch_on(profile, *_parse_launched(self.launched))
        rate, measured_on = self.loader_samples_per_s_per_vcpu, self.loader_measured_on or ""
        if rate is None and measured_on:
            raise InputError(
                f"--loader-measured-on {measured_on}: give the rate with it, --loader-samples-per-s-per-vcpu"
            )
        if rate is None:
            return profile
        if not (math.isfinite(rate) and rate > 0):
            raise InputError(f"--loader-samples-per-s-per-vcpu {rate}: give a finite number above 0")
        if profile.batch.samples_per_step is None:
            raise InputError("--loader-samples-per-s-per-vcpu: the job's batch size is not known")
        from trainfare_core.hardware.hosts import explain_unknown_host, find_host
        from trainfare_core.prediction.input_pipeline import state_loader

        if measured_on and find_host(measured_on) is None:
            raise InputError(f"--loader-measured-on: {explain_unknown_host(measured_on)}")
        return state_loader(profile, rate, measured_on)


def _parse_launched(text: str) -> tuple[int, int]:
    """Return devices of one machine and machines."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]?))?", text.strip())
    if match is None:
        raise InputError(f"--launched {text}: give devices, such as 8, or 8x2 for 8 on each of 2 machines")
    return int(match[1]), int(match[2] or 1)


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
