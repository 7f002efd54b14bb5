"""The memory of a traced step against torch's own trackers, on one device and on one of eight FSDP2 ranks."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from builders.jobs import job
from builders.lightning_modules import lightning_module, update_by
from builders.versions import needs_version
from trainfare import trace_job
from trainfare.trace import StepTrace
from trainfare_core.job_profile import MemoryFacts, MemoryMoment
from trainfare_core.prediction.memory.peak import MemoryParts, memory_parts

RANKS = 8
BATCH, TOKENS, WIDTH = 4, 128, 256


def blocks() -> nn.Sequential:
    """Three encoder blocks."""
    return nn.Sequential(
        *(nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, batch_first=True, dropout=0.0) for _ in range(3))
    )


class Checkpointed(nn.Module):
    """The same blocks, each recomputed in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.net = blocks()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.net:
            x = checkpoint(block, x, use_reentrant=False)
        return x


class Adapted(nn.Module):
    """A frozen product with a trained low-rank update. The frozen weight is a buffer: MemTracker hooks parameters."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.register_buffer("frozen", torch.randn(out, wide))
        self.thin = nn.Sequential(nn.Linear(wide, 4, bias=False), nn.Linear(4, out, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.frozen) + self.thin(x)


def adapters() -> nn.Sequential:
    wide = 4 * WIDTH
    return nn.Sequential(
        *(nn.Sequential(Adapted(WIDTH, wide), nn.GELU(), Adapted(wide, WIDTH)) for _ in range(4))
    )


def convolutions() -> nn.Sequential:
    """Convolution, normalisation and an in-place activation, whose memory peak is inside backward."""
    layers: list[nn.Module] = []
    for wide, out in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(wide, out, 3, 2, 1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def words(batch: int = BATCH) -> torch.Tensor:
    return torch.randn(batch, TOKENS, WIDTH)


def images() -> torch.Tensor:
    return torch.randn(16, 3, 64, 64)


Encoder = lightning_module(
    lambda self, batch, index: self.net(batch).square().mean(),
    update_by(torch.optim.AdamW, foreach=False),
    lambda: {"net": blocks()},
)
"""The encoder blocks as a job."""


def ours(world: int, batch: int = BATCH) -> MemoryParts:
    """Return the plan for this number of devices, sharded where there are several."""
    profile = trace_job(job(Encoder, lambda: words(batch), batch))
    return memory_parts(profile, np.ones(1), np.array([float(world)]), np.array([world > 1]))


def tensors_bytes(parts: MemoryParts) -> float:
    """Return the memory without what tensor trackers leave out: context, fragmentation, collective buffers."""
    return float((parts.total_bytes - parts.overhead_bytes)[0])


def step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: torch.Tensor,
    *,
    autocast: bool = False,
    keep: bool = False,
) -> None:
    """Run a step as Lightning does: gradients of the last one go between forward and backward."""
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        loss = net(data).float().square().mean()
    optimizer.zero_grad(set_to_none=not keep)
    loss.backward()
    optimizer.step()


def peak_of(tracker: Any) -> dict[str, int]:
    """Bytes at the peak, by kind."""
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return {str(getattr(kind, "value", kind)): size for kind, size in peak.items()}


def measure_by_torch(net: nn.Module, data: torch.Tensor, **how: bool) -> dict[str, int]:
    from torch.distributed._tools.mem_tracker import MemTracker

    optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
    step(net, optimizer, data, **how)
    tracker = MemTracker()
    tracker.track_external(net, optimizer, data)
    with tracker:
        step(net, optimizer, data, **how)
    return peak_of(tracker)


def trace_module(net: nn.Module, data: torch.Tensor, **how: bool) -> tuple[MemoryFacts, int]:
    """Return the traced memory, and the bytes of the optimizer's state."""
    optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
    step(net, optimizer, data, **how)
    with StepTrace(net, [optimizer]) as trace:
        step(net, optimizer, data, **how)
    assert trace.fault is None
    return trace.memory(), trace.optimizer_facts().state_bytes


def alive(moment: MemoryMoment) -> int:
    return moment.activation_bytes + moment.fixed_bytes + moment.gradient_bytes + moment.optimizer_bytes


@pytest.fixture
def ranks() -> Iterator[Any]:
    """Create a process group of eight that sends nothing; this process is rank 0."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    yield init_device_mesh("cpu", (RANKS,))
    dist.destroy_process_group()


def on_one_rank(mesh: Any) -> dict[str, int]:
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
    from torch.distributed.fsdp import fully_shard

    with FakeTensorMode():
        net, data = blocks(), words()
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


@pytest.mark.parametrize(
    ("build", "data", "how", "fake"),
    [
        pytest.param(blocks, words, {}, True, id="encoder"),
        pytest.param(blocks, words, {"autocast": True}, True, id="encoder-autocast"),
        pytest.param(blocks, words, {"keep": True}, True, id="encoder-kept-gradients"),
        pytest.param(Checkpointed, words, {"autocast": True}, True, id="checkpointed"),
        pytest.param(adapters, words, {}, True, id="adapters"),
        pytest.param(convolutions, images, {}, True, id="cnn"),
        pytest.param(convolutions, images, {"autocast": True}, False, id="cnn-real"),
        pytest.param(Checkpointed, lambda: words(1), {}, False, id="checkpointed-real-update"),
    ],
)
def test_the_memory_peak_is_the_trackers_peak(
    build: Callable[[], nn.Module], data: Callable[[], torch.Tensor], how: dict[str, Any], *, fake: bool
) -> None:
    """To 0.2 %. Kept gradients are the case of gradient accumulation, in every pass but the first."""
    with FakeTensorMode() if fake else contextlib.nullcontext():
        seen = measure_by_torch(build(), data(), **how)
        facts, state_bytes = trace_module(build(), data(), **how)
    stays = seen["Parameter"] + state_bytes + seen["Buffer"] + facts.input_bytes
    assert stays + max(alive(moment) for moment in facts.moments) == pytest.approx(seen["Total"], rel=0.002)
    assert len(facts.moments) <= 12


def test_one_device_holds_what_the_tracker_measures() -> None:
    """State and peak to 0.1 %, through the profile of a job, for small and large batches."""
    for batch in (1, 16 * BATCH):
        with FakeTensorMode():
            seen = measure_by_torch(blocks(), words(batch))
        parts = ours(1, batch)
        assert float(parts.weights_bytes[0]) == seen["Parameter"]
        assert float(parts.optimizer_bytes[0]) == pytest.approx(seen["Optstate"], rel=0.001)
        assert tensors_bytes(parts) == pytest.approx(seen["Total"], rel=0.002)


@needs_version("torch", "2.6", "has no public fully_shard")
def test_a_rank_of_fsdp_holds_what_the_tracker_measures(ranks: Any) -> None:
    """An eighth of the state, all of the activations, and far less than one device alone."""
    seen, parts = on_one_rank(ranks), ours(RANKS)
    assert float(parts.weights_bytes[0]) == seen["Sharded Param"]
    assert float(parts.optimizer_bytes[0]) == pytest.approx(seen["OptState"], rel=0.001)
    assert float(parts.activations_bytes[0]) == pytest.approx(seen["Activation"] + seen["Inputs"], rel=0.06)
    assert tensors_bytes(parts) == pytest.approx(seen["Total"], rel=0.03)
    assert tensors_bytes(parts) < 0.6 * tensors_bytes(ours(1))


def test_a_larger_batch_scales_activations_and_not_gradients() -> None:
    """The profile of one batch, at 16 times its micro-batch, holds what a trace of 16 times as many samples holds."""
    scaled = memory_parts(trace_job(job(Encoder, words)), np.array([16.0]), np.ones(1), np.array([False]))
    assert tensors_bytes(scaled) == pytest.approx(tensors_bytes(ours(1, 16 * BATCH)), rel=0.001)


def test_the_trace_keeps_nothing_alive() -> None:
    """An operand of a fused call is released when the step releases it, traced or not."""

    def left(*, watch: bool) -> list[bool]:
        net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5), nn.RMSNorm(WIDTH))
        refs: list[Any] = []
        hook: Any = lambda _module, _inputs, out: refs.append(weakref.ref(out.untyped_storage()))  # noqa: E731
        for layer in net:
            layer.register_forward_hook(hook)
        trace = StepTrace(net)
        with trace if watch else contextlib.nullcontext():
            net(words(1)).sum().backward()
            return [ref() is not None for ref in refs]

    assert left(watch=True) == left(watch=False) == [False, False, False]
