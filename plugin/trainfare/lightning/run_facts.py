"""Device, precision and strategy of a live Trainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainfare.job.run_facts import RunFacts
from trainfare.lightning.run_length import loader_batch_size, loader_workers, read_input, replicas_of
from trainfare.lightning.strategy_arguments import read_strategy
from trainfare_core.job_profile import ParallelFacts

_SHARDED = ("fsdp", "deepspeed", "modelparallel")
"""Parts of the lower-case class names of strategies that shard the weights over devices."""


def read_run(trainer: Any, module: nn.Module) -> RunFacts:
    """
    Read a run before its first step.

    Args:
        trainer: of either namespace, in `on_train_start`.
        module: the LightningModule.
    """
    device = torch.device(trainer.strategy.root_device)
    package = type(trainer).__module__.partition(".trainer")[0]
    replicas, world = replicas_of(trainer), max(1, int(trainer.world_size))
    strategy = read_strategy(trainer.strategy)
    version = getattr(__import__(package, fromlist=["__version__"]), "__version__", "")
    return RunFacts(
        name=type(module).__name__[:200],
        precision=str(trainer.precision),
        parallel=ParallelFacts(
            strategy=strategy.word,
            devices=max(1, int(trainer.num_devices)),
            num_nodes=max(1, int(trainer.num_nodes)),
            accumulate_grad_batches=max(1, int(trainer.accumulate_grad_batches)),
            replicas=None if replicas == world else replicas,
        ),
        replicas=replicas,
        device=device,
        software=f"torch {torch.__version__}, {package} {version}"[:500],
        loader_batch_size=loader_batch_size(trainer),
        loader_workers=loader_workers(trainer),
        input=read_input(trainer),
        # On one device no strategy makes SyncBatchNorm of BatchNorm; the same Trainer on several does.
        sync_batchnorm=getattr(getattr(trainer, "_accelerator_connector", None), "_layer_sync", None)
        is not None,
        split_because=_explain_split(trainer, replicas, world),
        notes=(*strategy.notes, *_note_transfer(trainer, module)),
    )


def _note_transfer(trainer: Any, module: nn.Module) -> list[str]:
    """Say which hooks of the user's work on a batch before the step begins, as augmentation on the device does."""
    owners: list[Any] = [
        owner for owner in (module, getattr(trainer, "datamodule", None)) if owner is not None
    ]
    return [
        f"work in {name} is not traced, because it runs before the step begins; measured times include it"
        for name in ("on_before_batch_transfer", "on_after_batch_transfer")
        if any(not _is_of_lightning(getattr(owner.__class__, name, None)) for owner in owners)
    ]


def _is_of_lightning(hook: Any) -> bool:
    return getattr(hook, "__module__", "lightning").partition(".")[0] in ("lightning", "pytorch_lightning")


def _explain_split(trainer: Any, replicas: int | None, world_size: int) -> str:
    """Return why no single rank runs the whole step."""
    strategy = type(trainer.strategy).__name__
    if replicas != world_size:
        what = "may split" if replicas is None else "splits"
        reason = f"{strategy} {what} the model over devices, so no single rank runs the whole step"
        return f"{reason}: `trainfare estimate` prices a language model by its sizes"
    if any(word in strategy.lower() for word in _SHARDED):
        reason = f"{strategy} shards the weights over devices, so no single rank runs the whole step"
        return f"{reason}: trace it before launch with `trainfare profile`"
    return ""
