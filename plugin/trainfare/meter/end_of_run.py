"""End of a metered run: trace what is missing, rank the machines, write profile, report and learning curve."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainfare.meter.fare_log import FareLog, first_line, warn_user
from trainfare.meter.measured_profile import measured_profile
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.settings import MeterSettings
from trainfare.trace import StepFacts, untraced_facts
from trainfare.trace.batch_spread import choose_sizes
from trainfare_core._version import __version__
from trainfare_providers.time_limit import call_while_working

if TYPE_CHECKING:
    from trainfare.meter.curve_recorder import CurveRecorder
    from trainfare_core.recommendation import Option, Recommendation

__all__ = ["report_folder", "report_run", "write_curve"]


def report_folder(trainer: Any, settings: MeterSettings) -> Path:
    """
    Return the folder of the files: `report_dir`, else the first logger's folder, else the Trainer's root folder.

    `trainer.log_dir` is not read, because reading it is a collective call. Where the folder is a remote one, the
    files go to the current folder.

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


def write_curve(trainer: Any, run: MeteredRun, recorder: CurveRecorder, *, ended_early: bool) -> None:
    """
    Write the learning curve of a pilot run; a failure gives one warning.

    Args:
        trainer: of either namespace.
        run: after its window was closed.
        recorder: of this run; it reads its values now, which waits for the device.
        ended_early: the run did not come to its planned end.
    """
    try:
        curve = recorder.curve(
            tool_version=__version__,
            planned_steps=run.planned_steps(),
            samples_per_step=run.samples_per_step(),
            train_samples=run.samples_in_epoch(),
            peak_memory_bytes=run.peak_memory_bytes,
            ended_early=ended_early,
        )
        path = run.services.write_curve(curve, report_folder(trainer, run.settings))
    except Exception as error:  # noqa: BLE001 - without the curve the rest of the report is still written
        warn_user(f"FareMeter: the pilot's learning curve is lost: {first_line(error)}")
        return
    run.services.say(f"trainfare: wrote {path}")


def report_run(
    trainer: Any, module: Any, run: MeteredRun, log: FareLog, notes: tuple[str, ...], *, failed: bool = False
) -> None:
    """
    Write the profile, then rank the machines and write, print and log the report.

    The profile is written first, so that what was measured is kept whatever becomes of trace and ranking.

    Args:
        trainer: of either namespace.
        module: the LightningModule.
        run: after its window was closed.
        log: gives the report to the loggers.
        notes: what was assumed or could not be measured.
        failed: an exception ended the run. Its traceback follows: only the profile is written, in one line.
    """
    services, settings = run.services, run.settings
    step, problem = _step_facts(trainer, module, run, failed=failed)
    if len(run.phases) > 1 and not step.differs and not problem:
        step = replace(
            step, differs=f"of the last of {len(run.phases)} phases: the step of the others was not traced"
        )
    if problem and run.times is None:
        if not failed:
            services.say(f"trainfare: no ranking: unknown, because {problem}")
        return
    unknown = (f"the operations of the step are unknown: {problem}",) if problem else ()
    profile = measured_profile(run, step, (*notes, *unknown))
    folder = report_folder(trainer, settings)
    path = services.write_profile(profile, folder)
    if problem:
        what = "trainfare: no ranking: the operations of the step are unknown, because"
        services.say(f"{what} {problem}. The measured times are in {path}")
        return
    if failed:
        services.say(f"trainfare: wrote {path}: rank machines with `trainfare recommend {path}`")
        return
    try:
        answer = call_while_working(services.pricing_limit_s, lambda: services.recommend(profile, settings))
    except Exception as error:  # noqa: BLE001 - a price source may raise anything; the profile is saved
        saved = f"The profile is saved: rank it with `trainfare recommend {path}`"
        warn_user(f"FareMeter: no ranking: {first_line(error).rstrip('.')}. {saved}")
        return
    as_of = services.today()
    written = services.write_reports(answer, profile, folder, as_of)
    services.show(answer, profile, as_of, (path, *written))
    page = next((file for file in written if file.suffix == ".html"), None)
    _log_report(trainer, services.markdown(answer, profile, as_of), page, answer, log)


def _step_facts(trainer: Any, module: Any, run: MeteredRun, *, failed: bool) -> tuple[StepFacts, str]:
    """
    Return the facts of the traced step, or where there is none those of an uncompiled copy on fake tensors.

    Where neither is there, the facts have no operations, and the second value says why.
    """
    traced = run.final_step(run.plan().steps or run.steps_done(trainer))
    if traced is not None:
        return traced, ""
    reason = run.tracing.reason or f"{run.trace_problem}: a copy on fake tensors was traced"
    if run.tracing.how == "none" or not run.shapes:
        return untraced_facts(module, trainer.optimizers), run.tracing.reason or "no batch was trained"
    if failed:
        return untraced_facts(
            module, trainer.optimizers
        ), "an exception ended the run before they were traced"
    micro_batches = max(1, round(run.batches_per_step))
    sizes = [elements for elements, _ in run.shapes]
    first, second = choose_sizes(sizes, run.spread)
    try:
        step = run.services.fake_copy(module, run.shapes[first][1], trainer, micro_batches)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a fake copy runs the user's code
        return _live_step(trainer, module, run, error)
    step = replace(step.with_note(reason), elements=sizes[first])
    with contextlib.suppress(Exception, SystemExit):  # a copy for a second size that fails leaves one size
        if second is not None:
            other = run.services.fake_copy(module, run.shapes[second][1], trainer, micro_batches)
            step = replace(step, other=replace(other, elements=sizes[second]))
    return step, ""


def _live_step(trainer: Any, module: Any, run: MeteredRun, error: BaseException) -> tuple[StepFacts, str]:
    """Return the facts of a step on the run's own tensors, where a fake copy has raised; see `_step_facts`."""
    # A trace's message ends with the advice to use FareMeter, which is in use here.
    problem = first_line(error).partition(" Measure one step with FareMeter")[0].rstrip(".")
    if run.real_batch is not None:
        elements, batch = run.real_batch
        try:
            step = run.services.live_step(module, batch, trainer, max(1, round(run.batches_per_step)))
        except (Exception, SystemExit) as other:  # noqa: BLE001 - it runs the user's code
            problem = f"{problem}. On real tensors: {first_line(other).rstrip('.')}"
        else:
            because = getattr(error, "because", problem)
            note = f"traced on real tensors after the training, because {because}"
            return replace(step.with_note(note), elements=elements, compiled=run.tracing.compiled), ""
    return untraced_facts(module, trainer.optimizers), problem


def _log_report(trainer: Any, markdown: str, page: Path | None, answer: Recommendation, log: FareLog) -> None:
    """Log the report through TensorBoard, W&B and MLflow, each by its own API."""
    best = answer.options[0] if answer.options else None

    def tensorboard(logger: Any) -> None:
        logger.experiment.add_text("fare/report", markdown, trainer.global_step)

    def wandb(logger: Any) -> None:
        if best is not None:
            summary = {"fare/best_machine": best.machine, "fare/best_run_usd": best.run_usd.mid}
            logger.experiment.summary.update(summary)
            rows = [_table_row(one) for one in answer.options]
            logger.log_table("fare/options", columns=list(rows[0]), data=[list(row.values()) for row in rows])

    def mlflow(logger: Any) -> None:
        if best is not None:
            logger.experiment.set_tag(logger.run_id, "fare/best_machine", best.machine)
            logger.experiment.set_tag(logger.run_id, "fare/best_run_usd", f"{best.run_usd.mid:.2f}")
        logger.experiment.log_text(logger.run_id, markdown, "trainfare-report.md")
        if page is not None:
            logger.experiment.log_artifact(logger.run_id, str(page))

    by_logger = {"TensorBoardLogger": tensorboard, "WandbLogger": wandb, "MLFlowLogger": mlflow}
    for logger in trainer.loggers:
        for kind in type(logger).__mro__:
            if kind.__name__ in by_logger:
                log.guarded(logger, by_logger[kind.__name__])
                break


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
