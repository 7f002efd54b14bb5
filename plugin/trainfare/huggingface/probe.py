"""The callback of `trainfare probe` for Hugging Face's Trainer."""

from __future__ import annotations

import contextlib
from typing import Any, NoReturn

from trainfare.huggingface.callback import FareMeter
from trainfare.job import Probe
from trainfare.job.loop import do_nothing
from trainfare.meter.probe_meter import ProbingMeter, stop_workers
from trainfare_core.errors import TargetError


def attach(trainer: Any, probe: Probe) -> bool:
    """
    Give a Trainer the callback before its `train`; return True: each call is a run.

    Args:
        trainer: a `transformers.Trainer`.
        probe: what is measured.
    """
    ProbeCallback(probe, trainer).watch_run()
    return True


class ProbeCallback(ProbingMeter, FareMeter):
    """
    Measures, and ends the process after the measured steps, or where training ends earlier.

    Args:
        probe: what is measured.
        trainer: of the run.
    """

    def __init__(self, probe: Probe, trainer: Any) -> None:
        super().__init__(measure_steps=probe.steps)
        self._loop.trainer = trainer
        problem = TargetError("the Trainer trained no step")
        self._start_probe(probe, trainer.args.process_index, trainer.args.world_size, problem)

    def watch_run(self) -> None:
        """Be told of what the Trainer does until the process ends; a FareMeter of the script is off."""
        trainer: Any = self._loop.trainer
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, FareMeter):
                for name in [name for name in dir(callback) if name.startswith("on_")]:
                    setattr(callback, name, do_nothing)
        trainer.add_callback(self)
        self._watched = contextlib.ExitStack()
        self._watch_trainer(self._watched)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """End the process once the steps are measured: before what is logged, evaluated or saved after the step."""
        meter: Any = super()
        meter.on_step_end(args, state, control, **more)
        self._save_nothing(control)
        if self._is_measured():
            self._leave()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave out what is saved at the end of an epoch."""
        del args, state
        self._save_nothing(control)

    def on_train_end(self, *args: Any, **more: Any) -> None:
        """End the process of a run that was shorter than the measurement."""
        meter: Any = super()
        meter.on_train_end(*args, **more)
        self._leave()

    def _save_nothing(self, control: Any) -> None:
        if not self._probe.save:
            control.should_save = False

    def _leave(self) -> NoReturn:
        """Stop the workers of the loaders, write what loggers hold, and end the process."""
        callbacks = self._loop.trainer.callback_handler.callbacks
        writers = [callback.tb_writer for callback in callbacks if getattr(callback, "tb_writer", None)]
        self._end_process(stop_workers, *(writer.flush for writer in writers))
