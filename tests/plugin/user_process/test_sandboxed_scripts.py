"""Scripts that write over what is there: before launch no file of the user changes, and none of its own stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from builders.sandboxes import list_contents, only_linux, run_without
from trainfare.sandbox.kernel import landlock_version
from trainfare.user_process import ProcessLimits, UserProcess

pytestmark = only_linux

COMMAND = "from trainfare.cli import main; main()"
LOOP = """
import os, shutil, sqlite3, sys, tempfile
from pathlib import Path
import polars, torch
from safetensors.torch import save_file

here, home = Path(__file__).resolve().parent, Path.home()
out = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "out"
print("runs", flush=True)
model = torch.nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
assert (here / "../data/train.txt").read_text() == "data"  # relative paths lead where they lead in a run
assert Path("../data/train.txt").read_text() == "data"
(here / "log.txt").unlink()
shutil.move("old", "older")
(home / ".netrc").write_text("changed")
for step in range(1000):
    model(torch.ones(4, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    out.mkdir(exist_ok=True)
    torch.save(model.state_dict(), "best.pt")
    torch.save(model.state_dict(), out / "last.pt")
    save_file(model.state_dict(), "model.safetensors")
    polars.DataFrame({"loss": [1.0]}).write_parquet("log.parquet")
    sqlite3.connect("runs.db").execute("create table if not exists t (x)")
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"1")
Path("trained").touch()
"""
LIGHTNING = """
import os
import lightning.pytorch as pl
import torch

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)
    def prepare_data(self):
        os.makedirs("downloaded", exist_ok=True)
        open("downloaded/train.bin", "wb").write(bytes(3 * 2**20))
    def training_step(self, batch, index):
        torch.save(self.state_dict(), "best.pt")
        return self.layer(batch).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(64, 8), 8)

torch.save({}, "best.pt")
pl.Trainer(max_steps=9, accelerator="cpu", default_root_dir="runs").fit(Net())
"""
LACKS: dict[str, dict[str, object]] = {
    "nothing": {},
    "the rights of root": {"rights": False},
    "mounts": {"refused": ["unshare"]},
    "the rights of root, and mounts": {"rights": False, "refused": ["unshare"]},
}
NEITHER = ["unshare", "landlock_create_ruleset"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with checkpoints beside its script, in a home of its own."""
    home = tmp_path / "home"
    folder = home / "project"
    (folder / "out").mkdir(parents=True)
    (folder / "old").mkdir()
    (home / "data").mkdir()
    (tmp_path / "tmp").mkdir()
    (home / "data" / "train.txt").write_text("data")
    for name in (
        "best.pt",
        "out/last.pt",
        "out/kept.pt",
        "model.safetensors",
        "log.txt",
        "log.parquet",
        "old/file",
    ):
        (folder / name).write_text("precious")
    (home / ".netrc").write_text("precious")
    (folder / "loop.py").write_text(LOOP)
    (folder / "fit.py").write_text(LIGHTNING)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TRAINFARE_TRACE_CACHE", str(tmp_path / "traces"))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("lacks", LACKS)
@pytest.mark.parametrize("script", ["loop.py", "fit.py"])
def test_no_file_changes_and_none_stays(
    script: str, lacks: str, folder: Path, record_property: pytest.RecordProperty
) -> None:
    """Whatever the system lacks; what was written is named in one line."""
    if "mounts" in lacks and not landlock_version():
        pytest.skip("this system has no Landlock")
    before = list_contents(folder.parent)
    done = run_without(
        COMMAND, "profile", script, "--no-cache", "-o", "../../job.json", cwd=folder, **LACKS[lacks]
    )  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert list_contents(folder.parent) == before
    assert [*(folder.parents[1] / "tmp").iterdir()] == []
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"note: {script} wrote ")]
    assert "best.pt" in line
    assert ": thrown away" in line
    assert ("--keep-data keeps" in line) is (script == "fit.py")
    record_property("{} files of a user changed by a trace, 0 allowed", 0)


def test_where_none_can_be_built_nothing_starts(folder: Path) -> None:
    """The error says why and names the option, with which the script runs and its files stay."""
    command = ("profile", "loop.py", "--no-cache", "-o", "../../job.json")
    refused = run_without(COMMAND, *command, refused=NEITHER, cwd=folder)
    assert refused.returncode == 2
    assert "no sandbox can be built here (overlay: [Errno 1] Operation not permitted" in refused.stderr
    assert "--no-sandbox runs it" in refused.stderr
    assert "runs\n" not in refused.stderr
    assert (folder / "best.pt").read_text() == "precious"
    done = run_without(COMMAND, *command, "--no-sandbox", refused=NEITHER, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "best.pt").read_bytes().startswith(b"PK")
    assert not (folder / "trained").exists()


@pytest.mark.parametrize("refused", [[], ["unshare"]])
def test_data_are_kept_where_asked(refused: list[str], folder: Path) -> None:
    """New files from before the training alone: nothing that was there changes."""
    before = list_contents(folder.parent)
    command = ("profile", "fit.py", "--no-cache", "--keep-data", "-o", "../../job.json")
    done = run_without(COMMAND, *command, refused=refused, cwd=folder)
    assert done.returncode == 0, done.stderr
    after = list_contents(folder.parent)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"project/downloaded", "project/downloaded/train.bin"}
    assert (folder / "downloaded" / "train.bin").stat().st_size == 3 * 2**20
    assert "note: fit.py wrote downloaded before its training, 3.1 MB: kept" in done.stderr


def test_what_cannot_be_written_names_the_sandbox(tmp_path: Path, folder: Path) -> None:
    """In a copy other folders can be read and not written to."""
    other = tmp_path / "other"
    other.mkdir()
    done = run_without(
        COMMAND, "profile", "loop.py", "--no-cache", "--", str(other / "out"), refused=["unshare"], cwd=folder
    )
    assert done.returncode == 2
    assert "PermissionError" in done.stderr
    assert "before launch it runs in a sandbox, which keeps what it writes in a copy of" in done.stderr
    assert [*other.iterdir()] == []


FULL = """
import os, sys
from pathlib import Path
from trainfare.sandbox.kernel import mount, separate_mounts
separate_mounts()
mount(b"tmpfs", Path(os.environ["TMPDIR"]), b"size=2m")
from trainfare.cli import main
main()
"""


def test_a_full_layer_is_named(folder: Path) -> None:
    """Where the disk of temporary files takes no more: the error says where that is."""
    (folder / "fit.py").write_text(LIGHTNING.replace("3 * 2**20", "9 * 2**20"))
    done = run_without(FULL, "profile", "fit.py", "--no-cache", "-o", "../../job.json", cwd=folder)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert f"is kept in a layer on {os.environ['TMPDIR']}/trainfare-" in done.stderr
    assert "which is full" in done.stderr


def test_caches_of_hubs_are_written_for_real(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there is made for that, and removed where nothing came into it."""
    (folder.parent / ".cache").mkdir()
    text = "from pathlib import Path\nmade = Path.home() / '.cache/huggingface/hub'\nmade.mkdir()\n(made / 'w').touch()\n"
    (folder / "fit.py").write_text(text + LIGHTNING)
    with UserProcess("fit.py", ProcessLimits()) as process:
        assert process.profile().operations
    left = [path.name for path in (folder.parent / ".cache").iterdir()]
    assert left == ["huggingface"]
    assert (folder.parent / ".cache" / "huggingface" / "hub" / "w").exists()


def test_a_child_of_the_script_is_in_it_too(folder: Path) -> None:
    (folder / "fit.py").write_text("import os\nos.system('echo changed > best.pt; rm -rf out')\n" + LIGHTNING)
    before = list_contents(folder)
    with UserProcess("fit.py", ProcessLimits()) as process:
        assert process.profile().operations
    assert list_contents(folder) == before
    assert subprocess.run(["ls", "out"], cwd=folder, capture_output=True, check=True).stdout.split()
