"""A FareMeter that is taken from the Trainer's callbacks in mid-run leaves nothing behind, however the fit ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import LearningRateFinder
from pytorch_lightning.profilers import SimpleProfiler

from builders import contract
from builders.contract import NO_MODES, Tiny
from trainfare import FareMeter


def remove_in_place(trainer: Any, meter: Any) -> None:
    trainer.callbacks.remove(meter)


def replace_list(trainer: Any, meter: Any) -> None:
    trainer.callbacks = [other for other in trainer.callbacks if other is not meter]


END_OF_EPOCH = ["__exit__", "stop", "note"]
"""The calls that end the action `run_training_epoch` where it was under way at the removal: as often as it began."""


class Remover(Callback):
    """
    Takes FareMeter from the Trainer, where there is one, in a hook of the first batch that is `batch` or later.

    Args:
        hook: name of the hook.
        batch: number of the batch, over all epochs.
        remove: how.
        then: what the hook does afterwards, e.g. raise.
    """

    def __init__(
        self,
        hook: str,
        batch: int,
        remove: Callable[[Any, Any], None] = remove_in_place,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        self.begun = -1
        self.removed_at: int | None = None
        self.calls: list[str] = []

        def act(trainer: Any, *_: Any, **__: Any) -> None:
            if self.removed_at is not None or self.begun < batch:
                return
            self.removed_at = self.begun
            for meter in [other for other in trainer.callbacks if isinstance(other, FareMeter)]:
                remove(trainer, meter)
            then()

        self.act = act
        setattr(self, hook, act)

    def make_module(self, kind: Callable[..., Any] = Tiny) -> Any:
        """Return a module that counts its batches, and from the second step after the removal every call of ours."""

        def before(_: Any, __: int) -> None:
            self.begun += 1
            if self.removed_at is not None and self.begun > self.removed_at + 1:
                sys.setprofile(self._note_call)

        return kind(before)

    def _note_call(self, frame: Any, event: str, _: Any) -> None:
        name = frame.f_code.co_name
        # A tensor of a traced step tells its weak reference when it dies, at most once.
        if event == "call" and "/trainfare/" in frame.f_code.co_filename and name != "_on_release":
            self.calls.append(name)


class Manual(Tiny):
    """The same by hand, and by the optimizer itself, which the Trainer does not count."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss


def compare(make_remover: Callable[[], Remover], *, first: bool, kind: Any = Tiny, **options: Any) -> Remover:
    """Fit without and with FareMeter and require equal results, the user's profiler and no call of ours."""
    plain_remover, remover = make_remover(), make_remover()
    try:
        plain = contract.fit([plain_remover], lambda: plain_remover.make_module(kind), **options)
        meter = contract.meter()
        callbacks = [remover, meter] if first else [meter, remover]
        metered = contract.fit(callbacks, lambda: remover.make_module(kind), **options)
    finally:
        sys.setprofile(None)
    assert remover.removed_at is not None
    assert plain.profiler == "the user's"
    assert metered.comparable == plain.comparable
    assert metered.modes == NO_MODES
    assert metered.warned == ()
    assert remover.calls in ([], END_OF_EPOCH)
    return remover


MOMENTS = [
    ("on_train_start", -1),
    ("on_train_batch_start", -1),
    ("on_train_batch_start", 0),  # the second and third batch are traced
    ("on_before_backward", 1),
    ("on_before_optimizer_step", 2),
    ("on_train_batch_end", 1),
    ("on_train_batch_end", 3),  # inside the window
    ("on_train_batch_end", 9),  # after it
    ("on_validation_start", 0),
    ("on_train_epoch_end", 0),
    ("on_train_epoch_start", 1),
    ("on_train_end", 1),
    ("teardown", 1),
]


@pytest.mark.parametrize("remove", [remove_in_place, replace_list])
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize(("hook", "batch"), MOMENTS)
def test_a_removed_meter_leaves_nothing_behind(hook: str, batch: int, first: bool, remove: Any) -> None:
    """Profiler, torch's modes and results are the user's, and from the second step on none of our code is called."""
    remover = compare(lambda: Remover(hook, batch, remove), first=first, profiler=SimpleProfiler())
    assert remover.begun == 2 * contract.BATCHES - 1


def fail() -> None:
    raise ValueError("mine")


@pytest.mark.parametrize("then", [fail, lambda: signal.raise_signal(signal.SIGINT)], ids=["error", "ctrl_c"])
@pytest.mark.parametrize(("hook", "batch"), [row for row in MOMENTS if row[0] != "teardown"])
def test_a_fit_that_ends_in_the_hook_that_removes(hook: str, batch: int, then: Callable[[], None]) -> None:
    """An error or Ctrl-C right after the removal, when no other hook may follow: the profiler is the user's."""
    compare(lambda: Remover(hook, batch, then=then), first=True)


@pytest.mark.parametrize("batch", [0, 1, 4, 9])
def test_a_meter_removed_under_manual_optimization(batch: int) -> None:
    """The hook by which the steps of the user's own optimizers are counted is removed as well."""
    compare(lambda: Remover("on_train_batch_end", batch), first=False, kind=Manual)


class FindsRate(LearningRateFinder):
    """Searches a learning rate at the start of an epoch, as Lightning's documentation shows it for milestones."""

    def __init__(self) -> None:
        super().__init__(num_training_steps=6, update_attr=False, early_stop_threshold=None)

    def on_fit_start(self, *_: Any) -> None:
        pass

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.lr_find(trainer, pl_module)


def test_a_meter_that_a_learning_rate_finder_takes_away_for_a_while_goes_on(tmp_path: Path) -> None:
    """The finder runs steps of its own without the callbacks and then puts them back: all is measured."""
    profiles: list[Any] = []

    def keep(profile: Any, folder: Path) -> Path:
        profiles.append(profile)
        return folder

    def make_module() -> Tiny:
        module = Tiny()
        module.lr = 0.01
        return module

    for order in (1, -1):
        callbacks = [contract.meter(contract.fake_services(write_profile=keep)), FindsRate()][::order]
        outcome = contract.fit(callbacks, make_module, default_root_dir=tmp_path, max_epochs=1)
        assert outcome.error is None
        assert (outcome.profiler, outcome.modes) == ("the user's", NO_MODES)
    assert [profile.measured.steps for profile in profiles] == [3, 3]
    assert [profile.measured.forward is None for profile in profiles] == [False, False]


def test_a_meter_removed_in_a_step_that_is_traced_after_the_window() -> None:
    """Where a callback unfreezes a layer, a step of the second epoch is traced: no mode of torch stays on after it."""
    traced: list[bool] = []

    class Unfreezes(Remover):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            pl_module.net[2].requires_grad_(trainer.current_epoch > 0)

        def on_before_backward(self, *_: Any) -> None:
            traced.append(bool(contract.torch_modes()["dispatch"]))

    compare(lambda: Unfreezes("on_after_backward", contract.BATCHES), first=False)
    assert traced[-contract.BATCHES :] == [True] + [False] * (contract.BATCHES - 1)
