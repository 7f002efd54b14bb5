"""
A Trainer of either namespace as FareMeter sees it: an implementation of `trainfare.job.loop.Loop`.

Its loggers are used each by its own API: numbers while training runs, the report at its end.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast, final

from torch import nn
from torch.optim import Optimizer

from trainfare.job.loop import Loop, LoopLog, PhaseListener, RunReport
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import replace_attribute
from trainfare.lightning.profiler_tap import TeeProfiler, tell_phases
from trainfare.lightning.run_facts import read_run
from trainfare.lightning.run_length import add_scaling, batches_of, read_trainer
from trainfare.meter.fare_log import first_line, warn_user
from trainfare_core.recommendation import Option

BUDGET_CHECKPOINT: Final = "trainfare-budget.ckpt"
"""File of the checkpoint that is saved where a run reaches its budget."""


@final
class LightningLog(LoopLog):
    """
    One logger of a Trainer.

    Args:
        logger: of either namespace.
        trainer: counts the steps.
    """

    def __init__(self, logger: Any, trainer: Any) -> None:
        self._logger, self._trainer = logger, trainer

    @property
    def name(self) -> str:
        """The name of its class."""
        return type(self._logger).__name__

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log at the step by which Lightning logs."""
        trainer = self._trainer
        step = getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step)
        self._logger.log_metrics(dict(metrics), step=step)

    def log_report(self, report: RunReport) -> None:
        """Log to TensorBoard, W&B or MLflow, and to a logger derived from one of these; no other takes a report."""
        for kind in type(self._logger).__mro__:
            if kind.__name__ in _REPORTERS:
                _REPORTERS[kind.__name__](self._logger, report)
                return


def _log_to_tensorboard(logger: Any, report: RunReport) -> None:
    logger.experiment.add_text("fare/report", report.markdown, report.updates)


def _log_to_wandb(logger: Any, report: RunReport) -> None:
    options = report.answer.options
    if (best := report.answer.best(report.answer.objective)) is not None:
        summary = {"fare/best_machine": best.machine, "fare/best_run_usd": best.run_usd.mid}
        logger.experiment.summary.update(summary)
    if options:
        rows = [_table_row(option) for option in options]
        logger.log_table("fare/options", columns=list(rows[0]), data=[list(row.values()) for row in rows])


def _log_to_mlflow(logger: Any, report: RunReport) -> None:
    if (best := report.answer.best(report.answer.objective)) is not None:
        logger.experiment.set_tag(logger.run_id, "fare/best_machine", best.machine)
        logger.experiment.set_tag(logger.run_id, "fare/best_run_usd", f"{best.run_usd.mid:.2f}")
    logger.experiment.log_text(logger.run_id, report.markdown, "trainfare-report.md")
    if report.page is not None:
        logger.experiment.log_artifact(logger.run_id, str(report.page))


_REPORTERS: Final[Mapping[str, Callable[[Any, RunReport], None]]] = {
    "TensorBoardLogger": _log_to_tensorboard,
    "WandbLogger": _log_to_wandb,
    "MLFlowLogger": _log_to_mlflow,
}


def _table_row(option: Option) -> dict[str, str | int | float]:
    return {
        "rank": option.rank,
        "machine": option.machine,
        "nodes": option.nodes,
        "run_usd": option.run_usd.mid,
        "run_usd_low_80": option.run_usd.low_80,
        "run_usd_high_80": option.run_usd.high_80,
        "run_hours": option.run_hours.mid,
        "price_observed_on": option.price_observed_on,
    }


@final
class LightningLoop(Loop):
    """
    The fit loop of a Trainer.

    Args:
        trainer: in `on_train_start` or later.
        module: the LightningModule.
        meter: the callback that measures.
        any_devices: the Trainer was asked for as many devices as the machine has; None: not known.
    """

    def __init__(
        self, trainer: Any, module: nn.Module, meter: object, *, any_devices: bool | None = None
    ) -> None:
        self._any_devices = any_devices
        self._trainer, self._module, self._meter_id = trainer, module, id(meter)
        self.saving = trainer, "save_checkpoint"

    @property
    def module(self) -> nn.Module:
        """The LightningModule."""
        return self._module

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """The Trainer's."""
        optimizers: Sequence[Optimizer] = self._trainer.optimizers
        return optimizers

    def run_facts(self) -> RunFacts:
        """Read the strategy, the precision plugin and the loaders."""
        return read_run(self._trainer, self._module)

    def length(self) -> LoopLength:
        """Read the limits, the loaders and the callbacks."""
        facts, asked = read_trainer(self._trainer), self._any_devices
        return facts if asked is None else add_scaling(self._trainer, facts, any_devices=asked)

    @property
    def updates(self) -> int:
        """As `trainer.global_step`: under manual optimization each optimizer's step counts."""
        return int(self._trainer.global_step)

    @property
    def rank(self) -> int:
        """As `trainer.global_rank`."""
        return int(self._trainer.global_rank)

    @property
    def world_size(self) -> int:
        """As `trainer.world_size`."""
        return int(self._trainer.world_size)

    @property
    def epochs(self) -> int:
        """As `trainer.current_epoch`."""
        return int(self._trainer.current_epoch)

    @property
    def passes(self) -> int:
        """As `trainer.accumulate_grad_batches`, which callbacks may change."""
        return max(1, int(self._trainer.accumulate_grad_batches))

    @property
    def is_last_batch(self) -> bool:
        """As `trainer.is_last_batch`."""
        return bool(self._trainer.is_last_batch)

    @property
    def ends_in_step(self) -> bool:
        """As the loop itself decides."""
        accumulates = getattr(self._trainer.fit_loop.epoch_loop, "_should_accumulate", None)
        return not (callable(accumulates) and accumulates())

    def validation_batches(self) -> int | None:
        """Return the batches over all validation loaders, whose lengths may not have been known before."""
        return batches_of(self._trainer.num_val_batches)

    def metrics(self) -> Mapping[str, Any]:
        """Return what was logged with `self.log`."""
        metrics: Mapping[str, Any] = self._trainer.callback_metrics
        return metrics

    def watch(self, listener: PhaseListener, on_fault: Callable[[Exception], None]) -> Callable[[], None]:
        """
        Replace the Trainer's profiler by one that also tells the listener of its actions.

        A profiler that wraps ours by the time of the undoing stays; ours then only passes calls on.
        """
        trainer = self._trainer
        # By identity: the user's callbacks may define an equality.
        tell = tell_phases(listener, lambda: self._meter_id in map(id, trainer.callbacks))
        tee = TeeProfiler(trainer.profiler, tell, on_fault)
        trainer.profiler = tee

        def put_back() -> None:
            tee.silence()
            if trainer.profiler is tee:
                trainer.profiler = tee.inner

        return put_back

    def logs(self) -> Sequence[LightningLog]:
        """Return the Trainer's loggers."""
        return [LightningLog(logger, self._trainer) for logger in self._trainer.loggers]

    def show_in_bar(self, give_text: Callable[[], str]) -> Callable[[], None]:
        """Add an item to those of the progress bar's `get_metrics`, past `self.log`, until the meter is taken away."""
        trainer, bar, stack = self._trainer, self._trainer.progress_bar_callback, contextlib.ExitStack()
        if bar is None:
            return stack.close
        get_metrics = bar.get_metrics

        @functools.wraps(get_metrics)
        def get_with_fare(*args: Any, **kwargs: Any) -> Any:
            items = own = get_metrics(*args, **kwargs)
            if self._meter_id not in map(id, trainer.callbacks):
                stack.close()
            elif (text := give_text()) and isinstance(own, dict) and "fare" not in own:
                return {**cast("dict[str, Any]", own), "fare": text}
            return items

        stack.enter_context(replace_attribute(bar, "get_metrics", get_with_fare))
        return stack.close

    def show(self, line: str) -> bool:
        """Print above the progress bar."""
        bar = getattr(self._trainer, "progress_bar_callback", None)
        if bar is None or not getattr(bar, "is_enabled", False):
            return False
        bar.print(line)
        return True

    def folder(self) -> Path:
        """
        Return the first logger's folder, else the Trainer's root folder; the current one where that is a remote one.

        `trainer.log_dir` is not read, because reading it is a collective call.
        """
        folder = None
        for logger in self._trainer.loggers[:1]:
            folder = getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None)
        text = str(folder or self._trainer.default_root_dir)
        return Path() if "://" in text else Path(text)


def save_at_budget(trainer: Any, say: Callable[[str], None]) -> bool:
    """
    Save a checkpoint where the Trainer has its own, and return whether the run may end; called by all ranks.

    A single process that cannot save it trains on. Of several, all would wait for each other: the error ends them.
    """
    own = getattr(trainer.checkpoint_callback, "dirpath", None)
    path = f"{own or trainer.default_root_dir}/{BUDGET_CHECKPOINT}"
    try:
        trainer.save_checkpoint(path)
    except Exception as error:
        if trainer.world_size > 1:
            raise RuntimeError(f"no checkpoint at the budget of the run: {first_line(error)}") from error
        warn_user(f"FareMeter: no checkpoint at the budget, so the run goes on: {first_line(error)}")
        return False
    if trainer.is_global_zero:
        with contextlib.suppress(Exception):  # a console that is closed ends no training
            say(f"trainfare: fit(..., ckpt_path={path!r}) goes on from here, with a larger budget_usd")
    return True
