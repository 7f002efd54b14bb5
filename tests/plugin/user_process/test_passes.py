"""Each pass of a trace runs in a fork of its own, and what it writes does not stay."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from builders.processes import HANG_S
from builders.target_files import JOB, TWO_LAYERS
from trainfare.lightning.training_step import START_HOOKS
from trainfare.sandbox import SandboxKind, WriteWatch, notes_of
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import MAX_TEXT_CHARACTERS

LIMITS = ProcessLimits()
SCRIPT = """
import functools, os, pathlib, sys
import torch, lightning.pytorch as pl
from torch.utils.data import DataLoader, TensorDataset

@functools.lru_cache
def anchors(count):
    return torch.linspace(0, 1, count)

def log(name):
    with open(sys.argv[1], "a") as calls:
        calls.write(f"{os.getpid()} {name}\\n")

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4, 2)
    def configure_optimizers(self):
        log("configure_optimizers")
        return torch.optim.SGD(self.parameters(), lr=0.1)
    def on_fit_start(self):
        log("on_fit_start")
        pathlib.Path(self.trainer.default_root_dir, "samples").mkdir()
        pathlib.Path(self.trainer.log_dir, "logged").mkdir()
    def on_train_start(self):
        log("on_train_start")
        os.makedirs("snapshots")
        pathlib.Path("snapshots/first.txt").write_text("1")
        with open("results.csv", "a") as results:
            results.write("row\\n")
    def on_train_epoch_start(self):
        log("on_train_epoch_start")
    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.head(batch[0] + anchors(4)), batch[1])
        if float(loss) > 1e6:
            raise ValueError("diverged")
        return loss

data = TensorDataset(torch.randn(8, 4), torch.randint(0, 2, (8,)))
pl.Trainer(
    accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
).fit(Net(), DataLoader(data, 4))
"""


def _contents(folder: Path) -> dict[str, str]:
    """Return the files of a folder, and its folders."""
    paths = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else "" for path in paths}


@pytest.mark.parametrize("kind", ["overlay", "copy"])
def test_a_profile_leaves_nothing_and_the_script_runs_afterwards(
    kind: SandboxKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: pytest.RecordProperty
) -> None:
    """Two passes; the second sees neither folders nor cached tensors of the first, and no hook runs twice in one."""
    folder, temporary, log = tmp_path / "here", tmp_path / "tmp", tmp_path / "cache" / "calls.txt"
    for made in (folder, temporary, log.parent):
        made.mkdir()
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    (folder / "results.csv").write_text("header\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TMPDIR", str(temporary))  # nothing is told of what is written there
    monkeypatch.setattr("tempfile.tempdir", None)  # this process has found another one before
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(log.parent))  # a cache is written for real
    before = _contents(folder)
    with UserProcess(f"train.py -- {log}", ProcessLimits(sandbox=(kind, "copy"))) as process:
        profile = process.profile()
        again = process.profile()
        scratch = Path(process._folders.scratch)
        assert scratch.is_dir()
    assert (profile.source.how, profile) == ("real", again)
    assert not scratch.exists()
    calls = Counter(log.read_text().splitlines())
    assert set(calls.values()) == {1}
    assert {line.split()[1] for line in calls} == {"configure_optimizers", *START_HOOKS}
    assert len({line.split()[0] for line in calls}) == 4  # a process for each of two passes of two traces
    written = [note for note in profile.notes if "in the trace, hooks and step wrote" in note]
    assert any("snapshots" in note and note.endswith(": thrown away") for note in written)
    assert not any("undone" in note for note in written)
    left = _contents(folder)
    assert left == before
    record_property("{} names left in the working folder by a profile", len(left) - len(before))
    # A real run, in which no hook is in the way of another one.
    ended = subprocess.run(
        [sys.executable, "train.py", str(log)], capture_output=True, check=False, text=True, timeout=HANG_S
    )
    assert ended.returncode == 0, ended.stderr


def test_without_an_overlay_only_what_is_new_and_ours_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in which somebody else has put something stays, as does what was there before."""
    here, outside, home = (tmp_path / name for name in ("here", "outside", "home"))
    for folder in (here, outside, home):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("old", "data", "only-read"):
        (here / name).write_text("1")
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    watch = WriteWatch()
    (here / "made" / "deep").mkdir(parents=True)
    (here / "made" / "deep" / "file").write_text("1")
    (here / "shared").mkdir()
    subprocess.run([sys.executable, "-c", "open('shared/theirs', 'w')"], check=True, timeout=HANG_S)
    (here / "part").write_text("1")
    (here / "part").replace("whole")
    (here / "old").write_text("changed")
    (here / "data").rename(here / "made" / "data")
    (here / "only-read").read_text()
    (outside / "file").write_text("1")
    (tmp_path / "tmp").mkdir()
    (home / ".config" / "library").mkdir(parents=True)  # as what is imported first does in a new home
    with pytest.raises(FileNotFoundError):
        Path("absent/file").write_text("1")
    gone, stays = watch.end()
    Path("later").touch()
    assert gone == ["made/deep", "whole"]
    assert stays == [str(outside / "file"), "data", "made", "old", "shared"]
    files = {name for name, content in _contents(here).items() if content or name == "later"}
    assert files == {"later", "made/data", "old", "only-read"}
    assert [len(note.split(", ")) for note in notes_of(gone * 9, stays)] == [5, 5]


def test_notes_of_long_paths_fit_in_a_profile() -> None:
    """Paths of a runner are long: a note with four of them ended a trace as "not a trainfare job profile"."""
    notes = notes_of(["made"], [f"/{'deep/' * 40}{number}" for number in range(9)])
    assert all(len(note) <= MAX_TEXT_CHARACTERS for note in notes)
    assert notes[1].endswith(" and 8 more: it could not be undone")


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("os.kill(os.getpid(), 9)", "ended by SIGKILL, as the system does where memory runs out"),
        ("os._exit(7)", "ended its process with exit code 7"),
    ],
)
def test_the_end_of_a_pass_is_that_of_the_process(ending: str, message: str, tmp_path: Path) -> None:
    """A user is told the same whichever process the code has ended."""
    source = TWO_LAYERS.replace("import torch\n", "import os, torch\n", 1)
    (tmp_path / "t.py").write_text(
        source.replace("return self.head", f"{ending}\n        return self.head") + JOB
    )
    with (
        UserProcess(f"{tmp_path / 't.py'}:job", LIMITS) as process,
        pytest.raises(TargetError, match=message),
    ):
        process.profile()
