"""The end of a metered run: rank the machines, write profile and report, hand a table to the loggers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainfare.meter.fare_log import FareLog, first_line, warn_user
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare_providers.time_limit import call_within

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Recommendation

__all__ = ["report_folder", "report_run"]


def report_folder(trainer: Any, settings: MeterSettings) -> Path:
    """
    Return where the files go: `report_dir`, else the first logger's folder, else the Trainer's root folder.

    `trainer.log_dir` is not asked, because it is a collective call. A remote folder is not written to: the
    current one is taken.

    Args:
        trainer: of either namespace.
        settings: the arguments of FareMeter.
    """
    if settings.report_dir is not None:
        return Path(settings.report_dir)
    folder = None
    for logger in trainer.loggers[:1]:
        folder = getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None)
    text = str(folder or trainer.default_root_dir)
    return Path() if "://" in text else Path(text)


def report_run(
    trainer: Any, profile: JobProfile, settings: MeterSettings, services: MeterServices, log: FareLog
) -> None:
    """
    Write the profile, then the report if there are prices; the profile is safe before prices are asked for.

    Args:
        trainer: of either namespace.
        profile: of this run.
        settings: the arguments of FareMeter.
        services: prices, files, console.
        log: the loggers' guard.
    """
    folder = report_folder(trainer, settings)
    path = services.write_profile(profile, folder)
    try:
        answer = call_within(services.pricing_limit_s, lambda: services.recommend(profile, settings))
    except Exception as error:  # noqa: BLE001 - a price source may fail in any way; the profile is saved
        warn_user(f"FareMeter: prices unavailable: {first_line(error)}. The profile is saved: {path}")
        return
    as_of = services.today()
    services.show(answer, profile, as_of)
    written = services.write_reports(answer, profile, folder, as_of)
    services.say("trainfare: wrote " + ", ".join(str(file) for file in (path, *written)))
    page = next((file for file in written if file.suffix == ".html"), None)
    _hand_to_loggers(trainer, services.markdown(answer, profile, as_of), page, answer, log)


_COLUMNS = (
    "rank", "machine", "nodes", "run_usd", "run_usd_low_80", "run_usd_high_80", "run_hours", "price_observed_on",
)  # fmt: skip


def _hand_to_loggers(
    trainer: Any, markdown: str, page: Path | None, answer: Recommendation, log: FareLog
) -> None:
    """Give the answer to the loggers that can show one, each by its own way in."""
    best = answer.options[0] if answer.options else None

    def tensorboard(logger: Any) -> None:
        logger.experiment.add_text("fare/report", markdown, trainer.global_step)

    def wandb(logger: Any) -> None:
        if best is not None:
            summary = {"fare/best_machine": best.machine, "fare/best_run_usd": best.run_usd.mid}
            logger.experiment.summary.update(summary)
            logger.log_table("fare/options", columns=list(_COLUMNS), data=_table(answer))

    def mlflow(logger: Any) -> None:
        if best is not None:
            logger.experiment.set_tag(logger.run_id, "fare/best_machine", best.machine)
            logger.experiment.set_tag(logger.run_id, "fare/best_run_usd", f"{best.run_usd.mid:.2f}")
        logger.experiment.log_text(logger.run_id, markdown, "trainfare-report.md")
        if page is not None:
            logger.experiment.log_artifact(logger.run_id, str(page))

    ways = {"TensorBoardLogger": tensorboard, "WandbLogger": wandb, "MLFlowLogger": mlflow}
    for logger in trainer.loggers:
        for kind in type(logger).__mro__:
            if kind.__name__ in ways:
                log.guarded(logger, "report", ways[kind.__name__])
                break


def _table(answer: Recommendation) -> list[list[str | int | float]]:
    """Return one row an option, in the order of `_COLUMNS`."""
    return [
        [
            one.rank,
            one.machine,
            one.nodes,
            one.run_usd.mid,
            one.run_usd.low_80,
            one.run_usd.high_80,
            one.run_hours.mid,
            one.price_observed_on,
        ]
        for one in answer.options
    ]
