"""`--made-up-data`: a script whose data are not here has a profile, and no number of it comes from data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from builders.lightning_modules import quiet
from builders.processes import HANG_S
from builders.versions import needs_version
from trainfare.fake_step import trace_job
from trainfare.job import Batches, LiveJob, Script
from trainfare.job.made_up_data import MadeUpData
from trainfare.script.run import run_script
from trainfare_core.errors import TargetError, TraceError
from trainfare_core.job_profile import JobProfile

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")]
_SAYS_WHY = needs_version("torch", "2.6", "its check of arguments hides what `__index__` raises")

HEAD = """
import pathlib
import numpy as np, torch, lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 4)
    def forward(self, x):
        return self.layer(x)
    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x), y)
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

def fit(module, *data, **arguments):
    pl.Trainer(**{"accelerator": "cpu", "devices": 1, "max_epochs": 2, **arguments}).fit(module, *data)
"""
BEFORE_THE_TRAINER = (
    HEAD
    + """
x = np.load("/mnt/cluster/x.npy")
y = np.load("/mnt/cluster/y.npy")
x = (x - x.mean(0)) / np.std(x)
data = TensorDataset(torch.from_numpy(x).float(), torch.tensor(y[:, 0]))
train, _ = random_split(data, [0.9, 0.1])
fit(Net(), DataLoader(train, 4, shuffle=True))
"""
)
LAZY = (
    HEAD
    + """
class Images(Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        pathlib.Path("read").touch()
        return open(f"/mnt/images/{index}.png"), 0
class Validated(Net):
    def validation_step(self, batch, batch_idx): ...
fit(Validated(), DataLoader(Images(), 4), DataLoader(Images(), 10), devices=2, num_nodes=2, accelerator="gpu")
"""
)
BUCKET = (
    HEAD
    + """
class Bucket(pl.LightningDataModule):
    def prepare_data(self):
        pathlib.Path("prepared").touch()
        raise ConnectionError("bucket")
    def setup(self, stage):
        self.rows = sorted(pathlib.Path("/mnt/rows").iterdir())
    def train_dataloader(self):
        return DataLoader(self.rows, 4)
    val_dataloader = train_dataloader
class Validated(Net):
    def validation_step(self, batch, batch_idx): ...
fit(Validated(), Bucket(), max_steps=30)
"""
)
PAIR = "float32[4,16],int64[4]"


class _Ended(BaseException):
    """What the process does: nothing of the script runs after its call of `fit`."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    return tmp_path


def job_of(
    text: str, batch: str | None = PAIR, samples: int | None = None, *, made_up: bool = True
) -> LiveJob:
    """Return the job of a script; None reads its data."""
    Path("train.py").write_text(text)
    jobs: list[LiveJob] = []

    def answer(load: Any) -> NoReturn:
        jobs.append(load())
        raise _Ended

    data = MadeUpData(batch=batch, train_samples=samples) if made_up else None
    with pytest.raises(_Ended):
        run_script(Script("train.py"), answer, made_up=data)
    return jobs[0]


def batch_of(job: LiveJob) -> Any:
    assert isinstance(job.batch, Batches)
    (batch,) = job.batch.found
    return batch


def test_data_read_before_the_trainer_exists_are_stood_for() -> None:
    """`np.load` of a file that is not here; what was not read is named, and the length is not known."""
    profile = trace_job(job_of(BEFORE_THE_TRAINER))
    assert (profile.batch.micro_batch_size, profile.plan.optimizer_steps) == (4, None)
    assert "give --train-samples N" in str(profile.plan.unknown_because)
    assert profile.notes[0].startswith(
        f"made-up data: the batch is that of --batch {PAIR!r}; no batch was read"
    )
    assert "the wait for data and how batches differ are unknown" in profile.notes[0]
    assert "numpy.load, whose data are not here, at train.py:22 in <module> did nothing here" in profile.notes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "DataLoader(train, 4, shuffle=True)",
            "DataLoader(train, batch_size=4, shuffle=True, num_workers=2)",
        ),
        ("DataLoader(train, 4, shuffle=True)", "DataLoader(dataset=x, batch_size=4, drop_last=True)"),
        ("random_split(data, [0.9, 0.1])", "random_split(dataset=data, lengths=[0.9, 0.1])"),
        ("random_split(data, [0.9, 0.1])", "random_split(data, [0.9, 0.1], torch.Generator())"),
        ("torch.from_numpy(x).float()", "torch.cat([torch.as_tensor(data=x[:9]), torch.zeros(2) + x])"),
        ("x.mean(0)) / np.std(x)", "np.asarray(x)) / np.stack([x, x]) ** 2 + 0 * np.ones(3) * x[x > 0]"),
        ("(x - x.mean(0))", 'print(f"{x.mean():.3f} {x}") or x.astype(np.float32)'),
    ],
)
def test_ways_to_write_what_is_done_with_data(old: str, new: str) -> None:
    """Positions, names of arguments and arithmetic of arrays and tensors."""
    assert old in BEFORE_THE_TRAINER
    job = job_of(BEFORE_THE_TRAINER.replace(old, new), samples=1000)
    assert (job.batch_size, job.live.facts.batches_per_epoch) == (4, 250)


def test_the_profile_is_that_of_real_data_of_the_same_shapes() -> None:
    """Work, memory, steps and batch are equal; what is said besides differs, and made-up samples are of no known kind."""
    here = BEFORE_THE_TRAINER.replace('np.load("/mnt/cluster/x.npy")', "np.eye(100, 16)").replace(
        'np.load("/mnt/cluster/y.npy")', "np.ones((100, 1), dtype=int)"
    )
    real = trace_job(job_of(here, made_up=False))
    made = trace_job(job_of(BEFORE_THE_TRAINER, samples=90))
    assert real.plan.optimizer_steps == 2 * 23
    assert made.work_note == "made-up batch"
    assert (made.batch.input, real.batch.input is None) == (None, False)
    batch = made.batch.model_copy(update={"input": real.batch.input})
    assert made.model_copy(update={"notes": real.notes, "work_note": None, "batch": batch}) == real


def test_what_is_here_is_not_read_either(folder: Path) -> None:
    """The length, workers and devices are the script's; `__getitem__` is never called."""
    profile = trace_job(job_of(LAZY))
    # 1,000 rows over 4 devices are 250 each, 63 batches of 4; 1,000 rows by 10 on 4 devices are 25 batches.
    assert (profile.plan.optimizer_steps, profile.plan.validation_batches) == (2 * 63, 2 * 25)
    assert profile.parallel.num_nodes == 2
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["train.py"]


def test_a_datamodule_that_cannot_be_set_up(folder: Path) -> None:
    """`prepare_data` is not called; what `setup` and the loaders raise is noted with its line."""
    profile = trace_job(job_of(BUCKET))
    assert (profile.plan.optimizer_steps, profile.plan.validation_batches) == (30, 0)
    assert not (folder / "prepared").exists()
    notes = "\n".join(profile.notes)
    assert "setting up the data stopped at train.py:26 in setup (FileNotFoundError: " in notes
    assert "setting up the data stopped at train.py:28 in train_dataloader (AttributeError: " in notes
    assert "validation is left out of the cost" in notes


@pytest.mark.filterwarnings("ignore:Total length of `.*` across ranks is zero")
@pytest.mark.parametrize("devices", [1, 2])
def test_a_folder_without_files_is_not_a_run_without_steps(devices: int) -> None:
    """A data set of no samples is one that is not here: 0 steps would be a run for nothing."""
    text = LAZY.replace("return 1000", "return len(list(pathlib.Path('/mnt/images').glob('*')))")
    profile = trace_job(job_of(text.replace("devices=2, num_nodes=2", f"devices={devices}")))
    assert profile.plan.optimizer_steps is None
    assert "the script's data have no batch here" in profile.notes


def test_a_run_that_trains_nothing_is_refused_as_ever() -> None:
    """`limit_train_batches=0` has no step, whatever the data."""
    Path("train.py").write_text(LAZY.replace("num_nodes=2", "limit_train_batches=0"))
    with pytest.raises(TargetError, match="the training loader gave no batch"):
        run_script(Script("train.py"), lambda load: pytest.fail(str(load())), made_up=MadeUpData(batch=PAIR))


def test_stated_samples_give_a_stream_its_length() -> None:
    """Divided among the devices by Lightning itself, as for any data set."""
    text = BUCKET.replace(
        "max_steps=30", "max_epochs=3, devices=2, accumulate_grad_batches=2, val_check_interval=0.5"
    )
    # 1,001 samples on 2 devices are 501 each: 126 batches of 4, 63 steps.
    assert trace_job(job_of(text, samples=1001)).plan.optimizer_steps == 3 * 63
    whole = LAZY.replace("DataLoader(Images(), 4)", "DataLoader(Images(), 4, drop_last=True)")
    assert trace_job(job_of(whole, samples=1001)).plan.optimizer_steps == 2 * 62
    with pytest.raises(TargetError, match=r"MisconfigurationException.*: .*give --train-samples N"):
        job_of(text)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("range(len(x))", "a length"),
        ("int(x.max()) + 1", "a whole number"),
        pytest.param("torch.nn.Linear(4, x.shape[1])", "a size", marks=_SAYS_WHY),
        ("[row for row in x]", "its rows"),
        ("1 if x.any() else 2", "its truth"),
        ("np.asarray([1.0]) * float(x[0])", "a value"),
        ("'a' in x", "whether it has something"),
        ("np.bincount(np.asarray(x)).size + 0 == 3 or len(np.array(x))", "a number of classes"),
    ],
)
def test_no_number_comes_from_data_that_are_not_here(line: str, number: str) -> None:
    """A width, a number of classes or a branch that depends on them is refused with its line."""
    text = HEAD + f'\nx = np.load("/mnt/x.npy")\ny = {line}\nfit(Net(), DataLoader(x, 4))\n'
    Path("train.py").write_text(text)
    with pytest.raises(
        TargetError, match=r"train.py:22 in <module> needs a number of data that are not here"
    ) as error:
        run_script(Script("train.py"), lambda _: pytest.fail(number), made_up=MadeUpData(batch=PAIR))
    assert "describe the run as a TrainingJob" in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        'np.load("train.py")',
        "np.asarray('a', dtype=float)",
        "torch.tensor(object())",
        "TensorDataset(torch.zeros(3), torch.zeros(4))",
        "DataLoader([], batch_size=-1)",
        "random_split([1, 2], [5])",
    ],
)
def test_an_error_that_is_not_about_missing_data_is_the_script_s_own(line: str) -> None:
    """What is replaced raises what it always did."""
    Path("train.py").write_text(f"{HEAD}\n{line}\n")
    with pytest.raises(TargetError, match=r"train.py raised \w+Error: .*train.py:21 in <module>: "):
        run_script(Script("train.py"), lambda _: pytest.fail(line), made_up=MadeUpData(batch=PAIR))


AUTOENCODER = (
    HEAD
    + """
class Auto(Net):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 16)
        self.example_input_array = torch.zeros(2, 16)
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self(batch), batch)
    def take(self, batch): ...
class Rows(Dataset):
    def __len__(self):
        return 64
fit(Auto(), DataLoader(Rows(), 8))
"""
)


def test_the_example_of_a_module_that_takes_inputs_alone() -> None:
    """Its first sample as often as the loader's batches have samples; the note says so."""
    job = job_of(AUTOENCODER, None)
    assert batch_of(job).shape == (8, 16)
    profile = trace_job(job)
    assert (profile.batch.micro_batch_size, profile.plan.optimizer_steps) == (8, 16)
    assert "the batch is Auto.example_input_array, its first sample 8 times; no batch" in profile.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        # Two samples unpack into two inputs: a number, and a wrong one.
        ("return torch.nn.functional.mse_loss(self(batch), batch)", "x, y = batch; return (self(x) - y).mean()", "no targets"),
        ("(self(batch), batch)", "(self(batch[0]), batch[1])", "no targets"),
        ("(self(batch), batch)", "(self(batch), self.take(batch))", "no targets"),
        ("torch.zeros(2, 16)", "(torch.zeros(2, 16), torch.zeros(2, 16))", "no targets"),
        ("def take", "def on_after_batch_transfer(self, batch, index): return batch\n    def take", "no targets"),
        ("torch.zeros(2, 16)", "None", "is not set"),
    ],
)  # fmt: skip
def test_an_example_without_targets_is_not_taken_for_a_batch(old: str, new: str, why: str) -> None:
    """A step that may take its batch apart needs `--batch`."""
    assert old in AUTOENCODER
    Path("train.py").write_text(AUTOENCODER.replace(old, new))
    with pytest.raises(
        TargetError, match=rf"Auto.example_input_array .*{why}.*: describe one batch, e.g. --batch"
    ):
        run_script(Script("train.py"), lambda load: pytest.fail(str(load())), made_up=MadeUpData())


def test_the_values_of_a_batch() -> None:
    """Floats are drawn, the same each time; whole numbers are 0 or below their limit; a mask selects everything."""
    text = "x:float32[4,16],y:int64[4],ids:int32[4,50]<1000,mask:bool[4,2],half:bfloat16[4]"
    first, second = batch_of(job_of(LAZY, text)), batch_of(job_of(LAZY, text))
    assert list(first) == ["x", "y", "ids", "mask", "half"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert 0.5 < float(first["x"].std()) < 1.5
    assert first["half"].dtype == torch.bfloat16
    assert (int(first["y"].max()), bool(first["mask"].all())) == (0, True)
    assert 500 < int(first["ids"].max()) < 1000
    alone = batch_of(job_of(LAZY, "float32[4,16]"))
    assert isinstance(alone, torch.Tensor)


def test_a_sample_in_a_file(folder: Path) -> None:
    """Any nested batch that `torch.save` writes and `weights_only` reads."""
    torch.save([{"x": torch.zeros(4, 16)}, torch.zeros(4, dtype=torch.long)], folder / "sample.pt")
    batch = batch_of(job_of(LAZY, str(folder / "sample.pt")))
    assert batch[0]["x"].shape == (4, 16)


def test_a_batch_that_contradicts_the_loader_is_refused() -> None:
    """Steps of one batch size with the work of another would be a wrong price."""
    Path("train.py").write_text(LAZY)
    with pytest.raises(
        TargetError, match="gives 4 samples in a batch, and --batch has 8: give 4 as the first size"
    ):
        run_script(
            Script("train.py"), lambda load: pytest.fail(str(load())), made_up=MadeUpData(batch="int64[8]")
        )
    with pytest.raises(TargetError, match="--train-samples: the first sizes of --batch are its samples"):
        run_script(
            Script("train.py"),
            lambda load: pytest.fail(str(load())),
            made_up=MadeUpData(batch="float32[4],int64[8]", train_samples=5),
        )


def test_a_batch_that_the_step_cannot_take_is_the_step_s_error() -> None:
    """A wrong shape is not made to fit."""
    with pytest.raises(TraceError, match="training_step raised RuntimeError"):
        trace_job(job_of(LAZY, "float32[4,17],int64[4]"))


@pytest.mark.parametrize(
    "text", [BEFORE_THE_TRAINER, LAZY, BUCKET.replace("ConnectionError", "FileNotFoundError")]
)
def test_without_the_option_the_way_out_is_named(text: str) -> None:
    """The refusal of data that are not here says how to do without them."""
    Path("train.py").write_text(text)
    way_out = r"needs a file that is not here.*; or describe one batch: --made-up-data --batch 'float32\[4,16\],int64\[4\]'$"
    with pytest.raises(TargetError, match=way_out):
        run_script(Script("train.py"), lambda load: pytest.fail(str(load())))


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}\nopen('/mnt/classes.json')\n",
        LAZY.replace(
            "class Validated(Net):",
            "class Validated(Net):\n    def setup(self, stage):\n        open('/mnt/c')\n",
        ),
    ],
)
def test_what_cannot_be_made_up_is_refused_without_the_option_that_is_there(text: str) -> None:
    """A file of the script's own, before `fit` or in `setup` of the module, which may build layers."""
    Path("train.py").write_text(text)
    with pytest.raises(TargetError, match=r"needs a file that is not here .* a few samples are enough$"):
        run_script(Script("train.py"), lambda load: pytest.fail(str(load())), made_up=MadeUpData(batch=PAIR))


def test_the_command_says_that_data_are_made_up(folder: Path) -> None:
    """In the summary and in the JSON; another batch is not answered with the trace of the first."""
    (folder / "train.py").write_text(BEFORE_THE_TRAINER)

    def profile(*options: str) -> tuple[JobProfile, str]:
        done = subprocess.run(
            [sys.executable, "-m", "trainfare", "profile", "train.py", "--made-up-data", *options],
            capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return JobProfile.from_json(done.stdout.encode()), done.stderr

    first, said = profile("--batch", PAIR)
    second, _ = profile("--batch", PAIR, "--train-samples", "100")
    assert "note        made-up data: the batch is that of --batch" in said
    assert "steps       unknown: " in said
    assert [first.plan.optimizer_steps, second.plan.optimizer_steps] == [None, 50]
    assert second.notes[0].startswith("made-up data")
