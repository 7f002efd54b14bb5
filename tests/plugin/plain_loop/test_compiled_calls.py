"""A step is priced as compiled where something compiled is called in it, and not where a library compiles something."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare.user_process import ProcessLimits, UserProcess

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")]

HEAD = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters())
batches = torch.utils.data.DataLoader(torch.randn(80, 8), 4)
def compute_loss(batch):
    return model(batch).square().mean()
def validate():
    pass
def step(batch):
    compute_loss(batch).backward()
    optimizer.step()
    optimizer.zero_grad()
"""
LOOP = """
for epoch in range(3):
    for batch in batches:
        step(batch)
        validate()
"""
WITHOUT_LOADER = """
for number in range(60):
    step(torch.randn(4, 8))
"""
DECORATED = """
@torch.compile(fullgraph=True)
def square(values):
    return values.square().mean()
def compute_loss(batch):
    return square(model(batch))
"""
VALIDATES = """
evaluates = torch.compile(compute_loss)
def validate():
    model.eval()
    with torch.no_grad():
        evaluates(torch.ones(1, 8))
    model.train()
"""
FABRIC = """
from lightning.fabric import Fabric
fabric = Fabric(accelerator="cpu", devices=1)
model, optimizer = fabric.setup(torch.compile(model), optimizer)
def step(batch):
    fabric.backward(compute_loss(batch))
    optimizer.step()
    optimizer.zero_grad()
"""
ACCELERATE = """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, dynamo_backend={backend!r})
model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def is_compiled(text: str, loop: str = LOOP) -> bool:
    profile = trace_job(load_script(HEAD + text + loop))
    assert sum(group.flops for group in profile.operations) == 2 * 4 * (8 * 16 * 2 + 16 * 2 * 3)
    told = any("the trace is eager" in note for note in profile.notes)
    assert told == profile.source.compiled
    return told


@pytest.mark.parametrize(
    "text",
    [
        "model = torch.compile(model)",
        "model = torch.compile(model, mode='max-autotune', dynamic=False)",
        "model.compile()",
        "model[0].compile()",
        "model[0] = torch.compile(model[0])",
        "compute_loss = torch.compile(compute_loss)",
        "step = torch.compile(step)",
        "@torch.compile\ndef square(values):\n    return values.square().mean()\ndef compute_loss(batch):\n    return square(model(batch))",
        DECORATED,
        FABRIC,
    ],
)
def test_what_is_called_in_the_step_counts(text: str) -> None:
    """As a function, a decorator with and without arguments, a method, and through Fabric."""
    assert is_compiled(text)


def test_a_compiled_step_without_a_loader_counts() -> None:
    """The trace begins in it, with the call of the model."""
    assert is_compiled("step = torch.compile(step)", WITHOUT_LOADER)


@pytest.mark.parametrize(
    "text",
    [
        "helper = torch.compile(lambda values: values + 1)",
        "@torch.compile(dynamic=True)\ndef helper(values):\n    return values + 1\nhelper(torch.ones(2))",
        "other = torch.compile(nn.Linear(2, 2))\nother(torch.ones(1, 2))",
        VALIDATES,
        "model = torch.compile(model, disable=True)",
        "",
    ],
)
def test_what_is_not_called_in_the_step_does_not_count(text: str) -> None:
    """A helper that a library compiles at its import, what is called before or between the steps, what is off."""
    assert not is_compiled(text)


@pytest.mark.parametrize(("backend", "counts"), [("EAGER", True), ("NO", False)])
def test_accelerate_compiles_where_it_is_asked_to(backend: str, *, counts: bool) -> None:
    """And not where a library that it imports compiles a helper; in a process of its own, whose state it keeps."""
    pytest.importorskip("accelerate")
    helper = "helper = torch.compile(lambda values: values + 1)\n"
    Path("train.py").write_text(HEAD + helper + ACCELERATE.format(backend=backend) + LOOP)
    with UserProcess("train.py", ProcessLimits()) as process:
        assert process.profile().source.compiled == counts
