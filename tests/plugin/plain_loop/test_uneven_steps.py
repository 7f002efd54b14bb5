"""Steps of different numbers of batches count as their mean: by arithmetic before launch, as counted in a metered run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from builders.lightning_modules import MeterHarness, quiet
from builders.scripts import load_script
from trainfare import FareMeter
from trainfare.fake_step import trace_job
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.job_profile import JobProfile

pytestmark = quiet

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader
model = nn.Linear(64, 64)
optimizer = torch.optim.AdamW(model.parameters())
loader = DataLoader(torch.randn(40, 64), batch_size=4)  # 10 batches
"""
BATCH = 2 * 2 * 4 * 64 * 64
"""FLOPs of a batch: forward, and the gradient of the weights."""
PLAIN = """
number = 0
for epoch in range({epochs}):
    for i, batch in enumerate(loader):
        number += 1
        model(batch).square().mean().backward()
        if {condition}:
            optimizer.step()
            optimizer.zero_grad()
"""
ACCELERATE = """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for epoch in range(30):
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(batch).square().mean())
            optimizer.step()
            optimizer.zero_grad()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def count_flops(profile: JobProfile) -> int:
    return sum(group.flops for group in profile.operations)


@pytest.mark.parametrize(
    ("condition", "steps", "batches"),
    [
        ("(i + 1) % 4 == 0 or i + 1 == len(loader)", 90, 10 / 3),
        ("(i + 1) % 4 == 0", 60, 5.0),
        ("i % 4 == 0", 90, 10 / 3),
        ("number % 4 == 0", 75, 4.0),
    ],
    ids=["also at the end", "carried over", "from the first", "through epochs"],
)
def test_a_plain_loop_says_when_it_steps(condition: str, steps: int, batches: float) -> None:
    """Ten batches an epoch, thirty epochs: the mean step has as many batches as the run has for each."""
    profile = trace_job(load_script(HEAD + PLAIN.format(epochs=30, condition=condition)))
    assert profile.plan.optimizer_steps == steps
    assert count_flops(profile) == pytest.approx(BATCH * batches, rel=1e-3)
    assert profile.batch.samples_per_step == round(4 * batches)


def test_accelerate_steps_at_the_end_of_each_epoch() -> None:
    """4, 4 and 2 batches."""
    pytest.importorskip("accelerate")
    Path("train.py").write_text(HEAD + ACCELERATE)
    with UserProcess("train.py", ProcessLimits()) as process:
        profile = process.profile()
    assert profile.plan.optimizer_steps == 90
    assert count_flops(profile) == pytest.approx(BATCH * 10 / 3, rel=1e-3)


def test_what_is_not_read_is_said() -> None:
    """A condition on values: steps have four batches where they were seen, and the end of an epoch is open."""
    text = PLAIN.format(epochs=30, condition="torch.tensor(i + 1).item() % 4 == 0")
    profile = trace_job(load_script(HEAD.replace("40, 64", "88, 64") + text))
    assert profile.plan.optimizer_steps is None
    assert count_flops(profile) == BATCH * 4
    assert any("22 batches of an epoch are no whole number of steps" in note for note in profile.notes)


def test_a_metered_run_has_counted_them(tmp_path: Path) -> None:
    """`FareMeter.loop`: the mean of the steps that the run has made, 4, 4 and 2 batches each time."""
    harness, names = MeterHarness(), dict[str, Any]()
    exec(HEAD, names)
    door = type("FareMeter", (FareMeter,), {"services": harness.services})
    model: nn.Module = names["model"]
    optimizer = names["optimizer"]
    with door.loop(model, optimizer, warmup_steps=1, measure_steps=3, report_dir=tmp_path) as meter:
        for _ in range(6):
            for number, batch in enumerate(meter.steps(names["loader"]), 1):
                model(batch).square().mean().backward()
                if number % 4 == 0 or number == 10:
                    optimizer.step()
                    optimizer.zero_grad()
    assert count_flops(harness.profile) == pytest.approx(BATCH * 10 / 3, rel=1e-3)
    assert harness.profile.plan.optimizer_steps == 18
    assert any("from 2 to 4 batches: the mean, 3.33, is priced" in note for note in harness.profile.notes)
