"""A script with a loop of its own: what is replaced until its step is traced, and the job of that step."""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final, cast, final

import torch
from torch import nn
from torch.amp import autocast_mode
from torch.optim import Optimizer

from trainfare.job import ChosenBatch, LiveJob, LiveRun, Probe
from trainfare.job.input_kind import read_source
from trainfare.job.launch import FP16_AS_BF16, Launch
from trainfare.job.loading import LoadTimes
from trainfare.job.loop import do_nothing
from trainfare.job.on_import import on_import
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import raise_error, replace_attribute
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.metered_run import parameters_of
from trainfare.meter.probe_meter import ProbeMeter
from trainfare.meter.tracing_method import EAGER, WAY_OUT
from trainfare.plain_loop import run_facts
from trainfare.plain_loop.backward_watch import list_optimizers
from trainfare.plain_loop.batch_sample import count_epoch, sample_batches
from trainfare.plain_loop.compiled_calls import CompiledCalls
from trainfare.plain_loop.found_objects import (
    DataSharing,
    count_batches,
    find_line,
    join_arguments,
    moves_parameters,
    read_sharing,
)
from trainfare.plain_loop.loop_meter import STEPS_SEEN_BEFORE
from trainfare.plain_loop.script_loop import ScriptLoop
from trainfare.script.loop_scripts import LoopScript, ScriptRun
from trainfare.trace import torch_private
from trainfare_core.batch_scaling import launch_on
from trainfare_core.errors import CannotTellError, TargetError, TraceError
from trainfare_core.job_profile import BatchScale, JobProfile

_READS_ITS_DATA: Final = "--made-up-data is for a Trainer: a loop of the script's own reads its data itself"
_NOT_COUNTED: Final = "validation and checkpoints of a loop of the script's own are left out of the cost"


@final
class _LoopBeforeLaunch(ScriptLoop):
    """
    Traces the step of a script's own loop, in steps on the CPU, and measures none.

    Args:
        first: see `ScriptLoop`.
        answer: see `ScriptRun.end`.
        launch: what the script asks for.
    """

    services = replace(ScriptLoop.services, say=do_nothing)
    warmed_up = True
    length_option = "--steps"

    def __init__(self, first: int, answer: Callable[[Callable[[], LiveJob]], Any], launch: Launch) -> None:
        super().__init__(Probe(1, save=False, end=lambda give: answer(lambda: self._make_job(give))), first)
        self._compiled = CompiledCalls()
        self._launch, self._load_times = launch, LoadTimes()
        self._optimizers_made = self._optimizers_seen = 0
        self._may_step: list[Optimizer] = []
        self._kinds_of_first: set[tuple[object, ...]] = set()
        self._has_ended = False
        self._is_from_first = False
        """Its first two steps are traced, from the first call of the model on."""
        self._last: tuple[Any, Any] | None = None
        """The iterator of a DataLoader and its batch, before the loop was found."""

    def replace_devices(self, stack: ExitStack) -> None:
        """Replace what a script cannot have on one CPU, until the stack is closed."""
        stack.enter_context(
            on_import("accelerate.accelerator", functools.partial(self._replace_accelerator, stack))
        )
        self._compiled.replace(stack)
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
            if (self.place or self._optimizers_made) and getattr(context, "asked_of_cuda", False):
                context.device, context._enabled = "cpu", True  # noqa: SLF001
            return enter(context)

        stack.enter_context(replace_attribute(kind, "__init__", init))
        stack.enter_context(replace_attribute(kind, "__enter__", enter_on_cpu))

    def _replace_accelerator(self, stack: ExitStack) -> None:
        kind: Any = sys.modules["accelerate.accelerator"].Accelerator
        make = kind.__init__

        def init(accelerator: Any, *args: Any, **kwargs: Any) -> None:
            if kwargs.get("mixed_precision", os.environ.get("ACCELERATE_MIXED_PRECISION")) == "fp16":
                kwargs["mixed_precision"] = "bf16"
                self._launch.notes.append(FP16_AS_BF16)
            make(accelerator, *args, **kwargs)

        stack.enter_context(replace_attribute(kind, "__init__", functools.wraps(make)(init)))

    # The first step, which is traced from the first call of the model on.

    def watch_script(self, stack: ExitStack) -> None:
        """Be told of optimizers that are made and of calls of modules, too."""
        if self._first == 1:  # first, for what finds the loop is put around it and undone before it
            made = self._watch_optimizers(Optimizer.__init__)
            stack.enter_context(replace_attribute(Optimizer, "__init__", made))
            stack.enter_context(
                replace_attribute(nn.Module, "__call__", self._watch_first_call(nn.Module.__call__))
            )
        super().watch_script(stack)

    def _watch_optimizers(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            self._optimizers_made += 1
            original(optimizer, *args, **kwargs)

        return init

    def _watch_first_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            if self.place or not self._may_train(module):
                return original(module, *args, **kwargs)
            self._guard(lambda: self._begin_with(module, args, kwargs))
            if self._meter is None:
                self._leave()
            return nn.Module.__call__(module, *args, **kwargs)  # through what has found the loop

        return call

    def _may_train(self, module: nn.Module) -> bool:
        if not (self._optimizers_made and torch.is_grad_enabled() and module.training):
            return False
        # A closure of `step` belongs to a batch that began before.
        if self._open_steps or threading.get_ident() != self._thread or torch_private.in_backward():
            return False
        if self._optimizers_seen != self._optimizers_made:
            self._optimizers_seen, self._may_step = self._optimizers_made, self._list_own()
        parameters = {id(parameter) for parameter in module.parameters()} if self._may_step else set[int]()
        self._may_step.sort(key=lambda optimizer: parameters.isdisjoint(parameters_of(optimizer)))
        return any(not parameters.isdisjoint(parameters_of(optimizer)) for optimizer in self._may_step[:1])

    def _list_own(self) -> list[Optimizer]:
        return [
            optimizer
            for optimizer in list_optimizers()
            if optimizer not in self._earlier
            and hasattr(optimizer, "param_groups")
            and run_facts.unwrap_optimizer(optimizer) is optimizer
        ]

    def _begin_with(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.place = f"the first call of {type(module).__name__} at {find_line()}"
        self._is_provisional = self.in_first_step = self._is_from_first = True
        self._find(self._may_step[:1])
        if self._meter is None:
            return
        self._waits, self._seen_before = False, 0
        last, self._last = self._last, None
        if last is not None and self._by_loader:
            self._read_loader(last[0])
            self._begin_batch(last[1])
        else:
            self._by_loader = False
            self._begin_batch(join_arguments(args, kwargs))

    def _before_load(self) -> None:
        if self._is_provisional and not self._has_trained():  # that was no call of the training
            self._release()

    def _keep_batch(self, iterator: Any, batch: Any) -> None:
        self._last = (iterator, batch) if self._first == 1 else None

    def _before_any(self, optimizer: Optimizer, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        if self._is_provisional and moves_parameters(optimizer, (*args, *kwargs.values())):
            self._is_provisional = False
            self.place = f"{type(optimizer).__name__}.step at {find_line()}"
        super()._before_any(optimizer, args, kwargs)

    def _after_any(self, optimizer: Optimizer, *rest: Any) -> None:
        super()._after_any(optimizer, *rest)
        has_stepped = self._in_batch and self.updates != self._counted and not self._depth
        if has_stepped and self._by_loader and self._ends_pass and self._automatic:
            self._end_pass()

    def _end_pass(self) -> None:
        """Answer by what is traced, before the script goes on to save or to validate: there may be no other pass."""
        meter = self._meter
        if not (self._started and isinstance(meter, ProbeMeter) and meter.has_trace):
            return
        if self._in_batch and self.updates != self._counted:
            self._guard(self._end_batch)
        self.answers_early = True
        self._guard(self._see_sizes)
        self.call_guarded(lambda _: meter.stop())
        self._leave()

    def _end_batch(self) -> None:
        stepped, first = self.updates != self._counted, self.in_first_step
        looks = self._is_from_first and self._automatic and self._per_step.total() < STEPS_SEEN_BEFORE
        if looks and not self._by_loader:
            self._kinds_of_calls.add(tuple(self._calls))
        if stepped and looks:
            batches = self._since_step + 1
            is_plain = self.updates == self._counted + 1 and len(self._kinds_of_calls) < 2
            # Without a DataLoader, both call the model in the same way or something else came before the first.
            as_before = first or (batches == self._passes and self._kinds_of_calls == self._kinds_of_first)
            if not (is_plain and as_before):
                self._begin_anew(batches if is_plain and self._by_loader else None)
                return
            if first:
                self._passes, self._kinds_of_first = batches, self._kinds_of_calls.copy()
                self._kinds_of_calls.clear()
                self.call_guarded(lambda meter: cast("ProbeMeter", meter).read_length())
        super()._end_batch()
        self.in_first_step &= not stepped

    def _begin_anew(self, batches: int | None) -> None:
        """Trace the steps that follow, where the first two differ in batches, or one is no plain one (None)."""
        self._in_batch = self._is_from_first = self.in_first_step = False
        self.call_guarded(lambda meter: meter.release())
        self._backwards.forget()
        self._find([*self.optimizers])
        self._waits = False
        if batches is not None:
            self._passes, self._seen_before = batches, 0

    def _release(self) -> None:
        super()._release()
        self._is_provisional = self.in_first_step = self._is_from_first = False
        self._optimizers_seen, self._may_step, self._last = 0, [], None

    def end_script(self) -> None:
        """Answer by what is known; a model that was called and not trained is no loop."""
        self._has_ended = True
        if self._is_provisional:
            self._release()
        super().end_script()

    def _has_enough(self, meter: FitMeter) -> bool:
        if not meter.window_begun or self._has_ended:  # by its end, the length is known
            return False
        self._see_sizes()
        return True

    def _see_sizes(self) -> None:
        """Read the sizes of batches that the loop has not come to."""
        meter, iterator = self._meter, getattr(self._loader, "iterator", None)
        if iterator is not None and isinstance(meter, ProbeMeter):
            give = functools.partial(sample_batches, iterator, now=self.services.now, times=self._load_times)
            of_run = (self.reader.stated.steps or 0) * self.passes
            meter.see_sizes(give, max(count_epoch(iterator), of_run))

    @property
    def not_divided(self) -> str:  # type: ignore[override]
        """Why the batches here are not those of one of the run's processes: nothing says what those have."""
        world = self._count_processes()
        is_known = self._is_launched_later or (self._loader is not None and self._sharing.processes == world)
        return "" if is_known or world == 1 else f"{world} processes share the batches"

    @property
    def _sharing(self) -> DataSharing:
        return read_sharing(self._loader, self._ahead.caller)

    @property
    def _is_launched_later(self) -> bool:
        """Whether one of several processes is traced as the only one, since its part of the data is counted then."""
        if self._count_processes() == 1 or not self._shares_work:
            return False
        return self._loader is not None and self._sharing.processes == 1

    @property
    def _shares_work(self) -> bool:
        """Whether processes would average the gradients of this loop."""
        kinds = {kind.__name__ for part in self._model.modules() for kind in type(part).__mro__}
        return self.prepared or not kinds.isdisjoint({"DistributedDataParallel", "FullyShardedDataParallel"})

    def complete_length(self, length: LoopLength) -> LoopLength:
        """Add what other numbers of processes would do to the batch, and to the steps of an epoch."""
        length = super().complete_length(length)
        stated, batches = self.reader.stated, count_batches(self._loader)
        length = replace(length, scales=self._find_scale())
        if length.scales != "per_device" or length.estimated_steps is None:
            return length
        sharing = None if self._loader is None else self._sharing
        if not stated.of_batches or not (sharing and sharing.is_shared):
            return replace(length, max_steps=length.estimated_steps)
        if not batches or length.batches_per_step is not None:
            return length
        epochs = length.estimated_steps / max(1, math.ceil(batches / self.passes))
        return replace(
            length,
            batches_per_epoch=batches,
            epochs=epochs,
            drops_last=sharing.drops_last,
            samples_per_epoch=sharing.samples,
        )

    def _find_scale(self) -> BatchScale | None:
        """Return what a launcher that starts more processes does; None: nothing shares the work."""
        asked = self._launch.devices
        if self._is_launched_later:
            return "per_device"
        if asked is not None:
            return "per_device" if asked.any_devices else "fixed"
        if self._divides_batch():
            return "global"
        if self._count_processes() > 1:
            return "fixed"
        return "per_device" if self._shares_work else None

    def _divides_batch(self) -> bool:
        """Return whether the script, or Accelerate, divides its batch by the one process that runs here."""
        if self._launch.devices is not None or not self._shares_work:
            return False
        if self.splits_batches:
            return True
        quotients = getattr(torch.distributed.init_process_group, "quotients", ())
        return getattr(getattr(self._loader, "batch_sampler", None), "batch_size", None) in quotients

    def _count_processes(self) -> int:
        """Return the processes that share the work as it is here."""
        if self._divides_batch():
            return 1  # however many the script states
        asked, group = self._launch.devices, torch.distributed.init_process_group
        if asked is not None:
            return asked.devices * asked.num_nodes
        devices = os.environ.get("WORLD_SIZE")
        if devices and devices.isdecimal():
            return int(devices)
        return getattr(group, "world_size", None) or self._launch.processes or 1

    def _count_machines(self) -> int:
        if self._launch.devices is not None:
            return self._launch.devices.num_nodes
        world = self._count_processes()
        return max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE") or self._launch.processes or world))

    def run_facts(self) -> RunFacts:
        """Return the facts of a run with the devices that it was asked for, and not those of the process here."""
        facts = super().run_facts()
        asked, world, nodes = self._launch.devices, self._count_processes(), self._count_machines()
        strategy = facts.parallel.strategy if asked is None else asked.strategy
        if asked is None and self.prepared and world > 1:
            strategy = "ddp"
        because = facts.split_because
        if world > 1 and strategy in ("auto", "single_device"):
            because = run_facts.explain_sharing(world)
        if self._is_launched_later:
            world = nodes = 1
        parallel = facts.parallel.model_copy(
            update={"strategy": strategy, "devices": max(1, world // nodes), "num_nodes": nodes}
        )
        notes = (
            _NOT_COUNTED,
            *facts.notes[1:],  # the first says the same of a loop with a meter in it
            *self._launch.notes,
            *(() if asked is None else asked.notes),
        )
        return replace(
            facts,
            parallel=parallel,
            replicas=world,
            split_because=because,
            eager=self._compiled.made,
            notes=notes,
        )

    def _launch_all(self, profile: JobProfile) -> JobProfile:
        """Return the profile of one process as that of all that the script or its launcher starts."""
        nodes, scales = self._count_machines(), profile.batch.scales
        launched = launch_on(profile, self._count_processes() // nodes, nodes)
        if self._launch.devices is None or not self._launch.devices.any_devices:
            return launched
        return launched.model_copy(update={"batch": launched.batch.model_copy(update={"scales": scales})})

    def _make_job(self, give: Callable[[], JobProfile | None]) -> LiveJob:
        """Return the job of the traced step."""
        try:
            profile = give()
        except CannotTellError as error:
            raise TraceError(f"{self.place}: {str(error).removesuffix(f': {WAY_OUT}')}") from error
        if profile is None or not profile.operations:
            raise TargetError(f"{self.place}: no step of it was traced")
        if self._divides_batch() and self._sharing.processes > 1:
            batch = "the script divides its batch by the processes that it counts, of which one runs here"
            raise TraceError(
                f"{self.place}: {batch}, and its samples by a number of its own: leave num_replicas out"
            )
        notes = [note for note in profile.notes if not note.endswith("nothing is measured")]
        notes.append(f"traced in the script's own loop, {self.place}: what it does afterwards was not run")
        if not self._compiled.in_step:  # but by a library, or for something else
            profile = profile.model_copy(
                update={"source": profile.source.model_copy(update={"compiled": False})}
            )
            notes = [note for note in notes if note != EAGER.note]
        source = self._load_times.add_to(
            read_source(self._loader), self._loader, profile.batch.micro_batch_size
        )
        profile = profile.model_copy(update={"measured": None, "notes": tuple(notes)})
        profile = profile.with_loader_time(source.time)
        if self._is_launched_later:
            profile = self._launch_all(profile)
        return LiveJob(  # of which the profile says the rest
            module=profile.name,
            batch=ChosenBatch.of(None),
            batch_size=1,
            precision=profile.precision,
            strategy=profile.parallel.strategy,
            live=LiveRun(None, LoopLength(None, None, None), profile=profile),
        )


def _watch_script(run: ScriptRun) -> ScriptLoop:
    """Watch a script for a loop of its own, which is traced or measured."""
    loop: ScriptLoop
    if run.probe is not None:
        loop = ScriptLoop(run.probe, run.optimizer_step)
    else:

        def answer(load: Callable[[], LiveJob]) -> None:
            run.end(
                load if run.made_up is None else functools.partial(raise_error, TargetError(_READS_ITS_DATA))
            )

        loop = _LoopBeforeLaunch(run.optimizer_step, answer, run.recorder.launch)
        loop.replace_devices(run.until_end)
    loop.watch_script(run.until_training)
    return loop


SCRIPT: Final = LoopScript(watch=_watch_script)
"""As `trainfare.loops` asks for it."""
