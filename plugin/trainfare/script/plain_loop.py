"""A script with a loop of its own: what is replaced until its step is traced, and the job of that step."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final, final

import torch
from torch.amp import autocast_mode

from trainfare.job import ChosenBatch, LiveJob, LiveRun, Probe
from trainfare.job.loop import do_nothing
from trainfare.job.on_import import on_import
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import replace_attribute
from trainfare.lightning.script.trainer_arguments import Asked, replacing_fabric_connector
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.tracing_method import WAY_OUT
from trainfare.plain_loop.script_loop import ScriptLoop
from trainfare_core.errors import CannotTellError, TargetError, TraceError
from trainfare_core.job_profile import JobProfile

_CONNECTORS: Final = ("lightning.fabric", "lightning_fabric")
_NOT_COUNTED: Final = "validation and checkpoints of a loop of the script's own are left out of the cost"
_FP16: Final = "fp16 mixed precision ran as bf16 on the CPU here, and is counted as that"


@final
class LoopBeforeLaunch(ScriptLoop):
    """
    Traces the step of a script's own loop, in steps on the CPU, and measures none.

    Args:
        first: see `ScriptLoop`.
        answer: see `run_script`.
    """

    services = replace(ScriptLoop.services, say=do_nothing)
    warmed_up = True
    length_option = "--steps"

    def __init__(self, first: int, answer: Callable[[Callable[[], LiveJob]], Any]) -> None:
        super().__init__(Probe(1, save=False, end=lambda give: answer(lambda: self._make_job(give))), first)
        self._compiles = False
        self._asked: Asked | None = None
        self._notes: list[str] = []
        self._processes: int | None = None

    def note_processes(self, count: int | None, what: str) -> None:
        """Take note that what processes would do is called in this one; None: how many is not known."""
        self._processes = count
        self._notes.append(f"{what}: what it starts is called in this process, as the first of them")

    def replace_devices(self, stack: ExitStack) -> None:
        """Replace what a script cannot have on one CPU, until the stack is closed."""
        for package in _CONNECTORS:
            stack.enter_context(
                on_import(f"{package}.fabric", functools.partial(self._replace_fabric, package, stack))
            )
        stack.enter_context(
            on_import("accelerate.accelerator", functools.partial(self._replace_accelerator, stack))
        )
        loose: Any = torch
        compile_module = loose.compile

        def compile_eagerly(*args: Any, **kwargs: Any) -> Any:
            if not self._compiles:
                self._compiles = True
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            return compile_module(*args, **kwargs)

        stack.enter_context(replace_attribute(torch, "compile", compile_eagerly))
        if not torch.cuda.is_available():
            self._replace_autocast(stack)

    def _replace_autocast(self, stack: ExitStack) -> None:
        """Let CUDA's autocast, which is off without a GPU, be that of the CPU in the steps that are traced."""
        kind: Any = autocast_mode.autocast
        make, enter = kind.__init__, kind.__enter__

        def init(context: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
            given = inspect.signature(make).bind(context, device_type, *args, **kwargs).arguments
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a GPU that is not here
                make(context, device_type, *args, **kwargs)
            context.asked_of_cuda = device_type == "cuda" and given.get("enabled", True)

        def enter_on_cpu(context: Any) -> Any:
            if self.place and getattr(context, "asked_of_cuda", False):
                context.device, context._enabled = "cpu", True  # noqa: SLF001
            return enter(context)

        stack.enter_context(replace_attribute(kind, "__init__", init))
        stack.enter_context(replace_attribute(kind, "__enter__", enter_on_cpu))

    def _replace_fabric(self, package: str, stack: ExitStack) -> None:
        home: Any = sys.modules[f"{package}.fabric"]

        def keep(asked: Asked) -> None:
            self._asked = asked
            self._notes += [_FP16] if asked.precision == "16-mixed" else []

        connector = home._Connector  # noqa: SLF001
        replaced = replacing_fabric_connector(package, connector.__init__, keep)
        stack.enter_context(replace_attribute(connector, "__init__", replaced))

    def _replace_accelerator(self, stack: ExitStack) -> None:
        kind: Any = sys.modules["accelerate.accelerator"].Accelerator
        make = kind.__init__

        def init(accelerator: Any, *args: Any, **kwargs: Any) -> None:
            if kwargs.get("mixed_precision", os.environ.get("ACCELERATE_MIXED_PRECISION")) == "fp16":
                kwargs["mixed_precision"] = "bf16"
                self._notes.append(_FP16)
            make(accelerator, *args, **kwargs)

        stack.enter_context(replace_attribute(kind, "__init__", functools.wraps(make)(init)))

    def _has_enough(self, meter: FitMeter) -> bool:
        return meter.window_begun

    def run_facts(self) -> RunFacts:
        """Return the facts of a run with the devices that it was asked for, and not those of the process here."""
        facts = super().run_facts()
        asked, group = self._asked, torch.distributed.init_process_group
        strategy, devices, nodes = facts.parallel.strategy, os.environ.get("WORLD_SIZE"), 1
        if asked is not None:
            strategy, nodes, world = asked.strategy.word, asked.num_nodes, asked.devices * asked.num_nodes
        else:
            world = (
                int(devices)
                if devices and devices.isdecimal()
                else getattr(group, "world_size", None) or self._processes or 1
            )
            local = os.environ.get("LOCAL_WORLD_SIZE") or self._processes or world
            nodes = max(1, world // int(local))
            strategy = "ddp" if self.prepared and world > 1 else strategy
        because = facts.split_because
        if world > 1 and strategy in ("auto", "single_device"):
            because = f"{world} processes train, and nothing around the model says how they share the work"
        parallel = facts.parallel.model_copy(
            update={"strategy": strategy, "devices": max(1, world // nodes), "num_nodes": nodes}
        )
        notes = (
            _NOT_COUNTED,
            *facts.notes[1:],  # the first says the same of a loop with a meter in it
            *self._notes,
            *(() if asked is None else (*asked.notes, *asked.strategy.notes)),
        )
        return replace(
            facts, parallel=parallel, replicas=world, split_because=because, eager=self._compiles, notes=notes
        )

    def _make_job(self, give: Callable[[], JobProfile | None]) -> LiveJob:
        """Return the job of the traced step."""
        try:
            profile = give()
        except CannotTellError as error:
            raise TraceError(f"{self.place}: {str(error).removesuffix(f': {WAY_OUT}')}") from error
        if profile is None or not profile.operations:
            raise TargetError(f"{self.place}: no step of it was traced")
        notes = [note for note in profile.notes if not note.endswith("nothing is measured")]
        notes.append(f"traced in the script's own loop, {self.place}: what it does afterwards was not run")
        profile = profile.model_copy(update={"measured": None, "notes": tuple(notes)})
        return LiveJob(  # of which the profile says the rest
            module=profile.name,
            batch=ChosenBatch.of(None),
            batch_size=1,
            precision=profile.precision,
            strategy=profile.parallel.strategy,
            live=LiveRun(None, LoopLength(None, None, None), profile=profile),
        )
