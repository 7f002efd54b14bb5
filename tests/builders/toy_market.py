"""Price books, machine shapes and a toy predictor for tests of what comes after prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from builders.profiles import operation
from trainfare_core.candidates import CandidateTable, ModelParallel
from trainfare_core.job_profile import (
    BatchFacts,
    BlockFacts,
    JobProfile,
    MemoryFacts,
    OptimizerFacts,
    ParameterGroup,
    ProfileSource,
    RunPlan,
    StepInPrecision,
)
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.intake import BOOK_SCHEMA
from trainfare_core.prices.shapes import MachineShapes

GIB = 2**30


def offer_row(**overrides: Any) -> dict[str, Any]:
    """Return one row of a price book: an on-demand machine with one A100 in us-east-1, 4 USD an hour."""
    fields: dict[str, Any] = {
        "provider": "aws",
        "service": "ec2",
        "instance_type": "a100.1x",
        "region": "us-east-1",
        "zone": None,
        "accelerator": "A100-SXM-80GB",
        "accelerator_count": 1.0,
        "accelerator_memory_gib": 80.0,
        "vcpus": 12.0,
        "memory_gib": 170.0,
        "network_gbit_per_s": 100.0,
        "usd_per_hour": 4.0,
        "purchase_option": "on_demand",
        "observed_on": "2026-07-20",
        "observed_on_estimated": False,
        "source": "test",
        "source_class": "price_api",
        "sku": None,
        "currency": "USD",
        "fetched_at": None,
        "origin": "test",
        "caveat": None,
    }
    assert overrides.keys() <= fields.keys(), overrides
    return {**fields, **overrides}


def book(*rows: Mapping[str, Any]) -> PriceBook:
    """Return a price book of rows made by `offer_row`."""
    return PriceBook(pl.DataFrame(list(rows), schema=dict(BOOK_SCHEMA), orient="row"))


def shapes(*rows: tuple[str, float] | tuple[str, float, float]) -> MachineShapes:
    """Return machine shapes from (accelerator, count) or (accelerator, count, network Gbit/s); NaN network: unknown."""
    full = [(*row, 100.0)[:3] for row in rows]
    return MachineShapes(
        accelerator=np.array([row[0] for row in full], dtype=np.str_),
        accelerator_count=np.array([row[1] for row in full], dtype=np.float64),
        vcpus=np.full(len(full), 16.0),
        memory_gib=np.full(len(full), 128.0),
        network_gbit_per_s=np.array([row[2] for row in full], dtype=np.float64),
    )


def small_job(**overrides: Any) -> JobProfile:
    """
    Return a job of one matrix product forward and two backward: 36,000 steps, batch 32, checkpoints every 1,000 steps.

    Args:
        overrides: `steps`, `batch`, `every` (steps between checkpoints, None: never), `checkpoint_bytes`,
            `validation_batches`, `plan`, and any field of `JobProfile` by name.
    """
    batch = overrides.pop("batch", 32)
    plan = RunPlan(
        optimizer_steps=overrides.pop("steps", 36_000),
        unknown_because="the data has no length",
        checkpoint_bytes=overrides.pop("checkpoint_bytes", 0),
        checkpoint_every_n_steps=overrides.pop("every", 1_000),
        validation_batches=overrides.pop("validation_batches", 0),
    )
    fields: dict[str, Any] = {
        "name": "small",
        "source": ProfileSource(how="fake", tool_version="0"),
        "precision": "bf16-mixed",
        "operations": (
            operation(phase="forward"),
            operation(phase="backward", launches=2, flops=4 * 4096**3, bytes_read=2**28, bytes_written=2**26),
        ),
        "parameters": (ParameterGroup(dtype="fp32", trainable=True, count=10**6, parameter_bytes=4 * 10**6),),
        "optimizer": OptimizerFacts(names=("SGD",), state_bytes=0),
        "memory": MemoryFacts(saved_activation_bytes=GIB, gradient_bytes=4 * 10**6),
        "batch": BatchFacts(micro_batch_size=batch, samples_per_step=batch),
        "plan": plan,
    }
    return JobProfile(**{**fields, **overrides})


def block_job(**overrides: Any) -> JobProfile:
    """Return `small_job` with 4 blocks that hold all of its activations but their inputs, for checkpointing."""
    blocks = BlockFacts(classes=("Block",), count=4, saved_activation_bytes=GIB // 2, largest_bytes=GIB // 8)
    job = small_job(**overrides)
    operations = (job.operations[0].model_copy(update={"in_block": True}), *job.operations[1:])
    memory = job.memory.model_copy(update={"blocks": blocks})
    return job.model_copy(update={"operations": operations, "memory": memory})


def decoder_job(*, heads: int = 8, layers: int = 8, tokens: int = 4096, **overrides: Any) -> JobProfile:
    """Return `block_job` as a decoder of causal attention in each of its layers, which plans may split."""
    attention = operation(
        kind="attention",
        name="aten._scaled_dot_product_flash_attention",
        shape=(1, heads, heads, tokens, tokens, 128, 1),
        launches=layers,
    )
    job = block_job(**overrides)
    return job.model_copy(update={"operations": (*job.operations, attention)})


def in_precisions(job: JobProfile, *precisions: str) -> JobProfile:
    """Return a job with traces in other precisions, each the same as its own."""
    names = [name for name in StepInPrecision.model_fields if name != "precision"]
    steps = [
        StepInPrecision(precision=precision, **{name: getattr(job, name) for name in names})
        for precision in precisions
    ]
    return job.model_copy(update={"precisions": tuple(steps)})


PRECISION_PARTS: Mapping[str, float] = {
    "32-true": 2.0, "bf16-mixed": 1.0, "16-mixed": 1.02, "bf16-true": 0.5, "transformer-engine": 0.4,
}  # fmt: skip
"""Of the time and the activations of bf16-mixed, what `ToyPredictor` takes in each precision."""


@dataclass(frozen=True)
class ToyPredictor:
    """
    A predictor whose answers can be worked out by hand.

    A step takes `seconds` of the accelerator (for the profile's own batch) x micro_ratio x accumulate, plus `link_s` for
    each further device; memory is `activation_gib` x micro_ratio plus `fixed_gib`, the latter shared under FSDP.
    Activation checkpointing takes 1.3 times the time and a quarter of the activations, another precision the parts in
    `PRECISION_PARTS` over those of the job's own. The devices of a replica share its time, with `split_loss` more, and
    its memory.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    default_s: float = 0.1
    capacity_gib: Mapping[str, float] = field(default_factory=dict)
    default_capacity_gib: float = 64.0
    activation_gib: float = 1.0
    fixed_gib: float = 1.0
    log_sigma: float = 0.2
    memory_log_sigma: float = 0.0
    link_s: float = 0.0
    split_loss: float = 0.1
    unknown: Mapping[str, str] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()

    def __call__(
        self, profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable
    ) -> PredictionTable:
        """Predict every candidate."""
        names = [str(name) for name in shapes.accelerator[candidates.shape]]
        world = candidates.devices_of(shapes) * candidates.nodes
        known = np.array([name not in self.unknown for name in names], dtype=np.bool_)
        each_s = np.array([self.seconds.get(name, self.default_s) for name in names])
        compute_s = np.where(known, each_s * candidates.micro_ratio * candidates.accumulate, np.nan)
        communication_s = self.link_s * (world - 1)
        zero = np.zeros(len(names))
        variants = [candidates.variant_of(plan) for plan in range(len(names))]
        own = profile.precision
        part = np.array(
            [PRECISION_PARTS[variant.precision or own] / PRECISION_PARTS[own] for variant in variants]
        )
        compute_s = (
            compute_s * part * np.array([1.3 if variant.checkpointing else 1.0 for variant in variants])
        )
        activation = (
            self.activation_gib
            * part
            * np.array([0.25 if variant.checkpointing else 1.0 for variant in variants])
        )
        whole = ModelParallel.none(len(names))
        shared = (candidates.parallel or whole).devices
        compute_s = (
            compute_s / shared * np.where((candidates.parallel or whole).splits, 1 + self.split_loss, 1.0)
        )
        activation = activation / shared
        fixed = self.fixed_gib / shared / np.where(candidates.sharding == 2, world / shared, 1.0)
        memory_bytes = np.where(known, (activation * candidates.micro_ratio + fixed) * GIB, np.nan)
        usable = np.array([self.capacity_gib.get(name, self.default_capacity_gib) * GIB for name in names])
        return PredictionTable(
            step_s=compute_s + communication_s,
            log_sigma=np.full(len(names), self.log_sigma),
            compute_s=compute_s,
            memory_s=zero,
            launch_s=zero,
            communication_s=communication_s,
            communication_hidden_s=zero,
            input_s=zero,
            memory_bytes=memory_bytes,
            memory_log_sigma=zero + self.memory_log_sigma,
            usable_memory_bytes=usable,
            fits=known & (np.nan_to_num(memory_bytes) * np.exp(Z_80 * self.memory_log_sigma) <= usable),
            unknown_because=np.array([self.unknown.get(name, "") for name in names], dtype=np.str_),
            nearest=np.zeros(len(names), dtype=np.int64),
            is_guess=np.array([name in self.guesses for name in names], dtype=np.bool_),
        )


def names_of(options: Sequence[Any]) -> list[str]:
    """Return options as short text: 2xaws:a100.1x@us-east-1/spot."""
    return [f"{option.nodes}x{option.machine}/{option.purchase_option}" for option in options]
