"""Ranked options as rows of text: their marks, and their plans in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from trainfare.report.escape import csv_text
from trainfare.report.price_age import price_age, price_date_of
from trainfare.report.wording import has_other_batch, list_factors, name_batch
from trainfare_core.candidates import sharding_label
from trainfare_core.energy import RunEnergy
from trainfare_core.recommendation import Interval, Option

STALE: Final = "stale"
"""The mark of a price that its source has not confirmed of late."""


@dataclass(frozen=True, slots=True)
class RankingRow:
    """
    One ranked option.

    Attributes:
        option: the option.
        titles: of the option in the headline, e.g. 'cheapest'.
        marks: its titles, and what else a reader has to see of it.
        price_age: of its price.
    """

    option: Option
    titles: tuple[str, ...]
    marks: tuple[str, ...]
    price_age: str


def marks(option: Option, as_of: date) -> tuple[str, ...]:
    """Return the option's marks in the order they are shown, a global batch other than the script's first."""
    shown = (
        (name_batch(option), has_other_batch([option])),
        ("on front", option.on_front),
        ("spot", option.purchase_option == "spot"),
        ("needs porting", option.needs_porting),
        ("a guess", option.unmeasured_software),
        ("arm64 host", option.arm64_host),
        ("own price", option.price_source_class == "own"),
        (STALE, price_age(price_date_of(option), as_of).stale),
    )
    return tuple(name for name, holds in shown if holds)


_CSV_COLUMNS: Final = (
    *(
        "rank",
        "provider",
        "service",
        "instance_type",
        "region",
        "zone",
        "purchase_option",
        "nodes",
        "accelerator",
    ),
    *(
        "accelerator_count",
        "sharding",
        "micro_batch_size",
        "global_batch_size",
        "usd_per_hour",
        "run_usd",
        "run_hours",
        "step_s",
    ),
    *("needs_porting", "on_front", "probability_within", "price_observed_on", "price_source"),
)

_ENERGY_COLUMNS: Final = (
    *(f"{name}{end}" for name in ("kwh", "kg_co2e") for end in ("", "_low_80", "_high_80")),
    "energy_unknown_because",
    "energy_factors",
)


def ranking_csv(options: Sequence[Option]) -> str:
    """Return ranked options as CSV with a header, an interval as three columns; see `csv_cell`."""
    interval = ("", "_low_80", "_high_80")
    spread = {"run_usd", "run_hours", "step_s"}
    names = [name + end for name in _CSV_COLUMNS for end in (interval if name in spread else ("",))]
    rows: list[list[object]] = []
    for option in options:
        cells: list[object] = []
        for name in _CSV_COLUMNS:
            value = getattr(option, name)
            cells += [value.mid, value.low_80, value.high_80] if isinstance(value, Interval) else [value]
        energy = option.energy or RunEnergy()
        for value in (energy.kwh, energy.kg_co2e):
            cells += [None] * 3 if value is None else [value.mid, value.low_80, value.high_80]
        rows.append([*cells, energy.unknown_because, "; ".join(list_factors(option))])
    return csv_text([*names, *_ENERGY_COLUMNS], rows)


def plan_label(option: Option) -> str:
    """Return the plan in words, e.g. "FSDP, micro-batch 4, accumulate 2" or "tensor 8, pipeline 4, ZeRO-1, ..."."""
    split = option.model_split
    degrees = () if split is None else split.model_dump(exclude={"replicas"}).items()
    parts = "".join(f"{name} {degree}, " for name, degree in degrees if degree > 1)
    sharding = "" if option.sharding == "none" else f"{sharding_label(option.sharding)}, "
    batch = "unknown" if option.micro_batch_size is None else str(option.micro_batch_size)
    accumulation = option.accumulate_grad_batches
    accumulated = f", accumulate {accumulation}" if accumulation > 1 else ""
    return f"{parts}{sharding}micro-batch {batch}{accumulated}"
