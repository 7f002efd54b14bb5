"""Scripts that split their model over devices: the samples of a step are those of its copies, not of its devices."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from builders.lightning_modules import Clock, MeterHarness, RecordingLogger, Tiny, loader, quiet, trainer
from trainfare.lightning.run_length import replicas_of
from trainfare_core.job_profile import JobProfile

pytestmark = quiet


class Split(SingleDeviceStrategy):
    """One process of a run on eight devices, that shares samples over `copies` of the model."""

    copies: Any = 2

    def __init__(self) -> None:
        super().__init__(device="cpu")
        self.world_size = 8

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.copies, "rank": 0}


def train_metered(
    folder: Path, strategy: SingleDeviceStrategy, **meter: Any
) -> tuple[JobProfile, dict[str, float]]:
    """Train 32 steps of 4 samples a device, each 36 ms long; return the profile and the last metrics."""
    clock, logger = Clock(), RecordingLogger()
    harness = MeterHarness(clock, rank_times_limit_s=0.0)
    fit = trainer(
        folder,
        harness.meter(folder, **meter),
        strategy=strategy,
        logger=logger,
        max_steps=32,
        log_every_n_steps=1,
    )
    fit.fit(Tiny(clock), loader(160, clock=clock, load_s=0.005))
    text = (folder / "trainfare-profile.json").read_text(encoding="utf-8")
    return JobProfile.from_json(text), logger.rows[-1][1]


def test_samples_are_those_of_the_copies_of_the_model(tmp_path: Path) -> None:
    """Eight devices hold two copies of the model: 2 x 4 samples a step, and no operations of the whole model."""
    profile, logged = train_metered(tmp_path, Split())
    assert (profile.parallel.replicas, profile.parallel.data_parallel_size) == (2, 2)
    assert profile.batch.samples_per_step == 4
    assert profile.global_samples_per_step == 8
    assert logged["fare/samples_per_s"] == pytest.approx(8 / 0.036)
    assert not profile.operations
    assert any("splits the model over devices" in note for note in profile.notes)


def test_samples_that_the_strategy_does_not_tell_are_not_known(tmp_path: Path) -> None:
    """Three copies cannot share eight devices: unknown, because; the step is timed all the same."""

    class Odd(Split):
        copies = 3

    profile, logged = train_metered(tmp_path, Odd())
    assert profile.global_samples_per_step is None
    assert "fare/samples_per_s" not in logged
    assert any("the samples of a step are not known: the strategy" in note for note in profile.notes)
    assert any("may split the model over devices" in note for note in profile.notes)
    assert profile.measured is not None


@pytest.mark.parametrize(
    ("copies", "replicas"),
    [(8, 8), (4, 4), (1, 1), (3, None), (0, None), (True, None), ("2", None), (16, None)],
)
def test_what_a_strategy_says_is_checked(copies: Any, replicas: int | None) -> None:
    """As many copies as divide the devices, else it is not known."""
    strategy = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": copies, "rank": 0})
    assert replicas_of(SimpleNamespace(world_size=8, strategy=strategy)) == replicas


def test_a_device_of_its_own_is_one_copy_and_a_strategy_without_an_answer_is_not_known() -> None:
    """Also where a strategy has nothing to say, or raises."""
    assert replicas_of(SimpleNamespace(world_size=1, strategy=SimpleNamespace())) == 1
    assert replicas_of(SimpleNamespace(world_size=2, strategy=SimpleNamespace())) is None
    assert replicas_of(SimpleNamespace(world_size=2, strategy=DDPStrategy())) is None  # before it is set up
