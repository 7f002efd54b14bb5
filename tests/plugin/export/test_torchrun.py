"""The script for torchrun: it is POSIX, it starts two processes that train to the end, and the run finds its plan."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from builders.environments import lean_python
from builders.exports import plan, small_answer
from trainfare.export import export_plan
from trainfare.ledger.store import read_records
from trainfare_core.recommendation import PricedPlan

TRAINING = r"""
import os, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from lightning import pytorch as pl
from builders.patient_meter import PatientMeter

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)
    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = pl.Trainer(
    max_steps=4, accelerator="cpu", devices=int(os.environ.get("DEVICES", 2)), strategy="ddp", logger=False,
    num_nodes=int(os.environ.get("NODES", 1)), enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
    callbacks=[PatientMeter(warmup_steps=1, measure_steps=2, trace=False)],
)
trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(64, 4), batch_size=2))
line = f"rank {trainer.global_rank} of {trainer.world_size} at step {trainer.global_step} {sys.argv[2:]}\n"
open(f"rank-{trainer.global_rank}.txt", "w").write(line)
"""


def test_two_processes_run_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the script alone: both ranks train every step, and one line says what differs from the plan: the CPU."""
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAINING)
    tests = Path(__file__).resolve().parents[2]
    answer = small_answer(f"train.py {tests} --name 'a b'")
    Path("run.sh").write_text(export_plan(answer, "torchrun", "cheapest").text)
    done = subprocess.run(
        ["sh", "run.sh"],
        env={**os.environ, "PYTHON": lean_python(), "OMP_NUM_THREADS": "1", "TRAINFARE_LEDGER": "runs"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in (0, 1):
        assert Path(f"rank-{rank}.txt").read_text() == f"rank {rank} of 2 at step 4 ['--name', 'a b']\n"
    assert (
        done.stdout.count(f"priced as {answer.options[0].plan_id}: on a CPU, priced on an accelerator\n") == 1
    )
    assert [run.prediction.id for run in read_records(Path("runs").glob("*/*.json"))] == [
        answer.options[0].plan_id
    ]


HANGING = """
import os, sys, threading, torch
torch.save({"step": torch.tensor(7)}, f"rank-{os.environ['RANK']}.ckpt")
print("saved", flush=True)
threading.Event().wait()
"""


def test_a_checkpoint_survives_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A run that hangs is ended on every rank with timeout's own status, 124, and what it saved is whole.

    SIGALRM is how `timeout` learns that its time is over.
    """
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(HANGING)
    answer = small_answer("train.py")
    text = export_plan(answer, "torchrun", "cheapest").text
    assert "exec timeout --signal=TERM --kill-after=120 57328 " in text
    assert (
        "# Time limit: 15.9 h; if the interval holds, 99 of 100 runs end within it. Then `timeout` sends TERM"
        in text
    )
    unknown = export_plan(answer.model_copy(update={"basis": "per_1000_steps"}), "torchrun", "cheapest").text
    assert "exec timeout" not in unknown
    assert "# No time limit: the length of the run is not known." in unknown
    Path("run.sh").write_text(text)
    environ = {**os.environ, "PYTHON": lean_python(), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        ["sh", "run.sh"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        assert [run.stdout.readline(), run.stdout.readline()] == ["saved\n", "saved\n"]
        run.send_signal(signal.SIGALRM)
        assert run.wait() == 124
    assert [torch.load(f"rank-{rank}.ckpt")["step"].item() for rank in (0, 1)] == [7, 7]


FROM_OUTSIDE = {
    "a process a device, as Azure ML starts them": ({"LOCAL_RANK": "{}", "RANK": "{}", "NODE_RANK": "0", "WORLD_SIZE": "2"}, plan()),
    "a process a node": ({"NODE_RANK": "{}", "DEVICES": "1", "NODES": "2"}, plan(devices=1, num_nodes=2)),
}  # fmt: skip


@pytest.mark.parametrize("how", FROM_OUTSIDE)
def test_processes_that_are_started_from_outside(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `distribution: pytorch` sets (learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu), and Lightning's own."""
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAINING)
    variables, priced = FROM_OUTSIDE[how]
    tests = Path(__file__).resolve().parents[2]
    option = small_answer(trainer=priced).options[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "TRAINFARE_LEDGER": "runs",
        "TRAINFARE_PREDICTION": PricedPlan.from_option(option).to_text(),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [lean_python(), "train.py", tests], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **common, **{name: text.format(rank) for name, text in variables.items()}},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    texts = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    for rank in (0, 1):
        assert Path(f"rank-{rank}.txt").read_text() == f"rank {rank} of 2 at step 4 []\n"
    assert "".join(texts).count(f"priced as {option.plan_id}: on a CPU, priced on an accelerator") == 1
    assert [run.prediction.id for run in read_records(Path("runs").glob("*/*.json"))] == [option.plan_id]


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_script_is_posix(nodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strict shell reads it: dash, where it is installed."""
    monkeypatch.chdir(tmp_path)
    text = export_plan(small_answer(trainer=plan(num_nodes=nodes)), "torchrun", "cheapest").text
    shell = shutil.which("dash") or "sh"
    done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("variables", "seen"), [({}, "0,1"), ({"CUDA_VISIBLE_DEVICES": "4,5"}, "4,5")])
def test_unused_gpus_are_hidden_unless_the_user_has_chosen_some(
    variables: dict[str, str], seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value set by Slurm or by the user is kept; a plan that uses every GPU hides none."""
    monkeypatch.chdir(tmp_path)
    Path("python").write_text('#!/bin/sh\nprintf "%s" "$CUDA_VISIBLE_DEVICES"\n')
    Path("python").chmod(0o755)
    text = export_plan(small_answer(), "torchrun", "cheapest").text
    assert "# It uses 2 of 4 accelerators of each machine: CUDA_VISIBLE_DEVICES hides the others.\n" in text
    environ = {"PATH": os.environ["PATH"], "PYTHON": str(tmp_path / "python"), **variables}
    done = subprocess.run(["sh"], input=text, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == seen
    assert (
        "CUDA_VISIBLE" not in export_plan(small_answer(trainer=plan(devices=4)), "torchrun", "cheapest").text
    )


CLUSTER = {
    "by hand": {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.7"},
    "slurm": {"SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "gpu[1-2]"},
}


@pytest.mark.parametrize("how", CLUSTER)
def test_machines_of_a_cluster_meet(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchrun's options (https://docs.pytorch.org/docs/stable/elastic/run.html) on the second machine of two."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("python", 'printf "%s\\n" "$@"'), ("scontrol", "echo 10.0.0.7; echo 10.0.0.8")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    script = export_plan(small_answer(trainer=plan(num_nodes=2)), "torchrun", "cheapest").text
    environ = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh"], input=script, env={**environ, **CLUSTER[how]}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", "--node-rank=1",
        "--master-addr=10.0.0.7", "--master-port=29500", "train.py", "--lr", "0.1",
    ]  # fmt: skip
    alone = subprocess.run(["sh"], input=script, env=environ, capture_output=True, text=True, check=False)
    assert alone.returncode != 0
    assert "MASTER_ADDR" in alone.stderr
