"""`CostChange`: what a change of a job does to the dollars of its run, split into causes; a part of `BudgetCheck`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Finite, Interval, Record, Signed
from trainfare_core.recommendation import ChangeRange, QualityRatio

CauseName: TypeAlias = Literal[
    "prices",
    "steps",
    "global_batch",
    "devices",
    "strategy",
    "precision",
    "model",
    "memory_fit",
    "validation",
    "checkpoints",
    "other",
]
"""In the order in which a report lists them; `trainfare_core.changes.change_factors` says what each one is."""


class CostSide(Record):
    """Base or head: the machine that would run it and its cost, or why that is not known."""

    label: str = Field(description="a file, or a commit")
    machine: str | None = Field(description="e.g. 2 x aws:p4d.24xlarge@us-east-1 (on_demand)")
    usd: Interval | None = Field(description="of the whole run")
    hours: Interval | None
    global_batch_size: int | None = Field(
        default=None, description="samples of an optimizer step there, over all devices; None: not known"
    )
    optimizer_steps: Finite | None = Field(default=None, description="of the whole run there")
    unknown_because: str | None = None


class FlopsChange(Record):
    """Operations of one kind whose FLOPs differ, per sample where the batch is known, else per optimizer step."""

    part: str = Field(description="the operations, e.g. 'matmul forward'")
    base_flops: Finite
    head_flops: Finite


class ModuleChange(Record):
    """One module of the model, with its submodules; per sample where the batch is known, else per optimizer step."""

    module: str | None = Field(
        description="e.g. 'encoder.layers.*'; '' is the step and its optimizer outside of submodules; None: all others"
    )
    base_flops: Finite
    head_flops: Finite
    base_bytes: Finite = Field(description="read and written")
    head_bytes: Finite


class CostCause(Record):
    """One cause of the change; the causes add up to the change."""

    cause: CauseName
    usd: Signed = Field(description="positive: head costs more")
    detail: str = Field(description="what differs, e.g. '36,000 -> 72,000 optimizer steps'")
    flops: tuple[FlopsChange, ...] = Field(
        default=(), description="for 'model': what changed most by FLOPs, largest first"
    )
    modules: tuple[ModuleChange, ...] = Field(
        default=(),
        description="for 'model': the modules that changed most; they add up to the change of FLOPs and bytes. "
        "Empty where a profile does not know its modules",
    )


class QualityCost(Record):
    """What head costs to the quality of base's smaller global batch, central 80 %."""

    ratio: QualityRatio | None = Field(description="None: not predicted")
    low_usd: Finite | None
    high_usd: Finite | None = Field(description="None: so large a batch has a lower end alone")
    unknown_because: str | None = None


class CostChange(Record):
    """Change of the cost of a run from base to head; `causes` add up to `change_usd`."""

    base: CostSide
    head: CostSide
    change_usd: Signed | None = Field(
        description="head less base, medians; None: unknown, see unknown_because"
    )
    change_fraction: Signed | None = Field(description="change_usd over the base's dollars")
    fraction_range: ChangeRange | None = Field(
        default=None, description="of change_fraction; None where that is, and in documents of older versions"
    )
    usd_range: ChangeRange | None = Field(default=None, description="of change_usd, likewise")
    quality: QualityCost | None = Field(
        default=None,
        description="None: head has no larger global batch, or another model, or the samples are counted (scale "
        "quality)",
    )
    causes: tuple[CostCause, ...] = Field(description="those that are not zero; empty: no change, or unknown")
    unknown_because: str | None = None
    notes: tuple[str, ...] = ()
