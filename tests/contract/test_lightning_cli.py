"""LightningCLI of both namespaces: FareMeter from YAML and flags, its help, and invalid values."""

from __future__ import annotations

import importlib
import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from trainfare import FareMeter

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")
ADD = "--trainer.callbacks+=trainfare.FareMeter"
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.logger=false",
    "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.max_epochs=1",
]

pytestmark = [
    pytest.mark.parametrize("namespace", NAMESPACES),
    pytest.mark.filterwarnings("ignore"),
]


def cli(namespace: str, *arguments: str, run: bool = True) -> Any:
    """Run that namespace's LightningCLI on a small model, as `python train.py ARGUMENTS` would."""
    pl = importlib.import_module(namespace)
    lightning_cli = importlib.import_module(f"{namespace}.cli").LightningCLI

    class Net(pl.LightningModule):
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            self.net = torch.nn.Linear(width, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.net(batch).square().mean()

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(torch.ones(16, 4), batch_size=2)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lightning_cli(
            Net, args=list(arguments), save_config_callback=None, run=run, seed_everything_default=1
        )


def meter_of(trainer: Any) -> FareMeter:
    (meter,) = (callback for callback in trainer.callbacks if isinstance(callback, FareMeter))
    return meter


def test_flags_make_a_metered_run(namespace: str, tmp_path: Path) -> None:
    """A `fit` with a FareMeter added and configured by flags writes the report."""
    flags = (ADD, "--trainer.callbacks.warmup_steps=1", "--trainer.callbacks.measure_steps=3")
    where = f"--trainer.callbacks.report_dir={tmp_path / 'out'}"
    done = cli(namespace, "fit", *QUIET, *flags, where)
    assert done.trainer.state.status.value == "finished"
    assert meter_of(done.trainer)._settings.measure_steps == 3
    assert (tmp_path / "out" / "trainfare-profile.json").is_file()
    assert (tmp_path / "out" / "trainfare-report.html").is_file()


YAML = """
trainer:
  callbacks:
    - class_path: trainfare.FareMeter
      init_args:
        machine: aws:p4d.24xlarge@us-east-1
        budget_usd: 500
        deadline_hours: 12.5
        providers: [aws, gcp]
        purchase: [on_demand]
        trace: false
"""


def test_yaml_sets_every_kind_of_argument(namespace: str, tmp_path: Path) -> None:
    """Text, numbers, lists and switches have their types; a flag overrides the file."""
    (tmp_path / "config.yaml").write_text(YAML)
    config = f"--config={tmp_path / 'config.yaml'}"
    done = cli(namespace, config, *QUIET, "--trainer.callbacks.budget_usd=7", run=False)
    settings = meter_of(done.trainer)._settings
    assert settings.machine == "aws:p4d.24xlarge@us-east-1"
    assert (settings.budget_usd, settings.deadline_hours) == (7.0, 12.5)
    assert (settings.providers, settings.purchase) == (("aws", "gcp"), ("on_demand",))
    assert settings.trace is False


def test_print_config_round_trips(namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output of --print_config can be read again and gives the same settings and the same text."""
    (tmp_path / "config.yaml").write_text(YAML)
    config = f"--config={tmp_path / 'config.yaml'}"
    with pytest.raises(SystemExit) as end:
        cli(namespace, "fit", config, "--print_config")
    assert end.value.code == 0
    printed = capsys.readouterr().out
    arguments = yaml.safe_load(printed)["trainer"]["callbacks"][0]["init_args"]
    assert sorted(arguments) == sorted(inspect.signature(FareMeter).parameters)
    (tmp_path / "printed.yaml").write_text(printed)
    with pytest.raises(SystemExit):
        cli(namespace, "fit", f"--config={tmp_path / 'printed.yaml'}", "--print_config")
    assert capsys.readouterr().out == printed
    cut = {name: part for name, part in yaml.safe_load(printed).items() if name in ("trainer", "model")}
    (tmp_path / "cut.yaml").write_text(yaml.safe_dump(cut))
    again = cli(namespace, f"--config={tmp_path / 'cut.yaml'}", *QUIET, run=False)
    first = cli(namespace, config, *QUIET, run=False)
    assert meter_of(again.trainer)._settings == meter_of(first.trainer)._settings


def test_help_explains_every_argument(namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--trainer.callbacks.help=trainfare.FareMeter` shows each argument with its docstring, type and default."""
    with pytest.raises(SystemExit) as end:
        cli(namespace, "fit", "--trainer.callbacks.help=trainfare.FareMeter")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in inspect.signature(FareMeter).parameters:
        after = text.partition(f" --trainer.callbacks.{name} {name.upper()}")[2]
        after = after or text.partition(f" --trainer.callbacks.{name} {{true,false}}")[2]
        assert after, f"{name} is not in the help"
        words = after.partition("(type:")[0]
        assert len(words.split()) >= 4, f"{name} is not explained: {words!r}"
    assert "(type: int, default: 3)" in text


BAD = {
    "measure_steps=0": "measure_steps=0",
    "measure_steps=many": "measure_steps",
    "warmup_steps=-1": "warmup_steps=-1",
    "budget_usd=.nan": "budget_usd=nan",
    "budget_usd=-5": "budget_usd=-5",
    "deadline_hours=.inf": "deadline_hours=inf",
    "machine=p4d.24xlarge": "machine='p4d.24xlarge'",
    "providers=[]": "providers=[]",
    "trace=perhaps": "trace",
    "measure_step=3": "measure_step",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_is_named(namespace: str, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid value ends the program before training, with the argument's name in the message."""
    with pytest.raises((SystemExit, Exception)) as end:
        cli(namespace, "fit", *QUIET, ADD, f"--trainer.callbacks.{bad}")
    text = capsys.readouterr().err + str(end.value)
    assert BAD[bad] in text
    if BAD[bad].partition("=")[1]:
        assert "it must be" in text or "it must look like" in text
