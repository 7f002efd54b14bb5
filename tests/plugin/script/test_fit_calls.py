"""Several calls of `fit`: the loop around the one that is traced is named, and `--fit all` counts each call."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare.job import ALL_CALLS, LiveJob
from trainfare_core.errors import TargetError

pytestmark = quiet

MODULE = """
import pathlib, sys
import torch, lightning.pytorch as pl
from torch.utils.data import DataLoader, TensorDataset
from sklearn.model_selection import KFold

class Net(pl.LightningModule):
    def __init__(self, width=8):
        super().__init__()
        self.layer = torch.nn.Linear(4, width)
    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

def rows(count, columns=4):
    return DataLoader(TensorDataset(torch.zeros(count, columns)), 4)

def train(loader, width=8, **arguments):
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, **{"max_epochs": 2, **arguments})
    trainer.fit(Net(width), loader)
    return trainer
"""
FIT_LINE = MODULE.splitlines().index("    trainer.fit(Net(width), loader)") + 1


def job_of(text: str, *, fit: int = 1) -> LiveJob:
    """Return the job of a script that has the module."""
    return load_script(MODULE + text, fit=fit)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


THREE = "call 1 of 3: the script costs about 3 times this"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("for train_rows, _ in KFold(3).split(range(60)):\n    train(rows(len(train_rows)))", THREE),
        (
            "folds = KFold(n_splits=3)\nfor fold, split in enumerate(folds.split(range(60))):\n    train(rows(8))",
            THREE,
        ),
        ("for lr in [1e-2, 1e-3, 1e-4]:\n    train(rows(8))", THREE),
        ("names = {'a': 1, 'b': 2, 'c': 3}\nfor name, size in names.items():\n    train(rows(8))", THREE),
        (
            "for fold in range(2):\n    for seed in range(5):\n        train(rows(8))",
            "call 1 of 10: the script costs about 10 times this",
        ),
        (
            "for attempt in range(3):\n    train(rows(8))\n    break",
            "call 1 of up to 3: the script costs up to 3 times this",
        ),
        (
            "for fold in range(3):\n    if fold == 0:\n        train(rows(8))",
            "call 1 of up to 3: the script costs up to 3 times this",
        ),
        (
            "while True:\n    train(rows(8))",
            "call 1 in a loop: the script costs this once for each round",
        ),
        (
            "import glob\nfor part in map(str, [1, 2]):\n    train(rows(8))",
            "call 1 in a loop: the script costs this",
        ),
        ("for _ in range(1):\n    train(rows(8))", ""),
        ("for _ in range(9):\n    def run():\n        pass\nelse:\n    train(rows(8))", ""),
        ("class Data:\n    size = [rows(8) for _ in range(3)]\ntrain(Data.size[0])", ""),
        ("train(rows(8))", ""),
    ],
)
def test_a_loop_around_the_call_is_told_beside_the_steps(text: str, part: str) -> None:
    """The rounds are read from the source and from plain values, also where the loop calls a function with the call."""
    note = trace_job(job_of(text)).plan.steps_note
    assert (note or "").startswith(part)
    assert bool(note) == bool(part)
    assert note is None or note.endswith(", and --fit all counts them")


def test_all_calls_are_counted_where_they_are_alike(folder: Path) -> None:
    """Three folds of 10, 11 and 11 batches by 2 epochs; nothing that stands after the last call is run."""
    text = """
for train_rows, _ in KFold(3).split(range(61)):
    trainer = pl.Trainer(accelerator="cpu", logger=False, max_epochs=2, callbacks=[pl.callbacks.EarlyStopping("val_loss")])
    trainer.fit(Net(), rows(len(train_rows)))
    print(trainer.callback_metrics["val_loss"].item())
pathlib.Path("end").touch()
"""
    script = MODULE.partition("def train(")[0] + text
    one, every = (trace_job(load_script(script, fit=fit)) for fit in (1, ALL_CALLS))
    assert (one.plan.optimizer_steps, every.plan.optimizer_steps) == (20, 64)
    assert (one.plan.epochs, every.plan.epochs) == (2, 6)
    assert every.operations == one.operations
    assert every.plan.steps_note == "3 calls of Trainer.fit; EarlyStopping may end it earlier: an upper bound"
    assert not (folder / "end").exists()


def test_a_call_after_the_loop_is_counted(folder: Path) -> None:
    """A last training on all the data follows the folds, through the same line: the script runs to its end."""
    text = "for fold in range(3):\n    train(rows(8))\ntrain(rows(16))\npathlib.Path('end').touch()"
    assert trace_job(job_of(text, fit=ALL_CALLS)).plan.optimizer_steps == 3 * 4 + 8
    assert (folder / "end").exists()


def test_a_call_with_another_model_is_not_counted_as_the_first() -> None:
    """What differs is named for each call, and how to trace it."""
    text = """
train(rows(8))
train(rows(80))
train(rows(8), width=16)
train(DataLoader(TensorDataset(torch.zeros(8, 4)), 8))
train(rows(8), precision="bf16-mixed")
"""
    profile = trace_job(job_of(text, fit=ALL_CALLS))
    assert profile.plan.optimizer_steps == 2 * 2 + 2 * 20
    assert profile.plan.steps_note == "2 calls of Trainer.fit of 5: the others differ"
    notes = "\n".join(profile.notes)
    for number, what in ((3, "parameters"), (4, "batch size"), (5, "precision")):
        assert f"call {number} is not counted: other {what}; --fit {number} takes it alone" in notes


def test_an_unknown_length_among_alike_calls_stays_unknown() -> None:
    """A sum with an unknown part is none."""
    text = "train(rows(8))\ntrain(rows(8), max_epochs=-1)\n"
    plan = trace_job(job_of(text, fit=ALL_CALLS)).plan
    assert plan.optimizer_steps is None
    assert "neither max_steps nor max_epochs" in str(plan.unknown_because)


def test_an_error_between_the_calls_names_those_that_did_not_train() -> None:
    """The cause is ours: the first call trained nothing, and its metrics are nan."""
    text = """
for fold in range(2):
    trainer = train(rows(8))
    assert trainer.callback_metrics["val_loss"] < 1, "diverged"
"""
    with pytest.raises(TargetError, match=r"raised AssertionError: diverged at train.py:") as raised:
        job_of(text, fit=2)
    message = str(raised.value)
    assert f"Before it, Trainer.fit at train.py:{FIT_LINE} in train trained nothing here; " in message
    assert "Trainer.callback_metrics['val_loss'] at train.py:" in message
    assert message.endswith("A trace stops before training, so what such calls give is made up")
    with pytest.raises(TargetError, match=r"ended with exit code 3. Before it, Trainer.fit at"):
        job_of("train(rows(8))\nsys.exit(3)", fit=ALL_CALLS)
    with pytest.raises(TargetError, match=r"gave no batch. Before it, Trainer.fit at"):
        job_of("train(rows(8))\ntry:\n    train([])\nexcept Exception:\n    pass", fit=ALL_CALLS)


def test_a_base_classes_fit_is_no_second_call() -> None:
    """A Trainer that overrides `fit` calls that of Lightning in it."""
    text = """
class Own(pl.Trainer):
    def fit(self, model, loader):
        super().fit(model, loader)

Own(accelerator="cpu", logger=False, max_epochs=2).fit(Net(), rows(8))
"""
    job = job_of(text)
    last = len((MODULE + text).splitlines())
    assert any(f"calls .fit in lines {FIT_LINE}, {last}:" in note for note in job.live.notes)
