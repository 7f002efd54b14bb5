"""
A profiler that listens: it passes every call on to the user's own and marks the few that FareMeter needs.

Lightning names each thing it does to `trainer.profiler`, which tells the phases apart without touching
the user's module. While it is swapped in, it looks like the user's profiler, to `isinstance` too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

from trainfare.meter.timing.step_timer import PhaseKind

__all__ = ["Action", "TeeProfiler", "action_of"]


@dataclass(frozen=True, slots=True)
class Action:
    """
    What a profiled action means.

    Attributes:
        opens: phase that its start begins.
        closes: phase that its end ends.
        opens_after: phase that its end begins.
        closes_before: phase that its start ends.
        starts_validation: its start says that validation follows.
        ends_validation: its start says that training goes on.
    """

    opens: PhaseKind | None = None
    closes: PhaseKind | None = None
    opens_after: PhaseKind | None = None
    closes_before: PhaseKind | None = None
    starts_validation: bool = False
    ends_validation: bool = False

    @classmethod
    def of(cls, phase: PhaseKind, *, ends_validation: bool = False) -> Action:
        """Return the action that is one phase from its start to its end."""
        return cls(opens=phase, closes=phase, ends_validation=ends_validation)


_BY_ENDING = {
    ("", "train_dataloader_next"): Action.of(PhaseKind.DATA_WAIT, ends_validation=True),
    ("[Strategy]", "batch_to_device"): Action.of(PhaseKind.TRANSFER),
    ("[LightningModule]", "on_before_batch_transfer"): Action.of(PhaseKind.TRANSFER),
    ("[LightningDataModule]", "on_before_batch_transfer"): Action.of(PhaseKind.TRANSFER),
    ("[Strategy]", "training_step"): Action.of(PhaseKind.FORWARD),
    # Not `[Strategy].backward`, which manual optimization does not name.
    ("[LightningModule]", "on_before_backward"): Action(opens_after=PhaseKind.BACKWARD),
    ("[LightningModule]", "on_after_backward"): Action(closes_before=PhaseKind.BACKWARD),
    ("[LightningModule]", "optimizer_step"): Action.of(PhaseKind.OPTIMIZER),
    ("[LightningModule]", "on_validation_model_zero_grad"): Action(starts_validation=True),
}
_BY_NAME = {
    "optimizer_step": Action.of(PhaseKind.OPTIMIZER),
    "save_checkpoint": Action.of(PhaseKind.PAUSE),
}


def action_of(name: str) -> Action | None:
    """
    Return what one of Lightning's profiler action names means, or None where it does not matter.

    Args:
        name: e.g. `[Strategy]DDPStrategy.training_step` or `save_checkpoint`.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    owner, _, hook = name.rpartition(".")
    for (prefix, ending), action in _BY_ENDING.items():
        if hook == ending and owner.startswith(prefix):
            return action
    return None


class _Profiled:
    """The context of one action, as Lightning's own `Profiler.profile` gives it, only cheaper."""

    __slots__ = ("_name", "_tee")

    def __init__(self, tee: TeeProfiler, name: str) -> None:
        self._tee = tee
        self._name = name

    def __enter__(self) -> str:
        try:
            self._tee.start(self._name)
        except BaseException:
            self._tee.stop(self._name)
            raise
        return self._name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tee.stop(self._name)


class _Around:
    """The same around a profiler that brings a `profile` of its own."""

    __slots__ = ("_context", "_name", "_tee")

    def __init__(self, tee: TeeProfiler, name: str, context: Any) -> None:
        self._tee = tee
        self._name = name
        self._context = context

    def __enter__(self) -> Any:
        entered = self._context.__enter__()
        self._tee.note(self._name, starting=True)
        return entered

    def __exit__(self, *error: object) -> Any:
        self._tee.note(self._name, starting=False)
        return self._context.__exit__(*error)


_STOCK_PROFILE = ("pytorch_lightning.profilers.profiler", "lightning.pytorch.profilers.profiler")


def _itself(inner: Any) -> Any:
    return inner


class TeeProfiler:
    """
    Forwards to `inner` and tells `listen` about the actions that matter.

    Args:
        inner: the user's profiler; its errors pass through, ours never reach it.
        listen: called with (action, starting).
        on_fault: called with an error of `listen`, after which nothing is listened to any more.
    """

    def __init__(
        self, inner: Any, listen: Callable[[Action, bool], None], on_fault: Callable[[Exception], None]
    ) -> None:
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_listen", listen)
        object.__setattr__(self, "_on_fault", on_fault)
        object.__setattr__(self, "_meanings", {})
        kind = cast("Any", type(inner))
        home = getattr(getattr(kind, "profile", None), "__module__", "")
        object.__setattr__(self, "_plain", home in _STOCK_PROFILE)

    @property
    def inner(self) -> Any:
        """The user's profiler."""
        return self._inner

    def silence(self) -> None:
        """Listen no more; calls are still passed on, so that an action under way can end."""
        object.__setattr__(self, "_listen", None)

    def note(self, action_name: str, *, starting: bool) -> None:
        """Tell the listener about one action, if it matters; never raises an Exception."""
        listen = self._listen
        if listen is None:
            return
        try:
            action = self._meanings.get(action_name, False)
            if action is False:
                action = self._meanings[action_name] = action_of(action_name)
            if action is not None:
                listen(action, starting)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not reach the training
            self.silence()
            self._on_fault(error)

    def start(self, action_name: str) -> None:
        """Pass on, then listen: the user's profiler is not part of what is timed."""
        self._inner.start(action_name)
        self.note(action_name, starting=True)

    def stop(self, action_name: str) -> None:
        """Listen, then pass on."""
        self.note(action_name, starting=False)
        self._inner.stop(action_name)

    def profile(self, action_name: str) -> Any:
        """Return the context manager of one action."""
        if self._plain:
            return _Profiled(self, action_name)
        return _Around(self, action_name, self._inner.profile(action_name))

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_inner"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        # A copied or pickled Trainer gets the user's profiler, not ours.
        return _itself, (self._inner,)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("Any", type(self._inner))
