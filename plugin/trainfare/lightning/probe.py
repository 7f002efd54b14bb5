"""The callback of `trainfare probe`: it measures a Trainer's run, and ends the process once it has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

from trainfare.job import Probe, describe
from trainfare.lightning.callback import FareMeter
from trainfare.lightning.callback_base import LightningCallback
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.probe_meter import ProbeMeter, SharedStop
from trainfare.meter.services import MeterServices
from trainfare_core.errors import InternalError, TargetError
from trainfare_core.job_profile import JobProfile

_SAVERS: Final = {"Checkpoint", "SaveConfigCallback"}
"""Lightning's base classes of callbacks that save."""
_CHILD_WAIT_S: Final = 30.0
"""Chosen: a process of another device that has left its loop only ends."""


def attach(trainer: Any, probe: Probe) -> bool:
    """
    Give a Trainer the callback before its `fit`; return whether that is a run, and not the search of a Tuner.

    Args:
        trainer: of either namespace.
        probe: what is measured.

    Raises:
        TargetError: the processes of the run could not be ended together.
    """
    if any(getattr(callback, "_early_exit", False) for callback in trainer.callbacks):
        return False
    launcher: Any = trainer.strategy.launcher
    if any(base.__name__ == "_MultiProcessingLauncher" for base in type(launcher).__mro__):
        msg = (
            f"{type(trainer.strategy).__name__} starts copies of this process, which cannot be ended together"
        )
        raise TargetError(f'{msg}: give strategy="ddp", or start the script with torchrun')
    if hasattr(launcher, "procs"):  # it starts the script for the other devices: those are measured, too
        home: Any = sys.modules[type(launcher).__module__]
        home._basic_subprocess_cmd = lambda: [sys.executable, *sys.orig_argv[1:]]  # noqa: SLF001
        home._hydra_subprocess_cmd = _refuse_hydra  # noqa: SLF001
    trainer.callbacks.insert(0, ProbeCallback(probe, trainer))
    return True


def _refuse_hydra(_: int) -> NoReturn:
    raise TargetError(
        "Lightning starts the processes of a Hydra script in its own way: start it with torchrun"
    )


def _do_nothing(*_: object, **__: object) -> None:
    pass


def _write_message(line: str) -> None:
    sys.stderr.write(line + "\n")


def _leave_before(name: str) -> Callable[..., None]:
    """Return a hook before which the process ends; what the measured steps logged is with the loggers by then."""

    def hook(self: ProbeCallback, trainer: Any, *args: Any) -> None:
        if not trainer.sanity_checking:
            self.leave_in_time(trainer)
        getattr(FareMeter, name)(self, trainer, *args)

    return hook


class ProbeCallback(FareMeter):
    """
    Measures, and ends the process before the step after the measured ones, or where training ends earlier.

    Args:
        probe: what is measured.
        trainer: of the run.
    """

    # The command asks for prices.
    services = MeterServices(say=_write_message, check_prices=_do_nothing)

    def __init__(self, probe: Probe, trainer: Any) -> None:
        super().__init__(measure_steps=probe.steps, log_metrics=False)
        self._probe = probe
        self._stop = SharedStop(self._settings, trainer.global_rank, trainer.world_size)
        self._problem: Exception = TargetError("Trainer(fast_dev_run=...) is no run that could be priced")

    def make_meter(self) -> FitMeter:
        """Return a meter that keeps the profile."""
        return ProbeMeter(self._settings, self.services, self._disable, self._earlier_sessions_s)

    def _disable(self, error: Exception) -> None:
        meter, self._meter = self._meter, None
        self._problem = InternalError(f"the meter had a fault: {describe(error)}")
        if meter is not None:
            with contextlib.suppress(Exception):
                meter.release()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Switch off what saves, and another meter; their attributes stay for the code that reads them."""
        super().setup(trainer, pl_module, stage)
        hooks = [name for name in dir(LightningCallback) if name.startswith("on_")]
        for callback in trainer.callbacks[1:] if stage == "fit" else ():
            bases = {base.__name__ for base in type(callback).__mro__}
            if isinstance(callback, FareMeter) or (bases & _SAVERS and not self._probe.save):
                for name in (*hooks, *(() if "Checkpoint" in bases else ("setup",))):
                    setattr(callback, name, _do_nothing)

    on_train_batch_start = _leave_before("on_train_batch_start")
    on_validation_start = _leave_before("on_validation_start")
    on_train_epoch_end = _leave_before("on_train_epoch_end")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the process of a run that was shorter than the measurement."""
        super().on_train_end(trainer, pl_module)
        self._leave(trainer)

    def leave_in_time(self, trainer: Any) -> None:
        """End the process once the steps are measured, or the meter is off."""
        if self._meter is not None:
            if not self._stop.decide(self._meter):
                return
            self.call_guarded(lambda meter: meter.stop() if isinstance(meter, ProbeMeter) else meter.end())
        self._leave(trainer)

    def _leave(self, trainer: Any) -> NoReturn:
        """Stop the workers of the loaders, finish the loggers as after Ctrl-C, and end the process."""
        finals = [partial(logger.finalize, "failed") for logger in trainer.loggers]
        for close in (trainer.fit_loop.teardown, *finals, self._stop.wait_for_others):
            try:
                close()
            except Exception as error:  # noqa: BLE001, PERF203 - of the script; the measurement is kept
                _write_message(f"warning: closing loaders and loggers: {describe(error)}")
        for child in getattr(trainer.strategy.launcher, "procs", ()):
            with contextlib.suppress(Exception):
                child.wait(_CHILD_WAIT_S)
        self._probe.end(self._give_profile)

    def _give_profile(self) -> JobProfile | None:
        if self._meter is None:
            raise self._problem
        return self._meter.give_profile() if isinstance(self._meter, ProbeMeter) else None
