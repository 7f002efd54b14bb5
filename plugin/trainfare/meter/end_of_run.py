"""End of a metered run: rank the machines, write profile, report and learning curve."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING

from trainfare.job.loop import RunReport
from trainfare.meter.fare_log import FareLog, first_line, warn_user
from trainfare.meter.measured_profile import build_measured_profile
from trainfare.meter.metered_run import MeteredRun
from trainfare.trace import collect_untraced_facts
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.installation import __version__
from trainfare_core.job_profile import MAX_TEXT_CHARACTERS
from trainfare_core.number_format import shorten_text
from trainfare_providers.time_limit import call_while_working

if TYPE_CHECKING:
    from trainfare.meter.curve_recorder import CurveRecorder
    from trainfare.meter.run_ledger import RunLedger
    from trainfare_core.job_profile import JobProfile


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
        path = run.services.write_curve(curve, run.find_folder())
    except Exception as error:  # noqa: BLE001 - without the curve the rest of the report is still written
        warn_user(f"FareMeter: the pilot's learning curve is lost: {first_line(error)}")
        return
    run.services.say(f"trainfare: wrote {path}")


def make_profile(run: MeteredRun, notes: tuple[str, ...]) -> tuple[JobProfile | None, str]:
    """
    Return the profile, None where no step was traced or measured, and why none was traced; "" where one was.

    Args:
        run: after its window was closed.
        notes: what was assumed or could not be measured.
    """
    step = run.traced.final_step(run.progress.plan().steps or run.progress.steps_done())
    unknown = "" if step is not None else f"the step was not traced, because {run.traced.problem}"
    if unknown and run.window.times is None:
        return None, unknown
    if step is None:
        step, notes = collect_untraced_facts(run.loop.module, run.loop.optimizers), (*notes, unknown)
    facts = run.progress.facts
    run.progress.facts = run.loop.complete_facts(facts, step.operations)
    try:
        profile = build_measured_profile(run, step, notes)
        because = shorten_text(unknown, MAX_TEXT_CHARACTERS) or None
        return profile.model_copy(update={"untraced_because": because}), unknown
    finally:
        run.progress.facts = facts  # which a later profile completes by what is known then


def report_run(
    run: MeteredRun,
    log: FareLog,
    notes: tuple[str, ...],
    ledger: RunLedger,
    *,
    failed: bool = False,
) -> None:
    """
    Write the profile, then rank the machines and write, print and log the report.

    The profile is written first, so that what was measured is kept whatever becomes of trace and ranking.

    Args:
        run: after its window was closed.
        log: gives the report to the loggers.
        notes: what was assumed or could not be measured.
        ledger: has the record of the run.
        failed: an exception ended the run. Its traceback follows: only the profile is written, in one line.
    """
    services, settings = run.services, run.settings
    profile, unknown = make_profile(run, notes)
    if profile is None:
        if not failed:
            services.say(f"trainfare: no ranking: {unknown}")
        return
    folder = run.find_folder()
    path = services.write_profile(profile, folder)
    if unknown:
        services.say(f"trainfare: no ranking: {unknown}. The measured times are in {path}")
        return
    ledger.add(profile, failed=failed)
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
        log.use_guarded(logger, methodcaller("log_report", report))


def compute_mfu(profile: JobProfile | None) -> float | None:
    """Return the MFU of the measured steps of a GPU; None where it is not known."""
    measured = None if profile is None else profile.measured
    device = None if measured is None else resolve_device(measured.device_name)
    if profile is None or measured is None or device is None or not measured.step.median_s:
        return None
    flops = profile.model_step_flops * measured.work_ratio
    return device.compute_utilisation(profile.operations, flops / measured.step.median_s)
