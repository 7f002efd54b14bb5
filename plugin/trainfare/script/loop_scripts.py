"""
What a loop does with a script: before launch it stops the script where that would train, and a probe measures it there.

`trainfare.loops` knows the module of each loop whose `SCRIPT` says so. No loop is named here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from trainfare.job.loop import do_nothing
from trainfare.loops import list_scripts

if TYPE_CHECKING:
    from trainfare.job import Probe, Script
    from trainfare.job.fit_call import FitCall, Recorder
    from trainfare.job.made_up_data import MadeUpData


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """
    A script that is about to run, for what watches it.

    Attributes:
        name: of the script.
        optimizer_step: the number of that after which a loop without a Trainer is traced or measured.
        end: answers with what a function returns or raises, and ends the process.
        until_training: undone where a Trainer begins to train.
        until_end: undone at the end of the script.
        recorder: before launch, takes what is replaced.
        probe: what is measured; None: the script is traced before launch.
        made_up: what stands for the data; None: they are read.
    """

    name: str
    optimizer_step: int
    end: Callable[[Callable[[], Any]], NoReturn]
    until_training: ExitStack
    until_end: ExitStack
    recorder: Recorder
    probe: Probe | None = None
    made_up: MadeUpData | None = None


class WatchedLoop(Protocol):
    """
    A loop without a Trainer in a script that is running.

    Attributes:
        place: by which it was found; "" before that.
        moves: optimizer steps so far that move a parameter.
    """

    place: str
    moves: int

    @property
    def has_begun(self) -> bool:
        """The loop has begun, or what it begins with."""
        ...

    def end_script(self) -> None:
        """Answer by what is known at the end of the script."""
        ...


@dataclass(frozen=True, slots=True)
class LoopScript:
    """
    What one loop does with scripts; what it leaves out is that of a loop without the feature.

    Attributes:
        intercept: replaces what a Trainer would start, write or need a device for, once it is imported, and stops its
            training: the recorder takes the call.
        watch: watches a script for training without a Trainer, once torch or the framework is imported.
        probe: dotted name of the module whose `attach` gives a Trainer that is about to train a meter which ends the
            process, and returns whether this training is a run.
        read_returned: returns the call of a Trainer that a callable returns, by the arguments of the call and the place
            of the callable; None where it may be another loop's. `intercept` then heeds `Recorder.only_fit`.
        script_of_config: returns the script that a configuration file belongs to, with the arguments for it.
    """

    intercept: Callable[[Recorder], AbstractContextManager[object]] = nullcontext
    watch: Callable[[ScriptRun], WatchedLoop | None] = do_nothing
    probe: str = ""
    read_returned: Callable[[Any, tuple[Any, ...], str], FitCall | None] | None = None
    script_of_config: Callable[[str], Script | None] = do_nothing


def load_script(home: str) -> LoopScript:
    """Return what a loop does with scripts, by the name of its module."""
    script: LoopScript = import_module(home).SCRIPT
    return script


def load_scripts() -> list[LoopScript]:
    """Return what each loop does with scripts, that of the last registered one first; it loads torch."""
    return [load_script(home) for home, _ in list_scripts()]


def find_script_of_config(target: str) -> Script | None:
    """
    Return the script that a configuration file belongs to; None where it needs none, or is no such file.

    Raises:
        TargetError: the file cannot be read, or several scripts may be meant.
    """
    scripts = (loop.script_of_config(target) for loop in load_scripts())
    return next((script for script in scripts if script is not None), None)
