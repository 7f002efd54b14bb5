"""Processes that a script starts: one that would train is called in the script's own, all others go on as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.cli import run_cli
from builders.lightning_modules import quiet
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.errors import TargetError, TraceError
from trainfare_core.job_profile import JobProfile

HEAD = """
import os, pathlib, torch, torch.distributed as dist, torch.multiprocessing as mp
from torch import nn
from torch.utils.data import DataLoader

def train_batches(model):
    optimizer, steps = torch.optim.SGD(model.parameters()), 0
    for batch in DataLoader(torch.randn(400, 8), batch_size=4):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        steps += 1
        pathlib.Path(f"steps-{os.getpid()}").write_text(str(steps))
"""
DDP = """
def train(rank, world_size):
    assert world_size
    dist.init_process_group("nccl", "env://", None, world_size, rank)
    train_batches(nn.parallel.DistributedDataParallel(nn.Linear(8, 2)))
    pathlib.Path("saved").touch()
"""
SPAWN = """
if __name__ == "__main__":
    mp.spawn(train, (COUNT,), COUNT)
    pathlib.Path("after").touch()
"""
HOGWILD = """
def load(queue):
    pathlib.Path("loaded").touch()
    queue.put(torch.ones(2).sum().item())

def train(rank, model):
    train_batches(model)

if __name__ == "__main__":
    mp.set_start_method(METHOD)
    queue, model = mp.Queue(), nn.Linear(8, 2)
    loader = mp.Process(target=load, args=(queue,))
    loader.start()
    assert queue.get() == 2
    loader.join()
    processes = [mp.Process(target=train, args=(rank, model)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    pathlib.Path("after").touch()
"""
DERIVED = """
class Trainer(mp.Process):
    def __init__(self, queue):
        super().__init__()
        self.queue = queue
    def run(self):
        dist.init_process_group("gloo", rank=0, world_size=2)
        train_batches(nn.parallel.DistributedDataParallel(nn.Linear(8, 2)))
        self.queue.put(1)

if __name__ == "__main__":
    queue = mp.get_context("spawn").Queue()
    mp.set_start_method("spawn")
    Trainer(queue).start()
    queue.get()
    pathlib.Path("after").touch()
"""
FIT = """
import pytorch_lightning as pl
from pytorch_lightning.demos.boring_classes import BoringModel

def main():
    pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False).fit(BoringModel())
    pathlib.Path("trained").touch()

if __name__ == "__main__":
    process = mp.get_context("fork").Process(target=main)
    process.start()
    process.join()
    pathlib.Path("after").touch()
"""
WORKERS = """
import multiprocessing

def square(value):
    pathlib.Path("pooled").touch()
    return value * value

class Data(torch.utils.data.Dataset):
    def __len__(self): return 400
    def __getitem__(self, index):
        pathlib.Path(f"worker-{os.getpid()}").touch()
        return torch.randn(8)

if __name__ == "__main__":
    with multiprocessing.Manager() as manager, multiprocessing.Pool(1) as pool:
        shared = manager.dict(values=pool.map(square, [1, 2, 3]))
        assert shared["values"] == [1, 4, 9]
    optimizer = torch.optim.SGD((model := nn.Linear(8, 2)).parameters())
    for batch in DataLoader(Data(), batch_size=4, num_workers=1):
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    pathlib.Path("after").touch()
"""
NO_STEP = """
def train():
    torch.ones(2, requires_grad=True).sum().backward()

if __name__ == "__main__":
    process = mp.Process(target=train)
    process.start()
    process.join()
    pathlib.Path("after").touch()
"""

# Their subject is what starts processes: none is forked from a warm one.
pytestmark = [*quiet, pytest.mark.own_start]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def price(text: str) -> JobProfile:
    """Return the profile of a script before launch, in the process of a command."""
    Path("train.py").write_text(HEAD + text)
    with UserProcess("train.py", ProcessLimits(sandbox=("none",))) as process:  # it writes how far it came
        return process.profile()


def read_steps() -> list[int]:
    """Return the steps that each process has made."""
    return [int(path.read_text()) for path in Path().glob("steps-*")]


@pytest.mark.parametrize(("count", "devices"), [("torch.cuda.device_count()", 1), ("4", 4)])
def test_what_spawn_would_start_is_called_here(count: str, devices: int) -> None:
    """As rank 0 of one under gloo, priced for as many devices as processes; no GPU means one."""
    profile = price(DDP + SPAWN.replace("COUNT", count))
    assert (profile.parallel.strategy, profile.parallel.devices) == ("ddp", devices)
    assert any("spawn at train.py:" in note and "called in this process" in note for note in profile.notes)
    (steps,) = read_steps()
    assert steps <= 4
    assert not Path("saved").exists()
    assert not Path("after").exists()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_that_trains_is_stopped_before_its_first_step(method: str) -> None:
    """And called in the script's own; one that loads runs as ever."""
    profile = price(HOGWILD.replace("METHOD", repr(method)))
    assert profile.batch.micro_batch_size == 4
    assert any(note.startswith("Process at train.py:") for note in profile.notes)
    (steps,) = read_steps()
    assert steps <= 4
    assert Path("loaded").exists()
    assert not Path("after").exists()


def test_a_script_that_waits_for_a_queue_is_woken() -> None:
    """Of a class derived from Process; the world is that of its process group."""
    profile = price(DERIVED)
    assert (profile.parallel.strategy, profile.parallel.devices) == ("ddp", 2)
    (steps,) = read_steps()
    assert steps <= 4
    assert not Path("after").exists()


def test_a_trainer_in_a_process_is_priced() -> None:
    profile = price(FIT)
    assert profile.plan.optimizer_steps == 64
    assert not Path("trained").exists()
    assert not Path("after").exists()


def test_workers_of_libraries_go_on() -> None:
    """Those of a pool, a manager and a DataLoader."""
    assert price(WORKERS).batch.micro_batch_size == 4
    assert Path("pooled").exists()
    assert list(Path().glob("worker-*"))
    assert not Path("after").exists()


def test_a_process_without_a_step_is_refused() -> None:
    with pytest.raises((TargetError, TraceError), match=r"Process at train.py:\d+ .*made no step"):
        price(NO_STEP)
    assert not Path("after").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (DDP + SPAWN.replace("COUNT", "2"), "spawn at train.py:"),
        (HOGWILD.replace("METHOD", "'fork'"), "Process at "),
    ],
    ids=["spawn", "process"],
)
def test_probe_refuses_processes_that_it_cannot_end_together(text: str, what: str) -> None:
    Path("train.py").write_text(HEAD + text)
    done = run_cli("probe", "train.py")
    assert done.exit_code == 2, done.stderr
    assert what in done.stderr
    assert "torchrun" in done.stderr
    assert not read_steps()
    assert not Path("after").exists()


def test_gradients_that_are_averaged_by_hand_are_refused_with_a_way_on() -> None:
    """Nothing around the model says how the processes share the work."""
    by_hand = DDP.replace("nn.parallel.DistributedDataParallel(nn.Linear(8, 2))", "nn.Linear(8, 2)")
    with pytest.raises((TargetError, TraceError), match="share the work: wrap it in DistributedDataParallel"):
        price(by_hand + SPAWN.replace("COUNT", "2"))
