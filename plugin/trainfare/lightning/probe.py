"""The callback of `trainfare probe`: it measures a Trainer's run, and ends the process once it has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

from trainfare.job import Probe
from trainfare.job.loop import do_nothing
from trainfare.lightning.callback import FareMeter
from trainfare.lightning.callback_base import LightningCallback
from trainfare.meter.probe_meter import ProbingMeter
from trainfare_core.errors import TargetError

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


def _leave_before(name: str) -> Callable[..., None]:
    """Return a hook before which the process ends; what the measured steps logged is with the loggers by then."""

    def hook(self: ProbeCallback, trainer: Any, *args: Any) -> None:
        if not trainer.sanity_checking:
            self.leave_in_time(trainer)
        getattr(FareMeter, name)(self, trainer, *args)

    return hook


class ProbeCallback(ProbingMeter, FareMeter):
    """
    Measures, and ends the process before the step after the measured ones, or where training ends earlier.

    Args:
        probe: what is measured.
        trainer: of the run.
    """

    def __init__(self, probe: Probe, trainer: Any) -> None:
        super().__init__(measure_steps=probe.steps, log_metrics=False)
        problem = TargetError("Trainer(fast_dev_run=...) is no run that could be priced")
        self._start_probe(probe, trainer.global_rank, trainer.world_size, problem)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Switch off what saves, and another meter; their attributes stay for the code that reads them."""
        super().setup(trainer, pl_module, stage)
        hooks = [name for name in dir(LightningCallback) if name.startswith("on_")]
        for callback in trainer.callbacks[1:] if stage == "fit" else ():
            bases = {base.__name__ for base in type(callback).__mro__}
            if isinstance(callback, FareMeter) or (bases & _SAVERS and not self._probe.save):
                for name in (*hooks, *(() if "Checkpoint" in bases else ("setup",))):
                    setattr(callback, name, do_nothing)

    on_train_batch_start = _leave_before("on_train_batch_start")
    on_validation_start = _leave_before("on_validation_start")
    on_train_epoch_end = _leave_before("on_train_epoch_end")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the process of a run that was shorter than the measurement."""
        super().on_train_end(trainer, pl_module)
        self._leave(trainer)

    def leave_in_time(self, trainer: Any) -> None:
        """End the process once the steps are measured, or the meter is off."""
        if self._is_measured():
            self._leave(trainer)

    def _leave(self, trainer: Any) -> NoReturn:
        """Stop the workers of the loaders, finish the loggers as after Ctrl-C, and end the process."""
        finals = [partial(logger.finalize, "failed") for logger in trainer.loggers]
        self._end_process(trainer.fit_loop.teardown, *finals, partial(_wait_for_children, trainer))


def _wait_for_children(trainer: Any) -> None:
    for child in getattr(trainer.strategy.launcher, "procs", ()):
        with contextlib.suppress(Exception):
            child.wait(_CHILD_WAIT_S)
