"""Over how many copies of the model a live Trainer shares the samples of a step."""

from __future__ import annotations

from typing import Any


def replicas_of(trainer: Any) -> int | None:
    """
    Return the number of copies of the model among all devices, each of which gets batches of its own.

    It is what the strategy tells the sampler of the data: every device under DDP and FSDP, and the data-parallel size
    where the model is split over devices (`ModelParallelStrategy`, NeMo's `MegatronStrategy`).

    Args:
        trainer: of either namespace, in `on_train_start` or later: before that, a strategy has no device mesh.

    Returns:
        None where the strategy does not say it, or says what cannot be.
    """
    world = max(1, int(trainer.world_size))
    if world == 1:
        return 1
    try:
        replicas = trainer.strategy.distributed_sampler_kwargs["num_replicas"]
    except Exception:  # noqa: BLE001 - a property of a strategy of any package
        return None
    is_number = isinstance(replicas, int) and not isinstance(replicas, bool)
    return replicas if is_number and replicas > 0 and world % replicas == 0 else None
