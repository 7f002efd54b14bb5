"""How long a run is, and what may end it earlier, is said before launch as in the report of a metered run."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.cli.profile import summary_of
from trainfare.fake_step import trace_job

pytestmark = quiet

SCRIPT = """
import itertools, sys
import torch, lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, Timer
from torch.utils.data import DataLoader, IterableDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(80, 4))

class Sized(Stream):
    def __len__(self):
        return 80

class WebLoader:
    __module__ = "webdataset.compat"  # where the real one is
    repetitions, nsamples = 1, -1
    def with_epoch(self, batches):
        self.repetitions, self.nsamples = sys.maxsize, batches
        return self
    def repeat(self, epochs, batches):
        self.repetitions, self.nsamples = epochs, batches
        return self
    def __iter__(self):
        return itertools.islice(itertools.repeat(torch.zeros(4, 4)), max(3, self.nsamples))

rows = DataLoader(torch.zeros(64, 4), 4)
pl.Trainer(accelerator="cpu", logger=False, {trainer}).fit(Net(), {loader})
"""


@pytest.mark.parametrize(
    ("trainer", "loader", "steps", "note"),
    [
        (
            "max_epochs=100, callbacks=[EarlyStopping('val_loss')]",
            "rows",
            1600,
            "EarlyStopping may end it earlier",
        ),
        ("max_epochs=100, max_time='00:00:00:03'", "rows", 1600, "max_time (3 s) may end it earlier"),
        (
            "max_epochs=1, callbacks=[EarlyStopping('a'), Timer('00:00:01:00')]",
            "rows",
            16,
            "EarlyStopping or max_time (60 s) may end it earlier: an upper bound",
        ),
        ("max_epochs=2", "rows", 32, None),
        ("max_epochs=2", "DataLoader(Sized(), 4)", 40, None),
        ("max_epochs=2", "WebLoader().with_epoch(20)", 40, None),
        ("max_epochs=2, max_steps=30", "WebLoader().with_epoch(20)", 30, None),
        ("max_epochs=2, accumulate_grad_batches=3", "WebLoader().with_epoch(20)", 14, None),
        ("max_epochs=2, limit_train_batches=5", "WebLoader().with_epoch(20)", 10, None),
        ("max_epochs=2, limit_train_batches=7", "DataLoader(Stream(), 4)", 14, None),
        ("max_epochs=2", "DataLoader(Stream(), 4)", None, "a loader that has a len()"),
        ("max_epochs=2", "WebLoader()", None, "give Trainer(max_steps=...)"),
        ("max_epochs=2", "WebLoader().repeat(2, 20)", None, "or Trainer(limit_train_batches=...)"),
    ],
)
def test_the_length_of_a_run_before_it_starts(
    trainer: str,
    loader: str,
    steps: int | None,
    note: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A length that a loader states is taken, one that only might be is not; FareMeter is not in play before launch."""
    monkeypatch.chdir(tmp_path)
    profile = trace_job(load_script(SCRIPT.replace("{trainer}", trainer).replace("{loader}", loader)))
    plan = profile.plan
    assert plan.optimizer_steps == steps
    assert (note or "") in str(plan.steps_note or plan.unknown_because)
    assert (plan.steps_note is None) == (note is None or steps is None)
    shown = next(line for line in summary_of(profile).splitlines() if line.startswith("steps "))
    assert (note or "") in shown
    assert "FareMeter" not in shown
