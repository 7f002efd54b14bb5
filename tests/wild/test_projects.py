"""
Steps of models and losses of other projects: the tracer on real tensors against the trace before launch.

`make test-wild` installs the projects (dependency group `wild`) and prints the table; where one is absent it is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from trainfare.job import TrainingJob, built
from trainfare.prelaunch import trace_job
from trainfare.trace import StepTrace

pytestmark = pytest.mark.filterwarnings("ignore")  # of other projects, at import


class Step(pl.LightningModule):
    """A model and a loss of a batch."""

    def __init__(self, make: Callable[[], nn.Module], loss: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.model, self.loss = make(), loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self.model, batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters())


def _graphs() -> Any:
    geometric = pytest.importorskip("torch_geometric")
    sizes = (5, 9, 7, 6)
    graphs = [
        geometric.data.Data(
            x=torch.randn(n, 8), edge_index=torch.randint(0, n, (2, 3 * n)), y=torch.randint(0, 2, (1,))
        )
        for n in sizes
    ]

    def loss(model: Any, batch: Any) -> Any:
        pooled = geometric.nn.global_add_pool(model(batch.x, batch.edge_index), batch.batch)
        return F.cross_entropy(pooled, batch.y)

    loader = geometric.loader.DataLoader(graphs, batch_size=len(sizes))
    return lambda: geometric.nn.GIN(8, 32, 3, 2), loss, lambda: next(iter(loader)), len(sizes)


def _contrastive() -> Any:
    loss = pytest.importorskip("lightly.loss").NTXentLoss()
    views = (torch.randn(8, 3, 4, 4), torch.randn(8, 3, 4, 4))
    make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 32))  # noqa: E731
    return make, lambda model, batch: loss(model(batch[0]), model(batch[1])), views, 8


def _segmentation() -> Any:
    smp = pytest.importorskip("segmentation_models_pytorch")
    dice = smp.losses.DiceLoss("binary")

    def loss(model: Any, batch: Any) -> Any:
        images, masks = batch
        assert masks.max() <= 1.0
        return dice(model(images), masks)

    batch = (torch.randn(2, 3, 64, 64), torch.randint(0, 2, (2, 1, 64, 64)).float())
    return lambda: smp.Unet("resnet18", encoder_weights=None, classes=1), loss, batch, 2


def _volumes() -> Any:
    nets, losses = pytest.importorskip("monai.networks.nets"), pytest.importorskip("monai.losses")
    dice = losses.DiceLoss(to_onehot_y=True, softmax=True)
    batch = (torch.randn(2, 1, 16, 16, 16), torch.randint(0, 2, (2, 1, 16, 16, 16)))
    return lambda: nets.UNet(3, 1, 2, (8, 16, 32), (2, 2)), lambda m, b: dice(m(b[0]), b[1]), batch, 2


def _diffusion() -> Any:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler()

    def loss(model: Any, images: Any) -> Any:
        noise = torch.randn_like(images)
        times = torch.randint(0, 1000, (len(images),))
        return F.mse_loss(model(scheduler.add_noise(images, noise, times), times).sample, noise)

    def make() -> Any:
        return diffusers.UNet2DModel(
            sample_size=16,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )

    return make, loss, torch.randn(2, 3, 16, 16), 2


PROJECTS: dict[str, Callable[[], Any]] = {
    "torch_geometric": _graphs,
    "lightly": _contrastive,
    "segmentation-models-pytorch": _segmentation,
    "monai": _volumes,
    "diffusers": _diffusion,
}


@pytest.mark.parametrize("project", PROJECTS)
def test_before_launch_is_what_runs(project: str, record_property: Callable[[str, object], None]) -> None:
    """FLOPs of the second step on real tensors and of the trace before launch are equal."""
    make, loss, batch, size = PROJECTS[project]()
    live, given = Step(make, loss), built(batch)
    optimizer = live.configure_optimizers()
    for index in range(2):
        trace = StepTrace(live, [optimizer])
        with trace:
            optimizer.zero_grad()
            live.training_step(given, index).backward()
            optimizer.step()
    assert trace.fault is None
    ran = sum(one.flops for one in trace.operations())
    job = TrainingJob(
        module=lambda: Step(make, loss), batch=batch, batch_size=size, max_steps=3, precision="32-true"
    )
    profile = trace_job(job)
    equal = profile.step_flops == ran
    print(
        f"\n{project:28} ran {ran:,} FLOP, before launch {profile.step_flops:,} on {profile.source.how} tensors"
    )
    record_property("equal", equal)
    assert equal
