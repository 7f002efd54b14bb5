"""Scripts that give the Trainer a strategy's object, or make their own sampler, up to their profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from builders.lightning_modules import quiet
from builders.process_groups import end_process_group
from trainfare.fake_step import trace_job
from trainfare.job import Script
from trainfare.script.run import run_script
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile

pytestmark = quiet
FSDP = """
import sys, torch, lightning.pytorch as pl
from lightning.pytorch.strategies import FSDPStrategy, DeepSpeedStrategy
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

kind = sys.argv[1]

class Big(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = None
    def configure_model(self):
        if self.layers is None:
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 64, batch_first=True) for _ in range(4))
            self.head = nn.Linear(16, 3)
    def training_step(self, batch, _):
        x, y = batch
        x = x[:, None]
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if kind == "hand" else layer(x)
        return nn.functional.cross_entropy(self.head(x).squeeze(1), y)
    def configure_optimizers(self):
        if kind == "deepspeed":
            raise ModuleNotFoundError("No module named 'deepspeed'", name="deepspeed")
        return torch.optim.AdamW(self.trainer.model.parameters(), lr=1e-3)

layer = {nn.TransformerEncoderLayer}
strategy = {
    "policy": lambda: FSDPStrategy(
        auto_wrap_policy=layer, activation_checkpointing_policy=layer, sharding_strategy="HYBRID_SHARD"
    ),
    "hand": lambda: FSDPStrategy(auto_wrap_policy=layer, sharding_strategy="HYBRID_SHARD"),
    "deepspeed": lambda: DeepSpeedStrategy(stage=3, offload_optimizer=True),
}[kind]()
data = TensorDataset(torch.randn(512, 16), torch.randint(0, 3, (512,)))
trainer = pl.Trainer(accelerator="gpu", devices=8, num_nodes=2, strategy=strategy, precision="bf16-true", max_epochs=2)
trainer.fit(Big(), DataLoader(data, 4))
"""
TORCHRUN = """
import os, torch, torch.distributed as dist, lightning.pytorch as pl
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 3)
    def training_step(self, batch, _):
        return self.layer(batch[0]).mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group("nccl")
data = TensorDataset(torch.randn(64, 16))
loader = DataLoader(data, 4, sampler=DistributedSampler(data, shuffle=True))
pl.Trainer(
    accelerator="gpu", devices=8, num_nodes=2, strategy="ddp", use_distributed_sampler=False, max_epochs=2
).fit(Net(), loader)
"""


class Answered(BaseException):
    """Ends a script where the process would."""


def profile_of(text: str, *arguments: str) -> JobProfile:
    """Return the profile of a script that runs in this process up to its call of `fit`."""
    Path("train.py").write_text(text)
    profiles: list[JobProfile] = []

    def answer(load: object) -> NoReturn:
        profiles.append(trace_job(load()))  # type: ignore[operator]
        raise Answered

    path, argv = list(sys.path), list(sys.argv)
    try:
        run_script(Script("train.py", arguments=arguments), answer)
    except Answered:
        return profiles[0]
    finally:
        sys.path[:], sys.argv[:] = path, argv
        end_process_group()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_policy_of_fsdp_gives_the_work_of_checkpointing_by_hand() -> None:
    """392,832 FLOP, where the step itself has 293,504; the same memory at every moment, and hybrid FSDP."""
    policy, by_hand = (profile_of(FSDP, kind) for kind in ("policy", "hand"))
    assert sum(group.flops for group in policy.operations) == 392_832
    assert (policy.operations, policy.memory, policy.modules) == (
        by_hand.operations, by_hand.memory, by_hand.modules,
    )  # fmt: skip
    assert policy.parallel == by_hand.parallel
    assert policy.parallel.strategy == "FSDPStrategy(sharding_strategy='HYBRID_SHARD')"
    (note,) = (note for note in policy.notes if "activation checkpointing" in note)
    assert "4 modules (TransformerEncoderLayer) are computed again" in note


def test_a_package_of_the_optimizer_that_is_not_here_has_a_way_out() -> None:
    with pytest.raises(
        TraceError,
        match=r"configure_optimizers needs the package deepspeed, which is not installed here at "
        r"train.py:\d+ in configure_optimizers .*Install deepspeed here, or use torch.optim.AdamW",
    ):
        profile_of(FSDP, "deepspeed")


def test_an_own_sampler_divides_by_the_devices_that_the_trainer_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """64 samples by 4 on 2 x 8 GPUs are one batch an epoch."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    profile = profile_of(TORCHRUN)
    assert profile.plan.optimizer_steps == 2
    assert any("shared among 16 devices" in note for note in profile.notes)
