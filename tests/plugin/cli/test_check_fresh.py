"""No verdict of `trainfare check` comes from a trace that was kept: 46 ways in which a job may depend on something."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.cli import run_cli, run_main
from builders.git_repository import GitRepository
from builders.target_files import JOB, TWO_LAYERS

WAYS = {
    "open": "open('data.txt').read()",
    "exists": "os.path.exists('absent.txt')",
    "getsize": "os.path.getsize('data.txt')",
    "listdir": "sorted(os.listdir('more'))",
    "glob": "sorted(glob.glob('more/*'))",
    "walk": "[sorted(names) for _, _, names in os.walk('more')]",
    "rglob": "sorted(map(str, Path('more').rglob('*')))",
    "a link that is read through": "open('link/x').read()",
    "chdir": "chdir_and_read('link')",
    "zip": "zipfile.ZipFile('data.zip').namelist()",
    "linecache": "linecache.getline('data.txt', 1)",
    "module": "importlib.import_module('far').WIDTH",
    "which": "shutil.which('tool', path='more')",
    "samefile": "os.path.samefile('link', 'a')",
    "FIFO": "Path('pipe').is_fifo()",
    "a file that becomes a folder": "os.path.isdir('file')",
    "a folder that becomes a file": "os.path.isfile('folder')",
    "a folder that becomes a FIFO": "os.path.isdir('turns')",
    "HEAD": "open('.git/HEAD').read()",
    "access": "os.access('absent.txt', os.R_OK)",
    "lstat": "os.lstat('data.txt').st_size",
    "lexists": "os.path.lexists('absent.txt')",
    "islink": "os.path.islink('maybe')",
    "readlink": "os.readlink('link')",
    "realpath": "os.path.basename(os.path.realpath('link'))",
    "resolve": "Path('link').resolve().name",
    "posix.stat": "posix.stat('data.txt').st_size",
    "DirEntry.stat": "{entry.name: entry.stat().st_size for entry in os.scandir('.')}['data.txt']",
    "stat by folder": "os.stat('data.txt', dir_fd=here).st_size",
    "open by folder": "os.read(os.open('data.txt', os.O_RDONLY, dir_fd=here), 9)",
    "time of change": "os.stat('data.txt').st_mtime_ns",
    "mode": "oct(os.stat('data.txt').st_mode)",
    "ctypes": "ctypes.CDLL(None).access(b'absent.txt', 0)",
    "environ[]": "os.environ['MODE']",
    "environ.get": "os.environ.get('MODE')",
    "environ in": "'EXTRA' in os.environ",
    "dict(environ)": "dict(os.environ)['MODE']",
    "environ.copy": "os.environ.copy()['MODE']",
    "environ |": "(os.environ | {})['MODE']",
    "environ.items": "[value for name, value in os.environ.items() if name == 'MODE']",
    "environ.values": "'two' in os.environ.values()",
    "environ.pop": "os.environ.pop('POPPED')",
    "expandvars": "os.path.expandvars('$MODE')",
    "environb": "os.environb[b'MODE']",
    "getenvb": "os.getenvb(b'MODE')",
    "environ._data": "os.environ._data[b'MODE']",
}
READ = f"""
import ctypes, glob, importlib, json, linecache, os, posix, shutil, sys, zipfile
from pathlib import Path
here = os.open('.', os.O_RDONLY)
sys.path.append(os.environ["FAR"])
def chdir_and_read(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        return open('x').read()
    finally:
        os.chdir(before)
values = {{}}
for name, way in {WAYS!r}.items():
    values[name] = repr(eval(way))
print("values:" + json.dumps(values), file=sys.stderr)
"""


def make_files(folder: Path) -> None:
    """Make what the job depends on."""
    for name in ("a", "b", "more", "folder", "turns", ".git", "../far"):
        (folder / name).mkdir(parents=True)
    for name, text in (
        ("data.txt", "1"),
        ("a/x", "a"),
        ("b/x", "b"),
        ("maybe", ""),
        ("file", ""),
        (".git/HEAD", "1"),
    ):
        (folder / name).write_text(text)
    (folder / "link").symlink_to("a")
    (folder / "../far/far.py").write_text("WIDTH = 1")
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        archive.writestr("one", "")
    (folder / "train.py").write_text(READ + TWO_LAYERS + JOB)


def change_files(folder: Path) -> None:
    """Change all of it."""
    (folder / "data.txt").write_text("22")
    (folder / "data.txt").chmod(0o600)
    (folder / "absent.txt").touch()
    (folder / "more" / "tool").touch(mode=0o700)
    for name in ("link", "maybe", "file"):
        (folder / name).unlink()
    for name in ("folder", "turns"):
        (folder / name).rmdir()
    (folder / "link").symlink_to("b")
    (folder / "maybe").symlink_to("a")
    (folder / "file").mkdir()
    (folder / "folder").touch()
    os.mkfifo(folder / "turns")
    os.mkfifo(folder / "pipe")
    (folder / ".git" / "HEAD").write_text("2")
    (folder / "../far/far.py").write_text("WIDTH = 22")
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        archive.writestr("two", "")


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What the job read in a trace that is kept, in a check right after it, and in one after all has changed."""
    folder = tmp_path_factory.mktemp("job") / "project"
    make_files(folder)
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path), "FAR": str(folder.parent / "far"), "MODE": "one", "POPPED": "1",
        "TRAINFARE_TRACE_CACHE": str(folder.parent / "traces"),
    }  # fmt: skip
    read: list[dict[str, str]] = []
    for command in (("profile",), ("check", "--max-usd", "100"), ("check", "--max-usd", "100")):
        if len(read) == 2:
            change_files(folder)
            environment |= {"MODE": "two", "EXTRA": "1", "POPPED": "2"}
        done = run_cli(*command, "train.py:job", cwd=folder, environment=environment, check=True)
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("values:"))
        read.append(json.loads(line.removeprefix("values:")))
    return read


@pytest.mark.parametrize("way", WAYS)
def test_a_check_reads_what_is_there_now(way: str, values: list[dict[str, str]]) -> None:
    """Whatever a trace looked at, the next check looks again."""
    before, unchanged, after = (read[way] for read in values)
    assert before == unchanged
    assert after != before


def test_they_are_as_many_as_were_tried(
    values: list[dict[str, str]], record_property: Callable[[str, object], None]
) -> None:
    """Each is a case of its own, so that a name twice is no case less."""
    stale = [way for way in WAYS if values[1][way] == values[2][way]]
    record_property("{} ways to depend on something, each traced again by check", len(WAYS))
    assert (len(WAYS), stale) == (46, [])


SHUFFLED = """
import os, random, sys
import lightning.pytorch as pl
import numpy, torch
from torch.utils.data import DataLoader

print("traced", hash("a name"), file=sys.stderr)

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(99, 64), torch.nn.Linear(64, 99)
    def training_step(self, batch, batch_idx):
        return self.head(self.embed(batch)).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

lengths = [random.randint(4, 200) + numpy.random.randint(99) + int(torch.randint(99, ())) for _ in range(400)]
texts = [torch.ones(length, dtype=torch.long) for length in lengths]
pad = lambda rows: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
trainer = pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, devices=1)
trainer.fit(Net(), DataLoader(texts, 8, shuffle=True, num_workers=2, collate_fn=pad))
"""


TRACED = "import sys; print('traced here', file=sys.stderr)\n"


def test_a_clean_tree_costs_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A loader that shuffles and pads without a seed: equal trees are one trace, and two traces of one job are equal."""
    repository = GitRepository.new(tmp_path / "project")
    repository.put("train.py", SHUFFLED)
    repository.commit("a job")
    monkeypatch.chdir(repository.root)
    for traces in (1, 2):
        assert run_main("check", "train.py", "--max-usd", "100000", "--compare-to", "HEAD") == 0
        printed = capfd.readouterr()
        assert "no change in cost" in printed.out
        hashes = re.findall(r"^traced (\S+)", printed.err, re.MULTILINE)
        assert (len(hashes), len(set(hashes))) == (traces, 1)
        repository.put("notes.txt", "new")  # another tree than the commit's


@pytest.mark.sources
@pytest.mark.parametrize("edit", ["comment at the top", "unused function", "another module"])
def test_an_edit_that_costs_nothing_is_no_change_in_cost(
    edit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two real traces of a job that shuffles, pads, cuts, drops out and leaves out layers; the benchmark tries 20."""
    from benchmarks.clean_tree import EDITS, SCRIPT

    repository = GitRepository.new(tmp_path / "project")
    repository.put("train.py", TRACED + SCRIPT)
    repository.commit("a job")
    changed = TRACED + EDITS[edit](SCRIPT)
    assert changed != TRACED + SCRIPT
    repository.put("train.py", changed)
    monkeypatch.chdir(repository.root)
    assert run_main("check", "train.py", "--max-usd", "100000", "--compare-to", "HEAD") == 0
    printed = capfd.readouterr()
    assert printed.err.count("traced here") == 2
    assert "no change in cost" in printed.out
    assert "less than" not in printed.out
