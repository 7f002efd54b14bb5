"""What the objects of a loop of the user's own say of a run: device, precision, parallelism and loader."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer

from trainfare.job.input_kind import read_source
from trainfare.job.processes import find_processes, read_precision
from trainfare.job.run_facts import RunFacts
from trainfare.meter.tracing_method import CPU_AUTOCAST
from trainfare_core.job_profile import BatchScale, OperationGroup, ParallelFacts

_WRAPPERS: Final = ("_FabricModule", "DistributedDataParallel", "DataParallel")
"""Classes of modules around the user's, which is their `module`."""
_OF_LIBRARIES: Final = ("accelerate", "lightning", "lightning_fabric")
"""Packages whose optimizers only pass calls on to that of torch, their `optimizer`."""
ACCELERATE: Final = "accelerate.data_loader"
"""The module of the loaders that share their batches."""
_SHARDED: Final = {"FSDPModule": "fsdp", "FullyShardedDataParallel": "fsdp", "DeepSpeedEngine": "deepspeed"}
_NOT_COUNTED: Final = (
    "what the loop does between two passes over its data and inside `pause()`, such as validation and the saving of "
    "checkpoints, is left out of the cost"
)
_DATA_PARALLEL: Final = (
    "nn.DataParallel is priced as one device: over several GPUs it is not priced, and DDP is"
)
_OF_WEIGHTS: Final = "the precision is that of the weights: autocast shows in a traced step alone"


def unwrap_module(model: nn.Module) -> nn.Module:
    """Return the user's module inside the wrappers of Fabric and DDP; a compiled one with its wrapper."""
    inner: Any = model
    while type(inner).__name__ in _WRAPPERS:
        inner = inner.module
    compiled = any(type(part).__name__ == "OptimizedModule" for part in model.modules())
    return model if compiled else inner


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """Return the optimizer of torch inside the wrapper of Fabric or Accelerate: the one that steps."""
    while type(optimizer).__module__.partition(".")[0] in _OF_LIBRARIES:
        optimizer = optimizer.optimizer
    return optimizer  # type: ignore[no-any-return]


def read_run(model: nn.Module, loader: Any, passes: int) -> RunFacts:
    """
    Read a run.

    Args:
        model: as the loop calls it, in its wrappers.
        loader: of the training batches; None where the loop has none.
        passes: forward and backward passes in one optimizer step.
    """
    parameters, (_, world, nodes) = list(model.parameters()), find_processes()
    device = parameters[0].device if parameters else torch.device("cpu")
    strategy, why = _read_strategy(model, world)
    if len({parameter.device for parameter in parameters}) > 1:
        why = "the model is split over devices, so no single device runs the whole step"
    word, module = strategy or "auto", unwrap_module(model)
    is_parallel = strategy == "single_device" and type(model).__name__ == "DataParallel"
    return RunFacts(
        name=type(getattr(module, "_orig_mod", module)).__name__[:200],
        precision=read_precision(model, "32-true"),
        parallel=ParallelFacts(
            strategy=word, devices=world // nodes, num_nodes=nodes, accumulate_grad_batches=passes
        ),
        replicas=world if strategy else None,
        device=device,
        software=f"torch {torch.__version__}",
        loader_batch_size=_read_batch_size(loader),
        loader_workers=getattr(loader, "num_workers", None),
        input=read_source(loader),
        split_because=why,
        loop="plain",
        notes=(_NOT_COUNTED, *([_DATA_PARALLEL] if is_parallel else [])),
    )


def _read_strategy(model: nn.Module, world: int) -> tuple[str, str]:
    """Return how processes share the work, in Lightning's words, or ""; and why none runs the whole step."""
    kinds = {kind.__name__ for part in model.modules() for kind in type(part).__mro__}
    for kind, word in _SHARDED.items():
        if kind in kinds:
            return word, f"{word} shards the weights over devices, so no single rank runs the whole step"
    if "DistributedDataParallel" in kinds:
        return "ddp", ""
    if ("DataParallel" in kinds and torch.cuda.device_count() > 1) or any(
        type(p).__name__ == "DTensor" for p in model.parameters()
    ):
        return "", "the model or each batch is split over devices, so no single device runs the whole step"
    if world == 1:
        return "single_device", ""
    return "", explain_sharing(world)


def explain_sharing(world: int) -> str:
    """Return why processes that average their gradients by hand, or in no known way, are not priced, and a way on."""
    what = f"{world} processes train, and nothing around the model says how they share the work"
    return (
        f"{what}: wrap it in DistributedDataParallel, which averages the gradients as dist.all_reduce would"
    )


def find_scale(model: nn.Module, loader: Any) -> BatchScale | None:
    """
    Return what other numbers of processes do to the batch; None where nothing tells who gave the number.

    Args:
        model: as the loop calls it, in its wrappers.
        loader: of the training batches; None where the loop has none.
    """
    world = find_processes()[1]
    if getattr(getattr(loader, "batch_sampler", None), "split_batches", False):  # of Accelerate
        return "global"
    is_launched = world == 1 or os.environ.get("WORLD_SIZE") == str(world)
    # Fabric's number may be its own, under a launcher too.
    if not is_launched or type(model).__name__ == "_FabricModule":
        return None
    is_shared = _read_strategy(model, world)[0] in ("ddp", "fsdp")
    return "per_device" if is_shared or type(loader).__module__ == ACCELERATE else None


def _read_batch_size(loader: Any) -> int | None:
    """Return the batch size of a loader: that of its sampler first, which Accelerate gives another."""
    for owner in (getattr(loader, "batch_sampler", None), loader):
        size = getattr(owner, "batch_size", None)
        if type(size) is int and size > 0:
            return size
    return None


def complete_facts(facts: RunFacts, operations: Sequence[OperationGroup]) -> RunFacts:
    """
    Return the facts with the mixed precision that most of the forward's products were computed in, if any.

    Args:
        facts: with the precision of the weights.
        operations: of the traced step; empty where none was traced.
    """
    flops: Counter[str] = Counter()
    for group in operations:
        if group.phase == "forward":
            flops[group.dtype] += group.flops
    most = max(flops, key=flops.__getitem__, default="")
    mixed = {"bf16": "bf16-mixed", "fp16": "16-mixed"}.get(most, "32-true")
    precision = mixed if facts.precision == "32-true" else facts.precision
    notes = facts.notes if operations else (*facts.notes, _OF_WEIGHTS)
    if facts.device_kind == "cpu" and precision.endswith("-mixed"):
        notes = (*notes, CPU_AUTOCAST)
    return replace(facts, precision=precision, notes=notes)
