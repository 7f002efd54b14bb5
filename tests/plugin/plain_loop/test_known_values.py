"""A length that depends on known values: of a condition that never changes, and of a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare_core.job_profile import JobProfile

pytestmark = quiet

HEAD = """
import torch
from types import SimpleNamespace
from torch.utils.data import DataLoader
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
data = torch.randn(160, 8)
train_loader = DataLoader(data, batch_size=4, shuffle=True)  # 40 batches
def train_step(batch):
    model(batch).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def price(text: str) -> JobProfile:
    return trace_job(load_script(HEAD + text))


RESUMES = """
args, starting_epoch, completed_steps = SimpleNamespace(resume=RESUME, max_train_steps=90), 0, 0
def skip_first_batches(loader, number):
    return DataLoader(data, batch_size=8)
for epoch in range(3):
    if CONDITION:
        active_loader = skip_first_batches(train_loader, 2)
    else:
        active_loader = train_loader
    for step, batch in enumerate(active_loader):
        train_step(batch)
        completed_steps += 1
        if completed_steps >= args.max_train_steps:
            break
"""


def test_a_condition_that_never_changes_chooses_the_data() -> None:
    """As in all `run_*_no_trainer.py`; one that changes with the epoch leaves the length unknown."""
    usual = RESUMES.replace("CONDITION", "args.resume and epoch == starting_epoch and completed_steps >= 0")
    assert price(usual.replace("RESUME", "None")).plan.optimizer_steps == 90
    for changes in (usual.replace("RESUME", "'last'"), RESUMES.replace("CONDITION", "epoch % 2 == 1")):
        plan = price(changes.replace("RESUME", "None")).plan
        assert plan.optimizer_steps is None
        assert "which active_loader the loop at train.py:" in (plan.unknown_because or "")


CONFIG = """
class Node:
    def __init__(self, value):
        self.__dict__["_val"] = value
class DictConfig:
    def __init__(self, **content):
        self.__dict__["_content"] = content
    def __getattr__(self, name):
        DictConfig.asked.append(name)
        held = self.__dict__["_content"][name]
        value = vars(held).get("_val", held)
        return 2 if value == "${train.epochs}" else value
    __getitem__ = __getattr__
    asked = []
DictConfig.__module__ = "omegaconf.dictconfig"
cfg = DictConfig(train=DictConfig(epochs=Node(3)), again=Node("${train.epochs}"))
def run(cfg):
    for epoch in range(EPOCHS):
        DictConfig.asked.clear()
        for batch in train_loader:
            train_step(batch)
            assert not DictConfig.asked
run(cfg)
"""


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [("cfg.train.epochs", 120), ("cfg.train['epochs']", 120), ("cfg.again", None), ("cfg['again']", None)],
)
def test_a_number_in_a_configuration_of_omegaconf_is_read(epochs: str, steps: int | None) -> None:
    """From where the real one holds it, without a call; one that is made of others is not known."""
    assert price(CONFIG.replace("EPOCHS", epochs)).plan.optimizer_steps == steps
