"""What the plain loop does with scripts: `plain_framework.Trainer(module).train()` is traced before launch, and measured."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from builders.plain_loop import BATCHES, KIND, SAMPLES, PlainLoop, make_batch
from trainfare.job import Batches, LiveJob, LiveRun, Probe, place_of_caller
from trainfare.job.fit_call import FitCall, Recorder
from trainfare.job.on_import import on_import
from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import raise_error, replace_attribute
from trainfare.meter.probe_meter import ProbeMeter, ProbingMeter
from trainfare.meter.settings import MeterSettings
from trainfare.script.loop_scripts import LoopScript

FRAMEWORK = "plain_framework"


def _load(call: FitCall, notes: tuple[str, ...], _: object) -> LiveJob:
    return LiveJob(
        module=call.trainer.module,
        batch=Batches((make_batch(),)),
        batch_size=SAMPLES,
        precision="32-true",
        live=LiveRun(call.trainer, LoopLength(BATCHES, 1, None), notes=notes, kind=KIND),
    )


@contextmanager
def _intercept(recorder: Recorder) -> Generator[None, None, None]:
    with ExitStack() as stack:

        def train(trainer: Any) -> None:
            call = FitCall(trainer, {}, FRAMEWORK, place_of_caller(), _load)
            recorder.note_call(call, "Trainer.train")

        def replace() -> None:
            stack.enter_context(replace_attribute(sys.modules[FRAMEWORK].Trainer, "train", train))

        stack.enter_context(on_import(FRAMEWORK, replace))
        yield


def attach(trainer: Any, probe: Probe) -> NoReturn:
    settings = MeterSettings(warmup_steps=2, measure_steps=probe.steps)
    meter = ProbeMeter(settings, ProbingMeter.services, raise_error)
    PlainLoop(trainer.module, Path()).train(meter)
    probe.end(meter.give_profile)


SCRIPT = LoopScript(_intercept, probe=__name__)
