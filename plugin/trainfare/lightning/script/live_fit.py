"""
Turn a call of `Trainer.fit` into a `LiveJob`: what Lightning does up to the first step, without what starts or writes.

The order is Lightning's: attach the data and the callbacks of the module, `prepare_data`, `setup` of datamodule,
callbacks and module, the loaders. `configure_model` and `configure_optimizers` are left to the trace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Final

import torch

from trainfare.fake_step.fake_tensors import seeded_random
from trainfare.fake_step.several_batches import whole_batches
from trainfare.job import Batches, LiveJob, LiveRun
from trainfare.job.fit_call import FitCall
from trainfare.job.loading import LoadTimes, load_in_this_process, report_user_errors
from trainfare.job.made_up_data import MadeUpData
from trainfare.job.run_plan import LoopLength
from trainfare.job.training_job import STRATEGIES
from trainfare.lightning.callbacks import set_up_callbacks
from trainfare.lightning.run_length import (
    add_scaling,
    count_epoch_samples,
    first_loader,
    loader_batch_size,
    read_input,
    read_trainer,
)
from trainfare.lightning.script.made_up_source import NO_LENGTH, MadeUpSource
from trainfare.lightning.script.trainer_arguments import Asked, read_asked
from trainfare.lightning.strategy_arguments import checkpoint_modules
from trainfare.meter.batch_facts import BatchSizes
from trainfare_core.errors import TargetError

_BATCHES: Final = 8
"""Chosen: enough to see how far batches differ in size, and few enough to load in seconds."""
_NO_LENGTH: Final = (
    "the training set has no length: give Trainer(max_steps=...) or Trainer(limit_train_batches=...), or a loader that "
    "has a len()"
)
_RESUMED: Final = ("fit(ckpt_path=...) resumes a run: the plan is that of the whole run",)


def live_job(call: FitCall, notes: tuple[str, ...], made_up: MadeUpData | None = None) -> LiveJob:
    """
    Set up the data of a call of `fit` and return its job.

    Args:
        call: the Trainer and the arguments of its `fit`.
        notes: on the script, for the profile.
        made_up: what stands for the data; None reads them.

    Raises:
        TargetError: the data cannot be set up, there is no batch, the strategy is not one of Lightning's words, or the
            plugin for fp8 was given what cannot be traced.
    """
    trainer, spec = call.trainer, read_asked(call.trainer)
    if spec.strategy.word not in STRATEGIES:
        msg = f"the strategy {spec.strategy.word!r} is not one whose devices each do the whole model's maths"
        raise TargetError(f"{call.place}: {msg}: those that can be priced are {', '.join(STRATEGIES)}")
    if spec.fp8 is not None and spec.fp8.refused:
        raise TargetError(f"{call.place}: {spec.fp8.refused}")
    module = _attach_module(call)
    source = None if made_up is None else MadeUpSource(made_up, module)
    with load_in_this_process(nothing=source is not None) as times:
        data = "setting up the data"
        with report_user_errors(data) if source is None else source.tolerate_missing(), seeded_random():
            if source is None:  # what it would download is not needed
                trainer._data_connector.prepare_data()  # noqa: SLF001
            if trainer.datamodule is not None:
                trainer.datamodule.setup("fit")
        set_up_callbacks(trainer.callbacks, trainer, module)
        with report_user_errors("setup", reads_data=source is None):
            module.setup("fit")
        with report_user_errors(data), seeded_random():
            facts = _read_facts(trainer, source)
            samples = count_epoch_samples(trainer, facts, loader_batch_size(trainer))
            facts = add_scaling(trainer, facts, any_devices=spec.any_devices, samples_per_epoch=samples)
            batches = _first_batches(trainer) if source is None else source.batches
    if not batches:
        raise TargetError(f"{call.place}: the training loader gave no batch")
    said = (
        *spec.notes,
        *spec.strategy.notes,
        *trainer.strategy.notes,
        *_note_other_group(trainer.world_size),
        *(_RESUMED if call.arguments.get("ckpt_path") else ()),
    )
    notes = (*(() if source is None else source.notes), *notes, *said)
    job = _job(module, trainer, spec, facts, batches, times, notes)
    return job if source is None else replace(job, live=replace(job.live, batch_note="made-up batch"))


def _attach_module(call: FitCall) -> Any:
    """Do what Lightning does before it touches the data, and return the module."""
    trainer, given, namespace = call.trainer, call.arguments, call.namespace

    def part(name: str) -> Any:
        return import_module(f"{namespace}.{name}")

    module = part("utilities.compile")._maybe_unwrap_optimized(given["model"])  # noqa: SLF001
    loaders, datamodule = given.get("train_dataloaders"), given.get("datamodule")
    if isinstance(loaders, part("core.datamodule").LightningDataModule):
        loaders, datamodule = None, loaders
    states = part("trainer.states")
    trainer.strategy._lightning_module = module  # noqa: SLF001
    trainer.state.fn = states.TrainerFn.FITTING
    trainer.state.status = states.TrainerStatus.RUNNING
    trainer.training = True
    trainer.profiler = part("profilers").PassThroughProfiler()
    with report_user_errors("Trainer.fit"):
        trainer._data_connector.attach_data(  # noqa: SLF001
            module,
            train_dataloaders=loaders,
            val_dataloaders=given.get("val_dataloaders"),
            datamodule=datamodule,
        )
        loop = trainer.fit_loop
        loop.min_epochs, loop.max_epochs = part("loops.utilities")._parse_loop_limits(  # noqa: SLF001
            trainer.min_steps, trainer.max_steps, trainer.min_epochs, trainer.max_epochs, trainer
        )
        trainer.strategy.connect(module)
        trainer._callback_connector._attach_model_callbacks()  # noqa: SLF001
        part("trainer.configuration_validator")._verify_loop_configurations(trainer)  # noqa: SLF001
    return module


def _read_facts(trainer: Any, source: MadeUpSource | None) -> LoopLength:
    """Set up the loaders as the fit loop does, and read the length of the run."""
    if source is None:
        trainer.fit_loop.setup_data()
    else:
        source.set_up_training(trainer)
    if trainer.enable_validation and _validates(trainer):
        trainer.validating = True
        loop = trainer.fit_loop.epoch_loop.val_loop
        with contextlib.nullcontext() if source is None else source.tolerate_missing(loop):
            loop.setup_data()
        trainer.training = True
    return replace(read_trainer(trainer), no_length=_NO_LENGTH if source is None else NO_LENGTH)


def _validates(trainer: Any) -> bool:
    """Return whether the run comes to a validation; libraries ask for none by a great interval, and have no loader."""
    every, epochs = trainer.check_val_every_n_epoch, trainer.fit_loop.max_epochs
    return every is None or epochs in (None, -1) or every <= epochs


def _first_batches(trainer: Any) -> Sequence[Any]:
    fetcher = getattr(trainer.fit_loop, "_data_fetcher", None)
    if fetcher is None:
        return ()
    if type(fetcher).__name__ == "_DataLoaderIterDataFetcher":  # it hands out the iterator, not batches
        fetcher = iter(fetcher.combined_loader)
    batches: list[Any] = []
    while len(batches) < _BATCHES:
        try:
            batch, _, _ = next(fetcher)
        except StopIteration:
            break
        batches.append(batch)
    return whole_batches(batches, loader_batch_size(trainer))


def _job(
    module: Any,
    trainer: Any,
    spec: Asked,
    facts: LoopLength,
    batches: Sequence[Any],
    times: LoadTimes,
    notes: tuple[str, ...],
) -> LiveJob:
    sizes, policy = BatchSizes.of_batches(loader_batch_size(trainer), batches), spec.strategy.checkpointing
    size = sizes.micro_batch_size
    return LiveJob(
        module=module,
        batch=Batches(tuple(batches), times.add_to(read_input(trainer), first_loader(trainer), size)),
        batch_size=size or 1,
        train_samples=count_epoch_samples(trainer, facts, size),
        tokens_per_sample=sizes.tokens_per_sample,
        precision=spec.precision,
        accumulate_grad_batches=facts.accumulate_grad_batches,
        devices=spec.devices,
        num_nodes=spec.num_nodes,
        strategy=spec.strategy.word,
        sync_batchnorm=spec.sync_batchnorm,
        live=LiveRun(
            trainer,
            facts,
            batch_size_known=size is not None,
            notes=(*notes, *sizes.notes),
            narrow="fp8" if spec.fp8 is None else spec.fp8.narrow,
            wrap_module=partial(checkpoint_modules, policy=policy) if policy else None,
            root=(trainer, "_default_root_dir"),
        ),
    )


def _note_other_group(devices: int) -> tuple[str, ...]:
    """Return a note where the script makes a process group of another size than the Trainer's."""
    asked = getattr(torch.distributed.init_process_group, "world_size", None)
    if asked in (None, -1, 1, devices):
        return ()
    return (
        f"init_process_group(world_size={asked}) differs from the Trainer's {devices} devices: those are priced",
    )
