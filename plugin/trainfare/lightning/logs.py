"""Loggers of Lightning, each by its own API: numbers while training runs, the report at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, final

from trainfare.job.loop import LoopLog, RunReport
from trainfare_core.recommendation import Option


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
