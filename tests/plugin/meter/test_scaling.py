"""What a metered run says of other numbers of devices: its own batch, and what the script or its launcher asks for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed import HashStore
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from builders.lightning_modules import MeterHarness, Rows, lightning_module, loader, quiet, trainer, update_by
from builders.process_groups import end_process_group
from trainfare import FareMeter
from trainfare_core.batch_scaling import scale_run
from trainfare_core.job_profile import JobProfile

pytestmark = [*quiet]

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")


def measure(
    folder: Path, *, namespace: str = NAMESPACES[0], late: bool = False, **options: Any
) -> JobProfile:
    """Return the profile of four epochs of 66 rows in batches of 4; `late`: the Trainer gets the meter before `fit`."""
    harness = MeterHarness()
    module = lightning_module(
        lambda self, batch, _: functional.mse_loss(self.layer(batch), torch.zeros(len(batch), 2)),
        update_by(torch.optim.SGD, lr=0.1),
        lambda: {"layer": nn.Linear(8, 2)},
        base=import_module(namespace).LightningModule,
    )
    meter = harness.meter(folder, warmup_steps=1, measure_steps=3)
    made = trainer(folder, *([] if late else [meter]), namespace=namespace, max_epochs=4, **options)
    made.callbacks += [meter] if late else []
    made.fit(module(), loader(66))
    return harness.profile


def count_steps(profile: JobProfile, *worlds: int) -> list[float]:
    run = scale_run(profile, np.array(worlds))
    assert run.counted
    return run.steps.tolist()


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(("devices", "scales"), [("auto", "per_device"), (1, "fixed"), ("1", "fixed")])
def test_lightning_s_devices_are_those_that_the_trainer_was_asked_for(
    tmp_path: Path, namespace: str, devices: object, scales: str
) -> None:
    """A Trainer keeps the number that it found alone; 66 rows are 17 batches, and 9 of 5 rows on eight devices are 3."""
    profile = measure(tmp_path, namespace=namespace, devices=devices)
    assert (profile.batch.scales, profile.global_samples_per_step) == (scales, 4)
    assert profile.plan.optimizer_steps == 4 * 17
    assert count_steps(profile, 1, 2, 8) == [4 * 17, 4 * 9, 4 * 3]


def test_a_subclass_of_the_trainer_is_asked_too(tmp_path: Path) -> None:
    """And a meter that measures once more under another Trainer says what that one takes."""
    import pytorch_lightning

    class Own(pytorch_lightning.Trainer):
        def __init__(self, **options: Any) -> None:
            super().__init__(devices="auto", **options)

    meter = MeterHarness().meter(tmp_path)
    trainer(tmp_path, meter, devices=1)
    assert meter._any_devices is False
    Own(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[meter])
    assert meter._any_devices is True
    assert meter.state_key == "FareMeter"


def test_a_meter_that_comes_after_the_trainer_does_not_know(tmp_path: Path) -> None:
    assert measure(tmp_path, late=True, devices="auto").batch.scales is None


def test_a_stated_number_of_steps_stays(tmp_path: Path) -> None:
    profile = measure(tmp_path, devices="auto", max_steps=20)
    assert profile.batch.scales == "per_device"
    assert count_steps(profile, 1, 8) == [20, 4 * 3]


@pytest.fixture
def alone() -> Iterator[None]:
    """Make this process the only one of a group."""
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        end_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("shared", "total", "counts"),
    [
        (True, 3 * 17, [3 * 17, 3 * 3]),
        (True, None, [3 * 17, 3 * 3]),
        (True, 40, [40, 40]),
        (False, 3 * 17, [3 * 17, 3 * 17]),
    ],
    ids=["epochs", "known at the end", "steps", "not shared"],
)
def test_a_loop_of_ddp_has_the_launchers_devices(
    tmp_path: Path, *, shared: bool, total: int | None, counts: list[int]
) -> None:
    """Whole passes over shared data have fewer steps on more devices; of a loop without DDP nothing is known."""
    data = Rows(66)
    sampler = DistributedSampler(data, shuffle=False) if shared else None
    batches = DataLoader(data, batch_size=4, sampler=sampler)
    plain = nn.Linear(8, 2)
    harness = MeterHarness()
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    for model in (DistributedDataParallel(plain), plain):
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
        given = {"total_steps": total, "warmup_steps": 1, "measure_steps": 3, "report_dir": str(tmp_path)}
        with kind.loop(model, optimizer, **given) as meter:
            for passed in range(3):
                left = (total or 3 * 17) - passed * 17
                for batch in islice(meter.steps(batches), left):
                    functional.mse_loss(model(batch), torch.zeros(len(batch), 2)).backward()
                    optimizer.step()
                    optimizer.zero_grad()
    launched, single = harness.profiles
    assert (launched.batch.scales, single.batch.scales) == ("per_device", None)
    assert count_steps(launched, 1, 8) == counts
