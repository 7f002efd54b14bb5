"""Checkpoints written with FareMeter load without it, and the other way round."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback as OtherCallback
from pytorch_lightning import Callback, Trainer

from builders import contract
from builders.contract import Tiny
from trainfare import FareMeter

MAX_STATE_BYTES = 4096
"""A chosen limit: small beside any model, and far above the state of two numbers."""


def saving(path: Path, at: int) -> Callable[[], Tiny]:
    """Return the maker of a module that saves a checkpoint after `at` batches and trains on."""

    def save(module: Any, batch_idx: int) -> None:
        if len(module.losses) == at:
            module.trainer.save_checkpoint(path)

    return lambda: Tiny(save)


def primitives_only(value: Any) -> bool:
    """Return whether a state consists of dicts, lists, numbers, strings, bools and None only."""
    if type(value) is dict:
        return all(type(key) is str and primitives_only(item) for key, item in value.items())
    if type(value) is list:
        return all(map(primitives_only, value))
    return value is None or type(value) in (bool, int, float, str)


@pytest.mark.parametrize("resume_with", [True, False])
@pytest.mark.parametrize("save_with", [True, False])
@pytest.mark.parametrize("at", [1, 2, 8, 12])
def test_a_checkpoint_loads_with_and_without_the_meter(
    at: int, save_with: bool, resume_with: bool, tmp_path: Path
) -> None:
    """Resumed training is bitwise that of a run without FareMeter, whether it saved, resumed, both or neither."""

    def resume_run(path: Path, *, save: bool, resume: bool) -> contract.Outcome:
        first = contract.fit([contract.meter()] if save else [], saving(path, at))
        assert first.error is None
        return contract.fit([contract.meter()] if resume else [], max_epochs=3, ckpt_path=path)

    mixed = resume_run(tmp_path / "mixed.ckpt", save=save_with, resume=resume_with)
    plain = resume_run(tmp_path / "plain.ckpt", save=False, resume=False)
    assert plain.status == "TrainerStatus.FINISHED"
    assert mixed.comparable == plain.comparable
    assert mixed.warned == ()


def test_a_checkpoint_differs_only_by_the_state_of_fare_meter(tmp_path: Path) -> None:
    """torch.load reads it with weights_only; it has one entry of FareMeter, and all others are unchanged."""
    contract.fit([contract.meter()], saving(tmp_path / "with.ckpt", 12))
    contract.fit([], saving(tmp_path / "without.ckpt", 12))
    mine = torch.load(tmp_path / "with.ckpt", weights_only=True)
    plain = torch.load(tmp_path / "without.ckpt", weights_only=True)
    assert mine["callbacks"].keys() - plain["callbacks"].keys() == {"FareMeter"}
    assert primitives_only(mine["callbacks"]["FareMeter"])
    del mine["callbacks"]["FareMeter"]
    for kept in ("state_dict", "optimizer_states", "loops"):
        torch.testing.assert_close(mine[kept], plain[kept], rtol=0, atol=0)
    assert mine.keys() == plain.keys()
    assert mine["callbacks"] == plain["callbacks"]


def test_the_state_stays_small_after_a_long_run(record_property: Callable[[str, object], None]) -> None:
    """The state is a few primitives below 4 KiB and does not grow with the steps."""
    sizes: dict[int, int] = {}
    callback = contract.meter(usd_per_hour=1.0, budget_usd=1e9)

    def check_state(module: Any, batch_idx: int) -> None:
        if batch_idx in (1, 4, 100, 2000):
            state = callback.state_dict()
            assert primitives_only(state)
            sizes[batch_idx] = len(json.dumps(state).encode())

    outcome = contract.fit(
        [callback],
        lambda: Tiny(check_state),
        max_epochs=1,
        train=contract.RepeatedBatch(2001),
        val_check_interval=50,
    )
    assert outcome.error is None
    assert len(sizes) == 4
    record_property(
        f"at most {{}} bytes of state in a checkpoint, {MAX_STATE_BYTES:,} allowed", max(sizes.values())
    )
    assert max(sizes.values()) <= MAX_STATE_BYTES
    assert max(sizes.values()) - min(sizes.values()) <= 32


def test_the_seconds_of_earlier_sessions_add_up(tmp_path: Path) -> None:
    """The elapsed time of a resumed run includes the first session and excludes the time between the sessions."""

    def session(start_s: float, ckpt: Path | None) -> float:
        reads: list[int] = []

        def now() -> float:
            reads.append(1)
            return start_s + len(reads)

        callback = contract.meter(contract.fake_services(now=now))
        contract.fit(
            [callback],
            saving(tmp_path / "kept.ckpt", 15) if ckpt is None else Tiny,
            max_epochs=3,
            ckpt_path=ckpt,
        )
        return float(callback.state_dict()["elapsed_s"])

    session(0.0, None)
    saved = torch.load(tmp_path / "kept.ckpt", weights_only=True)["callbacks"]["FareMeter"]["elapsed_s"]
    alone = session(1_000_000.0, None)
    resumed = session(1_000_000.0, tmp_path / "kept.ckpt")
    assert saved > 10.0
    assert saved < resumed < saved + alone


STATES = {
    "empty": {},
    "none": None,
    "text": "state",
    "nan": {"version": 1, "elapsed_s": float("nan")},
    "infinite": {"version": 1, "elapsed_s": float("inf")},
    "negative": {"version": 1, "elapsed_s": -1.0},
    "huge": {"version": 1, "elapsed_s": 1e300},
    "words": {"version": 1, "elapsed_s": "long"},
    "true": {"version": 1, "elapsed_s": True},
    "newer": {"version": 99, "seconds": 5},
    "list": [1, 2, 3],
}


@pytest.mark.parametrize("kind", STATES)
def test_an_invalid_state_is_ignored(kind: str, tmp_path: Path) -> None:
    """A checkpoint with a damaged entry, or one of another version, resumes as if it had no entry."""
    contract.fit([], saving(tmp_path / "half.ckpt", 8))
    checkpoint = torch.load(tmp_path / "half.ckpt", weights_only=True)
    checkpoint["callbacks"]["FareMeter"] = STATES[kind]
    torch.save(checkpoint, tmp_path / "half.ckpt")
    plain = contract.fit([], max_epochs=3, ckpt_path=tmp_path / "half.ckpt")
    callback = contract.meter(contract.fake_services(now=lambda: 5.0))
    outcome = contract.fit([callback], max_epochs=3, ckpt_path=tmp_path / "half.ckpt")
    assert outcome.error is None
    assert outcome.comparable == plain.comparable
    assert outcome.warned == ()
    assert callback.state_dict()["elapsed_s"] == 0.0


@pytest.mark.parametrize("base", [Callback, OtherCallback])
@pytest.mark.parametrize("first", [True, False])
def test_another_stateful_callback_keeps_its_state(base: Any, first: bool, tmp_path: Path) -> None:
    """Another callback of either namespace, before or after FareMeter, saves and restores its own state."""

    class Counter(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = 0
            self.got: Any = None

        def on_train_batch_end(self, *_: Any) -> None:
            self.batches += 1

        def state_dict(self) -> dict[str, Any]:
            return {"batches": self.batches}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.got = dict(state_dict)

    try:
        Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[Counter()])
    except ValueError:
        pytest.skip("this Lightning refuses every callback of the other namespace that has a state")

    def pair(other: Any) -> list[Any]:
        return [contract.meter(), other] if first else [other, contract.meter()]

    contract.fit(pair(Counter()), saving(tmp_path / "half.ckpt", 8))
    resumed = Counter()
    outcome = contract.fit(pair(resumed), max_epochs=3, ckpt_path=tmp_path / "half.ckpt")
    assert outcome.error is None
    assert resumed.got == {"batches": 8}
    assert resumed.batches == 2 * contract.BATCHES


def test_a_resumed_run_plans_the_whole_run(tmp_path: Path) -> None:
    """The plan of a resumed run has all steps of the run."""
    profiles: list[Any] = []
    services = contract.fake_services(
        write_profile=lambda profile, folder: profiles.append(profile) or folder,
        today=lambda: date(2026, 1, 1),
    )
    contract.fit([], saving(tmp_path / "half.ckpt", 8))
    contract.fit([contract.meter(services)], max_epochs=3, ckpt_path=tmp_path / "half.ckpt")
    assert profiles[0].plan.optimizer_steps == 3 * contract.BATCHES


def test_the_key_of_the_state_is_the_same_in_every_namespace() -> None:
    """The key is the class's name, so a checkpoint of one namespace can be resumed under the other."""
    assert FareMeter().state_key == "FareMeter"
