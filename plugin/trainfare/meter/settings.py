"""The arguments of `FareMeter`, checked once, at its construction."""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypedDict, TypeVar, cast, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trainfare_core.errors import InputError
from trainfare_core.methods.methods import METHOD_NAMES, Method


def _integer(value: Any) -> Any:
    """Convert integers of other libraries, e.g. numpy; bool stays, and strict validation refuses it."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def _path_text(value: Any) -> Any:
    return str(cast("Any", value)) if isinstance(value, os.PathLike) else value


def _tuple_of_list(value: Any) -> Any:
    return tuple(cast("Any", value)) if isinstance(value, list) else value


# Upper bounds are far above any real run; they refuse a value that was meant for another argument or unit.
_Count = Annotated[int, BeforeValidator(_integer)]
_SampleCount = Annotated[_Count, Field(ge=1, le=10**15)]
_BatchSize = Annotated[_Count, Field(ge=1, le=10**9)]
_Amount = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
_Machine = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*:[^\s:@]+@[A-Za-z0-9_-]+$")]
_Path = Annotated[str, BeforeValidator(_path_text), Field(pattern=r"^[^\x00]+$")]
_Name = Annotated[str, Field(min_length=1)]
_Names = Annotated[tuple[_Name, ...], BeforeValidator(_tuple_of_list), Field(min_length=1)]
_Pilot = Method | Literal["auto"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_AMOUNT = "be a finite number above 0, or None"
_SWITCH = "be True or False"
_FILE = "be the name of a file, or None"
_NAMES = "be a list of names, or None for all"
_MACHINE = (
    "look like 'aws:p4d.24xlarge@us-east-1' (provider:machine@region), or be None; "
    "`trainfare offers` lists the machines"
)


class MeterSettings(BaseModel):
    """
    The arguments of `FareMeter`, whose docstring explains them; `MeterKeywords` has their types for callers.

    A field's description completes "it must ..." in the message about a value that cannot be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    warmup_steps: _Count = Field(3, ge=0, le=1_000_000, description="be a whole number from 0 to 1000000")
    measure_steps: _Count = Field(10, ge=1, le=100_000, description="be a whole number from 1 to 100000")
    machine: _Machine | None = Field(None, description=_MACHINE)
    usd_per_hour: _Amount | None = Field(None, description=_AMOUNT)
    budget_usd: _Amount | None = Field(None, description=_AMOUNT)
    on_budget: Literal["warn", "checkpoint_and_stop"] = Field(
        "warn", description="be 'warn' or 'checkpoint_and_stop'"
    )
    deadline_hours: _Amount | None = Field(None, description=_AMOUNT)
    value_usd_per_month: _Amount | None = Field(None, description=_AMOUNT)
    value_usd_per_hour: _Amount | None = Field(None, description=_AMOUNT)
    report_dir: _Path | None = Field(None, description="be the name of a folder, or None")
    total_samples: _SampleCount | None = Field(
        None, description="be a whole number from 1 to 1000000000000000, or None"
    )
    batch_size: _BatchSize | None = Field(None, description="be a whole number from 1 to 1000000000, or None")
    trace: bool = Field(True, description=_SWITCH)
    report: bool = Field(True, description=_SWITCH)
    log_metrics: bool = Field(True, description=_SWITCH)
    providers: _Names | None = Field(None, description=_NAMES)
    regions: _Names | None = Field(None, description=_NAMES)
    purchase: _Names | None = Field(None, description=_NAMES)
    price_lock: _Path | None = Field(None, description=_FILE)
    own_prices: _Path | None = Field(None, description=_FILE)
    quota: _Path | None = Field(None, description=_FILE)
    noise_scale: bool = Field(False, description=_SWITCH)
    pilot: _Pilot | None = Field(None, description=f"be one of auto, {', '.join(METHOD_NAMES)}, or None")

    @classmethod
    def check(cls, **arguments: Any) -> MeterSettings:
        """
        Return the settings.

        Raises:
            InputError: a value that cannot be used; the message names the argument and what it takes.
        """
        try:
            settings = cls(**arguments)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            takes = cls.model_fields[name].description
            raise InputError(f"FareMeter({name}={arguments[name]!r}): it must {takes}") from None
        if settings.price_lock is not None and settings.own_prices is not None:
            raise InputError(
                "FareMeter(own_prices=...): it must be None with price_lock, which holds them already"
            )
        if settings.stops_at_budget and None in (
            settings.budget_usd,
            settings.usd_per_hour or settings.machine,
        ):
            raise InputError(
                "FareMeter(on_budget='checkpoint_and_stop'): it must have budget_usd, and usd_per_hour or machine"
            )
        return settings

    @property
    def stops_at_budget(self) -> bool:
        """The run ends where its dollars reach the budget."""
        return self.on_budget == "checkpoint_and_stop"

    @property
    def steps_before_window(self) -> int:
        """Optimizer steps before the measured window: the warm-up, and in any case the first step."""
        return max(1, self.warmup_steps)

    @property
    def steps_needed(self) -> int:
        """Optimizer steps of the whole measurement: warm-up, the traced step, the measured window."""
        return self.steps_before_window + int(self.trace) + self.measure_steps


class FitKeywords(TypedDict, total=False):
    """The fields of `MeterSettings` that every `FareMeter` takes, typed for its callers; Keras's takes no others."""

    warmup_steps: int
    measure_steps: int
    machine: str | None
    usd_per_hour: float | None
    budget_usd: float | None
    deadline_hours: float | None
    value_usd_per_month: float | None
    value_usd_per_hour: float | None
    report_dir: str | None
    total_samples: int | None
    batch_size: int | None
    trace: bool
    report: bool
    providers: list[str] | None
    regions: list[str] | None
    purchase: list[str] | None
    price_lock: str | None
    own_prices: str | None
    quota: str | None


class LoopKeywords(FitKeywords, total=False):
    """Also of `FareMeter.loop`: what a fit of Keras has not, a checkpoint before the end, and gradients to read."""

    on_budget: str
    noise_scale: bool


class TrainKeywords(LoopKeywords, total=False):
    """Also of Hugging Face: it has loggers of a known form."""

    log_metrics: bool


class MeterKeywords(TrainKeywords, total=False):
    """Also of Lightning: what needs the loss of a batch."""

    pilot: str | None


def check_keywords(keywords: type, message: str, given: Mapping[str, Any]) -> MeterSettings:
    """
    Return the settings of a `FareMeter`; see `MeterSettings.check`.

    Args:
        keywords: those that it takes.
        message: what it says of another one; its {} is the name, and a list of those it takes follows.
        given: the arguments.

    Raises:
        InputError: another argument, or a value that cannot be used.
    """
    takes = _names_of(keywords)
    for name in given:
        if name not in takes:
            raise InputError(f"{message.format(name)} {', '.join(takes)}")
    return MeterSettings.check(**given)


def with_meter_keywords(keywords: type) -> Callable[[_Function], _Function]:
    """Return a decorator that gives a function each of its `**settings` by name, for `help` and LightningCLI."""

    def name_them(function: _Function) -> _Function:
        own = inspect.signature(function)
        *others, _ = own.parameters.values()
        fields, types = MeterSettings.model_fields, get_type_hints(keywords)
        kind = inspect.Parameter.KEYWORD_ONLY
        options = [
            inspect.Parameter(name, kind, default=fields[name].default, annotation=types[name])
            for name in _names_of(keywords)
        ]
        function.__signature__ = own.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
        return function

    return name_them


def _names_of(keywords: type) -> list[str]:
    types = get_type_hints(keywords)
    return [name for name in MeterSettings.model_fields if name in types]
