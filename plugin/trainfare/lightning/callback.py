"""
The `FareMeter` callback.

    Trainer(callbacks=[FareMeter()])

The class inherits from the `Callback` of every installed namespace, so the same object works under
`pytorch_lightning` and `lightning.pytorch`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

# Imported first: without Lightning it raises an error that names the extra, where torch would raise its own.
from trainfare.lightning.callback_base import LightningCallback  # isort: skip

from trainfare.lightning.asked_devices import takes_any_devices
from trainfare.lightning.loop import LightningLoop, save_at_budget
from trainfare.meter.fare_log import warn_user
from trainfare.meter.guarded_meter import GuardedMeter
from trainfare.meter.settings import MeterKeywords, check_keywords, with_meter_keywords
from trainfare.plain_loop import FareMeter as LoopFareMeter

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Hook = TypeVar("_Hook", bound=Callable[..., Any])


def _of_a_trainer(hook: _Hook) -> _Hook:
    """
    Return a hook that warns where it is called with other arguments than a Trainer gives, as Fabric's loops do.

    A hook raises no TypeError of its own: what it does is guarded.
    """

    @functools.wraps(hook)
    def call_hook(self: FareMeter, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(self, *args, **kwargs)
        except TypeError:
            return self.warn_of_fabric()

    return cast("_Hook", call_hook)


class _StateKey:
    """The `state_key` of a callback: an attribute whose place a value of the instance takes, unlike a property's."""

    def __get__(self, meter: FareMeter | None, kind: type[FareMeter] | None = None) -> Any:
        return self if meter is None else meter.learn_devices()


class FareMeter(GuardedMeter, LoopFareMeter, LightningCallback):
    """
    Measure a few training steps and report what the whole run costs on every machine that can be rented.

    After the warm-up it traces two steps, of a short run one, and measures the next `measure_steps` optimizer steps;
    where batches differ, it traces one more of each kind, and up to eight more where steps differ or may be random. A
    step that cannot be traced while it trains, as under torch.compile, is timed; nothing of yours runs once more. At
    the end of the run rank 0 prints the best machines and writes `trainfare-profile.json`, `trainfare-report.html` and
    `trainfare-report.json`. The results of the training are bitwise those of a run without it, and a fault inside
    it disables it with one warning.

    The step is traced in the precision of the run alone, so the ranking plans no other: a trace in another would run
    the step once more. `trainfare recommend TARGET --allow precision` traces them all before launch.

    Under DDP and FSDP every rank measures its own steps, without collective calls, and rank 0 names a rank that the
    others wait for.

    It logs the known ones of `fare/step_s`, `fare/step_p10_s`, `fare/step_p90_s`, `fare/samples_per_s`,
    `fare/data_wait_share`, `fare/mfu`, `fare/eta_s`, `fare/usd_so_far`, `fare/usd_total`, `fare/usd_total_low_80` and
    `fare/usd_total_high_80`: after the measured steps, at the end, and where a price, budget or deadline is known once
    a minute in between. The progress bar shows them, and `trainfare watch FOLDER` in another terminal.

    Args:
        warmup_steps: optimizer steps before the measurement; the first step is left out even with 0. The default of
            3 skips steps that allocate memory, select kernels and start data workers.
        measure_steps: optimizer steps to measure. The default of 10 gives a median and percentiles in seconds to
            minutes; more steps narrow them.
        machine: what this run is on, e.g. `aws:p4d.24xlarge@us-east-1`, to log dollars during the run.
        usd_per_hour: price of one machine (node) of this run per hour, instead of the list price of `machine`.
        budget_usd: warn when the run is expected to cost more; also the limit of the ranking.
        on_budget: `checkpoint_and_stop` saves a checkpoint and ends the run, on all ranks after the same step, where
            the dollars so far reach `budget_usd`; the default `warn` stops nothing.
        deadline_hours: warn when the run is expected to take longer; also the limit of the ranking.
        value_usd_per_month: value of having the model a month earlier; the report then says train now or wait.
        value_usd_per_hour: what an hour is worth by which the run ends earlier; the best value is then ranked first.
        report_dir: folder for the files; default is the logger's folder, or the Trainer's root folder.
        total_samples: samples in one epoch over all devices, for a training set without a length.
        batch_size: samples of one batch on one device, where the DataLoader has no batch size.
        trace: trace one step; without a trace there are times but no ranking.
        report: print and write the report at the end; False only logs metrics.
        log_metrics: log `fare/*` metrics through the Trainer's loggers.
        providers: clouds to rank, e.g. aws; default is all.
        regions: regions to rank, e.g. us-east-1; default is all.
        purchase: purchase options to rank, e.g. spot, or any; default is on_demand.
        price_lock: a `trainfare.lock` to take all prices from.
        own_prices: a TOML file of your discounts and rates; default is the one that TRAINFARE_OWN_PRICES names.
        quota: a TOML file of what your accounts may rent; `trainfare prices quotas` writes one.
        noise_scale: read two norms of the gradients every 20th step, for the noise scale: the batch beyond which more
            devices need clearly more samples. It needs accumulation or DDP.
        pilot: record the learning curve into `trainfare-curve.json` for `trainfare strategy --pilot`, as a run of
            this strategy: scratch, full_finetune, lora, qlora, linear_probe, or auto to infer it from the module.

    Raises:
        InputError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> from pytorch_lightning import Trainer
        >>> from pytorch_lightning.demos.boring_classes import BoringModel
        >>> from trainfare import FareMeter
        >>> meter = FareMeter(warmup_steps=1, measure_steps=3, report=False)
        >>> trainer = Trainer(
        ...     accelerator="cpu", devices=1, max_steps=8, limit_val_batches=0, logger=False, callbacks=[meter],
        ...     enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ... )
        >>> trainer.fit(BoringModel(), torch.ones(8, 2, 32))  # 8 batches of 2 samples
        >>> meter.state_dict()["elapsed_s"] > 0.0
        True
    """

    @with_meter_keywords(MeterKeywords)
    def __init__(self, **settings: Unpack[MeterKeywords]) -> None:
        super().__init__(check_keywords(MeterKeywords, "FareMeter({}=...): it takes", settings))
        self._warned_of_fabric = False
        self._any_devices: bool | None = None
        """The Trainer takes as many devices as the machine has; None: it was made before it had this callback."""

    if not TYPE_CHECKING:  # to types it is the property that it was
        state_key = _StateKey()

    def learn_devices(self) -> str:
        """Return the state key of any callback; a Trainer that is being made asks for it, and says its devices."""
        key = str(super().state_key)
        if self._meter is not None:  # a run asks with every hook, from now on without us
            vars(self)["state_key"] = key
        elif (asked := takes_any_devices()) is not None:
            self._any_devices = asked
        return key

    def _ask_again(self) -> None:
        vars(self).pop("state_key", None)

    def warn_of_fabric(self) -> None:
        """Say once that a loop of Lightning Fabric cannot be metered."""
        if not self._warned_of_fabric:
            self._warned_of_fabric = True
            what = (
                "FareMeter needs a Trainer and is off: Lightning Fabric has no run whose length could be read"
            )
            warn_user(f"{what}. Put the loop into `with FareMeter.loop(model, optimizer)`")

    # Lightning's hooks.

    @_of_a_trainer
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Make the meter of this `fit`."""
        del pl_module
        if stage != "fit":
            return
        self._meter = None
        if trainer.fast_dev_run:
            if trainer.is_global_zero:
                warn_user("FareMeter: fast_dev_run measures nothing and writes nothing")
            return
        self._prepare_meter(int(trainer.num_nodes), first_rank=trainer.is_global_zero)

    @_of_a_trainer
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Read the plan of the run and start to measure."""
        asked = self._any_devices
        self.call_guarded(
            lambda meter: meter.start(LightningLoop(trainer, pl_module, self, any_devices=asked))
        )

    @_of_a_trainer
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at the batch's size, and trace a batch after the warm-up."""
        del trainer, pl_module, batch_idx
        self.call_guarded(lambda meter: meter.batch_start(batch), every_batch=True)

    @_of_a_trainer
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Mark the start of the optimizer's part in the trace."""
        del trainer, pl_module
        self.call_guarded(lambda meter: meter.before_step(optimizer), every_batch=True)

    @_of_a_trainer
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; of a pilot run, record its loss."""
        del pl_module, batch, batch_idx
        self.call_guarded(lambda meter: meter.batch_end(outputs), every_batch=True)
        meter = self._meter
        if meter is not None and meter.stops:
            meter.stopped = save_at_budget(trainer, self.services.say)
            trainer.should_stop |= meter.stopped

    @_of_a_trainer
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at the module again: callbacks may unfreeze or prune it at the start of an epoch."""
        del trainer, pl_module
        self.call_guarded(lambda meter: meter.epoch_start())

    @_of_a_trainer
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop a trace that the end of the epoch has cut off."""
        del trainer, pl_module
        self.call_guarded(lambda meter: meter.epoch_end())

    @_of_a_trainer
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Pause the step timer: validation is not part of a step."""
        del pl_module
        self.call_guarded(lambda meter: None if trainer.sanity_checking else meter.validation_start())

    @_of_a_trainer
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Resume the step timer."""
        del pl_module
        self.call_guarded(lambda meter: None if trainer.sanity_checking else meter.validation_end())

    @_of_a_trainer
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the profile and the report."""
        del trainer, pl_module
        self.call_guarded(lambda meter: meter.end())

    @_of_a_trainer
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Undo every change and save what was measured before the exception."""
        del trainer, pl_module
        self._ask_again()
        self._end_early(exception)

    @_of_a_trainer
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Undo every change and release the Trainer."""
        del trainer, pl_module
        if stage == "fit":
            self._ask_again()
            self.call_guarded(lambda meter: meter.close())
            self._forget()
