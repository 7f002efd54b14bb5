"""TARGET: files, modules and LightningCLI configs become jobs, and every failure says what, where and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainfare.fake_step import load_profile, trace_job
from trainfare.job.target import load_job
from trainfare_core.errors import InputError, TargetError, TraceError

_JOB = """
import dataclasses, torch, pytorch_lightning as pl
from helper import WIDTH
from trainfare import TrainingJob

class Model(pl.LightningModule):
    def __init__(self, width: int = WIDTH):
        super().__init__()
        import late_helper
        self.layer = torch.nn.Linear(width, late_helper.OUT)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def job():
    print("noise on stdout")
    return TrainingJob(module=Model, batch=lambda: torch.zeros(2, WIDTH), batch_size=2, max_steps=5, precision="32-true")

def no_job():
    return {"max_steps": 5}

def no_module():
    return pl.Trainer(logger=False)

def fails():
    raise KeyError("boom")

def refused():
    return TrainingJob(module=Model, batch=object, batch_size=0)

text = "not callable"
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A training script with a module of its own beside it."""
    (tmp_path / "helper.py").write_text("WIDTH = 3\n")
    (tmp_path / "late_helper.py").write_text("OUT = 2\n")
    path = tmp_path / "train.py"
    path.write_text(_JOB)
    return path


def _parameters(target: str) -> int:
    return sum(group.count for group in trace_job(load_job(target)).parameters)


def test_a_file_is_loaded_with_its_neighbours_and_sys_path_is_restored(script: Path) -> None:
    """Imports beside the script work, also late ones; sys.path and sys.modules are as before."""
    path, modules = list(sys.path), set(sys.modules)
    assert _parameters(f"{script}:job") == 3 * 2 + 2
    assert sys.path == path
    assert not {"helper", "late_helper", "train"} & (set(sys.modules) - modules)


def test_two_versions_of_a_script_do_not_share_modules(script: Path, tmp_path: Path) -> None:
    """The base branch and the head in one process: each imports its own module."""
    other = tmp_path / "base"
    other.mkdir()
    (other / "helper.py").write_text("WIDTH = 30\n")
    (other / "late_helper.py").write_text("OUT = 1\n")
    (other / "train.py").write_text(_JOB)
    first, second = load_job(f"{script}:job"), load_job(f"{other / 'train.py'}:job")
    counts = [sum(group.count for group in trace_job(job).parameters) for job in (first, second, first)]
    assert counts == [8, 31, 8]


def test_a_module_name_is_found_from_the_working_directory(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`package.module:callable` works as `python -m` would find it."""
    package = script.parent / "mypackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text(_JOB)
    monkeypatch.chdir(script.parent)
    assert _parameters("mypackage.train:job") == 8
    assert "mypackage" not in sys.modules


def test_what_the_script_prints_stays_off_stdout(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON alone is on stdout, whatever the user's code prints."""
    assert load_profile(f"{script}:job").name == "Model"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "noise on stdout" in captured.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":jobs", r"has no 'jobs': did you mean job"),
        (":zzz", "has no 'zzz': it defines .*job"),
        ("", "train.py is a script, which only the command line runs: give .*train.py:job"),
        (":no_job", "returned a dict: it must return a trainfare.TrainingJob, or .* a Trainer"),
        (":no_module", "returned a Trainer without its module"),
        (":fails", r"raised KeyError: 'boom' at .*train.py:\d+ in fails"),
        (":text", "is a str, not a callable"),
    ],
)
def test_a_wrong_name_or_callable_is_explained(script: Path, name: str, message: str) -> None:
    """The message says what is wrong, where, and what to do."""
    with pytest.raises(TargetError, match=message):
        load_job(f"{script}{name}")


def test_an_impossible_job_keeps_its_own_error(script: Path) -> None:
    """A TrainingJob with batch 0 names its field and the line that wrote it."""
    with pytest.raises(InputError, match=r"TrainingJob\.batch_size is 0.*train.py:\d+ in refused"):
        load_job(f"{script}:refused")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("trian.py:job", r"trian.py: no such file \(near it: train.py\)"),
        ("no_such_module:job", "no module named 'no_such_module'"),
        ("no such module:job", "neither a .py file nor a module name"),
        ("train", "names no callable"),
        (":job", "names no callable"),
    ],
)
def test_a_file_or_module_that_does_not_exist(
    script: Path, target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near names are suggested, none is picked."""
    monkeypatch.chdir(script.parent)
    with pytest.raises(TargetError, match=message):
        load_job(target)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys; sys.exit(3)", "raised SystemExit"),
        ("def (:", r"raised SyntaxError.*bad.py:1"),
        ("import no_such_thing", "No module named 'no_such_thing'.*bad.py:1"),
    ],
)
def test_a_file_that_does_not_import(tmp_path: Path, source: str, message: str) -> None:
    """The message has the user's line and exception, and no traceback of trainfare."""
    path = tmp_path / "bad.py"
    path.write_text(source)
    with pytest.raises(TargetError, match=message):
        load_job(f"{path}:job")


_CLI_MODULE = """
import torch, pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self, width: int, lr: float = 0.1):
        super().__init__()
        self.lr = lr
        self.layer = torch.nn.Linear(width, 1)
    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 4, width: int = 6):
        super().__init__()
        self.batch_size, self.width = batch_size, width
    def prepare_data(self):
        raise RuntimeError("would download")
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(10, self.width)), self.batch_size)
"""
_CONFIG = """
seed_everything: 1
trainer: {max_epochs: 4, max_steps: -1, precision: bf16-true, devices: 2, strategy: ddp, accumulate_grad_batches: 1,
          sync_batchnorm: true}
model: {class_path: cli_classes.Net, init_args: {width: 6}}
data: {class_path: cli_classes.Data, init_args: {batch_size: 5}}
"""


def _config(tmp_path: Path, text: str) -> Path:
    (tmp_path / "cli_classes.py").write_text(_CLI_MODULE)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("nested", [False, True])
def test_a_lightning_cli_config_is_a_job(tmp_path: Path, nested: bool) -> None:
    """Classes, arguments, Trainer settings and the first batch's shape all come from the config."""
    text = (
        _CONFIG if not nested else "fit:\n" + "".join(f"  {line}\n" for line in _CONFIG.strip().splitlines())
    )
    job = load_job(str(_config(tmp_path, text)))
    assert job.sync_batchnorm is True
    profile = trace_job(job)
    assert profile.name == "Net"
    assert profile.precision == "bf16-true"
    assert (profile.batch.micro_batch_size, profile.parallel.devices, profile.parallel.strategy) == (
        5,
        2,
        "ddp",
    )
    assert profile.plan.optimizer_steps == 4
    assert sum(group.count for group in profile.parameters) == 7
    assert profile.optimizer.names == ("SGD",)


def test_the_optimizer_section_replaces_configure_optimizers(tmp_path: Path) -> None:
    """As in LightningCLI, an optimizer in the YAML is the one that trains."""
    text = _CONFIG + (
        "optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.1}}\n"
        "lr_scheduler: {class_path: torch.optim.lr_scheduler.ExponentialLR, init_args: {gamma: 0.5}}\n"
    )
    assert trace_job(load_job(str(_config(tmp_path, text)))).optimizer.names == ("AdamW",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "none of the sections 'model', 'data' and 'trainer'"),
        ("- 1", "none of the sections 'model', 'data' and 'trainer'"),
        ("trainer: {max_epochs: 3}", "model.class_path is missing"),
        (
            "model: {hidden: 3}",
            "model.class_path is missing.*trainfare profile train.py -- fit.*script.py:function",
        ),
        ("model: {class_path: cli_classes.Net}", "no 'data' section"),
        (_CONFIG.replace("devices: 2", "devices: -1"), "trainer.devices is -1"),
        (
            _CONFIG.replace("devices: 2", "limit_train_batches: 0.1"),
            "trainer.limit_train_batches changes the length of the run.*train.py -- fit --config",
        ),
        (_CONFIG.replace("cli_classes.Data", "cli_classes.Dada"), "'data' cannot be built: AttributeError"),
        (_CONFIG.replace("batch_size: 5", "batch_sise: 5"), "'data' cannot be built.*batch_sise"),
        ("model: &a {class_path: x.Y}\ndata: *a", "config.yaml:2: YAML aliases are not supported"),
        ("model: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("model: {", "not plain YAML"),
        ("model: !!timestamp x", "not plain YAML"),
        ("model: !!int ''", "not plain YAML"),
        ("model: !!bool maybe", "not plain YAML"),
        ("model: " + "9" * 5000, "not plain YAML"),
        ("model: " + "[" * 70 + "]" * 70, "deeper than 64"),
        ("x: " + "y" * 2**20, "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_config_is_explained(
    tmp_path: Path, text: str, message: str, record_property: Callable[[str, object], None]
) -> None:
    """Hostile or incomplete YAML gets a message with the reason."""
    with pytest.raises(TargetError, match=message):
        load_job(str(_config(tmp_path, text)))
    record_property("{} wrong files of settings refused, each with what is wrong", 1)


def test_wrong_model_arguments_are_reported_when_the_model_is_built(tmp_path: Path) -> None:
    """A missing init argument is named."""
    path = _config(tmp_path, _CONFIG.replace("{width: 6}", "{}"))
    with pytest.raises((TargetError, TraceError), match=r"'model' cannot be built.*width"):
        trace_job(load_job(str(path)))
