"""What a script asks before `Trainer.fit` is answered, other loops are stopped, and an error that follows names both."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import pytest

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
for epoch in range(2):
    optimizer.zero_grad()
    model(torch.randn(4, 16)).sum().backward()
    optimizer.step()
    pathlib.Path("trained").touch()
"""
FABRIC = """
import torch
from lightning.fabric import Fabric
fabric = Fabric(accelerator="cpu")
model = torch.nn.Linear(3, 3)
fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
raise AssertionError
"""
ACCELERATE = """
import torch
from accelerate import Accelerator
Accelerator(cpu=True).prepare(torch.nn.Linear(3, 3))
raise AssertionError
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


def test_a_plain_loop_is_stopped_at_its_first_step(folder: Path) -> None:
    """It names the optimizer and the line, and trains nothing; a step without gradients trains nothing either."""
    (folder / "train.py").write_text(PLAIN)
    with UserProcess("train.py", ProcessLimits()) as process, pytest.raises(TargetError) as raised:
        _ = process.job
    assert str(raised.value) == (
        "train.py trains with AdamW.step of torch at train.py:11 in <module>, and was stopped there before it trained: "
        "other trainers and loops of your own are not priced before launch; `with FareMeter.loop(...)` around the loop "
        "prices it while it trains (docs/loops.md); or describe the run as a TrainingJob"
    )
    assert [path.name for path in folder.iterdir()] == ["train.py"]


@pytest.mark.parametrize(
    ("package", "text", "words"),
    [
        ("lightning.fabric", FABRIC, "Lightning Fabric.setup at train.py:6"),
        ("accelerate", ACCELERATE, "Hugging Face's Accelerator.prepare at train.py:4"),
    ],
)
def test_the_loop_of_another_library_is_stopped_where_it_begins(package: str, text: str, words: str) -> None:
    """Also under an `except` of the script."""
    importlib.import_module(package)
    guarded = (
        "try:\n"
        + "".join(f"    {line}\n" for line in text.strip().splitlines())
        + "except Exception:\n    pass\n"
    )
    assert f"train.py trains with {words}" in error_of(guarded)


def test_a_script_that_steps_an_optimizer_before_fit_goes_on(folder: Path) -> None:
    """Where its code calls `fit` of a Trainer, its own optimizer may prepare what is trained, but not train it."""
    text = f"import lightning.pytorch{PLAIN}if False:\n    trainer.fit(model)\n"
    assert "ended without a call of Trainer.fit" in error_of(text)
    assert (folder / "trained").exists()
    longer = text.replace("range(2)", "range(1000)")
    told = "AdamW.step of torch at train.py:11 in <module>, and was stopped there in its optimizer step 100 (--optimizer"
    assert told in error_of(longer)
    assert "stopped there in its optimizer step 700 (" in error_of(longer, 700)
    assert "ended without a call" in error_of(longer, 1001)


def test_a_script_without_fit_is_stopped_though_lightning_is_imported(folder: Path) -> None:
    """At its first step: it has nothing else that it could train with."""
    (folder / "train.py").write_text("import lightning.pytorch" + PLAIN)
    with UserProcess("train.py", ProcessLimits()) as process, pytest.raises(TargetError) as raised:
        _ = process.job
    assert "was stopped there before it trained" in str(raised.value)
    assert not (folder / "trained").exists()


def test_a_warm_up_of_a_plain_loop_is_let_pass(folder: Path) -> None:
    """`--optimizer-step 2` stops at the second step with gradients."""
    assert "was stopped there in its optimizer step 2 (" in error_of(PLAIN, 2)
    assert (folder / "trained").exists()


def test_a_loop_that_steps_by_closures_is_stopped_at_its_first_step(folder: Path) -> None:
    """Before the closure has made the gradients, and so before the first forward."""
    text = """
import torch
model = torch.nn.Linear(16, 3)
optimizer = torch.optim.LBFGS(model.parameters())
def closure():
    raise AssertionError
for epoch in range(2):
    optimizer.zero_grad()
    optimizer.step(closure)
"""
    assert "trains with LBFGS.step of torch at train.py:9 in <module>, and was stopped" in error_of(text, 1)


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
