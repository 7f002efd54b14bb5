"""A real `Trainer.fit` on fake tensors, metered, runs the operations that `trace_job` predicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from builders.jobs import job
from builders.lightning_modules import MeterHarness, lightning_module, quiet, trainer, update_by
from trainfare import trace_job
from trainfare_core.job_profile import OperationGroup
from trainfare_core.ledger.run_record import identify_job

pytestmark = quiet

BATCH, TOKENS, WIDTH, STEPS = 2, 16, 32, 4


Block = lightning_module(
    lambda self, batch, index: self.head(self.block(batch)).square().mean(),
    update_by(torch.optim.AdamW, foreach=False),
    lambda: {
        "block": nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True, dropout=0.0),
        "head": nn.Linear(WIDTH, 10),
    },
)
"""An encoder block with a head: attention, normalisation, products and AdamW."""


class FakeWeightsStay(SingleDeviceStrategy):
    """Moves no weights: fake ones have no memory to move."""

    def model_to_device(self) -> None:
        """Do nothing."""

    def teardown(self) -> None:
        """Do nothing."""


class FakeBatches:
    """A loader of fake batches; Lightning would copy the items of a real DataLoader or a list."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter([torch.randn(BATCH, TOKENS, WIDTH) for _ in range(STEPS)])


def _without_share(group: OperationGroup) -> OperationGroup:
    return group.model_copy(update={"fused_bytes_share": None})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_fake_fit_runs_the_traced_operations(tmp_path: Path, accumulate: int) -> None:
    """Operation by operation: kind, phase, dtype, launches, FLOPs and bytes of one optimizer step."""
    harness = MeterHarness()
    meter = harness.meter(tmp_path, warmup_steps=1, measure_steps=1, batch_size=BATCH)
    with FakeTensorMode():
        fit = trainer(
            tmp_path, meter, max_epochs=1, strategy=FakeWeightsStay("cpu"), accumulate_grad_batches=accumulate
        )
        fit.fit(Block(), FakeBatches())
    batch = lambda: torch.randn(BATCH, TOKENS, WIDTH)  # noqa: E731
    described = job(Block, batch, BATCH, max_steps=STEPS, accumulate_grad_batches=accumulate)
    fitted, traced = harness.profile, trace_job(described)
    assert fit.global_step == STEPS // accumulate
    # Lightning copies the loss, one number a micro-batch, for its own records; so the loss is read.
    ours, theirs = (
        [_without_share(operation) for operation in profile.operations] for profile in (traced, fitted)
    )
    extra = [their for their in theirs if their not in ours]
    assert [their for their in theirs if their not in extra] == ours
    assert [(group.name, group.shape, group.launches) for group in extra] == [
        ("aten.clone", (1,), accumulate)
    ]
    assert identify_job(fitted) == identify_job(traced)
    assert fitted.optimizer == traced.optimizer
    assert fitted.memory.saved_activation_bytes == traced.memory.saved_activation_bytes
