"""What FareMeter was told: checked once, at construction, so that nothing can go wrong with it later."""

from __future__ import annotations

import contextlib
import math
import operator
import re
from dataclasses import dataclass
from typing import Any, cast

from trainfare_core.errors import InputError
from trainfare_core.strategy.strategies import STRATEGY_NAMES

__all__ = ["MeterSettings"]

_MACHINE = re.compile(r"[a-z][a-z0-9_-]*:[^\s:@]+@[A-Za-z0-9_-]+")
_COUNTS = {
    "warmup_steps": (0, 1_000_000, False),
    "measure_steps": (1, 100_000, False),
    "total_samples": (1, 10**15, True),
    "batch_size": (1, 10**9, True),
}
_AMOUNTS = ("usd_per_hour", "budget_usd", "deadline_hours", "value_usd_per_month")
_SWITCHES = ("trace", "report", "log_metrics")
_PATHS = ("report_dir", "price_lock", "own_prices")
PILOTS = ("auto", *STRATEGY_NAMES)
_LISTS = ("providers", "regions", "purchase")


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """The arguments of `FareMeter`, which explains them."""

    warmup_steps: int = 3
    measure_steps: int = 10
    machine: str | None = None
    usd_per_hour: float | None = None
    budget_usd: float | None = None
    deadline_hours: float | None = None
    value_usd_per_month: float | None = None
    report_dir: str | None = None
    total_samples: int | None = None
    batch_size: int | None = None
    trace: bool = True
    report: bool = True
    log_metrics: bool = True
    providers: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    purchase: tuple[str, ...] | None = None
    price_lock: str | None = None
    own_prices: str | None = None
    pilot: str | None = None

    @classmethod
    def checked(cls, **arguments: Any) -> MeterSettings:
        """
        Return the settings.

        Raises:
            InputError: a value that cannot be used; the message names the argument and what it takes.
        """
        values = dict(arguments)
        for name, (low, high, optional) in _COUNTS.items():
            values[name] = _count(name, values[name], low, high, optional=optional)
        for name in _AMOUNTS:
            values[name] = _amount(name, values[name])
        for name in _SWITCHES:
            if not isinstance(values[name], bool):
                raise InputError(f"FareMeter({name}={values[name]!r}): it must be True or False")
        for name in _LISTS:
            values[name] = _names(name, values[name])
        _check_machine(values["machine"])
        for name in _PATHS:
            if values[name] is not None:
                values[name] = _path(name, values[name])
        if values["price_lock"] is not None and values["own_prices"] is not None:
            raise InputError(
                "FareMeter(own_prices=...): it must be None with price_lock, which holds them already"
            )
        _check_pilot(values["pilot"])
        return cls(**values)

    @property
    def steps_before_window(self) -> int:
        """Optimizer steps that are not measured before the window: warm-up, and always the first step."""
        return max(1, self.warmup_steps)

    @property
    def steps_needed(self) -> int:
        """Optimizer steps for the whole measurement: warm-up, the traced step, the window."""
        return self.steps_before_window + int(self.trace) + self.measure_steps


def _count(name: str, value: Any, low: int, high: int, *, optional: bool) -> int | None:
    if value is None and optional:
        return None
    what = f"a whole number from {low} to {high}" + (", or None" if optional else "")
    number: int | None = None
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            number = operator.index(cast("Any", value))
    if number is None or not low <= number <= high:
        raise InputError(f"FareMeter({name}={value!r}): it must be {what}")
    return number


def _amount(name: str, value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= 1e12:
        raise InputError(f"FareMeter({name}={value!r}): it must be a finite number above 0, or None")
    return float(value)


def _names(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names: list[Any] = list(cast("Any", value)) if isinstance(value, list | tuple) else []
    if not names or not all(isinstance(item, str) and item for item in names):
        raise InputError(f"FareMeter({name}={value!r}): it must be a list of names, or None for all")
    return tuple(names)


def _check_machine(value: Any) -> None:
    if value is None or (isinstance(value, str) and _MACHINE.fullmatch(value)):
        return
    msg = (
        f"FareMeter(machine={value!r}): it must look like 'aws:p4d.24xlarge@us-east-1' "
        "(provider:machine@region), or be None; `trainfare offers` lists the machines"
    )
    raise InputError(msg)


def _check_pilot(value: Any) -> None:
    if value is None or (isinstance(value, str) and value in PILOTS):
        return
    raise InputError(f"FareMeter(pilot={value!r}): it must be one of {', '.join(PILOTS)}, or None")


def _path(name: str, value: Any) -> str:
    text = str(value) if isinstance(value, str) or hasattr(value, "__fspath__") else ""
    if not text or "\0" in text:
        what = "folder" if name == "report_dir" else "file"
        raise InputError(f"FareMeter({name}={value!r}): it must be the name of a {what}, or None")
    return text
