"""Ranked options as rows of text: the ranking, the parts of the step, the parts of the cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import get_args

from trainfare.report.price_age import price_age, price_date_of
from trainfare.report.wording import (
    bound_label,
    duration,
    hardware_label,
    interval,
    machine_label,
    place_label,
    purchase_label,
    usd,
)
from trainfare_core.candidates import sharding_label
from trainfare_core.clouds import service_label
from trainfare_core.number_format import percent
from trainfare_core.recommendation import Cause, CostParts, Option

__all__ = [
    "COST_COLUMNS",
    "FRONT_COLUMNS",
    "PART_NAMES",
    "RankingRow",
    "StepLine",
    "cost_cells",
    "front_cells",
    "marks",
    "plan_label",
    "ranking_row",
    "step_line",
]

PART_NAMES = tuple(bound_label(part) for part in get_args(Cause))
COST_COLUMNS = (
    "#",
    "machine",
    "training",
    "start-up",
    "validation",
    "checkpoints",
    "interruptions",
    "disks",
    "data copy",
    "data transfer",
    "rounding",
    "object storage",
    "model transfer",
)


FRONT_COLUMNS = ("#", "machine", "region", "mean cost", "nine of ten runs end within", "limits kept")


@dataclass(frozen=True, slots=True)
class RankingRow:
    """One ranked option; pairs are (median, 80 % interval)."""

    rank: str
    machine: str
    hardware: str
    cloud: str
    region: str
    purchase: str
    plan: str
    run_time: tuple[str, str]
    run_usd: tuple[str, str]
    usd_per_hour: str
    memory: tuple[str, str]
    bound_by: str
    chance: str
    price_date: str
    price_age: str
    price_source: str
    in_headline: bool
    marks: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepLine:
    """The parts of one optimizer step on one option; `shares` are in the order of PART_NAMES."""

    rank: str
    machine: str
    step: tuple[str, str]
    shares: tuple[str, ...]
    hidden: str


def ranking_row(option: Option, as_of: date, titles: tuple[str, ...] = ()) -> RankingRow:
    """
    Return an option as a row.

    Args:
        option: the ranked option.
        as_of: the day of the report, to which the age of the price is counted.
        titles: of the option in the headline, e.g. 'cheapest'; they become its first marks.
    """
    memory, memory_range = interval(option.memory_gib, "gib")
    chance = option.probability_within
    return RankingRow(
        rank=str(option.rank),
        machine=machine_label(option),
        hardware=hardware_label(option),
        cloud=service_label(option.provider, option.service),
        region=place_label(option),
        purchase=purchase_label(option.purchase_option),
        plan=plan_label(option),
        run_time=interval(option.run_hours, "h:auto"),
        run_usd=interval(option.run_usd, "usd"),
        usd_per_hour=usd(option.usd_per_hour),
        memory=(f"{memory} of {option.device_memory_gib:.3g} GiB", memory_range),
        bound_by=bound_label(option.bound_by),
        chance="" if chance is None else percent(chance),
        price_date=price_date_of(option).text,
        price_age=price_age(price_date_of(option), as_of).text,
        price_source=option.price_source,
        in_headline=bool(titles),
        marks=(*titles, *marks(option, as_of)),
        notes=option.notes,
    )


def marks(option: Option, as_of: date) -> tuple[str, ...]:
    """Return the option's marks in the order they are shown."""
    shown = (
        ("on front", option.on_front),
        ("spot", option.purchase_option == "spot"),
        ("needs porting", option.needs_porting),
        ("arm64 host", option.arm64_host),
        ("own price", option.price_source_class == "own"),
        ("stale", price_age(price_date_of(option), as_of).stale),
    )
    return tuple(name for name, holds in shown if holds)


def step_line(option: Option, *, input_known: bool) -> StepLine:
    """Return the parts of the option's optimizer step, as shares of the step; an unknown part is "unknown"."""
    seconds = option.step_parts.seconds()
    total_s = sum(seconds.values())
    hidden_s = option.step_parts.communication_hidden_s
    return StepLine(
        rank=str(option.rank),
        machine=machine_label(option),
        step=interval(option.step_s, "s"),
        shares=tuple(
            "unknown"
            if name == "input" and not input_known
            else (percent(part_s / total_s) if total_s else "0 %")
            for name, part_s in seconds.items()
        ),
        hidden=duration(hidden_s, "auto") if hidden_s else "none",
    )


def cost_cells(option: Option) -> tuple[str, ...]:
    """Return rank, machine and the parts of the option's cost, in the order of COST_COLUMNS."""
    amounts_usd = (getattr(option.cost_parts, name) for name in CostParts.model_fields)
    return (str(option.rank), machine_label(option), *(usd(amount) for amount in amounts_usd))


def front_cells(option: Option) -> tuple[str, ...]:
    """Return what the front compares, in the order of FRONT_COLUMNS."""
    return (
        str(option.rank),
        machine_label(option) + (" (needs porting)" if option.needs_porting else ""),
        place_label(option),
        "unknown" if option.expected_usd is None else usd(option.expected_usd),
        duration(option.run_hours.high_80 * 3600.0, "auto"),
        "no limit" if option.probability_within is None else percent(option.probability_within, 1),
    )


def plan_label(option: Option) -> str:
    """Return the plan in words, e.g. "FSDP, micro-batch 4, accumulate 2" or "tensor 8, pipeline 4, ZeRO-1, ..."."""
    split = option.model_split
    degrees = () if split is None else split.model_dump(exclude={"replicas"}).items()
    parts = "".join(f"{name} {degree}, " for name, degree in degrees if degree > 1)
    sharding = "" if option.sharding == "none" else f"{sharding_label(option.sharding)}, "
    batch = "unknown" if option.micro_batch_size is None else str(option.micro_batch_size)
    accumulation = option.accumulate_grad_batches
    return f"{parts}{sharding}micro-batch {batch}" + (
        f", accumulate {accumulation}" if accumulation > 1 else ""
    )
