"""Without a DataLoader, the samples of a step are those of the call of the model that is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.fake_step import trace_job

pytestmark = quiet

HEAD = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
"""
ACTS = """
optimizer = torch.optim.Adam(model.parameters())
for number in range(100):
    action = model(torch.randn(1, 4)).argmax()
    optimizer.zero_grad()
    output = model(torch.randn(128, 4))
    model(torch.randn(5, 4))
    output.square().mean().backward()
    optimizer.step()
"""
CLOSURE = """
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
data = torch.randn(17, 4)
def closure():
    optimizer.zero_grad()
    loss = model(data).square().mean()
    loss.backward()
    return loss
for number in range(15):
    optimizer.step(closure)
    with torch.no_grad():
        model(torch.randn(3, 4))
"""


PARALLEL = """
model = torch.nn.DataParallel(model)
optimizer = torch.optim.Adam(model.parameters())
for number in range(50):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("text", "samples"), [(ACTS, 128), (CLOSURE, 17)])
def test_samples_are_those_of_the_call_that_is_trained(
    text: str, samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the first one, in reinforcement learning, nor of a test after each step of a closure."""
    monkeypatch.chdir(tmp_path)
    batch = trace_job(load_script(HEAD + text)).batch
    assert (batch.micro_batch_size, batch.samples_per_step) == (samples, samples)


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="DataParallel splits each batch there")
def test_data_parallel_without_gpus_is_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    profile = trace_job(load_script(HEAD + PARALLEL))
    assert (profile.parallel.strategy, profile.parallel.devices) == ("single_device", 1)
    assert profile.batch.samples_per_step == 8
    assert any(note.startswith("nn.DataParallel is priced as one device") for note in profile.notes)
