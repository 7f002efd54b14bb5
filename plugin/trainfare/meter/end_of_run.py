"""End of a metered run: trace what is missing, rank the machines, write profile, report and learning curve."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainfare.job.loop import RunReport
from trainfare.meter.fare_log import FareLog, first_line, warn_user
from trainfare.meter.measured_profile import build_measured_profile
from trainfare.meter.metered_run import MeteredRun
from trainfare.trace import StepFacts, collect_untraced_facts
from trainfare.trace.batch_spread import choose_sizes
from trainfare_core._version import __version__
from trainfare_providers.time_limit import call_while_working

if TYPE_CHECKING:
    from trainfare.meter.curve_recorder import CurveRecorder


def _find_folder(run: MeteredRun) -> Path:
    """Return the folder of the files: `report_dir`, else the loop's."""
    return run.loop.folder() if run.settings.report_dir is None else Path(run.settings.report_dir)


def write_curve(run: MeteredRun, recorder: CurveRecorder, *, ended_early: bool) -> None:
    """
    Write the learning curve of a pilot run; a failure gives one warning.

    Args:
        run: after its window was closed.
        recorder: of this run; it reads its values now, which waits for the device.
        ended_early: the run did not come to its planned end.
    """
    try:
        curve = recorder.curve(
            tool_version=__version__,
            planned_steps=run.progress.planned_steps(),
            samples_per_step=run.progress.samples_per_step(),
            train_samples=run.progress.samples_in_epoch(),
            peak_memory_bytes=run.window.peak_memory_bytes,
            ended_early=ended_early,
        )
        path = run.services.write_curve(curve, _find_folder(run))
    except Exception as error:  # noqa: BLE001 - without the curve the rest of the report is still written
        warn_user(f"FareMeter: the pilot's learning curve is lost: {first_line(error)}")
        return
    run.services.say(f"trainfare: wrote {path}")


def report_run(run: MeteredRun, log: FareLog, notes: tuple[str, ...], *, failed: bool = False) -> None:
    """
    Write the profile, then rank the machines and write, print and log the report.

    The profile is written first, so that what was measured is kept whatever becomes of trace and ranking.

    Args:
        run: after its window was closed.
        log: gives the report to the loggers.
        notes: what was assumed or could not be measured.
        failed: an exception ended the run. Its traceback follows: only the profile is written, in one line.
    """
    services, settings = run.services, run.settings
    step, problem = _step_facts(run, failed=failed)
    if len(run.traced.phases) > 1 and not step.differs and not problem:
        step = replace(
            step,
            differs=f"of the last of {len(run.traced.phases)} phases: the step of the others was not traced",
        )
    if problem and run.window.times is None:
        if not failed:
            services.say(f"trainfare: no ranking: unknown, because {problem}")
        return
    unknown = (f"the operations of the step are unknown: {problem}",) if problem else ()
    profile = build_measured_profile(run, step, (*notes, *unknown))
    folder = _find_folder(run)
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
    report = RunReport(answer, services.markdown(answer, profile, as_of), page, run.loop.updates)
    for logger in run.loop.logs():
        log.use_guarded(logger, lambda one: one.log_report(report))


def _step_facts(run: MeteredRun, *, failed: bool) -> tuple[StepFacts, str]:
    """
    Return the facts of the traced step, or where there is none those of an uncompiled copy on fake tensors.

    Where neither is there, the facts have no operations, and the second value says why.
    """
    traced = run.traced.final_step(run.progress.plan().steps or run.progress.steps_done())
    if traced is not None:
        return traced, ""
    reason = run.traced.method.reason or f"{run.traced.problem}: a copy on fake tensors was traced"
    if run.traced.method.how == "none" or not run.traced.shapes:
        return collect_untraced_facts(
            run.loop.module, run.loop.optimizers
        ), run.traced.method.reason or "no batch was trained"
    if failed:
        return collect_untraced_facts(
            run.loop.module, run.loop.optimizers
        ), "an exception ended the run before they were traced"
    micro_batches, precision = max(1, round(run.progress.batches_per_step)), run.progress.facts.precision
    sizes = [elements for elements, _ in run.traced.shapes]
    first, second = choose_sizes(sizes, run.traced.spread)
    try:
        step = run.services.fake_copy(run.loop, run.traced.shapes[first][1], precision, micro_batches)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a fake copy runs the user's code
        return _live_step(run, error)
    step = replace(step.with_note(reason), elements=sizes[first])
    with contextlib.suppress(Exception, SystemExit):  # a copy for a second size that fails leaves one size
        if second is not None:
            other = run.services.fake_copy(run.loop, run.traced.shapes[second][1], precision, micro_batches)
            step = replace(step, other=replace(other, elements=sizes[second]))
    return step, ""


def _live_step(run: MeteredRun, error: BaseException) -> tuple[StepFacts, str]:
    """Return the facts of a step on the run's own tensors, where a fake copy has raised; see `_step_facts`."""
    # A trace's message ends with the advice to use FareMeter, which is in use here.
    problem = first_line(error).partition(" Measure one step with FareMeter")[0].rstrip(".")
    if run.traced.real_batch is not None:
        elements, batch = run.traced.real_batch
        try:
            step = run.services.live_step(
                run.loop, batch, run.progress.facts.precision, max(1, round(run.progress.batches_per_step))
            )
        except (Exception, SystemExit) as other:  # noqa: BLE001 - it runs the user's code
            problem = f"{problem}. On real tensors: {first_line(other).rstrip('.')}"
        else:
            because = getattr(error, "because", problem)
            note = f"traced on real tensors after the training, because {because}"
            return replace(step.with_note(note), elements=elements, compiled=run.traced.method.compiled), ""
    return collect_untraced_facts(run.loop.module, run.loop.optimizers), problem
