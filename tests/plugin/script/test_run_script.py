"""A script, a module and a notebook run unchanged in a process of their own, up to `Trainer.fit` and no further."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builders.environments import lean_python
from builders.lightning_modules import NAMESPACES
from builders.processes import HANG_S
from trainfare.job import Script
from trainfare.methods.step_change import StepChange
from trainfare.script.notebook import run_notebook
from trainfare.script.run import run_script
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import JobProfile

SCRIPT = """
import argparse, atexit, os, pathlib
import torch, {namespace} as pl
from helper import ROWS
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, required=True)
arguments = parser.parse_args()
os.environ["LOCAL_RANK"]

class Net(pl.LightningModule):
    def __init__(self, width):
        super().__init__()
        self.body, self.head = torch.nn.Linear(4, width), torch.nn.Linear(width, 2)
    def setup(self, stage):
        self.rows = len(self.trainer.datamodule.data)
    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])
        self.log("loss", loss)
        return loss
    def validation_step(self, batch, batch_idx):
        pathlib.Path("validated").touch()
    def configure_optimizers(self):
        assert self.rows == ROWS
        return torch.optim.AdamW(self.parameters())

class Data(pl.LightningDataModule):
    def setup(self, stage):
        self.data = TensorDataset(torch.randn(ROWS, 4), torch.randint(0, 2, (ROWS,)))
    def train_dataloader(self):
        return DataLoader(self.data, 8, num_workers=2, shuffle=True)
    def val_dataloader(self):
        return DataLoader(self.data, 100)

if __name__ == "__main__":
    print("noise")
    atexit.register(pathlib.Path("exited").touch)
    trainer = pl.Trainer(
        accelerator="gpu", devices=8, num_nodes=2, strategy="fsdp", precision="16-mixed", max_epochs=3,
        accumulate_grad_batches=2, val_check_interval=0.5, gradient_clip_val=1.0, profiler="advanced",
    )
    trainer.validate(Net(2), Data())
    try:
        trainer.fit(Net(arguments.width), datamodule=Data())
    except BaseException:
        pathlib.Path("caught").touch()
    finally:
        pathlib.Path("finally").touch()
    pl.Trainer(max_steps=7, devices=1).fit(Net(3), Data())
"""
LIMITS = ProcessLimits()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script and the module that it imports."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text("ROWS = 1001\n")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


def test_a_trainer_in_a_precision_whose_library_is_not_here_is_built_and_traced(folder: Path) -> None:
    """Lightning's "transformer-engine" needs a library that only a machine with GPUs has."""
    script = SCRIPT.format(namespace="pytorch_lightning").replace('"16-mixed"', '"transformer-engine"')
    (folder / "train.py").write_text(
        script.replace("torch.nn.Linear(width, 2)", "torch.nn.Linear(width, 16)")
    )
    with UserProcess("train.py -- --width 16", LIMITS) as process:
        profile = process.profile()
    assert profile.precision == "transformer-engine"
    assert {group.dtype for group in profile.operations if group.kind == "matmul"} == {"bf16", "fp8"}


def test_a_recipe_with_a_scale_for_each_block_gives_products_in_its_type(folder: Path) -> None:
    """Told by the name of Transformer Engine's class, which only a machine with GPUs has."""
    script = SCRIPT.format(namespace="pytorch_lightning")
    given = "TransformerEnginePrecision(weights_dtype=torch.float16, recipe=MXFP8BlockScaling())"
    for old, new in (
        ('precision="16-mixed"', f"plugins=pl.plugins.{given}"), ("self.data, 8,", "self.data, 32,"),
        ("Linear(width, 2)", "Linear(width, 32)"), ("class Net", "class MXFP8BlockScaling: pass\nclass Net"),
    ):  # fmt: skip
        assert old in script
        script = script.replace(old, new)
    (folder / "train.py").write_text(script)
    with UserProcess("train.py -- --width 32", LIMITS) as process:
        profile, mixed = process.profile(), process.profile(precision="bf16-mixed")
    assert profile.precision == "transformer-engine-float16"
    assert {group.dtype for group in profile.operations if group.kind == "matmul"} == {"fp16", "mxfp8"}
    assert any("the products are in mxfp8" in note for note in profile.notes)
    assert {group.dtype for group in mixed.operations if group.kind == "matmul"} == {"bf16"}


def test_a_script_gives_the_profile_of_its_run(folder: Path) -> None:
    """Every number comes from the Trainer as asked for; no `except`, `finally`, loop or file of the run follows."""
    (folder / "train.py").write_text(SCRIPT.format(namespace="lightning.pytorch"))
    with UserProcess("train.py -- --width 16", LIMITS) as process:
        profile = process.profile()
        assert (process.job.precision, process.job.train_samples) == ("16-mixed", 1001)
        probe = process.profile(StepChange("linear_probe", "bf16-mixed"))
    assert sum(group.count for group in profile.parameters) == 4 * 16 + 16 + 16 * 2 + 2
    assert (probe.trainable_parameters, probe.precision) == (16 * 2 + 2, "bf16-mixed")
    parallel, plan = profile.parallel, profile.plan
    assert (parallel.strategy, parallel.devices, parallel.num_nodes) == ("fsdp", 8, 2)
    # 1,001 rows over 16 devices are 63 each: 8 batches of 8, and 4 steps of 2 batches, in each of 3 epochs.
    assert (plan.optimizer_steps, plan.epochs, plan.validation_batches) == (12, 3.0, 6)
    assert plan.checkpoint_every_n_steps == 4
    assert (profile.batch.micro_batch_size, profile.batch.samples_per_step) == (8, 16)
    assert profile.precision == "16-mixed"
    notes = "\n".join(profile.notes)
    assert "call 1 of Trainer.fit, at train.py:45 in <module>" in notes
    assert "Trainer.validate at train.py:43 in <module> did nothing here" in notes
    assert "train.py calls .fit in lines 45, 50" in notes
    assert files(folder) == {"helper.py", "train.py"}


def test_layers_left_out_at_random_give_the_mean_and_its_spread(folder: Path) -> None:
    """LayerDrop as Hugging Face's encoders have it."""
    text = SCRIPT.format(namespace="lightning.pytorch").replace(
        "self.head(self.body(batch[0]))", "self.head(self.drop(self.body(batch[0])))"
    )
    layers = """
    def drop(self, x):
        for layer in self.layers:
            if torch.rand([]) < 0.5: continue
            x = layer(x)
        return x
    def validation_step("""
    made = "self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(4))"
    text = text.replace("    def validation_step(", layers.lstrip("\n"), 1)
    (folder / "train.py").write_text(
        text.replace("def setup", f"def configure_model(self): {made}\n    def setup", 1)
    )
    with UserProcess("train.py -- --width 16", LIMITS) as process:
        profile = process.profile()
    variation = profile.batch.variation
    assert variation is not None
    assert variation.smallest_flops < profile.step_flops < variation.largest_flops
    assert any("train.py:25 in drop reads a random value" in note for note in profile.notes)


def test_the_command_takes_arguments_and_the_number_of_the_call(folder: Path) -> None:
    """`-m package.train --fit 2 -o job.json -- --width 5` in the other namespace; `finally` runs on the way there.

    The packages of this interpreter are links, and none of their lines is taken for the script's.
    """
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "train.py").write_text(SCRIPT.format(namespace="pytorch_lightning"))
    done = subprocess.run(
        [lean_python(), "-m", "trainfare", "profile", "-m", "package.train", "--fit", "2", "-o", "job.json", "--", "--width", "5"],
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    profile = JobProfile.from_json((folder / "job.json").read_bytes())
    assert (profile.plan.optimizer_steps, sum(group.count for group in profile.parameters)) == (7, 23)
    assert "earlier calls of Trainer.fit, which trained nothing here: package/train.py:45" in done.stderr
    assert "noise" in done.stderr
    assert "note: -m package.train wrote finally, 0 bytes: thrown away" in done.stderr
    assert files(folder) == {"helper.py", "package", "job.json"}


def ends(folder: Path, text: str, *, fit: int = 1, name: str = "train.py") -> str:
    """Return the error of a script that does not come to the call."""
    (folder / name).write_text(text)
    path, argv = list(sys.path), list(sys.argv)
    try:
        with pytest.raises(TargetError) as raised:
            run_script(Script(name), lambda load: (_ for _ in ()).throw(AssertionError), fit=fit)  # type: ignore[arg-type]
    finally:
        sys.path[:], sys.argv[:] = path, argv
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "ended, and no training was seen: no optimizer of torch has made a step that moves a parameter",
        ),
        (
            "import sys\nsys.exit(2)",
            "ended with exit code 2 before its training began: give its arguments after --",
        ),
        ("import sys\nsys.exit()", "ended, and no training was seen"),
        (
            "\n{}['a']",
            "raised KeyError: 'a' at train.py:2 in <module>: a trace runs what stands before the training loop",
        ),
        ("def (", "raised SyntaxError: .*at train.py:1: a trace"),
    ],
)
def test_a_script_without_the_call(folder: Path, text: str, message: str) -> None:
    """Each way to end says what happened and what to do."""
    with pytest.raises(AssertionError if message is None else TargetError, match=message):
        raise TargetError(ends(folder, text))


def test_a_call_that_never_comes_lists_those_that_did(folder: Path) -> None:
    """`--fit 3` of a script with two."""
    text = "import pytorch_lightning as pl\nt = pl.Trainer(devices=1)\nt.fit(None)\nt.fit(None)\n"
    message = ends(folder, text, fit=3)
    assert message == (
        "--fit 3: train.py calls Trainer.fit 2 times (1 at train.py:3 in <module>, 2 at train.py:4 in <module>)"
    )


def test_a_notebook_runs_by_its_code_cells(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What only IPython understands is left out; an error names the cell and its line."""
    cells = [
        [
            "%matplotlib inline\n",
            "import os\n",
            "!pip install \\\n",
            "  torch\n",
            "os.path?\n",
            "x = 'why?'  # why?\n",
        ],
        ["%%bash\n", "rm -rf /\n"],
        [
            "%%time\n",
            "y = ('%d'\n",
            "     % 3)\n",
            "display(x)\n",
            "if x:\n",
            "    %cd ..\n",
            "print(__name__, x, y)",
        ],
        ["\n", "{}['a']"],
    ]
    book = {
        "cells": [
            {"cell_type": "markdown", "source": ["# %"]},
            *({"cell_type": "code", "source": s} for s in cells),
        ]
    }
    path = folder / "book.ipynb"
    path.write_text(json.dumps(book))
    main = sys.modules["__main__"]
    try:
        message = ends(folder, json.dumps(book), name="book.ipynb")
    finally:
        sys.modules["__main__"] = main
    assert "KeyError: 'a' at book.ipynb[cell 4]:2 in <module>" in message
    assert capsys.readouterr().out == "__main__ why? 3\n"
    for text in (
        "{}",
        "[" * 5000,
        '{"cells": [{"cell_type": "code", "source": [1]}]}',
        '{"cells": [{"cell_type": "code", "source": 5}]}',
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(TargetError, match="not a notebook"):
            run_notebook(path)
    with pytest.raises(TargetError, match="no such file"):
        run_script(Script("absent.py"), lambda load: (_ for _ in ()).throw(AssertionError))  # type: ignore[arg-type]


LIBRARY = """
import copy
import torch, {namespace} as pl
from torch.utils.data import DataLoader

class _Net(pl.LightningModule):
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

class Forecaster:
    def __init__(self, epochs, trainer_kwargs):
        self.epochs, self.trainer_kwargs = epochs, copy.deepcopy(trainer_kwargs)
    def fit(self, series):
        self.model = _Net(series.shape[1])
        self.trainer = pl.Trainer(max_epochs=self.epochs, **self.trainer_kwargs)
        self.trainer.fit(self.model, DataLoader(series, batch_size=16))
        self.loss = float(self.trainer.callback_metrics["loss"])
        return self
"""


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_library_that_builds_module_and_trainer_in_its_fit(
    namespace: str, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script has neither; both are found where the library calls the Trainer, and nothing of it runs after that."""
    installed = tmp_path_factory.mktemp("installed")
    (installed / "forecasts.py").write_text(LIBRARY.format(namespace=namespace))
    monkeypatch.syspath_prepend(installed)
    (folder / "train.py").write_text(
        "import torch\n"
        "from forecasts import Forecaster\n"
        "from trainfare import FareMeter\n"
        "kwargs = dict(accelerator='gpu', devices=2, callbacks=[FareMeter()])\n"
        "Forecaster(3, kwargs).fit(torch.zeros(1000, 5))\n"
        "raise SystemExit(7)\n"
    )
    with UserProcess("train.py", LIMITS) as process:
        profile = process.profile()
    assert sum(group.count for group in profile.parameters) == 5 * 2 + 2
    assert (profile.parallel.devices, profile.parallel.strategy) == (2, "ddp")
    # 1,000 rows over 2 devices are 500 each, in 32 batches.
    assert (profile.plan.optimizer_steps, profile.batch.micro_batch_size) == (3 * 32, 16)
    assert any(
        "call 1 of Trainer.fit, at " in note and "forecasts.py:21 in fit" in note for note in profile.notes
    )
    assert files(folder) == {"helper.py", "train.py"}


@pytest.mark.parametrize("guarded", ["", "except Exception: pass"])
def test_a_callable_of_a_script_that_trains_when_imported(guarded: str, folder: Path) -> None:
    """It is stopped before it trains, whatever it catches, and told how to have it priced."""
    (folder / "train.py").write_text(f"""
import pathlib
import torch, pytorch_lightning as pl
class Net(pl.LightningModule):
    def training_step(self, batch, batch_idx):
        pathlib.Path("trained").touch()
def job():
    pl.Trainer(max_steps=1).fit(Net(), [1])
{"" if not guarded else "try:"}
{" " * bool(guarded)}pl.Trainer(max_steps=1).fit(Net(), [1])
{guarded}
""")
    told = r"train.py trains when it is imported, at .*, and was stopped there: write the TARGET as train.py,"
    with UserProcess("train.py:job", LIMITS) as process, pytest.raises(TargetError, match=told):
        process.profile()
    assert files(folder) == {"helper.py", "train.py"}


def test_a_callable_that_trains_when_called(folder: Path) -> None:
    """The same of a call of `fit` in the callable."""
    (folder / "train.py").write_text(
        "import pytorch_lightning as pl\ndef job():\n    pl.Trainer(max_steps=1).fit(pl.LightningModule(), [1])\n"
    )
    with (
        UserProcess("train.py:job", LIMITS) as process,
        pytest.raises(TargetError, match=r"when train\.py:job is called"),
    ):
        process.profile()
