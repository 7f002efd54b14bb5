"""`trainfare probe`: a script trains until its steps are measured, its process ends there, and the whole run is priced."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders.cli import CliResult, run_python
from builders.environments import lean_python
from builders.lightning_modules import NAMESPACES, quiet
from builders.scripts import measure_script
from trainfare.cli.probe import describe_measurement
from trainfare_core.errors import CannotTellError, InternalError, TargetError
from trainfare_core.job_profile import JobProfile

HEAD = """
import os, pathlib, sys
os.environ["OMP_NUM_THREADS"] = "1"
LOADED = "torch" in sys.modules
import torch, pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self, fails_at=-1):
        super().__init__()
        self.head, self.fails_at = torch.nn.Linear(4, 2), fails_at
    def training_step(self, batch, batch_idx):
        if batch_idx == self.fails_at:
            raise ValueError("a bad batch")
        loss = torch.nn.functional.cross_entropy(self.head(batch[0]), batch[1])
        self.log("loss", loss)
        return loss
    def validation_step(self, batch, batch_idx):
        self.log("validated", self.head(batch[0]).mean(), sync_dist=True)
    def test_step(self, batch, batch_idx):
        pathlib.Path("tested").touch()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

def load(samples=800, **more):
    data = TensorDataset(torch.randn(samples, 4), torch.randint(0, 2, (samples,)))
    return DataLoader(data, 8, **more)

def trainer(**more):
    quiet = dict(accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False)
    return pl.Trainer(**{**quiet, "logger": False, "enable_checkpointing": False, **more})
"""
WHOLE = """
import multiprocessing

class Log(pl.loggers.CSVLogger):
    def finalize(self, status):
        pathlib.Path(f"finished-{status}").write_text(str(len(multiprocessing.active_children())))
        super().finalize(status)

class Watch(pl.Callback):
    steps = 0
    def on_train_batch_end(self, trainer, module, *_):
        self.steps += 1
        pathlib.Path("steps").write_text(str(self.steps))
    def on_validation_end(self, trainer, module):
        pathlib.Path("validated").touch()
    def on_exception(self, trainer, module, exception): pathlib.Path("on_exception").touch()
    def on_train_end(self, trainer, module): pathlib.Path("on_train_end").touch()
    def teardown(self, trainer, module, stage): pathlib.Path("teardown").touch()

def note_worker(number):
    pathlib.Path(f"worker-{os.getpid()}").touch()

if __name__ == "__main__":
    print("noise")
    assert not LOADED
    watch = Watch()
    run = trainer(
        max_epochs=3, val_check_interval=5, log_every_n_steps=1, accumulate_grad_batches=1,
        logger=Log("logs"), enable_checkpointing=True,
        callbacks=[watch, ModelCheckpoint("saved", every_n_train_steps=2), OnExceptionCheckpoint("saved")],
    )
    workers = dict(num_workers=2, persistent_workers=True, worker_init_fn=note_worker)
    try:
        run.fit(Net(), load(**workers), load(16, num_workers=1, worker_init_fn=note_worker))
    except BaseException:
        pathlib.Path("caught").touch()
    finally:
        pathlib.Path("finally").touch()
    run.test(Net(), load(16))
    run.save_checkpoint("saved/last.ckpt")
    pathlib.Path("after").touch()
"""
ENDS = "class Ends(pl.Callback):\n    def on_train_start(self, *_): sys.exit(5)\n"
WARM_UP, TRACED_AT_LEAST = 3, 1
"""Steps before the measured ones: as FareMeter's documentation has them."""

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:`max_epochs` was not set")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def probe(
    folder: Path, *options: object, before: tuple[str, ...] = (), python: str | None = None
) -> CliResult:
    """Run the command on `train.py` in a process of its own."""
    command = (*before, "-m", "trainfare", "probe", "train.py", "-o", "job.json", *options)
    return run_python(*command, cwd=folder, python=python or lean_python())


def read_profile(folder: Path) -> JobProfile:
    return JobProfile.from_json((folder / "job.json").read_bytes())


def test_the_process_ends_after_the_measured_steps_and_the_whole_run_is_priced(folder: Path) -> None:
    """800 samples in batches of 8 over 3 epochs are 300 steps; what follows `fit` and what saves does not run."""
    (folder / "train.py").write_text(HEAD + WHOLE)
    done = probe(folder, "--steps", 4, "--format", "json")
    assert done.exit_code == 0, done.stderr
    profile, answer = read_profile(folder), json.loads(done.stdout)
    assert profile.measured is not None
    assert (profile.measured.steps, profile.measured.device_name) == (4, "cpu")
    assert (profile.plan.optimizer_steps, profile.plan.checkpoint_every_n_steps) == (300, 2)
    assert profile.notes == ()
    assert answer["job"]["optimizer_steps"] == 300
    assert answer["job"]["measured_step_s"] == profile.measured.step.median_s
    assert "noise" in done.stderr
    written = next(line for line in done.stderr.splitlines() if line.startswith("train.py wrote "))
    assert "logs" in written
    assert written.endswith(", which stays")
    assert f"{profile.measured.step.median_s * 1e3:,.4g} ms each: 4 steps of 300\n" in done.stderr
    steps = int((folder / "steps").read_text())
    assert WARM_UP + TRACED_AT_LEAST + 4 <= steps < 30
    with next(folder.glob("logs/**/metrics.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["loss"]] == list(range(steps))
    workers = [path.name for path in folder.glob("worker-*")]
    assert len(workers) >= 2
    assert not any(Path("/proc", name.removeprefix("worker-")).exists() for name in workers)
    assert (folder / "finished-failed").read_text() == "0", "workers run on while the loggers finish"
    left = {path.name for path in folder.iterdir()} - {*workers, "__pycache__"}
    assert left == {"train.py", "job.json", "steps", "validated", "finished-failed", "logs"}


def test_both_processes_of_torchrun_leave_after_the_same_step(folder: Path) -> None:
    """800 samples over 2 processes in batches of 8 are 50 steps; rank 0 alone reports."""
    count = """
os.makedirs("elsewhere", exist_ok=True)
os.chdir("elsewhere")  # -o names a file of the folder where the command began
class Watch(pl.Callback):
    steps = 0
    def on_train_batch_end(self, trainer, *_):
        self.steps += 1
        pathlib.Path(f"steps-{trainer.global_rank}").write_text(str(self.steps))
"""
    run = 'trainer(devices=2, strategy="ddp", max_epochs=1, callbacks=[Watch()]).fit(Net(), load())'
    (folder / "train.py").write_text(f"{HEAD}{count}{run}\npathlib.Path('after').touch()")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = probe(folder, "--steps", 3, "--format", "json", before=torchrun)
    assert done.exit_code == 0, done.stderr
    profile, answer = read_profile(folder), json.loads(done.stdout)
    assert (profile.plan.optimizer_steps, profile.parallel.devices) == (50, 2)
    assert answer["job"]["optimizer_steps"] == 50
    assert profile.measured is not None
    assert profile.measured.steps == 3
    assert (
        len([note for note in profile.notes if note.startswith("2 ranks agree") or "straggler" in note]) == 1
    )
    written = {path.name: path.read_text() for path in folder.glob("elsewhere/*")}
    assert set(written) == {"steps-0", "steps-1"}
    assert written["steps-0"] == written["steps-1"]
    assert {path.name for path in folder.iterdir()} == {"train.py", "job.json", "elsewhere"}


PLAIN = """
import pathlib, torch
from torch.utils.data import DataLoader
model = torch.nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters())
loader = DataLoader(torch.randn(800, 8), batch_size=4, num_workers={workers})
steps = 0
for epoch in range(9):
    for number, batch in enumerate(loader, 1):
        model(batch).square().mean().backward()
        if number % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
            pathlib.Path("steps").write_text(str(steps))
pathlib.Path("after").touch()
"""


def test_a_plain_loop_is_measured_and_left(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the loop, with its workers ended; the length of the whole run is given. It is no finished run."""
    ledger = tmp_path_factory.mktemp("ledger")
    monkeypatch.setenv("TRAINFARE_LEDGER", str(ledger))
    (folder / "train.py").write_text(PLAIN.format(workers=1))
    done = probe(folder, "--steps", 4, "--total-steps", 93750, "--format", "json")
    assert done.exit_code == 0, done.stderr
    profile = read_profile(folder)
    assert profile.measured is not None
    assert (profile.measured.steps, profile.source.loop) == (4, "plain")
    assert (profile.batch.micro_batch_size, profile.parallel.accumulate_grad_batches) == (4, 2)
    assert json.loads(done.stdout)["job"]["optimizer_steps"] == 93750
    # One by which it is found, one that shows its batches, one to warm up, two that are traced.
    assert int((folder / "steps").read_text()) == 1 + 1 + 1 + 2 + 4
    # Forward, and the gradient of the weights: 8 * 2 products for each of 8 samples.
    assert sum(group.flops for group in profile.operations) == 2 * 2 * 8 * 8 * 2
    assert {path.name for path in folder.iterdir()} == {"train.py", "job.json", "steps"}
    assert list(ledger.iterdir()) == []


def test_a_plain_loop_that_ends_before_is_reported_by_what_was_measured(folder: Path) -> None:
    (folder / "train.py").write_text(PLAIN.format(workers=0).replace("range(9)", "range(1)"))
    done = probe(folder, "--steps", 1000, "--format", "json")
    assert done.exit_code == 0, done.stderr
    assert read_profile(folder).plan.optimizer_steps == 100


HUGGING_FACE = """
import os, pathlib
os.environ["OMP_NUM_THREADS"] = "1"
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 2)
    def forward(self, x):
        return {"loss": self.head(x).sum()}

class Data(torch.utils.data.Dataset):
    def __len__(self): return 400
    def __getitem__(self, index):
        pathlib.Path(f"worker-{os.getpid()}").touch()
        return {"x": torch.ones(4)}

class Watch(TrainerCallback):
    def on_step_end(self, args, state, control, **_): pathlib.Path("steps").write_text(str(state.global_step))
    def on_save(self, *_, **__): pathlib.Path("on_save").touch()
    def on_train_end(self, *_, **__): pathlib.Path("on_train_end").touch()

if __name__ == "__main__":
    arguments = TrainingArguments(
        output_dir="out", use_cpu=True, report_to="none", num_train_epochs=3, per_device_train_batch_size=4,
        gradient_accumulation_steps=2, dataloader_num_workers=2, save_strategy="steps", save_steps=2, disable_tqdm=True,
    )
    trainer = Trainer(model=Tiny(), args=arguments, train_dataset=Data(), callbacks=[Watch()])
    try:
        trainer.train()
    finally:
        pathlib.Path("finally").touch()
    trainer.save_model("after")
"""


def test_hugging_faces_trainer_is_measured_and_left(folder: Path) -> None:
    """400 samples in batches of 4, accumulated over 2, over 3 epochs are 150 steps; nothing is saved."""
    pytest.importorskip("transformers")
    (folder / "train.py").write_text(HUGGING_FACE)
    done = probe(folder, "--steps", 4, "--format", "json", python=sys.executable)
    assert done.exit_code == 0, done.stderr
    profile, answer = read_profile(folder), json.loads(done.stdout)
    assert profile.measured is not None
    assert (profile.measured.steps, profile.source.loop) == (4, "huggingface")
    assert (profile.plan.optimizer_steps, profile.plan.checkpoint_every_n_steps) == (150, 2)
    assert answer["job"]["optimizer_steps"] == 150
    assert "ms each: 4 steps of 150\n" in done.stderr
    steps = int((folder / "steps").read_text())
    assert WARM_UP + TRACED_AT_LEAST + 4 <= steps < 30
    workers = [path.name for path in folder.glob("worker-*")]
    assert len(workers) == 2
    assert not any(Path("/proc", name.removeprefix("worker-")).exists() for name in workers)
    left = {path.name for path in folder.iterdir()} - {*workers, "__pycache__"}
    assert left == {"train.py", "job.json", "steps", "out"}
    assert list((folder / "out").iterdir()) == []


def test_checkpoints_of_hugging_faces_trainer_are_written_where_it_is_asked(folder: Path) -> None:
    pytest.importorskip("transformers")
    (folder / "train.py").write_text(HUGGING_FACE.replace("dataloader_num_workers=2, ", ""))
    done = probe(folder, "--steps", 4, "--save", python=sys.executable)
    assert done.exit_code == 0, done.stderr
    assert (folder / "out/checkpoint-2").is_dir()


def measure(text: str, **how: Any) -> JobProfile | None:
    """Return the profile of a script which runs in this process, or raise its error."""
    return measure_script(HEAD + text, **how)


OWN_LOOP = """
def train(model, optimizer, samples=800):
    for batch, _ in load(samples):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        with pathlib.Path("steps").open("a") as file:
            file.write("x")

def train_linear(samples=800):
    model = torch.nn.Linear(4, 2)
    train(model, torch.optim.SGD(model.parameters()), samples)
"""
IMPORTS_TRANSFORMERS = (
    "from transformers import Trainer\ndef is_trainer(value): return isinstance(value, Trainer)\n"
)
FITS_TOKENIZER = """
class Tokenizer:
    def fit(self, texts):
        return self
Tokenizer().fit(["a text"])
"""
UNTIL_MEASURED = 1 + 1 + 1 + 2 + 3
"""Steps by which a loop is found, that show its batches, warm up, are traced, and are measured."""


@pytest.mark.parametrize("first", [1, 7])
@pytest.mark.parametrize("before", [IMPORTS_TRANSFORMERS, FITS_TOKENIZER], ids=["transformers", "lightning"])
def test_an_own_loop_of_a_script_that_imports_a_trainer_is_measured_and_left(
    before: str, first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Trainer for its type alone, or a `fit` that is none of a Trainer; of 100 steps the loop has seen 8."""
    if "transformers" in before:
        pytest.importorskip("transformers")
    end = "train_linear()\npathlib.Path('after').touch()\n"
    profile = measure(before + OWN_LOOP + end, optimizer_step=first)
    assert profile is not None
    assert profile.measured is not None
    assert (profile.source.loop, profile.measured.steps) == ("plain", 3)
    assert Path("steps").read_text() == "x" * (first - 1 + UNTIL_MEASURED)
    assert not Path("after").exists()
    (note,) = [note for note in profile.notes if "--optimizer-step" in note]
    assert note.startswith("SGD.step at train.py:")
    assert f"trainfare: {note}\n" in capsys.readouterr().err


def test_a_trainer_that_comes_first_is_measured() -> None:
    """Three steps prepare something, too few to measure; the steps of the Trainer's own `fit` are its own."""
    profile = measure(OWN_LOOP + "train_linear(24)\ntrainer(max_epochs=2).fit(Net(), load())\n")
    assert profile is not None
    assert (profile.source.loop, profile.plan.optimizer_steps) == ("", 200)
    assert not any("--optimizer-step" in note for note in profile.notes)


def test_steps_are_counted_from_the_setup_of_fabric() -> None:
    """Six steps of before are no part of it, of which two were seen, nor are the four of it that come before the fifth."""
    profile = measure(
        OWN_LOOP
        + """
train_linear(48)
fabric = __import__("lightning.fabric", fromlist=["Fabric"]).Fabric(accelerator="cpu", devices=1)
model = torch.nn.Linear(4, 2)
train(*fabric.setup(model, torch.optim.AdamW(model.parameters())))
""",
        optimizer_step=5,
    )
    assert profile is not None
    assert Path("steps").read_text() == "x" * (6 + 4 + UNTIL_MEASURED)
    assert profile.optimizer.names == ("AdamW",)
    assert sum(group.count for group in profile.parameters) == 4 * 2 + 2
    assert not any("--optimizer-step" in note for note in profile.notes)


def test_with_save_checkpoints_are_written() -> None:
    run = "trainer(max_epochs=1, enable_checkpointing=True, callbacks=[ModelCheckpoint('saved', every_n_train_steps=2)])"
    for save in (False, True):
        assert measure(f"{run}.fit(Net(), load())", save=save) is not None
        assert bool(list(Path().glob("saved/*.ckpt"))) == save


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_run_that_ends_before_is_reported_with_what_was_measured(namespace: str) -> None:
    """Of 7 steps, 20 are asked for: 3 warm up, one or more are traced, and the run is 7 steps long."""
    other = f"import {namespace} as pl\nNet.__bases__ = (pl.LightningModule,)\n"
    profile = measure(f"{other}trainer(max_steps=7).fit(Net(), load())", steps=20)
    assert profile is not None
    assert profile.plan.optimizer_steps == 7
    assert profile.measured is not None
    assert 1 <= profile.measured.steps <= 3
    assert f"{profile.measured.steps} of 20 steps were measured: the run ended" in profile.notes


def test_a_run_too_short_to_measure_says_so() -> None:
    profile = measure("trainer(max_steps=2).fit(Net(), load())", steps=20)
    assert profile is not None
    assert profile.measured is None
    assert describe_measurement(profile).startswith("nothing was measured on this machine")


def test_an_exception_in_training_ends_the_process_where_the_script_catches_it() -> None:
    with pytest.raises(
        TargetError, match=r"train.py raised ValueError: a bad batch at train.py:\d+ in training_step"
    ):
        measure("""
try:
    trainer(max_epochs=1).fit(Net(fails_at=2), load())
except Exception:
    pathlib.Path("caught").touch()
pathlib.Path("after").touch()
""")
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == {"train.py"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer(fast_dev_run=True).fit(Net(), load())", "fast_dev_run"),
        (
            'trainer(devices=2, strategy="ddp_spawn").fit(Net(), load())',
            'give strategy="ddp", or start the script with torchrun',
        ),
        ("trainer(max_epochs=0).fit(Net(), load())", "the Trainer trained no step"),
        (f"{ENDS}trainer(max_epochs=1, callbacks=[Ends()]).fit(Net(), load())", "train.py raised SystemExit: 5"),
        ("sys.exit(3)", r"train.py ended with exit code 3 before its training began: give its arguments after --"),
        ("", "train.py ended, and no training was seen: .* no call of Trainer.fit"),
        ("int('a')", r"train.py raised ValueError: .* at train.py:\d+ in <module>$"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        measure(text)


def test_a_fault_of_the_meter_ends_the_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that fails is a fault of ours; training must not go on to its end."""
    from trainfare.lightning.probe import ProbeCallback

    def fail() -> float:
        raise OSError("no clock")

    monkeypatch.setattr(ProbeCallback, "services", replace(ProbeCallback.services, now=fail))
    with pytest.raises(InternalError, match="the meter had a fault: OSError: no clock"):
        measure("trainer(max_epochs=1).fit(Net(), load())\npathlib.Path('after').touch()")
    assert not Path("after").exists()


def test_a_tuner_before_fit_finds_its_learning_rate() -> None:
    """`lr_find` trains by `fit` and reads a checkpoint of its own: neither is measured or left out."""
    profile = measure("""
from pytorch_lightning.tuner import Tuner
class Tuned(Net):
    lr = 0.1
run, net = trainer(max_epochs=2), Tuned()
Tuner(run).lr_find(net, load(), num_training=4, update_attr=True)
pathlib.Path("rate").write_text(str(net.lr))
run.fit(net, load())
""")
    assert profile is not None
    assert profile.plan.optimizer_steps == 200
    assert Path("rate").exists()


def test_a_finder_among_the_callbacks_reads_its_checkpoint_again() -> None:
    profile = measure("""
from pytorch_lightning.callbacks import BatchSizeFinder
class Sized(Net):
    batch_size = 8
    def train_dataloader(self): return DataLoader(load().dataset, self.batch_size)
    def val_dataloader(self): return load(16)
trainer(max_epochs=2, callbacks=[BatchSizeFinder(max_trials=1, steps_per_trial=1)]).fit(Sized())
""")
    assert profile is not None
    assert profile.measured is not None


def test_a_meter_of_the_script_is_off_and_a_loop_around_fit_is_told() -> None:
    profile = measure("""
from trainfare import FareMeter
for fold in range(5):
    trainer(max_epochs=1, callbacks=[FareMeter(warmup_steps=1, measure_steps=1, report_dir="own")]).fit(Net(), load())
""")
    assert profile is not None
    assert profile.plan.optimizer_steps == 100
    assert any("trains 5 times: this is one of them" in note for note in profile.notes)
    assert not Path("own").exists()


def test_no_step_is_a_refusal_to_tell() -> None:
    with pytest.raises(CannotTellError, match="the run ended before its steps were measured"):
        measure("""
class Stops(pl.Callback):
    def on_train_epoch_start(self, trainer, module): trainer.should_stop = True
class Skips(Net):
    def on_train_batch_start(self, batch, batch_idx): return -1
trainer(max_epochs=1).fit(Skips(), load())
""")
