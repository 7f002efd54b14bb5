"""
Steps whose work differs, by random draws or from batch to batch: how they are found, and how many are traced.

A value that was drawn at random and is read on the host may decide a branch or a shape. Dropout alone decides none.
A step may also do more in every k-th batch: the operations of batches before their backward are compared.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from trainfare.fake_step.fake_tensors import seed_random
from trainfare.fake_step.known_values import validates_arguments
from trainfare.job import place_of_caller
from trainfare.trace import StepFacts, torch_private
from trainfare.trace.modes import EagerMode
from trainfare.trace.step_facts import average_draws, doubt_of_draws
from trainfare.trace.storages import tensors_in

FEWEST_DRAWS: Final = 4
"""Steps that are traced where the work is random, whatever they cost; a chosen value: fewer show no spread."""
MOST_DRAWS: Final = 16
"""Chosen: the doubt of the mean falls with the root of their number: four times as many would halve it."""
_LAUNCHES: Final = 40_000
"""Operations of all traced steps together; chosen: some ten seconds of CPU, and a number, unlike a time, is the same on
every machine. A step of a small encoder has a thousand, one of a 7B language model ten thousand."""
_REAL_FLOPS: Final = 10**12
"""FLOPs of all steps together that are traced on real tensors; chosen: some 20 s of one processor."""
_DOUBT: Final = 0.03
"""Chosen: no other step is traced once the mean is known to 3 %, far below what else is in doubt about a run. Where all
steps did the same, that is after 15 of them, which miss a branch that one step in five takes in 4 % of cases."""
_DIFFER: Final = "batches do different work"
_ZERO: Final = frozenset({torch.ops.aten.zero_.default, torch.ops.aten._foreach_zero_.default})
"""Left out of comparisons: the first batch has no gradients to clear."""
_READS: Final = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})


class RandomWork(EagerMode):  # type: ignore[no-untyped-call]
    """
    Finds whether the work of steps depends on random draws: follows drawn values to where one is read.

    Args:
        real: whether the tensors are real: then values that depend on weights may be read, too.
    """

    def __init__(self, *, real: bool) -> None:
        super().__init__()
        self._real = real
        self._sources: dict[str, None] = {}
        self._work = 0
        self._drawn: Any = WeakIdKeyDictionary()
        self._draws = self._reads = False
        self.updating = False
        """An optimizer steps: its operations are not compared, as its first step makes its state."""
        self.operations = 0
        """Operations so far that are compared."""
        self.works: list[int] = []
        """A number for the operations of each batch that was watched: equal where they are."""
        seed_random()

    def has_source(self) -> bool:
        """Return whether a random draw, or the number of a batch, may have decided what a step does."""
        return bool(self._sources)

    @contextlib.contextmanager
    def watch(self) -> Generator[None, None, None]:
        """Note the operations inside the block, and whether Python's or NumPy's generator is drawn from there."""
        before, self._work = _read_generators(), 0
        yield
        self.works.append(self._work)
        for name, state in _read_generators().items():
            if state != before.get(name, state):
                self._sources[f"it draws from {name}"] = None

    def note_difference(self) -> None:
        """Note that batches do different work."""
        self._sources[_DIFFER] = None

    def read(self, *tensors: Tensor) -> None:
        """Note that the values of tensors are read on the host."""
        self._reads = True
        if any(tensor in self._drawn for tensor in tensors) and not validates_arguments():
            self._sources[f"{place_of_caller() or 'the step'} reads a random value"] = None

    def most_compared(self, flops: int) -> int:
        """Return how many batches may be compared with a traced one of so many FLOPs."""
        return min(MOST_DRAWS, _REAL_FLOPS // 4 // (1 + flops)) if self._real else MOST_DRAWS

    def wants_more(self, steps: Sequence[StepFacts], passes: int) -> bool:
        """
        Return whether another step is to be traced.

        Args:
            steps: traced so far, at least one.
            passes: in one optimizer step, of which one is traced.
        """
        if not self._sources:
            # What was read may depend on draws by way of the weights: the next step shows whether it does.
            if not (self._real and self._draws and self._reads) or len(steps) < 2:
                return self._real and self._draws and self._reads
            if average_draws(steps).variation is None:
                return False
            self._sources["steps with the same batch differ"] = None
        operations = steps[0].operations
        most = _LAUNCHES * passes // (1 + sum(group.launches for group in operations))
        if self._real:
            most = min(most, _REAL_FLOPS * passes // (1 + steps[0].flops))
        if FEWEST_DRAWS <= len(steps) < min(MOST_DRAWS, most):
            return doubt_of_draws(steps) > _DOUBT
        return len(steps) < FEWEST_DRAWS

    def average(self, steps: Sequence[StepFacts]) -> StepFacts:
        """Return the mean of traced steps, or the first where all do the same work, with what was found said."""
        if not self._sources:
            return steps[0]
        said = next(iter(self._sources))
        if list(self._sources) == [_DIFFER]:
            steps = _whole_periods(steps)
            step = average_draws(steps)
            if step.variation is None:
                return step
            mean = f"mean of {len(steps)} traced steps"
            differs = f"{mean}, which do different work"
            return replace(step, differs=differs, notes=(*step.notes, f"{_DIFFER}: {mean}"))
        step = average_draws(steps)
        note = f"the step's work is random ({said}): mean of {len(steps)} traced steps"
        if step.variation is None:
            note = f"the step's work may be random ({said}): {len(steps)} traced steps did the same"
        return replace(step, notes=(*step.notes, note))

    def run_operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, and note what it draws and reads."""
        out = func(*args, **kwargs)
        if not self.updating and func not in _ZERO and not torch_private.in_backward():
            shapes = tuple(arg.shape for arg in args if isinstance(arg, Tensor))
            self._work = hash((self._work, func, shapes))
            self.operations += 1
        tags = getattr(func, "tags", ())
        draws = torch.Tag.nondeterministic_seeded in tags
        self._draws |= draws
        if self._draws:
            with torch_private.without_torch_functions():
                self._follow(func, tags, (args, kwargs), out, draws=draws)
        return out

    def _follow(self, func: Any, tags: Sequence[torch.Tag], operands: Any, out: Any, *, draws: bool) -> None:
        """Note what an operation reads of drawn values, and follow them into its results."""
        tensors = tensors_in(operands)
        if not _READS.isdisjoint(tags):
            # Whether an index is a mask decides whether its values are read.
            masks = [tensor for tensor in tensors if tensor.dtype in (torch.bool, torch.uint8)]
            self.read(*(masks if "index" in str(func) else tensors))
        draws = draws or any(tensor in self._drawn for tensor in tensors)
        if draws and not torch_private.in_backward() and not any(tensor.requires_grad for tensor in tensors):
            for tensor in tensors_in(out):
                self._drawn[tensor] = True
                base = cast("Any", tensor)._base  # noqa: SLF001 - what is written to a part is in the whole
                if base is not None:
                    self._drawn[base] = True


def _whole_periods(steps: Sequence[StepFacts]) -> Sequence[StepFacts]:
    """Leave out the steps after the last whole period of those traced, the shortest that they can have."""
    works = [(step.flops, sum(group.bytes_moved for group in step.operations)) for step in steps]
    count = len(works)
    period = next(n for n in range(1, count + 1) if works[n:] == works[: count - n])
    return steps[: count // period * period]


def _read_generators() -> dict[str, object]:
    """Return the states of the generators that are not torch's, by name."""
    numpy: Any = sys.modules.get("numpy")
    states: dict[str, object] = {"Python's generator": random.getstate()}
    if numpy is not None:
        name, keys, *rest = numpy.random.get_state()
        states["NumPy's generator"] = name, keys.tobytes(), rest
    return states
