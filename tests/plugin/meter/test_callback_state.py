"""FareMeter's state in checkpoints: a few numbers that never prevent loading."""

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
    MeterHarness,
    RecordingLogger,
    Tiny,
    loader,
    module_class,
    quiet,
    trainer,
)
from trainfare.ledger.run_status import FILE_NAME, write_status
from trainfare.lightning import FareMeter

pytestmark = quiet


def save_half(folder: Path, clock: Clock, *, metered: bool = True, **settings: Any) -> Path:
    """Train the first 16 of 32 steps, each 36 ms long, and save a checkpoint."""
    callbacks: list[Any] = [MeterHarness(clock).meter(folder, **settings)] if metered else []
    saver = ModelCheckpoint(folder, "half", every_n_train_steps=16)
    fit = trainer(folder, *callbacks, saver, enable_checkpointing=True, max_steps=16)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005))
    return folder / "half.ckpt"


def resume(folder: Path, path: Path, clock: Clock, *callbacks: Any, **options: Any) -> Any:
    fit = trainer(folder, *callbacks, max_steps=32, **options)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005), ckpt_path=str(path))
    return fit


def test_the_state_is_small(tmp_path: Path) -> None:
    """The state is readable with weights_only, below 100 bytes, and has no path."""
    loaded = torch.load(save_half(tmp_path, Clock()), weights_only=True)
    state = loaded["callbacks"]["FareMeter"]
    assert state == {"version": 1, "elapsed_s": pytest.approx(16 * 0.036), "usd": None, "run": state["run"]}
    assert len(state["run"]) == 8
    assert len(json.dumps(state)) < 100


def test_a_resumed_run_includes_the_earlier_session(tmp_path: Path) -> None:
    """Dollars and steps include those of the earlier session, and no time is left after the last step."""
    clock, logger = Clock(), RecordingLogger()
    path = save_half(tmp_path, clock)
    harness = MeterHarness(clock)
    resume(tmp_path, path, clock, harness.meter(tmp_path, usd_per_hour=3600.0), logger=logger)
    assert logger.rows[-1][1]["fare/usd_so_far"] == pytest.approx(32 * 0.036)
    assert logger.rows[0][1]["fare/eta_s"] == 0.0
    assert harness.profile.plan.optimizer_steps == 32


def test_dollars_of_an_earlier_session_keep_their_price(tmp_path: Path) -> None:
    """16 steps at $1 a second, then 16 on a machine of half the price: nothing is paid back."""
    clock, logger = Clock(), RecordingLogger()
    path = save_half(tmp_path, clock, usd_per_hour=3600.0)
    meter = MeterHarness(clock).meter(tmp_path, usd_per_hour=1800.0)
    resume(tmp_path, path, clock, meter, logger=logger)
    assert logger.rows[-1][1]["fare/usd_so_far"] == pytest.approx(16 * 0.036 * (1.0 + 0.5))


def test_steps_after_the_last_checkpoint_stay_paid(tmp_path: Path) -> None:
    """A run is killed at step 20, of which step 16 was saved: four steps are paid twice, and no dollar is taken back."""
    clock, loggers = Clock(), (RecordingLogger(), RecordingLogger())
    real = {"write_status": write_status, "update_every_s": 0.0}

    class Killed(Tiny):
        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.global_step == 20:
                (folders[0] / FILE_NAME).rename(tmp_path / FILE_NAME)
                raise KeyboardInterrupt

    folders = [tmp_path / "version_0", tmp_path / "version_1"]
    meter = MeterHarness(clock, **real).meter(folders[0], usd_per_hour=3600.0)
    saver = ModelCheckpoint(tmp_path, "half", every_n_train_steps=16)
    fit = trainer(tmp_path, meter, saver, enable_checkpointing=True, max_steps=32, logger=loggers[0])
    with pytest.raises(SystemExit):
        fit.fit(Killed(clock), loader(128, clock=clock, load_s=0.005))
    (tmp_path / FILE_NAME).rename(folders[0] / FILE_NAME)  # as a process that is killed leaves it
    resumed = MeterHarness(clock, **real).meter(folders[1], usd_per_hour=3600.0)
    resume(tmp_path, tmp_path / "half.ckpt", clock, resumed, logger=loggers[1])
    first, second = ([row["fare/usd_so_far"] for _, row in logger.rows] for logger in loggers)
    assert second[-1] == pytest.approx((20 + 16) * 0.036)
    assert first + second == sorted(first + second)


@pytest.mark.parametrize(
    "damaged", [{"usd": "1"}, {"usd": -1.0}, {"usd": 1e300}, {"usd": True}, {"run": "x" * 99}]
)
def test_a_damaged_amount_is_ignored(tmp_path: Path, damaged: dict[str, Any]) -> None:
    """The seconds are kept, and the dollars are those at the price of today, as of an older checkpoint."""
    clock, logger = Clock(), RecordingLogger()
    meter = MeterHarness(clock).meter(tmp_path, usd_per_hour=3600.0)
    meter.load_state_dict({"version": 1, "elapsed_s": 5.0, **damaged})
    trainer(tmp_path, meter, max_steps=16, logger=logger).fit(
        Tiny(clock), loader(128, clock=clock, load_s=0.005)
    )
    assert logger.rows[-1][1]["fare/usd_so_far"] == pytest.approx(5.0 + 16 * 0.036)


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("loaded", [True, False])
def test_checkpoints_load_with_and_without_the_callback(tmp_path: Path, saved: bool, loaded: bool) -> None:
    """A checkpoint saved with the callback loads without it, and the other way round."""
    clock = Clock()
    path = save_half(tmp_path, clock, metered=saved)
    callbacks = [MeterHarness(clock).meter(tmp_path)] if loaded else []
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
def test_an_invalid_state_is_ignored(state: Any) -> None:
    """A damaged or newer state only loses the seconds of the earlier session."""
    meter = FareMeter()
    meter.load_state_dict(state)
    assert meter.state_dict() == {"version": 1, "elapsed_s": 0.0}


def test_the_state_is_kept_after_fit(tmp_path: Path) -> None:
    """A checkpoint saved after fit, however much later, has the seconds of that fit."""
    clock = Clock()
    meter = MeterHarness(clock).meter(tmp_path)
    fit = trainer(tmp_path, meter, max_steps=16)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005))
    clock.advance(3600.0)
    assert meter.state_dict()["elapsed_s"] == pytest.approx(16 * 0.036)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_another_stateful_callback_keeps_its_state(tmp_path: Path, namespace: str) -> None:
    """The state of another callback is saved and loaded as without FareMeter."""
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
    fit = trainer(tmp_path, Counter(), MeterHarness().meter(tmp_path), namespace=namespace, max_epochs=1)
    fit.fit(module_class(namespace)(), loader())
    fit.save_checkpoint(path)
    again = Counter()
    fit = trainer(tmp_path, MeterHarness().meter(tmp_path), again, namespace=namespace, max_epochs=2)
    fit.fit(module_class(namespace)(), loader(), ckpt_path=str(path))
    assert again.count == 32
