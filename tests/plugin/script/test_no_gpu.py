"""Loops as in PyTorch's tutorials on DDP, whose processes take the GPU of their rank unasked: they are traced on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch

from builders.process_groups import end_process_group
from builders.scripts import load_script
from trainfare import recommend
from trainfare.fake_step import trace_job
from trainfare_core.batch_scaling import launch_on
from trainfare_core.errors import InputError, TraceError
from trainfare_core.job_profile import BatchScale, JobProfile

HEAD = """
import os, torch, torch.distributed as dist, torch.multiprocessing as mp
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
class D(Dataset):
    def __len__(self): return 2048
    def __getitem__(self, i): return torch.rand(20), torch.rand(1)
"""
FORMS = {
    "spawned, to(rank)": """
def ddp_setup(rank, world_size):
    os.environ["MASTER_ADDR"] = "localhost"; os.environ["MASTER_PORT"] = "12355"
    torch.cuda.set_device(rank)
    dist.init_process_group(backend="nccl", rank=rank, world_size=world_size)
class Trainer:
    def __init__(self, model, data, optimizer, gpu_id):
        self.gpu_id = gpu_id
        self.model = DDP(model.to(gpu_id), device_ids=[gpu_id]); self.data = data; self.optimizer = optimizer
    def train(self, epochs):
        for epoch in range(epochs):
            self.data.sampler.set_epoch(epoch)
            for source, targets in self.data:
                source = source.to(self.gpu_id); targets = targets.to(self.gpu_id)
                self.optimizer.zero_grad()
                loss = nn.functional.mse_loss(self.model(source), targets)
                loss.backward(); self.optimizer.step()
def main(rank, world_size, epochs, batch):
    ddp_setup(rank, world_size)
    model = nn.Linear(20, 1); optimizer = optim.SGD(model.parameters(), lr=1e-3)
    data = DataLoader(D(), batch_size=batch, pin_memory=True, shuffle=False, sampler=DistributedSampler(D()))
    Trainer(model, data, optimizer, rank).train(epochs)
    dist.destroy_process_group()
if __name__ == "__main__":
    world_size = torch.cuda.device_count()
    mp.spawn(main, args=(world_size, 10, 32), nprocs=world_size)
""",
    "torchrun, cuda(rank)": """
dist.init_process_group("nccl")
rank = int(os.environ["LOCAL_RANK"]); torch.cuda.set_device(rank)
model = DDP(nn.Linear(20, 1).cuda(rank), device_ids=[rank])
optimizer = optim.SGD(model.parameters(), lr=1e-3)
loader = DataLoader(D(), 32, sampler=DistributedSampler(D()))
for epoch in range(10):
    for a, b in loader:
        optimizer.zero_grad(); nn.functional.mse_loss(model(a.cuda(rank, non_blocking=True)), b.cuda(rank)).backward(); optimizer.step()
dist.destroy_process_group()
""",
    "torchrun, rank modulo devices": """
torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"])) if hasattr(torch, "accelerator") else None
dist.init_process_group("nccl")
rank = dist.get_rank()
device_id = rank % torch.cuda.device_count()
model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5)).to(device_id)
ddp = DDP(model, device_ids=[device_id]); opt = optim.SGD(ddp.parameters(), lr=0.001)
for step in range(100):
    opt.zero_grad(); out = ddp(torch.randn(20, 10)); labels = torch.randn(20, 5).to(device_id)
    nn.MSELoss()(out, labels).backward(); opt.step()
""",
    "spawned, a batch divided by the GPUs": """
import argparse
def main_worker(gpu, ngpus, args):
    args.gpu = gpu
    dist.init_process_group(backend="nccl", init_method="tcp://127.0.0.1:23456", world_size=ngpus, rank=gpu)
    torch.cuda.set_device(args.gpu)
    model = nn.Linear(20, 1); model.cuda(args.gpu)
    args.batch_size = int(args.batch_size / ngpus)
    model = DDP(model, device_ids=[args.gpu])
    criterion = nn.MSELoss().to(torch.device(f"cuda:{args.gpu}"))
    optimizer = optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(D(), batch_size=args.batch_size, sampler=DistributedSampler(D()), num_workers=0)
    for epoch in range(args.epochs):
        for a, b in loader:
            a = a.to(torch.device(f"cuda:{args.gpu}"), non_blocking=True); b = b.to(f"cuda:{args.gpu}")
            loss = criterion(model(a), b); optimizer.zero_grad(); loss.backward(); optimizer.step()
if __name__ == "__main__":
    p = argparse.ArgumentParser(); p.add_argument("--batch-size", type=int, default=256); p.add_argument("--epochs", type=int, default=90)
    args = p.parse_args()
    ngpus = torch.cuda.device_count()
    mp.spawn(main_worker, nprocs=ngpus, args=(ngpus, args))
""",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    end_process_group()  # not every form ends its own, and SyncBatchNorm asks for one


def trace(text: str) -> JobProfile:
    return trace_job(load_script(HEAD + text))


@pytest.mark.filterwarnings(
    "ignore:'pin_memory' argument is set:UserWarning"
)  # torch's, of a machine without a GPU
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("form", "samples", "steps", "scales"),
    [
        ("spawned, to(rank)", 32, 10 * 64, "per_device"),
        ("torchrun, cuda(rank)", 32, 10 * 64, "per_device"),
        ("torchrun, rank modulo devices", 20, 100, "per_device"),
        ("spawned, a batch divided by the GPUs", 256, 90 * 8, "global"),
    ],
)
def test_a_loop_of_a_tutorial_is_traced(form: str, samples: int, steps: int, scales: BatchScale) -> None:
    """And nothing is left behind: neither moves that stay on the CPU nor counts that can be divided by."""
    before = torch.Tensor.to, torch.nn.Module.cuda, torch.cuda.device_count
    profile = trace(FORMS[form])
    assert profile.batch.samples_per_step == samples
    assert profile.plan.optimizer_steps == steps
    assert profile.batch.scales == scales
    assert before == (torch.Tensor.to, torch.nn.Module.cuda, torch.cuda.device_count)
    assert "to" not in vars(torch.Tensor)
    if not torch.cuda.device_count():
        with pytest.raises(ZeroDivisionError):
            256 // torch.cuda.device_count()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_batch_that_is_divided_by_the_devices_is_the_same_on_more_of_them() -> None:
    profile = trace(FORMS["spawned, a batch divided by the GPUs"])
    answer = recommend(
        profile,
        services="gce",
        instance_types="g2-standard-24",
        now=datetime(2026, 11, 30, tzinfo=timezone.utc),
    )
    best = answer.best("cheapest")
    assert best is not None
    assert (best.global_batch_size, best.optimizer_steps) == (256, 720)
    with pytest.raises(InputError, match="--launched 8: the script divides its batch by their number"):
        launch_on(profile, 8)


STATED = """
dist.init_process_group("gloo", "tcp://127.0.0.1:23456", world_size=4, rank=int(os.environ["LOCAL_RANK"]))
model = DDP(nn.Linear(20, 1)); optimizer = optim.SGD(model.parameters(), 0.1)
loader = DataLoader(D(), 256 // dist.get_world_size(), sampler=DistributedSampler(D(){replicas}))
for epoch in range(10):
    for a, b in loader:
        optimizer.zero_grad(); nn.functional.mse_loss(model(a), b).backward(); optimizer.step()
"""


def test_a_batch_that_is_divided_by_a_stated_number_of_processes_is_counted_once() -> None:
    profile = trace(STATED.replace("{replicas}", ", rank=0"))
    assert (profile.batch.samples_per_step, profile.plan.optimizer_steps) == (256, 10 * 8)
    assert profile.batch.scales == "global"


def test_a_batch_of_all_processes_with_the_samples_of_one_is_not_priced() -> None:
    with pytest.raises(TraceError, match="its samples by a number of its own: leave num_replicas out"):
        trace(STATED.replace("{replicas}", ", num_replicas=4, rank=0"))
