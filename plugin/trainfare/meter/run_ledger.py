"""The record of a metered run in the ledger: written as it begins, and replaced as it ends."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainfare.job.loop import Loop
from trainfare.job.run_facts import RunFacts
from trainfare.job.user_code import replace_attribute
from trainfare.ledger.bucket import remove_record
from trainfare.ledger.place import LEDGER_VARIABLE, LedgerFolder
from trainfare.ledger.plans import add_plan
from trainfare.ledger.profiles import add_profile, describe_setup
from trainfare.ledger.run_status import RunStatus
from trainfare.meter.fare_log import first_line, warn_user
from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.priced_plan import list_differences, read_priced_plan
from trainfare.meter.services import MeterServices, import_polars
from trainfare.meter.session_energy import SessionEnergy
from trainfare_core.energy import RunEnergy
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.installation import __version__
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.run_record import RunMachine, RunRecord, TimeParts


class RunLedger:
    """
    Keeps the record of one run; an error gives one warning, and then the run is not recorded.

    Args:
        services: clock, ledger and files.
    """

    def __init__(self, services: MeterServices) -> None:
        self._services = services
        self._record: RunRecord | None = None
        self._written: RunRecord | None = None
        self._folder: LedgerFolder = Path()
        self._saving_s: float | None = None
        self._energy: SessionEnergy | None = None
        self._undo = contextlib.ExitStack()

    def begin(self, run: MeteredRun, usd_per_hour: float | None, status: RunStatus, earlier_s: float) -> None:
        """Write that a run has begun, and begin to measure its energy; called before its first step."""
        self._energy = SessionEnergy(self._services, run.progress.facts.device)
        self._guard(lambda: self._begin(run, usd_per_hour, status, earlier_s))

    def end(self, run: MeteredRun, error: BaseException | None, status: RunStatus) -> None:
        """Write what a run took, and say its energy; called after its window was closed."""
        self._guard(lambda: self._end(run, error, status, self._find_energy(run)))

    def add(self, profile: JobProfile, *, failed: bool) -> None:
        """
        Write which job it was, and of a run on a GPU that did not fail what its step was predicted to take.

        Args:
            profile: of the run.
            failed: an exception ended the run.
        """
        predict = not failed and profile.measured is not None and profile.measured.device_kind == "cuda"
        self._guard(lambda: self._add(profile, predict=predict))

    def drop(self) -> None:
        """Remove the record of a run that goes on and is no longer measured: nothing is known of its end."""
        self._undo.close()
        if self._written is not None:
            remove_record(self._written, self._folder)
        self._record = self._written = None

    def _guard(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001 - without its record the run and its report are as they are
            self._record = None
            what = f"FareMeter: this run is not in the ledger: {first_line(error)}"
            warn_user(f"{what.rstrip('.')}. {LEDGER_VARIABLE}=off keeps none")

    def _write(self, record: RunRecord) -> None:
        self._record = record
        self._services.write_run(record, self._folder)
        self._written = record

    def _begin(
        self, run: MeteredRun, usd_per_hour: float | None, status: RunStatus, earlier_s: float
    ) -> None:
        place = self._services.find_ledger()
        if place is None:
            return
        self._folder, facts = place.folder, run.progress.facts
        setup = describe_setup(
            facts.parallel, facts.precision, facts.software, _name_device(facts),
            run.progress.sizes().micro_batch_size, run.settings.machine or "",
        )  # fmt: skip
        record = RunRecord(
            tool_version=__version__, run_id=secrets.token_hex(6), state="running",
            started_at=self._services.utc_now(), project=place.project, job=facts.name,
            usd_per_hour=usd_per_hour, steps_planned=run.progress.planned_steps(),
            parts=TimeParts(startup_s=status.elapsed_s - earlier_s), earlier_s=earlier_s,
            process=status.process, sessions_id=status.run_id,
            folder=str(run.find_folder().resolve())[:500] if run.settings.report else "",
        ).model_copy(update=setup)  # fmt: skip
        plan = read_priced_plan()
        self._time_saving(run.loop)
        self._write(record if plan is None else add_plan(record, plan, list_differences(plan, facts)))

    def _time_saving(self, loop: Loop) -> None:
        owner, name = loop.saving or (None, "")
        save, now = getattr(owner, name, None), self._services.now
        if not callable(save):
            return
        self._saving_s = 0.0

        @functools.wraps(save)
        def save_timed(*args: Any, **kwargs: Any) -> Any:
            began_s = now()
            try:
                return save(*args, **kwargs)
            finally:
                self._saving_s = (self._saving_s or 0.0) + now() - began_s

        self._undo.enter_context(replace_attribute(owner, name, save_timed))

    def _end(
        self, run: MeteredRun, error: BaseException | None, status: RunStatus, energy: RunEnergy | None
    ) -> None:
        self._undo.close()
        record, progress, times = self._record, run.progress, run.window.times
        if record is None:
            return
        validation = run.window.validation
        batch = validation.batch_quantiles()
        update: dict[str, object] = {
            "state": "finished" if error is None else "failed",
            "ended_by": "" if error is None else type(error).__name__[:200],
            # The host's clock may have been set back since.
            "ended_at": max(self._services.utc_now(), record.started_at),
            "memory_bytes": record.memory_bytes.measure(run.window.peak_memory_bytes),
            "run_s": record.run_s.measure(status.elapsed_s),
            "usd": record.usd.measure(status.usd_so_far),
            "steps_planned": progress.planned_steps(),
            "steps_done": status.steps_done,
            "interruptions": None if record.earlier_s > 0 or progress.length.calls_done > 0 else 0,
        }
        validation_s = batch.median_s * validation.batches if batch else None
        parts = {"validation_s": validation_s, "checkpoint_s": self._saving_s}
        if times is not None:
            update |= {"step_s": record.step_s.measure(times.step.median_s), "steps_measured": times.steps}
            update |= {"step_p10_s": times.step.p10_s, "step_p90_s": times.step.p90_s}
            parts["data_wait_s"] = times.data_wait.median_s * progress.steps if times.data_wait else None
        update |= {"parts": record.parts.model_copy(update=parts), "energy": energy}
        self._write(record.model_copy(update=update))

    def _find_energy(self, run: MeteredRun) -> RunEnergy | None:
        """Return the energy of the session, and say it; None where nothing counted it."""
        facts, energy = run.progress.facts, self._energy
        setup = describe_setup(facts.parallel, "", "", _name_device(facts), None, run.settings.machine or "")
        found = None if energy is None else energy.end(RunMachine.model_validate(setup["machine"]))
        if found is None:
            return None
        if run.settings.report:
            self._services.say(f"trainfare: {found[1]}")
        return found[0]

    def _add(self, profile: JobProfile, *, predict: bool) -> None:
        if self._record is None:
            return
        if predict:
            import_polars()
        self._write(add_profile(self._record, profile, predict=predict))


def _name_device(facts: RunFacts) -> str:
    """Return the accelerator of a run as the catalogue names it, else as its driver does, else its kind."""
    if facts.device_kind != "cuda":
        return facts.device.type
    name = torch.cuda.get_device_name(facts.device)
    device = resolve_device(name)
    return name if device is None else device.name
