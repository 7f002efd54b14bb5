"""Checkpoints: FareMeter's state is small, plain, and never in the way of loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from builders.lightning_modules import (
    NAMESPACES,
    Clock,
    Kept,
    Tiny,
    World,
    loader,
    module_class,
    quiet,
    trainer,
)
from trainfare.meter.callback import FareMeter

pytestmark = quiet


def save_half(folder: Path, clock: Clock, *, metered: bool = True) -> Path:
    """Train 16 of 32 steps of 36 ms, saving after each 16."""
    callbacks: list[Any] = [World(clock).meter(folder)] if metered else []
    saver = ModelCheckpoint(folder, "half", every_n_train_steps=16)
    fit = trainer(folder, *callbacks, saver, enable_checkpointing=True, max_steps=16)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005))
    return folder / "half.ckpt"


def resume(folder: Path, path: Path, clock: Clock, *callbacks: Any, **options: Any) -> Any:
    fit = trainer(folder, *callbacks, max_steps=32, **options)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005), ckpt_path=str(path))
    return fit


def test_the_state_is_plain_and_small(tmp_path: Path) -> None:
    """Primitives only, far below 4 KiB, readable with weights_only."""
    loaded = torch.load(save_half(tmp_path, Clock()), weights_only=True)
    state = loaded["callbacks"]["FareMeter"]
    assert state == {"version": 1, "elapsed_s": pytest.approx(16 * 0.036)}
    assert len(json.dumps(state)) < 100


def test_a_resumed_run_adds_up(tmp_path: Path) -> None:
    """Dollars and steps of the earlier session count; what is left is the rest."""
    clock, kept = Clock(), Kept()
    path = save_half(tmp_path, clock)
    world = World(clock)
    resume(tmp_path, path, clock, world.meter(tmp_path, usd_per_hour=3600.0), logger=kept)
    assert kept.rows[-1][1]["fare/usd_so_far"] == pytest.approx(32 * 0.036)
    assert kept.rows[0][1]["fare/hours_left"] == pytest.approx(2 * 0.036 / 3600)
    assert world.profile.plan.optimizer_steps == 32


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("loaded", [True, False])
def test_with_or_without_it(tmp_path: Path, saved: bool, loaded: bool) -> None:
    """A checkpoint saved with the callback loads without it, and the other way round."""
    clock = Clock()
    path = save_half(tmp_path, clock, metered=saved)
    callbacks = [World(clock).meter(tmp_path)] if loaded else []
    assert resume(tmp_path, path, clock, *callbacks).global_step == 32


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        [],
        {"elapsed_s": "long"},
        {"elapsed_s": None},
        {"elapsed_s": True},
        {"elapsed_s": float("nan")},
        {"elapsed_s": float("inf")},
        {"elapsed_s": -1.0},
        {"elapsed_s": 1e300},
        {"version": 99},
    ],
)
def test_a_state_that_is_not_ours_is_ignored(state: Any) -> None:
    """A damaged or newer state costs the earlier seconds, nothing else."""
    meter = FareMeter()
    meter.load_state_dict(state)
    assert meter.state_dict() == {"version": 1, "elapsed_s": 0.0}


def test_the_state_outlives_the_run(tmp_path: Path) -> None:
    """A checkpoint saved after fit has the seconds of that fit."""
    clock = Clock()
    meter = World(clock).meter(tmp_path)
    fit = trainer(tmp_path, meter, max_steps=16)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005))
    assert meter.state_dict()["elapsed_s"] == pytest.approx(16 * 0.036)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_foreign_stateful_callback_keeps_its_state(tmp_path: Path, namespace: str) -> None:
    """Next to ours, a callback with a state of its own is saved and loaded as ever."""
    import importlib

    pl = importlib.import_module(namespace)

    class Counter(pl.Callback):  # type: ignore[misc, name-defined]
        count = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.count += 1

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.count = state_dict["count"]

    path = tmp_path / "a.ckpt"
    fit = trainer(tmp_path, Counter(), World().meter(tmp_path), namespace=namespace, max_epochs=1)
    fit.fit(module_class(namespace)(), loader())
    fit.save_checkpoint(path)
    again = Counter()
    fit = trainer(tmp_path, World().meter(tmp_path), again, namespace=namespace, max_epochs=2)
    fit.fit(module_class(namespace)(), loader(), ckpt_path=str(path))
    assert again.count == 32
