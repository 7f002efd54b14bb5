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


FITS = """
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

pl.Trainer(accelerator="cpu", max_epochs=1).fit(Net(), DataLoader(torch.zeros(8, 4), 4))
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


FOR_REAL = ProcessLimits(sandbox=("none",))
"""The scripts write how far they came."""


def count_steps(folder: Path) -> int:
    return len((folder / "trained").read_text())


@pytest.mark.parametrize(
    "more",
    [
        "",
        "import lightning.pytorch\nclass Tokenizer:\n    def fit(self, texts): ...\nTokenizer().fit(['a text'])\n",
        "from transformers import Trainer\ndef is_trainer(value): return isinstance(value, Trainer)\n",
    ],
    ids=["plain", "lightning", "transformers"],
)
def test_a_plain_loop_is_left_after_a_few_steps(folder: Path, more: str) -> None:
    """Its first step and the next one, whatever Trainer is imported."""
    if "transformers" in more:
        pytest.importorskip("transformers")
    (folder / "train.py").write_text(more + PLAIN)
    with UserProcess("train.py", FOR_REAL) as process:
        profile = process.profile()
    # 16 * 3 products for each of 4 samples, forward and for the gradient of the weights.
    assert sum(group.flops for group in profile.operations) == 2 * 2 * 4 * 16 * 3
    assert count_steps(folder) == 2
    assert any("AdamW.step at train.py:" in note for note in profile.notes)
    assert any("only prepares" in note and "--optimizer-step" in note for note in profile.notes) == bool(more)


def test_a_step_that_is_asked_for_is_waited_for(folder: Path) -> None:
    load_script(PLAIN, optimizer_step=7)
    assert count_steps(folder) == 7 + 3
    assert "after 20 optimizer steps of its own: give a smaller --optimizer-step" in error_of(PLAIN, 21)


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_a_fit_after_steps_of_the_scripts_own_is_what_is_priced(folder: Path, rounds: int) -> None:
    """Too few to trace one, or let pass by `--optimizer-step`; the trace of `fit` has none of them."""
    before = PLAIN.replace("range(20)", f"range({rounds})").replace(
        "import pathlib", "import pathlib, lightning"
    )
    (folder / "train.py").write_text(before + FITS)
    with UserProcess("train.py", FOR_REAL, optimizer_step=5 if rounds > 2 else None) as process:
        profile = process.profile()
    # 4 * 2 products for each of 4 samples, forward and for the gradient of the weights.
    assert sum(group.flops for group in profile.operations) == 2 * 2 * 4 * 4 * 2
    assert (profile.source.loop, profile.plan.optimizer_steps) == ("", 2)
    assert count_steps(folder) == rounds


def test_a_fit_that_is_not_wanted_ends_the_wait_for_a_loop(folder: Path) -> None:
    """`--fit 2`: the script's own steps between two calls are no loop to price."""
    job = load_script(f"{FITS}{PLAIN}{FITS}", fit=2)
    assert type(job.module).__name__ == "Net"
    assert count_steps(folder) == 20


def test_a_script_that_asks_for_the_accelerator_gets_the_cpu(folder: Path) -> None:
    """There is none here, and scripts read its type: `None` has none."""
    if not hasattr(torch, "accelerator"):
        pytest.skip("since torch 2.6")
    before = "import torch\nassert torch.accelerator.current_accelerator().type == 'cpu'\n"
    before += "assert not torch.accelerator.is_available()\n"  # which asks the same
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        assert load_script(before + FITS.replace(", 4))", ", 4, pin_memory=True))")).module is not None


def test_input_is_answered_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty line, yes, no, and then the end of the file, so that no prompt is asked for ever."""
    text = "while input('overwrite? ') != 'y':\n    pass\nwhile True:\n    input('sure? ')\n"
    message = error_of(text)
    assert message.startswith(
        "train.py raised EOFError: a trace has no terminal, and input() was asked the same 4 times at train.py:4"
    )
    assert "Before it, input() at train.py:1 in <module> got '', because a trace has no terminal; " in message
    assert capsys.readouterr().out.split("\n")[:2] == ["overwrite? ", "overwrite? "]


def test_lightnings_warnings_are_left_to_the_run() -> None:
    """Of missing loaders and intervals it warns when it trains; a warning of the script's own is shown."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        load_script(f"import warnings\nwarnings.warn('mine')\n{FITS}")
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
    with UserProcess("train.py", FOR_REAL) as process, pytest.raises(TraceError) as raised:
        process.profile()
    assert "training_step raised AttributeError" in str(raised.value)
    assert "Before it, Trainer.validate at train.py:17 in <module> did nothing here" in str(raised.value)
