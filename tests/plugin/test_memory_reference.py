"""The memory of a traced step against torch's own trackers, on one device and on one of eight FSDP2 ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trainfare import TrainingJob, trace_job
from trainfare_core.prediction.memory import MemoryParts, memory_parts

RANKS = 8
BATCH, TOKENS, WIDTH = 4, 128, 256


def blocks() -> nn.Sequential:
    """Six encoder blocks."""
    return nn.Sequential(
        *(nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, batch_first=True, dropout=0.0) for _ in range(6))
    )


class Encoder(pl.LightningModule):
    """The same blocks as a job."""

    def __init__(self) -> None:
        super().__init__()
        self.net = blocks()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.net(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), foreach=False)


def batch() -> torch.Tensor:
    return torch.randn(BATCH, TOKENS, WIDTH)


def ours(world: int) -> MemoryParts:
    """One device of so many, sharded where there are several."""
    job = TrainingJob(module=Encoder, batch=batch, batch_size=BATCH, max_steps=10, precision="32-true")
    return memory_parts(trace_job(job), np.ones(1), np.array([float(world)]), np.array([world > 1]))


def tensors_bytes(parts: MemoryParts) -> float:
    """Without what no tracker of tensors sees: context, fragmentation, collective buffers."""
    return float((parts.total_bytes - parts.overhead_bytes)[0])


def step(net: nn.Module, optimizer: torch.optim.Optimizer, data: torch.Tensor) -> None:
    optimizer.zero_grad()
    net(data).square().mean().backward()
    optimizer.step()


def peak_of(tracker: Any) -> dict[str, int]:
    """Bytes at the peak, by what they are."""
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return {str(getattr(kind, "value", kind)): size for kind, size in peak.items()}


def on_one_device() -> dict[str, int]:
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode():
        net, data = blocks(), batch()
        optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
        step(net, optimizer, data)
        tracker = MemTracker()
        tracker.track_external(net, optimizer, data)
        with tracker:
            step(net, optimizer, data)
    return peak_of(tracker)


@pytest.fixture
def ranks() -> Iterator[Any]:
    """A process group of eight that sends nothing: this process is rank 0."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    yield init_device_mesh("cpu", (RANKS,))
    dist.destroy_process_group()


def on_one_rank(mesh: Any) -> dict[str, int]:
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
    from torch.distributed.fsdp import fully_shard

    with FakeTensorMode():
        net, data = blocks(), batch()
        for block in net:
            fully_shard(block, mesh=mesh)
        fully_shard(net, mesh=mesh)
        optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
        tracker = FSDPMemTracker(net, optimizer)
        tracker.track_inputs((data,))
        with tracker:
            step(net, optimizer, data)
        tracker.reset_mod_stats()
        with tracker:
            step(net, optimizer, data)
    return peak_of(tracker)


def test_one_device_holds_what_the_tracker_sees() -> None:
    """State to the byte; the peak is not below the tracker's, and not far above: gradients and activations overlap in part."""
    seen, parts = on_one_device(), ours(1)
    assert float(parts.weights_bytes[0]) == seen["Parameter"]
    assert float(parts.optimizer_bytes[0]) == pytest.approx(seen["Optstate"], rel=0.001)
    assert 0.97 <= tensors_bytes(parts) / seen["Total"] <= 1.25


def test_a_rank_of_fsdp_holds_what_the_tracker_sees(ranks: Any) -> None:
    """An eighth of the state, all of the activations, and far less than one device alone."""
    seen, parts = on_one_rank(ranks), ours(RANKS)
    assert float(parts.weights_bytes[0]) == seen["Sharded Param"]
    assert float(parts.optimizer_bytes[0]) == pytest.approx(seen["OptState"], rel=0.001)
    assert float(parts.activations_bytes[0]) == pytest.approx(seen["Activation"] + seen["Inputs"], rel=0.05)
    assert 0.97 <= tensors_bytes(parts) / seen["Total"] <= 1.25
    assert tensors_bytes(parts) < 0.6 * tensors_bytes(ours(1))
    assert seen["Total"] < 0.6 * on_one_device()["Total"]
