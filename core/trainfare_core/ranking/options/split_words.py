"""A plan that splits the model: its numbers, the strategy that runs it, and what the script must have (stage 6)."""

from __future__ import annotations

from typing import Final

from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.recommendation import ModelSplit

__all__ = ["by_megatron", "split_changes", "split_needs", "split_of", "split_strategy", "split_text"]

_MESH: Final = "self.device_mesh"
"""Where Lightning's ModelParallelStrategy puts the groups of devices, for the hook `configure_model`."""


def split_of(candidates: CandidateTable, plan: int, devices: int) -> ModelSplit | None:
    """
    Return how a plan splits the model; None where it does not.

    Args:
        candidates: plans.
        plan: row of `candidates`.
        devices: that the plan uses of all its machines.
    """
    parallel = candidates.parallel
    if parallel is None or not parallel.splits[plan]:
        return None
    return ModelSplit(
        tensor=int(parallel.tensor[plan]),
        pipeline=int(parallel.pipeline[plan]),
        context=int(parallel.context[plan]),
        expert=int(parallel.expert[plan]),
        replicas=devices // int(parallel.devices[plan]),
    )


def by_megatron(split: ModelSplit, sharding: str) -> bool:
    """Return whether a split plan is one of Megatron; else it is one of Lightning: products split, replicas sharded."""
    return sharding == "zero1" or split.pipeline * split.context * split.expert > 1


def split_strategy(split: ModelSplit, sharding: str) -> str:
    """Return the strategy's object for Trainer: Lightning's for products alone, NeMo's for the rest."""
    if not by_megatron(split, sharding):
        return (
            f"ModelParallelStrategy(data_parallel_size={split.replicas}, tensor_parallel_size={split.tensor})"
        )
    sequence = ["sequence_parallel=True"] if split.tensor > 1 else []
    zero = (
        ["ddp=DistributedDataParallelConfig(use_distributed_optimizer=True)"] if sharding == "zero1" else []
    )
    sizes = [
        f"{name}={value}"
        for name, value in (
            ("tensor_model_parallel_size", split.tensor),
            ("pipeline_model_parallel_size", split.pipeline),
            ("context_parallel_size", split.context),
            ("expert_model_parallel_size", split.expert),
        )
        if value > 1
    ]
    return f"MegatronStrategy({', '.join([*sizes, *sequence, *zero])})"


def split_needs(split: ModelSplit, sharding: str, precision: str, *, checkpointing: bool) -> str:
    """
    Return what a script must have to run a split plan, in one sentence.

    Args:
        split: of the model.
        sharding: of the replicas, one of `SHARDINGS`.
        precision: Lightning's word.
        checkpointing: whether the plan checkpoints activations.
    """
    if not by_megatron(split, sharding):
        shard = f", and fully_shard(..., mesh={_MESH}['data_parallel'])" if split.replicas > 1 else ""
        return (
            f"The script needs a configure_model that splits its layers: parallelize_module(..., {_MESH}"
            f"['tensor_parallel'], ...) with sequence parallelism{shard}"
        )
    again = ", recompute_granularity='full' for activation checkpointing" if checkpointing else ""
    types = (
        f"; weights and optimizer state stay in 16 bits ({precision}), and NeMo's mixed precision needs more memory"
        if precision.endswith("16-true")
        else ""
    )
    return (
        f"The script needs a Megatron model, such as NeMo's with nemo.lightning's strategy and data module{again}, or "
        f"code of its own that splits the model so{types}"
    )


def split_changes(candidates: CandidateTable, plan: int, devices: int) -> tuple[str, ...]:
    """Return how a plan splits the model, as a change of the script; empty where it does not."""
    split = split_of(candidates, plan, devices)
    if split is None:
        return ()
    parts = [
        *([f"tensor parallelism over {split.tensor} devices"] if split.tensor > 1 else []),
        *([f"a pipeline of {split.pipeline} stages"] if split.pipeline > 1 else []),
        *([f"context parallelism over {split.context} devices"] if split.context > 1 else []),
        *([f"expert parallelism over {split.expert} devices"] if split.expert > 1 else []),
    ]
    megatron = by_megatron(split, SHARDINGS[int(candidates.sharding[plan])])
    needs = "a model written for Megatron" if megatron else "a script that splits its layers"
    copies = f"{split.replicas} replica{'s' * (split.replicas > 1)}"
    return (f"{', '.join(parts)} ({copies} of the model): needs {needs}",)


def split_text(candidates: CandidateTable, plan: int) -> tuple[str, ...]:
    """Return the parts of a split in a few words each, e.g. ("tensor 8", "pipeline 4")."""
    if candidates.parallel is None:
        return ()
    names = ("tensor", "pipeline", "context", "expert")
    degrees = candidates.parallel.degrees[:, plan].tolist()
    return tuple(f"{name} {degree}" for name, degree in zip(names, degrees, strict=True) if degree > 1)
