"""The calls of a script that would train, and those that do something else before launch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from trainfare.job.launch import Launch
from trainfare.job.user_code import place_of_caller
from trainfare_core.number_format import list_items

if TYPE_CHECKING:
    from trainfare.job.live_job import LiveJob
    from trainfare.job.made_up_data import MadeUpData

LoadCall: TypeAlias = "Callable[[FitCall, tuple[str, ...], MadeUpData | None], LiveJob]"
"""Returns the job of a call; its other arguments are notes on the script, and what stands for the data."""


class FitCall:
    """
    One call that would train.

    Attributes:
        trainer: the Trainer, or the model that is trained.
        arguments: of the call, by the names of the loop's method.
        namespace: the package of the Trainer.
        place: line of the script.
        load: sets up the data and returns the job, or raises a TargetError.
    """

    def __init__(
        self, trainer: Any, arguments: dict[str, Any], namespace: str, script: str | None, load: LoadCall
    ) -> None:
        self.trainer, self.arguments, self.namespace = trainer, arguments, namespace
        self.place = script or "a place that is not in the script"
        self.load = load


class Recorder:
    """
    Keeps the calls of `fit` and what was skipped before.

    Args:
        on_fit: called with each call; where it returns, so does `fit`, without having trained.
        only_fit: replace nothing else that a Trainer or the script does.
    """

    def __init__(self, on_fit: Callable[[FitCall], None], *, only_fit: bool = False) -> None:
        self.only_fit, self._on_fit = only_fit, on_fit
        self.places: list[str] = []
        self.method = "Trainer.fit"
        self.skipped: list[str] = []
        self.untrained: dict[str, Any] = {}
        """Modules of the calls that did not train, by the paths of the checkpoints that were not saved."""
        self.launch = Launch()

    def note_call(self, call: FitCall, method: str) -> None:
        """Record a call that would train."""
        self.method = method
        self.places.append(call.place)
        self._on_fit(call)
        self.skipped.append(f"{method} at {call.place} trained nothing here")

    def skip(self, name: str, what: str = "did nothing here") -> None:
        """Record a call that does something else here."""
        self.skipped.append(f"{name} at {place_of_caller()} {what}")

    def explain(self) -> str:
        """Return a sentence on what was replaced so far, for an error that may come of it; "" where nothing was."""
        if not self.skipped:
            return ""
        # Chosen: about ten lines of a terminal.
        calls = list_items(list(dict.fromkeys(self.skipped)), 800, separator="; ")
        return f". Before it, {calls}. A trace stops before training, so what such calls give is made up"


def skip_call(
    original: Callable[..., Any],
    name: str,
    recorder: Recorder,
    result: Callable[[Mapping[str, Any]], Any],
    what: str = "did nothing here",
) -> Callable[..., Any]:
    """Return a method that records its calls, and returns what `result` makes of their arguments."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def skip(*args: Any, **kwargs: Any) -> Any:
        recorder.skip(name, what)
        return result(signature.bind(*args, **kwargs).arguments)

    return skip
