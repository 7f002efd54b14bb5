"""How many optimizer steps a script's own loop makes, as its source and plain values say at the first one."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Final

from torch.optim import Optimizer

from trainfare.job.run_plan import LoopLength
from trainfare.job.user_code import is_of_loop, replace_attribute
from trainfare.plain_loop.loop_expressions import UnreadableError
from trainfare.plain_loop.loop_parts import LoopFacts
from trainfare.plain_loop.loop_program import LoopProgram, start_values, write_program
from trainfare.plain_loop.loop_source import describe_place
from trainfare.plain_loop.number_program import read_block
from trainfare.script.frame_values import Loop, count_items, list_loops
from trainfare_core.number_format import list_items

_CHECKED_STEPS: Final = 3
"""Later steps at which the counters of the loops are compared. Chosen: as many as are made before the answer."""
_CHARACTERS: Final = 200
_OF_EPOCH: Final = 0.01
"""Share of an epoch that its last step may be without a word: so much does the mean step differ at most."""
_Place = tuple[str, int]
"""File and line of a loop."""


@dataclass(frozen=True, slots=True)
class StatedLength:
    """
    The length of a loop.

    Attributes:
        steps: optimizer steps; None: not known.
        why_not: why it is not known.
        said: where it was read.
        early_end: what may end it earlier.
        of_batches: it depends on the number of batches.
        batches_per_step: rounds of the innermost loop in a step, the mean; None where they cannot be read.
        rounds_of_steps: the same of the first steps.
        most_rounds: the most of any step.
        part: that it is one of several in the script; "" where it is the only one.
    """

    steps: int | None = None
    why_not: str = ""
    said: str = ""
    early_end: str = ""
    of_batches: bool = False
    batches_per_step: float | None = None
    rounds_of_steps: tuple[int, ...] = ()
    most_rounds: int = 0
    part: str = ""


@dataclass(frozen=True, slots=True)
class StepsSeen:
    """
    What is known of a loop's steps besides its source.

    Attributes:
        passes: batches of a step that was seen.
        is_of_one: one optimizer makes it.
        of_epoch: batches of an epoch; None: not known.
        not_divided: why the batches here are not those of one of the run's processes; "" where they are.
    """

    passes: int
    is_of_one: bool
    of_epoch: int | None
    not_divided: str


def add_composition(length: LoopLength, stated: StatedLength, steps: StepsSeen) -> LoopLength:
    """Return a length with the batches of its mean step, and which part of the script's training it is."""
    mean = stated.batches_per_step
    # Rounds are batches where a step that was seen took as many of them, and none far more: a step of one pass, or of
    # several and a rest that was dropped, has less than twice as many, and others are of a validation.
    are_batches = steps.passes in stated.rounds_of_steps and stated.most_rounds < 2 * steps.passes
    if steps.is_of_one and mean is not None and mean > 1 and are_batches:
        length = replace(length, batches_per_step=mean)
    elif mean is None:
        length = replace(length, said=_explain_rest(steps))
    return replace(length, part=stated.part)


def add_steps(length: LoopLength, stated: StatedLength, steps: StepsSeen, option: str) -> LoopLength:
    """Return a length with the steps that its loops state, or why they state none, and the option that gives them."""
    why = stated.why_not
    if not why and stated.of_batches and steps.not_divided:
        why = steps.not_divided
    elif not why and not steps.is_of_one and stated.batches_per_step != 1:
        why = "several optimizers step, not all in each batch"
    if why:
        no_end = f"how many steps the loop makes is not known, since {why}: give {option}"
        return replace(length, no_end=no_end)
    return replace(length, estimated_steps=stated.steps, early_end=stated.early_end, said=stated.said)


def _explain_rest(steps: StepsSeen) -> str:
    """Return what is not known of the steps where an epoch ends between two; "" where none does, or few."""
    batches, passes = steps.of_epoch, steps.passes
    if batches is None or passes == 1 or batches % passes == 0 or passes < _OF_EPOCH * batches:
        return ""
    what = f"{batches} batches of an epoch are no whole number of steps of {passes}"
    return f"{what}: what the loop does with the rest was not read, and each counts as {passes}"


@dataclass(slots=True)
class _Count:
    """What a run of a program has counted."""

    steps: int = 0
    rounds: int = 0
    most_rounds: int = 0
    rounds_before: int = 0
    ended: bool = False
    values: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Of the first steps."""
    rounds_of_steps: list[int] = field(default_factory=list[int])


class _Stop(Exception):  # noqa: N818 - no error: it ends a count
    pass


class LengthReader:
    """
    Reads the length of a loop at the first step of its optimizer, and compares its counters at the next ones.

    Attributes:
        stated: what was read.
    """

    def __init__(self) -> None:
        self._made: weakref.WeakKeyDictionary[Optimizer, frozenset[_Place]] = weakref.WeakKeyDictionary()
        self.forget()

    def forget(self) -> None:
        """Read another loop at the next step."""
        self.stated = StatedLength(why_not="its loops were not read")
        self._optimizer: weakref.ref[Optimizer] | None = None
        self._first: Loop | None = None
        self._expected: list[dict[str, Any]] = []
        self._codes: list[object] = []

    def watch(self, stack: ExitStack) -> None:
        """Note in which loops optimizers are made, until the stack is closed: these train anew in each round."""
        make: Callable[..., None] = Optimizer.__init__

        @functools.wraps(make)
        def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            make(optimizer, *args, **kwargs)
            self._made[optimizer] = frozenset(
                (frame.f_code.co_filename, loop.lineno)
                for frame in _list_frames()
                for loop, _ in list_loops(frame)
            )

        stack.enter_context(replace_attribute(Optimizer, "__init__", init))

    def see(self, optimizer: Optimizer, number: int) -> None:
        """
        Read the length at a first step, and check it at others; called inside the optimizer's step.

        Args:
            optimizer: that steps.
            number: of the first step.
        """
        if self._optimizer is None:
            self._read(optimizer, number)
        else:
            self._check(optimizer)

    def _read(self, optimizer: Optimizer, number: int) -> None:
        self._optimizer, self._expected = weakref.ref(optimizer), []
        frames = [*_list_frames()][::-1]
        loops = [(index, *loop) for index, frame in enumerate(frames) for loop in list_loops(frame)]
        made = self._made.get(optimizer, frozenset())
        places = [(frames[index].f_code.co_filename, loop.lineno) for index, loop, _ in loops]
        anew = max((number for number, place in enumerate(places, 1) if place in made), default=0)
        part = _describe_rounds([(frames[index], loop, exact) for index, loop, exact in loops[:anew]])
        if len(loops) == anew:
            self.stated = StatedLength(why_not="no loop stands around its step", part=part)
            return
        index, self._first, _ = loops[anew]
        inner = frames[index:]
        try:
            program = write_program(inner, self._first)
            count, expected = _count_through(program, number)
        except UnreadableError as error:
            what = f"{error} cannot be read"
            self.stated = StatedLength(why_not=what[:_CHARACTERS], part=part)
            return
        self._expected, self._codes = expected, [frame.f_code for frame in inner]
        self.stated = replace(_describe(program, count), part=part)

    def _check(self, optimizer: Optimizer) -> None:
        """Compare the counters with those that were expected at a later step; where they differ, nothing is known."""
        if not self._expected or self._optimizer is None or self._optimizer() is not optimizer:
            return
        expected, self._expected = self._expected[0], self._expected[1:]
        frames = [*_list_frames()][::-1]
        frames = frames[-len(self._codes) :]
        agrees = [frame.f_code for frame in frames] == self._codes and self._first is not None
        if agrees and self._first is not None:
            try:
                program = write_program(frames, self._first)
            except UnreadableError:
                agrees = False
            else:
                agrees = all(
                    program.values.get(name) == expected.get(name)
                    for name in program.read & program.values.keys()
                )
        if not agrees:
            self._expected = []
            why = "its counters do not go as the loops say"
            self.stated = StatedLength(why_not=why, part=self.stated.part)


def _list_frames() -> Iterator[FrameType]:
    """Give the frames that may hold a loop of the training, innermost first."""
    frame = inspect.currentframe()
    while (
        frame is not None and frame.f_globals.get("__name__") != "runpy"
    ):  # around it is who runs the script
        code = frame.f_code
        # A comprehension has a frame of its own before Python 3.12, on a line of the one around it.
        if is_of_loop(code.co_filename):
            yield frame
        frame = frame.f_back


def _count_through(program: LoopProgram, number: int) -> tuple[_Count, list[dict[str, Any]]]:
    """Return what the whole run of a program counts, and the values at the steps after this one."""
    values = dict(program.values)
    start = _run(program, values, steps=1)
    if not start.values:
        raise UnreadableError("how its step is reached")
    for name in program.additive & values.keys():  # as they were before the first round
        values[name] -= start.values[0][name] - values[name]
    count = _run(program, values)
    read = program.read & values.keys()
    now = {name: program.values[name] for name in read}
    for index in dict.fromkeys((number - 1, 0)):
        if index < len(count.values) and {name: count.values[index][name] for name in read} == now:
            return count, count.values[index + 1 : index + 1 + _CHECKED_STEPS]
    raise UnreadableError("where its counters begin")


def _run(program: LoopProgram, values: dict[str, Any], *, steps: float = math.inf) -> _Count:
    count, names = _Count(), start_values()
    kept = max(100, _CHECKED_STEPS)

    def step() -> None:
        count.steps += 1
        count.most_rounds = max(count.most_rounds, names[program.rounds] - count.rounds_before)
        count.rounds_before = names[program.rounds]
        if count.steps <= kept:
            count.values.append({name: names[name] for name in program.keys if name in names})
            count.rounds_of_steps.append(names[program.rounds])
        if count.steps >= steps:
            raise _Stop

    def stop() -> None:
        raise _Stop

    functions = {name: read_block(body) for name, body in program.functions.items()}
    names |= {name: functools.partial(_call, function, names) for name, function in functions.items()}
    names |= {**dict.fromkeys(program.counters, 0), **values, "_step": step, "_stop": stop}
    try:
        functions["_f0"](names)
        count.ended = True
    except _Stop:
        pass
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise UnreadableError(f"a counter of its loops ({error})") from error
    count.rounds = names[program.rounds]
    return count


def _call(function: Callable[[dict[str, Any]], int], names: dict[str, Any]) -> None:
    function(names)


def _describe(program: LoopProgram, count: _Count) -> StatedLength:
    """Return what a program has counted in the words of an answer."""
    firsts = [
        after - before
        for before, after in zip([0, *count.rounds_of_steps], count.rounds_of_steps, strict=False)
    ]
    stated = StatedLength(
        of_batches=any(loop.of_batches for loop in program.loops),
        batches_per_step=count.rounds / count.steps,
        rounds_of_steps=tuple(firsts),
        most_rounds=count.most_rounds,
    )
    if not count.ended:
        if program.exits:
            why = f"{program.exits[0]} ends it by what cannot be read"
        elif program.endless:
            why = f"what the loop at {program.endless[0]} goes over has no length that can be read"
        else:
            why = f"the loop at {program.loops[0].place} has no end that can be read"
        return replace(stated, why_not=why)
    ends = [*program.exits[:2], *(["the end of the data"] if program.endless else [])]
    where = list_items(list(map(_describe_loop, program.loops)), _CHARACTERS, separator=", ")
    said = f"{count.steps:,} steps, by the loop{'s' if len(program.loops) > 1 else ''} at {where}"
    return replace(stated, steps=count.steps, said=said, early_end=" or ".join(ends))


def _describe_loop(loop: LoopFacts) -> str:
    if loop.rounds is None or math.isinf(loop.rounds):
        return loop.place
    return f"{loop.place} ({int(loop.rounds):,} {'batches' if loop.of_batches else 'rounds'})"


def _describe_rounds(loops: Sequence[tuple[FrameType, Loop, bool]]) -> str:
    """Return that the training is one of several in the script; "" where no loop makes it anew."""
    if not loops:
        return ""
    counts = [
        None if isinstance(loop, ast.While) else count_items(loop.iter, frame) for frame, loop, _ in loops
    ]
    known = [count for count in counts if count is not None and not math.isinf(count)]
    place = describe_place(loops[0][0].f_code.co_filename, loops[0][1].lineno)
    if len(known) < len(counts):
        return f"one round of the loop at {place}, each of which trains anew: the script costs this once for each"
    number, up_to = int(math.prod(known)), "" if all(exact for _, _, exact in loops) else "up to "
    if number == 1:
        return ""
    costs = f"the script costs {up_to or 'about '}{number} times this"
    return f"training 1 of {up_to}{number} in the loop at {place}: {costs}"
