"""A LightningCLI config that does not name its classes runs the script that does."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from shutil import copy

import pytest

from trainfare.job import Script
from trainfare.lightning.cli_config import script_of_config
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.errors import TargetError

EXAMPLE = Path(__file__).parents[3] / "examples" / "lightning_cli"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.sources
@pytest.mark.filterwarnings("ignore")
def test_the_config_that_lightning_saves_is_a_target(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every default of the Trainer is in it; the numbers are those of the example's own config."""
    pytest.importorskip("sklearn")
    for name in ("train.py", "config.yaml"):
        copy(EXAMPLE / name, folder / name)
    saved = folder / "lightning_logs" / "version_0" / "config.yaml"
    saved.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--config", "config.yaml", "--print_config"])
    with pytest.raises(SystemExit):
        runpy.run_path("train.py", run_name="__main__")
    saved.write_text(capsys.readouterr().out, encoding="utf-8")
    with UserProcess("lightning_logs/version_0/config.yaml", ProcessLimits()) as process:
        profile = process.profile()
    assert (profile.name, profile.batch.micro_batch_size) == ("DigitsMLP", 64)
    # 1,797 digits in batches of 64, twice.
    assert profile.plan.optimizer_steps == 58
    assert any("train.py:69 in main" in note for note in profile.notes)


def test_which_script_and_which_arguments(folder: Path) -> None:
    """The nearest folder with a script that calls LightningCLI; a config with classes needs none."""
    config = folder / "configs" / "a.yaml"
    config.parent.mkdir()
    config.write_text("trainer: {max_epochs: 3}\n")
    assert script_of_config("configs/a.yaml") is None
    (folder / "other.py").write_text("print()")
    (folder / "train.py").write_text("LightningCLI(Net, Data)\n")
    assert script_of_config("configs/a.yaml") == Script(
        "train.py", arguments=("fit", "--config", "configs/a.yaml")
    )
    (folder / "train.py").write_text("cli = LightningCLI(Net, Data, run=False)\n")
    assert script_of_config("configs/a.yaml") == Script("train.py", arguments=("--config", "configs/a.yaml"))
    (folder / "b.py").write_text("LightningCLI(Net)\n")
    with pytest.raises(
        TargetError, match=r"several scripts call LightningCLI \(b.py, train.py\): give the one, e.g. tr"
    ):
        script_of_config("configs/a.yaml")
    config.write_text("model: {class_path: a.B}\ndata: {class_path: a.C}\n")
    assert script_of_config("configs/a.yaml") is None
    assert script_of_config("train.py:job") is None
