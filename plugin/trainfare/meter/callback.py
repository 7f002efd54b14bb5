"""
`FareMeter`: the one line that a training script gains.

    Trainer(callbacks=[FareMeter()])

The class has every installed namespace's `Callback` as its base, so the same object works under
`pytorch_lightning` and `lightning.pytorch`, whichever of them is there.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

# First, before anything that imports torch: where Lightning is missing, this raises an error that names the extra.
from trainfare.meter.lightning_base import LightningCallback  # isort: skip

from trainfare.meter.fare_log import first_line, warn_user
from trainfare.meter.fit_meter import Meter
from trainfare.meter.rank_meter import RankMeter
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings

__all__ = ["FareMeter"]


class FareMeter(LightningCallback):
    """
    Measure a few real training steps and say what the whole run costs on every machine you could rent.

    It drops warm-up steps, traces one step, measures `measure_steps` optimizer steps end to end and then does
    nothing until the end, when rank 0 prints the ranked machines and writes `trainfare-profile.json`,
    `trainfare-report.html` and `trainfare-report.json`. It cannot break, slow or change a run: a fault inside
    it disables it with one warning.

    Under DDP and FSDP every rank measures its own steps, with no collective of ours, and rank 0 names a rank
    that the others wait for.

    Where known it logs, when the window closes and at the end (with dollars or a limit: once a minute, too):
    `fare/step_s`, `fare/step_p10_s`, `fare/step_p90_s`, `fare/samples_per_s`, `fare/data_wait_share`,
    `fare/hours_left`, `fare/usd_so_far` and `fare/usd_total_estimate`.

    Args:
        warmup_steps: optimizer steps to leave out before measuring; the first step is always left out.
        measure_steps: optimizer steps to measure.
        machine: what this run is on, e.g. `aws:p4d.24xlarge@us-east-1`, to show dollars while it trains.
        usd_per_hour: what one machine (node) of this run costs per hour, instead of `machine`'s list price.
        budget_usd: warn when the run will cost more; the ranking keeps to it.
        deadline_hours: warn when the run will take longer; the ranking keeps to it.
        value_usd_per_month: what having the model a month earlier is worth; the report then says train now or wait.
        report_dir: folder for the files; default is the logger's folder, or the Trainer's root folder.
        total_samples: samples in one epoch over all devices, for a training set without a length.
        batch_size: samples of one batch on one device, where the loader does not say.
        trace: trace one step; without it there is no ranking, only times.
        report: write files and print at the end; without it only metrics are logged.
        log_metrics: log `fare/*` metrics through the Trainer's loggers.
        providers: clouds to rank, e.g. aws; default is all.
        regions: regions to rank, e.g. us-east-1; default is all.
        purchase: purchase options to rank, e.g. on_demand; default is on_demand and spot.
        price_lock: a `trainfare.lock` to take all prices from.
        own_prices: a TOML file of your discounts and rates; default is the one that TRAINFARE_OWN_PRICES names.
        pilot: record the learning curve into `trainfare-curve.json` for `trainfare strategy --pilot`, as a run of
            this strategy: scratch, full_finetune, lora, qlora, linear_probe, or auto to read it from the module.

    Raises:
        InputError: an argument that cannot be used; the message names it.

    Example:
        >>> from trainfare import FareMeter
        >>> meter = FareMeter(machine="aws:p4d.24xlarge@us-east-1", budget_usd=500)
    """

    services = MeterServices()
    """The outside world; replaced on a subclass in tests."""

    def __init__(
        self,
        *,
        warmup_steps: int = 3,
        measure_steps: int = 10,
        machine: str | None = None,
        usd_per_hour: float | None = None,
        budget_usd: float | None = None,
        deadline_hours: float | None = None,
        value_usd_per_month: float | None = None,
        report_dir: str | None = None,
        total_samples: int | None = None,
        batch_size: int | None = None,
        trace: bool = True,
        report: bool = True,
        log_metrics: bool = True,
        providers: list[str] | None = None,
        regions: list[str] | None = None,
        purchase: list[str] | None = None,
        price_lock: str | None = None,
        own_prices: str | None = None,
        pilot: str | None = None,
    ) -> None:
        super().__init__()
        self._settings = MeterSettings.checked(
            warmup_steps=warmup_steps,
            measure_steps=measure_steps,
            machine=machine,
            usd_per_hour=usd_per_hour,
            budget_usd=budget_usd,
            deadline_hours=deadline_hours,
            value_usd_per_month=value_usd_per_month,
            report_dir=report_dir,
            total_samples=total_samples,
            batch_size=batch_size,
            trace=trace,
            report=report,
            log_metrics=log_metrics,
            providers=providers,
            regions=regions,
            purchase=purchase,
            price_lock=price_lock,
            own_prices=own_prices,
            pilot=pilot,
        )
        self._meter: Meter | None = None
        self._trainer: Any = None
        self._carried_s = 0.0
        self._session_s = 0.0

    def make_meter(self) -> Meter:
        """Return the meter of the next `Trainer.fit`; a subclass may return another."""
        return Meter(self._settings, self.services, self._disable, self._carried_s)

    def _rank_meter(self) -> Meter:
        return RankMeter(self._settings, self.services, self._disable, self._carried_s)

    def _guarded(self, hook: str, *arguments: Any) -> None:
        """Call one hook of the meter; an Exception in it ends the meter, not the training."""
        if self._meter is None:
            return
        try:
            getattr(self._meter, hook)(*arguments)
        except Exception as error:  # noqa: BLE001 - the promise: no fault of ours reaches the training
            self._disable(error)

    def _disable(self, error: Exception) -> None:
        meter, self._meter = self._meter, None
        if meter is None:
            return
        with contextlib.suppress(Exception):
            meter.release(self._trainer)
        if isinstance(meter, RankMeter):
            return
        what = "FareMeter had a fault and is off; training goes on as if it were not there"
        warn_user(f"{what}. {first_line(error)}")

    # Lightning's hooks.

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin a new measurement in a real `fit`; ranks other than 0 only measure."""
        del pl_module
        if stage != "fit":
            return
        self._meter = None
        if trainer.fast_dev_run:
            if trainer.is_global_zero:
                warn_user("FareMeter: fast_dev_run measures nothing and writes nothing")
            return
        self._trainer = trainer
        try:
            self._meter = self.make_meter() if trainer.is_global_zero else self._rank_meter()
        except Exception as error:  # noqa: BLE001 - the promise: no fault of ours reaches the training
            warn_user(f"FareMeter could not start and is off ({first_line(error)})")
        self._guarded("setup", trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Read the plan and begin to listen."""
        self._guarded("on_train_start", trainer, pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Watch one batch after the warm-up."""
        del pl_module, batch_idx
        self._guarded("on_train_batch_start", trainer, batch)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Tell the trace that the optimizer begins."""
        del trainer, pl_module, optimizer
        self._guarded("on_before_optimizer_step")

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        del pl_module, batch_idx
        self._guarded("on_train_batch_end", trainer, batch)
        if self._settings.pilot is not None:
            self._guarded("record", trainer, outputs)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave no watched batch behind."""
        del trainer, pl_module
        self._guarded("on_train_epoch_end")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop the watch: validation is no part of a step."""
        del pl_module
        self._guarded("on_validation_start", trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Start the watch again."""
        del pl_module
        self._guarded("on_validation_end", trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the profile and the report."""
        self._guarded("on_train_end", trainer, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave everything as it was, and report what is known."""
        # A second Ctrl-C ends the report; the exception under way stays the one that the user sees.
        with contextlib.suppress(BaseException):
            self._guarded("on_exception", trainer, pl_module, exception)
        self._forget()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Let go of the Trainer."""
        del pl_module
        if stage == "fit":
            self._guarded("teardown", trainer)
            self._forget()

    def _forget(self) -> None:
        self._session_s = self.state_dict()["elapsed_s"]
        self._meter = None
        self._trainer = None

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds trained so far, so that a resumed run adds up."""
        meter = self._meter
        try:
            elapsed_s = self._session_s if meter is None else float(meter.elapsed_s)
        except Exception as error:  # noqa: BLE001 - the promise: no fault of ours reaches the training
            self._disable(error)
            elapsed_s = self._session_s
        return {"version": 1, "elapsed_s": elapsed_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the seconds of earlier sessions; a state that is not ours is ignored."""
        try:
            elapsed_s = state_dict["elapsed_s"]
            usable = isinstance(elapsed_s, int | float) and not isinstance(elapsed_s, bool)
            if not usable or not math.isfinite(elapsed_s) or not 0.0 <= elapsed_s <= 1e10:
                return
            self._carried_s = self._session_s = float(elapsed_s)
            if self._meter is not None:
                self._meter.carried_s = self._carried_s
        except Exception:  # noqa: BLE001, S110 - a foreign or damaged state costs the earlier seconds, no more
            pass
