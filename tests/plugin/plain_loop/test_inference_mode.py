"""`torch.inference_mode` around a validation: its end brings back torch's dispatch keys, also those of a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from builders.lightning_modules import MeterHarness
from builders.lightning_modules import quiet as lightning_quiet
from builders.scripts import load_script
from trainfare import FareMeter
from trainfare.fake_step import trace_job
from trainfare.trace import StepTrace, torch_private
from trainfare.trace.modes import leave_rest

pytestmark = lightning_quiet

SCRIPT = """
import contextlib, torch
from torch import nn
from torch.utils.data import DataLoader
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters())
data = torch.randn(12, 8)
loader = DataLoader(data, 4)

@torch.inference_mode()
def evaluate():
    model.eval()
    for values in DataLoader(data, 4):
        model(values)
    model.train()

for epoch in range(20):
    for values in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled={autocast}):
            loss = model(values).float().square().mean()
        loss.backward()
        optimizer.step()
        {inside}
    {after}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("inside", "after"), [("evaluate()", "pass"), ("pass", "evaluate()")])
def test_a_validation_between_traced_steps(autocast: bool, inside: str, after: str) -> None:
    """The step is priced, and torch dispatches as before."""
    profile = trace_job(load_script(SCRIPT.format(autocast=autocast, inside=inside, after=after)))
    matmul = sum(group.flops for group in profile.operations if group.kind == "matmul")
    assert matmul == 2 * 4 * (8 * 16 * 2 + 16 * 2 * 3)  # no gradient of the input
    assert torch_private.dispatch_modes() == []
    torch.empty(2).random_()


def test_a_meter_in_the_loop(tmp_path: Path) -> None:
    """`FareMeter.loop` with a pause under inference mode: the loop goes on, and its step is traced."""
    harness, names = MeterHarness(), dict[str, Any]()
    exec(SCRIPT.split("@torch")[0], names)
    door = type("FareMeter", (FareMeter,), {"services": harness.services})
    model, optimizer = names["model"], names["optimizer"]
    with door.loop(model, optimizer, warmup_steps=1, measure_steps=3, report_dir=tmp_path) as meter:
        for number in range(12):
            for values in meter.steps(names["loader"]):
                optimizer.zero_grad()
                model(values).square().mean().backward()
                optimizer.step()
                if number % 3 == 0:
                    with torch.inference_mode(), meter.pause():
                        model(values)
                    torch.empty(2).random_()
    assert harness.profile.source.how == "real"
    assert torch_private.dispatch_modes() == []


def test_a_mode_that_is_left_under_inference_mode_records_nothing() -> None:
    """It stays as long as that, and is left at the next occasion."""
    model = nn.Linear(2, 2)
    trace = StepTrace(model)
    with trace:
        model(torch.ones(1, 2)).sum().backward()
        with torch.inference_mode():
            trace.stop()
            seen = trace.operations()
            model(torch.ones(1, 2))
            leave_rest()
        torch.empty(2).random_()
        assert trace.operations() == seen
    leave_rest()
    assert torch_private.dispatch_modes() == []
