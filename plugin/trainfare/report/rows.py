"""Ranked options as rows of text: their marks, and their plans in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from trainfare.report.price_age import price_age, price_date_of
from trainfare_core.candidates import sharding_label
from trainfare_core.recommendation import Option


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
    """Return the option's marks in the order they are shown."""
    shown = (
        ("on front", option.on_front),
        ("spot", option.purchase_option == "spot"),
        ("needs porting", option.needs_porting),
        ("a guess", option.unmeasured_software),
        ("arm64 host", option.arm64_host),
        ("own price", option.price_source_class == "own"),
        ("stale", price_age(price_date_of(option), as_of).stale),
    )
    return tuple(name for name, holds in shown if holds)


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
