"""
A profiler that forwards every call to the user's profiler and reports the few actions that FareMeter needs.

Lightning reports each of its actions by name to `trainer.profiler`, so the phases of a step can be told apart
without touching the user's module. While installed, it looks like the user's profiler, also to `isinstance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from trainfare.job.loop import Phase, PhaseListener


@dataclass(frozen=True, slots=True)
class Action:
    """
    The phases that begin or end with one of Lightning's profiled actions.

    Attributes:
        opens: phase that begins with the action's start.
        closes: phase that ends with the action's end.
        opens_after: phase that begins with the action's end.
        closes_before: phase that ends with the action's start.
        starts_validation: validation follows the action's start.
        ends_validation: training has resumed by the action's start.
    """

    opens: Phase | None = None
    closes: Phase | None = None
    opens_after: Phase | None = None
    closes_before: Phase | None = None
    starts_validation: bool = False
    ends_validation: bool = False

    @classmethod
    def of(cls, phase: Phase, *, ends_validation: bool = False) -> Action:
        """Return an action that is itself the phase."""
        return cls(opens=phase, closes=phase, ends_validation=ends_validation)


_BY_ENDING = {
    ("", "train_dataloader_next"): Action.of(Phase.DATA_WAIT, ends_validation=True),
    ("[Strategy]", "batch_to_device"): Action.of(Phase.TRANSFER),
    ("[LightningModule]", "on_before_batch_transfer"): Action.of(Phase.TRANSFER),
    ("[LightningDataModule]", "on_before_batch_transfer"): Action.of(Phase.TRANSFER),
    ("[Strategy]", "training_step"): Action.of(Phase.FORWARD),
    # Not `[Strategy].backward`, which Lightning does not report under manual optimization.
    ("[LightningModule]", "on_before_backward"): Action(opens_after=Phase.BACKWARD),
    ("[LightningModule]", "on_after_backward"): Action(closes_before=Phase.BACKWARD),
    ("[LightningModule]", "optimizer_step"): Action.of(Phase.OPTIMIZER),
    ("[LightningModule]", "on_validation_model_zero_grad"): Action(starts_validation=True),
}
_BY_NAME = {
    "optimizer_step": Action.of(Phase.OPTIMIZER),
    "save_checkpoint": Action.of(Phase.PAUSE),
}


def action_of(name: str) -> Action | None:
    """
    Return the action for one of Lightning's action names; None for an action that FareMeter does not need.

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


def tell_phases(
    listener: PhaseListener, has_meter: Callable[[], bool]
) -> Callable[[Action | None, bool], None]:
    """Return what tells a listener of the phases that begin and end with an action, and when the meter is gone."""
    begin, end = listener.begin, listener.end

    def tell(action: Action | None, starting: bool) -> None:  # noqa: FBT001 - the profiler's signature
        if action is None:
            if not has_meter():
                listener.leave()
            return
        if starting:
            if action.ends_validation:
                listener.leave_validation()
            elif action.starts_validation:
                listener.expect_validation()
        opens = action.opens if starting else action.opens_after
        closes = action.closes_before if starting else action.closes
        if closes is not None:
            end(closes)
        if opens is not None:
            begin(opens)

    return tell


class _ActionContext:
    """Context of one action, equal to that of Lightning's `Profiler.profile` and faster than its generator."""

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

    def __exit__(self, *_: object) -> None:
        self._tee.stop(self._name)


class _WrappedContext:
    """Context of one action around that of a profiler with its own `profile`."""

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


def _return_same(inner: Any) -> Any:
    return inner


class TeeProfiler:
    """
    Forwards every call to `inner` and reports the actions of `action_of`, and the end of others, to `listen`.

    Args:
        inner: the user's profiler; its errors are passed on.
        listen: called with (action, whether it starts); with None where another ends, in which code of the user ran.
        on_fault: called with an error of `listen`, after which no action is reported any more.
    """

    def __init__(
        self, inner: Any, listen: Callable[[Action | None, bool], None], on_fault: Callable[[Exception], None]
    ) -> None:
        kind = cast("Any", type(inner))
        home = getattr(getattr(kind, "profile", None), "__module__", "")
        # `__setattr__` below is the user's profiler's.
        vars(self).update(
            _inner=inner,
            _listen=listen,
            _on_fault=on_fault,
            _actions={},
            _stock_profile=home in _STOCK_PROFILE,
        )

    @property
    def inner(self) -> Any:
        """The user's profiler."""
        return self._inner

    def silence(self) -> None:
        """Report no more actions; calls are still forwarded, so that an action under way can end."""
        object.__setattr__(self, "_listen", None)

    def note(self, action_name: str, *, starting: bool) -> None:
        """Report one action if FareMeter needs it; raises no Exception."""
        listen = self._listen
        if listen is None:
            return
        try:
            action = self._actions.get(action_name, False)
            if action is False:
                action = self._actions[action_name] = action_of(action_name)
            if action is not None or not starting:
                listen(action, starting)
        except Exception as error:  # noqa: BLE001 - a fault of FareMeter must not reach the training
            self.silence()
            self._on_fault(error)

    def start(self, action_name: str) -> None:
        """Forward, then report, so that the time of the user's profiler is not counted."""
        self._inner.start(action_name)
        self.note(action_name, starting=True)

    def stop(self, action_name: str) -> None:
        """Report, then forward."""
        self.note(action_name, starting=False)
        self._inner.stop(action_name)

    def profile(self, action_name: str) -> Any:
        """Return the context manager of one action."""
        if self._stock_profile:
            return _ActionContext(self, action_name)
        return _WrappedContext(self, action_name, self._inner.profile(action_name))

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_inner"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        # A copied or pickled Trainer gets the user's profiler.
        return _return_same, (self._inner,)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("Any", type(self._inner))
