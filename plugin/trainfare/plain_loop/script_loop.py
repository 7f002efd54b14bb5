"""The loop of a script that runs unchanged: its model, optimizers and batches are found from outside."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final, NoReturn

import torch
from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._pytree import tree_leaves
from torch.utils.data import dataloader

from trainfare.job import Probe
from trainfare.job.loop import Phase
from trainfare.job.on_import import on_import
from trainfare.job.processes import find_processes
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import replace_attribute
from trainfare.meter.metered_run import parameters_of
from trainfare.meter.probe_meter import ProbeMeter, ProbingMeter, stop_workers
from trainfare.meter.settings import MeterSettings
from trainfare.meter.tracing_method import is_compiled
from trainfare.plain_loop import found_objects as found
from trainfare.plain_loop.backward_watch import (
    MOST_PASSES_WITH_OPTIMIZER,
    BackwardWatch,
    UpdateByHand,
    list_optimizers,
)
from trainfare.plain_loop.loop_meter import LoopMeter
from trainfare.plain_loop.stated_length import LengthReader, StepsSeen, add_composition, add_steps
from trainfare.plain_loop.trained_calls import TrainedCalls
from trainfare.trace import torch_private
from trainfare_core.errors import TargetError

_ITERATOR: Final[Any] = vars(dataloader)["_BaseDataLoaderIter"]
_BEGIN_LATER: Final = frozenset(
    ("lightning.pytorch", "pytorch_lightning", "transformers.trainer", "accelerate.accelerator")
)
"""Modules by which a script that has loaded them may begin its training after what it prepares."""
_MOST_STEPS: Final = 100
"""Optimizer steps after which a loop is left of which no batch was seen. Chosen: above those of one batch of
reinforcement learning."""
_BY_HAND: Final = (
    "the weights are moved by no optimizer of torch: what the update keeps between two steps is not counted"
)
_OTHER_WAYS: Final = "describe the run as a TrainingJob"


class ScriptLoop(ProbingMeter, LoopMeter):
    """
    Measures the loop of a script from one of its optimizer steps on, and ends the process.

    A batch begins where a DataLoader is asked for the next one after a backward pass or an optimizer step; in a loop
    without a DataLoader where the model is called. Weights that move after a backward pass without an optimizer of
    torch are a step, too. What runs without gradients, on a model in another mode than at that step, is validation.

    Args:
        probe: what is measured; its `end` is called inside the loop.
        first: the number of that optimizer step; counted are those that move a parameter, from the last call of
            `Accelerator.prepare` or `Fabric.setup` on.
    """

    length_option = "--total-steps, or --steps with its profile"
    answers_early = False
    """At the end of a pass over the data, before the steps are known to be the training's."""
    not_divided = ""
    """Why a DataLoader here has other batches than one of the run's processes."""

    def __init__(self, probe: Probe, first: int) -> None:
        # The step at which it is found and the one that shows its batches are a part of the usual warm-up of 3.
        settings = MeterSettings.check(warmup_steps=1, measure_steps=probe.steps)
        super().__init__(nn.Identity(), (), None, settings, type(self).services)
        self._probe, self._first = probe, first
        self._start_probe(probe, 0, 1, TargetError("the loop has no optimizer step that could be measured"))
        self.place = ""
        """The optimizer and the line of the step by which the loop was found; "" before that."""
        self.prepared = self.splits_batches = False
        """`Accelerator.prepare` or `Fabric.setup` was called."""
        self.moves = self._open_steps = self._open_calls = self._steps_at_batch = 0
        self._earlier: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._new: Optimizer | None = None
        self._models: list[nn.Module] = []
        self._modes: dict[int, bool] = {}
        """Whether each part of the model is in training mode, by its identity."""
        self._gradients: list[tuple[int, int] | None] = []
        self._by_loader = self._pauses = self._waits = self._takes_steps = False
        self._ends_pass = self._pass_over = self._watches_calls = False
        self._calls: list[object] = []
        self._trained = TrainedCalls()
        self._kinds_of_calls: set[tuple[object, ...]] = set()
        self._stepped: list[Optimizer] = []
        self._thread = threading.get_ident()
        self.reader, self._ahead = LengthReader(), found.ReadAhead()
        self._by_hand: UpdateByHand | None = None
        self._backwards = BackwardWatch(self.services.now, self._has_optimizer)
        self._is_provisional = False
        """It was found by a call of its model: no optimizer has stepped yet."""
        self._updates_by_hand = False
        """A backward pass of a loop without an optimizer of torch is over, and no forward has begun."""

    @property
    def has_begun(self) -> bool:
        """The loop of the script has begun, or what it begins with."""
        return bool(self.place or self.moves or self.prepared)

    def watch_script(self, stack: ExitStack) -> None:
        """Be told of optimizer steps and DataLoaders until the stack is closed; optimizers of before do not count."""
        for home, kind, names in found.PREPARE:
            watch = functools.partial(found.watch_prepare, stack, home, kind, names, self._begin_anew_here)
            stack.enter_context(on_import(home, watch))
        self._earlier.update(list_optimizers())
        backward = self._watch_backward(vars(torch.autograd)[torch_private.RUN_BACKWARD])
        stack.enter_context(replace_attribute(torch.autograd, torch_private.RUN_BACKWARD, backward))
        watched = self._watch_loader(_ITERATOR.__next__)
        stack.enter_context(replace_attribute(_ITERATOR, "__next__", watched))
        self.reader.watch(stack)
        stack.callback(register_optimizer_step_pre_hook(self._before_any).remove)
        stack.callback(register_optimizer_step_post_hook(self._after_any).remove)
        stack.callback(self._release)

    def _begin_anew_here(self, by: Any) -> None:
        """Forget what came before: the loop begins with what a call of `prepare` or `setup` gives."""
        self._release()
        self.prepared, self.moves, self.splits_batches = True, 0, bool(getattr(by, "split_batches", False))

    def _release(self) -> None:
        """Undo every change, and keep nothing of the script."""
        self.call_guarded(lambda meter: meter.release())
        self._undo.close()
        self.place, self._pauses, self.updates = "", False, 0
        self._earlier.update(self.optimizers)
        self._modes.clear()
        self._stepped.clear()
        self._watches_calls = self._updates_by_hand = False
        self._model, self._models, self.optimizers = nn.Identity(), [], ()
        self._meter = self._loader = self._new = self._by_hand = None
        self._backwards.forget()
        self.reader.forget()

    def end_script(self) -> None:
        """Answer by what is known where the script has ended by itself; return where no loop was found."""
        if self.place:
            if self._has_trained():
                self._end_batch()
            if not self._started:
                made = f"the script ended after {self.updates} optimizer steps"
                self._problem = TargetError(
                    f"{self.place}: {made}, and 2 more than those are needed to see one"
                )
                self._meter = None
            self.call_guarded(lambda meter: meter.end())
            self._leave()

    # Backward passes, and weights that move after them.

    def _has_optimizer(self) -> bool:
        return any(other not in self._earlier for other in list_optimizers())

    def _watch_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            # Inside a step, as of LBFGS, the optimizer moves the weights.
            nested = torch_private.in_backward() or torch.compiler.is_compiling()
            nested = nested or bool(self._open_steps or self._depth)
            result = original(*args, **kwargs)
            if not nested and threading.get_ident() == self._thread:
                inputs = None if kwargs.get("accumulate_grad", True) else args[4]
                if not self._guard(lambda: self._note_backward(inputs)):
                    self._leave()
            return result

        return run

    def _note_backward(self, inputs: Sequence[Any] | None) -> None:
        watch, most = self._backwards, None
        if self._by_hand is not None:
            watch.note(None, self._by_hand.param_groups[0]["params"])
            self._begin_update(self._by_hand)
            most = _MOST_STEPS
        elif self.place and not self._is_provisional:
            watch.count()
            most = MOST_PASSES_WITH_OPTIMIZER
        else:
            moved = watch.find_moved()
            if moved:
                self.moves += 1
                watch.forget()
            watch.note(inputs)
            if moved and self.moves >= self._first:
                self.place = f"weights moved by hand after the backward pass at {found.find_line()}"
                self._by_hand, self._is_provisional = UpdateByHand(moved), False
                self.call_guarded(lambda meter: meter.release())
                self._find([self._by_hand])
                if self._meter is None:
                    self._leave()
                return
        why = watch.explain_end(most=most)
        if why:
            self._give_up(why)

    def _give_up(self, why: str) -> NoReturn:
        where = self.place or f"the backward pass at {found.find_line()}"
        self._problem, self._meter = TargetError(f"{where}: {why}; {_OTHER_WAYS}"), None
        self._leave()

    def _begin_update(self, by_hand: UpdateByHand) -> None:
        if not self._updates_by_hand:
            self._updates_by_hand = True
            self.tell(Phase.OPTIMIZER, "begin")
            self.call_guarded(lambda meter: meter.before_step(by_hand), every_batch=True)

    def _end_update(self) -> None:
        if self._updates_by_hand:
            self._updates_by_hand = False
            self.tell(Phase.OPTIMIZER, "end")

    # Optimizer steps. Torch goes through its hooks meanwhile: none may be added or removed.

    def _before_any(self, optimizer: Optimizer, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():  # else the hook would become a part of the user's compiled step
            return
        moves = found.moves_parameters(optimizer, (*args, *kwargs.values()))
        if not self.place:
            self._open_steps += 1
            self.moves += moves and self._open_steps == 1
        else:
            if moves and not self._depth and self._find_own(optimizer) is None:
                self._new = optimizer
            self._before_update(optimizer)

    def _after_any(self, optimizer: Optimizer, *_: Any) -> None:
        if torch.compiler.is_compiling():
            return
        if self.place:
            self._guard(lambda: self.reader.see(optimizer, self.moves + 1))
            self._after_update(optimizer)
            if self._waits and self.updates >= self._counted + 2 * len(self.optimizers):
                self._by_loader = False  # that was no loader of this loop
            again = not self._depth and any(other is optimizer for other in self._stepped)
            self._stepped.append(optimizer)
            if self.updates > self._steps_at_batch + _MOST_STEPS or (again and self._watches_calls):
                between = "between two steps" if again else f"in {_MOST_STEPS} steps"
                self._give_up(f"{between} of it, no DataLoader gave a batch and no model was called")
            return
        self._open_steps = max(0, self._open_steps - 1)
        if self._open_steps or not self.moves:
            return
        if self.moves < self._first:
            self._earlier.add(optimizer)
            self._backwards.forget()
            return
        self.place = f"{type(optimizer).__name__}.step at {found.find_line()}"
        self._guard(lambda: self.reader.see(optimizer, self.moves))
        self._backwards.forget()
        self._guard(lambda: self._find([optimizer]))
        if self._meter is None:
            self._leave()

    def _find(self, stepped: Sequence[Optimizer]) -> None:
        """Find the optimizers that may step beside these, and the modules that have their parameters."""
        self._model = nn.Identity()
        gc.collect()  # what earlier parts of the script have left
        objects = gc.get_objects()
        optimizers, taken = found.find_beside(stepped, self._earlier)
        modules = [item for item in objects if issubclass(type(item), nn.Module)]
        models = found.find_models(modules, taken)
        if not found.find_models(modules, parameters_of(stepped[-1])):
            what = "these weights" if self._by_hand else f"the parameters of {type(stepped[-1]).__name__}"
            self._problem = TargetError(f"{self.place}: no torch.nn.Module has {what}; {_OTHER_WAYS}")
            return
        rank, world, nodes = find_processes()
        self._start_probe(self._probe, rank, world, self._problem)
        self._models, self._model = models, models[0] if len(models) == 1 else nn.ModuleList(models)
        self.optimizers, self._automatic = optimizers, len(optimizers) == 1
        self._seen_before = int(self._automatic)
        self._started, self._waits = False, True
        self._forget_batches()
        watches = bool(self._modes)
        self._modes = {id(part): part.training for part in self._model.modules()}
        self._total_steps = self.switch_off_active() or self._total_steps
        self._prepare_meter(nodes, first_rank=not rank)
        # Else a compiled one would be compiled again.
        if not watches and (self.warmed_up or not is_compiled(self._model)):
            watched = self._watch_call(nn.Module.__call__)
            self._undo.enter_context(replace_attribute(nn.Module, "__call__", watched))
            self._watches_calls = True

    def _forget_batches(self) -> None:
        self._in_batch = False
        self._since_step = self._depth = 0
        self._counted = self._steps_at_batch = self.updates = max(self.updates, self.moves)
        self._gradients = found.read_gradients(self.optimizers)
        self._per_step.clear()
        self._takes_steps = False
        self._trained.begin()
        self._calls.clear()
        self._kinds_of_calls.clear()

    def _watch_loader(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(original)
        def load(iterator: Any) -> Any:
            if threading.get_ident() != self._thread:
                return original(iterator)
            self._before_load()
            if not self.place:
                self._open_steps = 0  # after a step that has raised
                self._by_loader = False  # where it has none any more
                batch = original(iterator)
                self._by_loader = True
                self._keep_batch(iterator, self._ahead.find_begun(batch))
                return batch
            self._end_update()
            self._stepped.clear()
            trains = torch.is_grad_enabled() and self._is_in_mode()
            self._guard(lambda: self._begin_part(trains=trains))
            if not trains:
                return original(iterator)
            self.tell(Phase.DATA_WAIT, "begin")
            try:
                batch = original(iterator)
            except StopIteration:
                self._ahead.forget()
                self._pass_over = True
                self._end_pass()
                self._guard(self._pause)
                raise
            finally:
                self.tell(Phase.DATA_WAIT, "end")
            begun = self._ahead.find_begun(batch)
            if not self._in_batch:
                self._read_loader(iterator)
                self._begin_batch(begun)
            return batch

        return load

    def _before_load(self) -> None:
        """Take note that a DataLoader is asked for a batch."""

    def _keep_batch(self, iterator: Any, batch: Any) -> None:
        """Take note of a batch before the loop was found."""

    def _read_loader(self, iterator: Any) -> None:
        self._loader = found.describe_loader(iterator)
        self._by_loader, self._pass_over = True, False
        self._ends_pass = found.is_exhausted(iterator)

    def _watch_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        # Not by hooks for all modules, of which a compiled module warns.
        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            if id(module) not in self._modes or threading.get_ident() != self._thread:
                return original(module, *args, **kwargs)
            if not self._depth:
                self._stepped.clear()
            # Backward runs checkpointed parts again, and an optimizer step its closure.
            if not (self._open_calls or self._depth or torch_private.in_backward()):
                self._end_update()
                self._guard(lambda: self._enter_model(module, args, kwargs))
            self._open_calls += 1
            try:
                result = original(module, *args, **kwargs)
            finally:
                self._open_calls -= 1
            if not (self._open_calls or self._by_loader):
                self._guard(lambda: self._trained.note(found.join_arguments(args, kwargs), result))
            return result

        return call

    def _enter_model(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        in_mode = module.training == self._modes[id(module)]
        trains = in_mode and not self._pauses if not torch.is_grad_enabled() else True
        if not (trains and self._by_loader and (self._in_batch or self._waits)):
            self._begin_part(trains=trains)
            if trains and not self._in_batch:
                # Accelerate reads a batch ahead: this is the last of a pass.
                self._by_loader, self._ends_pass, self._pass_over = False, self._pass_over, False
                self._begin_batch(found.join_arguments(args, kwargs))
        shapes = [leaf.shape for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        self._calls.append((id(module), *shapes))

    def _begin_part(self, *, trains: bool) -> None:
        """End a batch that has trained, and the pause before a part of the loop that trains."""
        if self._new is not None:
            new, self._new = self._new, None
            self.call_guarded(lambda meter: meter.release())
            self._find([*self.optimizers, new])
        elif self._waits:
            # The rest of the batch in which the loop was found, or of the step where weights move by hand.
            if self._by_hand is None or self._backwards.find_moved():
                self._waits = False
                self._forget_batches()
        elif self._has_trained():
            self._end_batch()
        if not trains:
            self._pause()
        elif self._pauses:
            self._pauses = False
            self.call_guarded(lambda meter: meter.validation_end())

    def _end_pass(self) -> None:
        """Take note that the DataLoader has no other batch."""

    def _pause(self) -> None:
        if not self._pauses:
            self._pauses = True
            self.call_guarded(lambda meter: meter.validation_start())

    def _end_batch(self) -> None:
        if not (self._started or self._by_loader):
            self._kinds_of_calls.add(tuple(self._calls))
            # Where they differ, one pass of a step does not stand for the others.
            self._takes_steps = len(self._kinds_of_calls) > 1
        self._calls.clear()
        if self._by_hand is not None:
            self._end_update()
            self.updates += bool(self._backwards.find_moved())
        self._backwards.forget()
        self._gradients, self._steps_at_batch = found.read_gradients(self.optimizers), self.updates
        size = None if self._by_loader else self._trained.find()
        if size is not None and isinstance(self._meter, ProbeMeter):
            self._meter.replace_size(*size)
        self._trained.begin()
        super()._end_batch()
        self._passes = 1 if self._takes_steps else self._passes
        if self._meter is None or (self._started and self._is_measured()):
            self._leave()

    def _has_trained(self) -> bool:
        """Return whether a backward pass or an optimizer step was made since the last batch."""
        if self._by_hand is not None:
            return bool(self._backwards.passes)
        if self.updates != self._steps_at_batch or self._takes_steps:
            return self.updates != self._steps_at_batch
        changed = zip(found.read_gradients(self.optimizers), self._gradients, strict=True)
        return any(now and now != before for now, before in changed)

    def _is_in_mode(self) -> bool:
        """Return whether a model is in the mode in which it has trained."""
        return any(part.training == self._modes[id(part)] for part in self._models)

    # What the meter asks, and the end.

    @property
    def is_last_batch(self) -> bool:
        """The DataLoader has no other one for this pass."""
        return self._ends_pass

    def run_facts(self) -> RunFacts:
        """Read the run, and say where it may be none."""
        facts = super().run_facts()
        if self._by_hand is not None:
            facts = replace(facts, notes=(*facts.notes, _BY_HAND))
        if self.prepared or _BEGIN_LATER.isdisjoint(sys.modules):
            return facts
        note = f"{self.place} is taken as the training: where it only prepares that, give --optimizer-step N"
        if not self.rank:
            self.services.say(f"trainfare: {note}")
        return replace(facts, notes=(*facts.notes, note))

    def length(self) -> LoopLength:
        """Say what gives a length where nothing does."""
        no_end = f"how many steps the loop makes is not known: give {self.length_option}"
        return replace(super().length(), no_end=no_end)

    def complete_length(self, length: LoopLength) -> LoopLength:
        """Add what the loops of the script state, or say why they state nothing."""
        batches = found.count_batches(self._loader)
        steps = StepsSeen(self.passes, self._automatic, batches, self.not_divided)
        length = add_composition(self.add_mean_step(length), self.reader.stated, steps)
        # A loop that only prepares something is known by its end before that.
        if length.max_steps is None and self._meter and (self._meter.window_begun or self.answers_early):
            return add_steps(length, self.reader.stated, steps, self.length_option)
        return length

    def _guard(self, work: Callable[[], None]) -> bool:
        """Do our own work; what it raises ends the measurement. Return whether it was done."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a fault of ours must not reach the training
            self._disable(error)
            return False
        return True

    def _leave(self) -> NoReturn:
        self._end_process(stop_workers)
