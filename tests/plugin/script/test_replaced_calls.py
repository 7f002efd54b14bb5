"""What a script asks before `Trainer.fit` is answered, own loops are left soon, and an error that follows names both."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from builders.scripts import load_script
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.errors import TargetError, TraceError

PLAIN = """
import pathlib, torch
model = torch.nn.Linear(16, 3)
optimizer = torch.optim.AdamW(model.parameters())
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
optimizer.step()  # to plot the schedule; there are no gradients
scheduler.step()
for epoch in range(20):
    optimizer.zero_grad()
    model(torch.randn(4, 16)).sum().backward()
    optimizer.step()
    with pathlib.Path("trained").open("a") as file:
        file.write("x")
"""


def error_of(text: str, optimizer_step: int | None = None) -> str:
    """Return the error of a script that is run in this process."""
    with pytest.raises(TargetError) as raised:
        load_script(text, optimizer_step=optimizer_step)
    return str(raised.value)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def count_steps(folder: Path) -> int:
    return len((folder / "trained").read_text())


@pytest.mark.parametrize("more", ["", "import lightning.pytorch\n"])
def test_a_plain_loop_is_left_after_a_few_steps(folder: Path, more: str) -> None:
    """Its first step with gradients, one that shows its batches, and two that are traced; also where Lightning is imported."""
    (folder / "train.py").write_text(more + PLAIN)
    with UserProcess("train.py", ProcessLimits()) as process:
        profile = process.profile()
    # 16 * 3 products for each of 4 samples, forward and for the gradient of the weights.
    assert sum(group.flops for group in profile.operations) == 2 * 2 * 4 * 16 * 3
    assert count_steps(folder) == 4
    assert any("AdamW.step at train.py:" in note for note in profile.notes)


def test_a_script_that_steps_an_optimizer_before_fit_goes_on(folder: Path) -> None:
    """Where its code calls `fit` of a Trainer, 99 steps of its own optimizer may prepare what is trained."""
    text = f"import lightning.pytorch{PLAIN}if False:\n    trainer.fit(model)\n"
    assert "ended without a call of Trainer.fit" in error_of(text)
    assert count_steps(folder) == 20
    longer = text.replace("range(20)", "range(1000)")
    for at in (None, 700):
        (folder / "trained").unlink()
        load_script(longer, optimizer_step=at)
        assert count_steps(folder) == (at or 100) + 3
    assert "after 1000 optimizer steps of its own: give a smaller --optimizer-step" in error_of(longer, 1001)


def test_a_loop_that_ends_too_early_is_refused() -> None:
    """Its first step, and one that shows its batches: none is left to trace; optimizers of others do not count."""
    other = torch.optim.SGD(torch.nn.Linear(2, 2).parameters())
    message = "AdamW.step at train.py:11 in <module>: the script ended after 2 optimizer steps, and 2 more than those"
    assert message in error_of(PLAIN.replace("range(20)", "range(2)"), 1)
    assert other.param_groups


def test_input_is_answered_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty line, yes, no, and then the end of the file, so that no prompt is asked for ever."""
    text = "while input('overwrite? ') != 'y':\n    pass\nwhile True:\n    input('sure? ')\n"
    message = error_of(text)
    assert message.startswith(
        "train.py raised EOFError: a trace has no terminal, and input() was asked the same 4 times at train.py:4"
    )
    assert "Before it, input() at train.py:1 in <module> got '', because a trace has no terminal; " in message
    assert capsys.readouterr().out.split("\n")[:2] == ["overwrite? ", "overwrite? "]


SETTINGS = """
import warnings
import torch, lightning.pytorch as pl
from torch.utils.data import DataLoader

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()
    def validation_step(self, batch, batch_idx):
        pass
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

warnings.warn("mine")
pl.Trainer(accelerator="cpu", max_epochs=1).fit(Net(), DataLoader(torch.zeros(8, 4), 4))
"""


def test_lightnings_warnings_are_left_to_the_run() -> None:
    """Of missing loaders and intervals it warns when it trains; a warning of the script's own is shown."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        load_script(SETTINGS)
    assert [str(warning.message) for warning in shown] == ["mine"]


FAILS_IN_STEP = """
import torch, lightning.pytorch as pl
from torch.utils.data import DataLoader

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 3)
        self.scale = None
    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean() * self.scale.factor
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

loader, model = DataLoader(torch.randn(16, 8), 4), Net()
trainer = pl.Trainer(max_steps=8, accelerator="cpu", logger=False)
trainer.validate(model, loader)
trainer.fit(model, loader)
"""


def test_error_of_the_trace_names_what_was_replaced_before(folder: Path) -> None:
    """It may come of that as an error of the script itself may."""
    (folder / "train.py").write_text(FAILS_IN_STEP)
    with UserProcess("train.py", ProcessLimits()) as process, pytest.raises(TraceError) as raised:
        process.profile()
    assert "training_step raised AttributeError" in str(raised.value)
    assert "Before it, Trainer.validate at train.py:17 in <module> did nothing here" in str(raised.value)
