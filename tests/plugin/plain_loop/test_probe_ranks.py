"""`torchrun -m trainfare probe` of a loop of the script's own: both ranks leave after the same step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.cli import CliResult, run_python
from trainfare_core.job_profile import JobProfile

DDP = """
import os, pathlib, torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler
torch.distributed.init_process_group("gloo")
rank = os.environ["RANK"]
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)))
optimizer = torch.optim.AdamW(model.parameters())
data = torch.randn({samples}, 8)
loader = DataLoader(data, 8, sampler=DistributedSampler(data))
steps = 0
for epoch in range(2):
    for batch in loader:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        steps += 1
        pathlib.Path(f"steps-{{rank}}").write_text(str(steps))
pathlib.Path(f"after-{{rank}}").touch()
"""


def probe(folder: Path, samples: int, *options: object) -> CliResult:
    (folder / "train.py").write_text(DDP.format(samples=samples))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainfare")
    options = ("probe", "train.py", "-o", "job.json", "--format", "json", *options)
    threads = {"OMP_NUM_THREADS": "1"}
    done = run_python(*torchrun, *options, cwd=folder, environment=threads)
    assert done.exit_code == 0, done.stderr
    return done


def test_both_ranks_leave_after_the_same_step(tmp_path: Path) -> None:
    """Long before the 200 steps of the loop, though rank 0 alone takes steps to trace."""
    probe(tmp_path, 1600, "--steps", 4)
    profile = JobProfile.from_json((tmp_path / "job.json").read_bytes())
    assert profile.measured is not None
    assert (profile.measured.steps, profile.parallel.devices, profile.parallel.strategy) == (4, 2, "ddp")
    assert profile.plan.optimizer_steps == 200
    counts = [(tmp_path / f"steps-{rank}").read_text() for rank in (0, 1)]
    assert counts[0] == counts[1]
    assert int(counts[0]) < 30
    assert not list(tmp_path.glob("after-*"))


@pytest.mark.parametrize("total", [24, 5000])
def test_a_loop_that_ends_before_is_reported_by_what_was_measured(tmp_path: Path, total: int) -> None:
    """24 steps in all: its end says nothing against the length that is given."""
    done = probe(tmp_path, 192, "--steps", 40, "--total-steps", total)
    profile = JobProfile.from_json((tmp_path / "job.json").read_bytes())
    assert profile.measured is not None
    assert 10 < profile.measured.steps < 24
    assert json.loads(done.stdout)["job"]["optimizer_steps"] == total
