"""What decides the length of a Trainer's run, and its loaders, read in `on_train_start`."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch.utils.data import IterableDataset

from trainfare.job.input_kind import read_source
from trainfare.job.job_plan import accumulation_of, early_end_of, trigger_of
from trainfare.job.run_facts import InputSource
from trainfare.job.run_plan import LoopLength


def read_trainer(trainer: Any) -> LoopLength:
    """
    Read a Trainer of either namespace once its loaders exist.

    Args:
        trainer: in `on_train_start` or later; before that, the number of batches is not known.
    """
    loop = trainer.fit_loop.epoch_loop
    automatic = bool(trainer.lightning_module.automatic_optimization)
    batches, max_time_s = _whole(trainer.num_training_batches), _max_time_s(trainer)[0]
    stated = _read_stated_batches(trainer) if batches is None else None
    estimates = automatic and stated is None
    return LoopLength(
        batches_per_epoch=batches if stated is None else stated,
        estimated_steps=_whole(trainer.estimated_stepping_batches) if estimates else None,
        max_epochs=_whole(trainer.max_epochs),
        max_steps=_whole(trainer.max_steps),
        max_time_s=max_time_s,
        early_end=early_end_of(trainer.callbacks, max_time_s, trainer.lightning_module),
        time_is_up=_max_time_s(trainer)[1],
        accumulate_grad_batches=max(1, int(trainer.accumulate_grad_batches)),
        accumulation=accumulation_of(trainer.callbacks, int(trainer.accumulate_grad_batches)),
        automatic=automatic,
        optimizers=max(1, len(trainer.optimizers)),
        replicas=replicas_of(trainer),
        calls_done=int(trainer.global_step),
        validates=bool(trainer.enable_validation),
        validation_batches=batches_of(getattr(loop.val_loop, "_max_batches", None)),
        validate_every_n_batches=_whole(getattr(trainer, "val_check_batch", None)),
        validate_by_time=getattr(trainer, "_val_check_time_interval", None) is not None,
        validate_every_n_epochs=trainer.check_val_every_n_epoch,
        checkpoints=tuple(trigger_of(callback) for callback in trainer.checkpoint_callbacks),
        no_length="the training set has no length: give FareMeter(total_samples=...) or Trainer(max_steps=...)",
    )


def _read_stated_batches(trainer: Any) -> int | None:
    """Return the batches of an epoch that the only loader was given by webdataset's `with_epoch`; None without that."""
    loaders = _loaders(trainer)
    if len(loaders) != 1 or not type(loaders[0]).__module__.startswith("webdataset"):
        return None
    count, repetitions = (getattr(loaders[0], name, None) for name in ("nsamples", "repetitions"))
    # With fewer repetitions the data may end before.
    return count if isinstance(count, int) and count > 0 and repetitions == sys.maxsize else None


def batches_of(limits: Sequence[float] | None) -> int | None:
    """Return the batches of one validation run over all its loaders; None where a loader has no length."""
    if not limits or any(math.isinf(limit) for limit in limits):
        return None
    return int(sum(limits))


def _whole(value: Any) -> int | None:
    """Return a whole number; None for the values by which Lightning says "no limit": None, -1 and inf."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return int(value)


def _max_time_s(trainer: Any) -> tuple[float | None, bool]:
    """Return the time limit of a Trainer, None where it has none, and whether it is up."""
    for callback in trainer.callbacks:
        remaining: Any = getattr(callback, "time_remaining", None)
        elapsed: Any = getattr(callback, "time_elapsed", None)
        if callable(remaining) and callable(elapsed):
            left_s = remaining()
            if isinstance(left_s, int | float):
                return float(left_s) + float(cast("Any", elapsed)()), left_s <= 0
    return None, False


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


def add_scaling(
    trainer: Any, facts: LoopLength, *, any_devices: bool, samples_per_epoch: int | None = None
) -> LoopLength:
    """
    Return the length with what other numbers of devices would do to the batch and to the steps of an epoch.

    Args:
        trainer: whose loaders exist.
        facts: of it.
        any_devices: it takes as many devices as the machine has.
        samples_per_epoch: of all devices; None: those of its batches, since a run's data set is not asked for them.
    """
    loaders = _loaders(trainer)
    # Lightning gives a sampler to a loader that can have one, and none to a stream.
    samples = bool(trainer._accelerator_connector.use_distributed_sampler)  # noqa: SLF001
    streams = any(isinstance(getattr(loader, "dataset", None), IterableDataset) for loader in loaders)
    return replace(
        facts,
        scales="per_device" if any_devices else "fixed",
        samples_per_epoch=samples_per_epoch,
        drops_last=any(getattr(loader, "drop_last", False) for loader in loaders),
        shares_data=samples and not streams,
        shares_validation=samples,
    )


def count_epoch_samples(trainer: Any, facts: LoopLength, size: int | None) -> int | None:
    """Return the samples of an epoch over all devices: of the data set where all of it is used."""
    loaders = _loaders(trainer)
    if len(loaders) == 1 and trainer.limit_train_batches == 1.0:
        with contextlib.suppress(TypeError, AttributeError):  # a data set without a length
            return len(loaders[0].dataset) or None
    if size is None or facts.batches_per_epoch is None or facts.replicas is None:
        return None
    return size * facts.batches_per_epoch * facts.replicas or None


def _loaders(trainer: Any) -> list[Any]:
    combined = getattr(trainer.fit_loop, "_combined_loader", None)
    return list(getattr(combined, "flattened", ()))


def loader_batch_size(trainer: Any) -> int | None:
    """Return the batch size of the only training DataLoader; None for several, or one without a batch size."""
    loaders = _loaders(trainer)
    if len(loaders) != 1:
        return None
    for owner in (loaders[0], getattr(loaders[0], "batch_sampler", None)):
        size = getattr(owner, "batch_size", None)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return None


def loader_workers(trainer: Any) -> int | None:
    """Return the worker processes of all training DataLoaders; None where one does not give its number."""
    counts = [getattr(loader, "num_workers", None) for loader in _loaders(trainer)]
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if known and len(known) == len(counts) else None


def read_input(trainer: Any) -> InputSource:
    """Return what the first training DataLoader says of its samples."""
    return read_source(first_loader(trainer))


def first_loader(trainer: Any) -> Any:
    """Return the first training DataLoader; None where there is none."""
    return next(iter(_loaders(trainer)), None)
