"""A loop is traced from the first call of its model on: a script of one or two steps is answered, and long ones end after two."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import JobProfile

HEAD = """
import pathlib, torch
from torch import nn
from torch.utils.data import DataLoader
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters())
steps = []
def note_step():
    steps.append(1)
    pathlib.Path("steps").write_text(str(len(steps)))
def step(batch):
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
    note_step()
def evaluate():
    model.eval()
    with torch.no_grad():
        for batch in DataLoader(torch.randn(60, 8), batch_size=6):
            model(batch)
    model.train()
"""
BY_LOADER = """
for epoch in range({epochs}):
    for batch in DataLoader(torch.randn({samples}, 8), batch_size=4):
        step(batch)
    pathlib.Path("saved").touch()
"""
BY_NUMBER = """
for number in range({steps}):
    step(torch.randn(4, 8))
"""
ACCUMULATED = """
for epoch in range({epochs}):
    for number, batch in enumerate(DataLoader(torch.randn({samples}, 8), batch_size=4)):
        (model(batch).square().mean() / 3).backward()
        if number % 3 == {stepped}:
            optimizer.step()
            optimizer.zero_grad()
            note_step()
"""
END = "pathlib.Path('after').touch()\n"
PRODUCTS = 2 * 4 * (8 * 16 + 16 * 2)
"""FLOPs of the forward of one batch."""

pytestmark = [*quiet]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def price(text: str) -> JobProfile:
    return trace_job(load_script(HEAD + text + END))


def count_forward(profile: JobProfile) -> int:
    return sum(group.flops for group in profile.operations if group.phase == "forward")


def read_steps() -> int:
    path = Path("steps")
    return int(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize(
    ("samples", "epochs"), [(4, 1), (8, 1), (4, 2), (12, 1), (400, 9), (3, 1)],
)  # fmt: skip
def test_a_loop_ends_in_its_second_step_or_with_its_batches(samples: int, epochs: int) -> None:
    """What follows the last step does not run, also of the only batch, which may be smaller than the loader says."""
    profile = price(BY_LOADER.format(samples=samples, epochs=epochs))
    assert count_forward(profile) == PRODUCTS * min(4, samples) // 4
    assert profile.batch.micro_batch_size == min(4, samples)
    assert profile.optimizer.state_bytes > 0
    assert read_steps() <= 2
    assert not Path("saved").exists()
    assert not Path("after").exists()


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_a_loop_without_a_loader_ends_after_its_second_step(steps: int) -> None:
    profile = price(BY_NUMBER.format(steps=steps))
    assert count_forward(profile) == PRODUCTS
    assert read_steps() <= 2
    assert profile.plan.optimizer_steps == steps  # as its `for` says
    assert Path("after").exists() == (steps < 3)  # nothing says which step is the last


@pytest.mark.parametrize(("samples", "epochs", "most"), [(12, 1, 1), (24, 1, 2), (60, 2, 2), (20 * 12, 1, 2)])
def test_the_first_step_shows_how_many_batches_one_takes(samples: int, epochs: int, most: int) -> None:
    profile = price(ACCUMULATED.format(samples=samples, epochs=epochs, stepped=2))
    assert count_forward(profile) == 3 * PRODUCTS
    assert (profile.parallel.accumulate_grad_batches, profile.batch.samples_per_step) == (3, 12)
    assert read_steps() <= most


def test_a_first_step_of_fewer_batches_is_no_other_step() -> None:
    """A loop that steps in its first batch and then in every third: the step is that of three."""
    profile = price(ACCUMULATED.format(samples=400, epochs=1, stepped=0))
    assert count_forward(profile) == 3 * PRODUCTS
    assert profile.parallel.accumulate_grad_batches == 3
    assert read_steps() <= 5


@pytest.mark.parametrize(
    "before", ["model(torch.randn(400, 8))", "evaluate()", "evaluate(); model(torch.randn(1, 8))"]
)
@pytest.mark.parametrize("loop", [BY_LOADER.format(samples=400, epochs=2), BY_NUMBER.format(steps=40)])
def test_calls_before_the_training_are_no_part_of_a_step(before: str, loop: str) -> None:
    """A dry run, also with gradients, or a validation."""
    profile = price(f"{before}\n{loop}")
    assert count_forward(profile) == PRODUCTS
    assert profile.batch.micro_batch_size == 4
    assert profile.batch.variation is None
    assert read_steps() <= 5


def test_a_model_that_is_called_and_not_trained_is_no_loop() -> None:
    with pytest.raises(TargetError, match=r"train.py ended, and no training was seen"):
        price("model(torch.randn(4, 8))\n")


def test_several_optimizers_are_traced_from_their_first_batch() -> None:
    profile = price("""
critic = nn.Linear(2, 1)
of_critic = torch.optim.SGD(critic.parameters())
for batch in DataLoader(torch.randn(12, 8), batch_size=4):
    critic(model(batch).detach()).mean().backward()
    of_critic.step()
    critic(model(batch)).mean().backward()
    optimizer.step()
    note_step()
pathlib.Path("saved").touch()
""")
    assert count_forward(profile) == 2 * (PRODUCTS + 2 * 4 * 2)
    assert profile.optimizer.names in (("SGD", "AdamW"), ("AdamW", "SGD"))
    assert read_steps() <= 2
    assert not Path("saved").exists()
