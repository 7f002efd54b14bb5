"""Where watching the real step would harm or mislead, a fake, uncompiled copy is traced at the end, and it is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from builders.lightning_modules import Tiny, World, loader, nothing_left_behind, quiet, trainer
from trainfare.meter.run_facts import may_watch

pytestmark = quiet


class Watchful(Tiny):  # type: ignore[misc]
    """Notes whether a dispatch mode stands while it computes for real."""

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(**behaviour)
        self.watched = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.watched += bool(_get_current_dispatch_mode_stack())
        return super().training_step(batch, batch_idx)


def compiled_layer() -> Any:
    module = Watchful()
    module.layer = torch.compile(module.layer, backend="eager")
    return module


def compiled_in_place() -> Any:
    module = Watchful()
    module.layer.compile(backend="eager")
    return module


@pytest.mark.parametrize("make", [compiled_layer, compiled_in_place])
def test_a_compiled_step_is_not_watched(tmp_path: Path, make: Any) -> None:
    """A dispatch mode over compiled code slows it for good: a copy is traced, and the profile says so."""
    world, module = World(), make()
    fit = trainer(tmp_path, world.meter(tmp_path), max_epochs=1)
    fit.fit(module, loader())
    assert module.watched == 0
    profile = world.profile
    assert (profile.source.how, profile.source.compiled) == ("fake", True)
    assert any("torch.compile" in note for note in profile.notes)
    assert profile.measured is not None
    assert nothing_left_behind(fit)


def test_a_compiled_lightning_module(tmp_path: Path) -> None:
    """torch.compile(LightningModule) is seen through too."""
    world, module = World(), Watchful()
    trainer(tmp_path, world.meter(tmp_path), max_epochs=1).fit(
        torch.compile(module, backend="eager"), loader()
    )
    assert module.watched == 0
    assert world.profile.source.compiled


def test_the_copy_does_what_the_real_step_does(tmp_path: Path) -> None:
    """The compiled run's operations are those that the same run, watched, has."""
    seen: list[Any] = []
    for module in (Watchful(), compiled_layer()):
        world = World()
        trainer(tmp_path, world.meter(tmp_path), max_epochs=1).fit(module, loader())
        seen.append(world.profile)
    watched, copied = seen
    assert copied.step_flops == watched.step_flops > 0
    matmuls = [
        sorted((o.phase, o.shape, o.launches, o.flops) for o in p.operations if o.kind == "matmul")
        for p in seen
    ]
    assert matmuls[0] == matmuls[1]
    assert copied.parameters == watched.parameters
    assert copied.optimizer == watched.optimizer


def test_mixed_precision_on_a_cpu_is_traced_as_cuda_would_run_it(tmp_path: Path) -> None:
    """A CPU's autocast is not CUDA's: nothing is watched, the copy casts as CUDA does."""
    world, module = World(), Watchful()
    trainer(tmp_path, world.meter(tmp_path), max_epochs=1, precision="bf16-mixed").fit(module, loader())
    assert module.watched == 0
    assert world.profile.source.how == "fake"
    assert {o.dtype for o in world.profile.operations if o.kind == "matmul"} == {"bf16"}
    assert any("mixed precision on a CPU" in note for note in world.profile.notes)


@pytest.mark.parametrize(("accumulate", "epochs"), [(1, 1), (4, 3)])
def test_accumulation_multiplies_forward_and_backward(tmp_path: Path, accumulate: int, epochs: int) -> None:
    """One watched batch stands for all of its optimizer step; the update is there once."""
    world = World()
    meter = world.meter(tmp_path, warmup_steps=1, measure_steps=4)
    trainer(tmp_path, meter, max_epochs=epochs, accumulate_grad_batches=accumulate).fit(Tiny(), loader())
    profile = world.profile
    forward = sum(o.flops for o in profile.operations if o.phase == "forward" and o.kind == "matmul")
    assert forward == accumulate * 2 * 4 * (8 * 8 + 8 * 2)
    assert any(o.phase == "optimizer" for o in profile.operations)
    assert profile.batch.samples_per_step == accumulate * 4
    assert profile.parallel.accumulate_grad_batches == accumulate


@pytest.mark.parametrize("manual", [{"manual": True, "step_every": 4}, {"manual": True, "optimizers": 2}])
def test_manual_optimization_is_watched_where_it_steps(tmp_path: Path, manual: dict[str, Any]) -> None:
    """The watched batch is one in which an optimizer steps."""
    world = World()
    meter = world.meter(tmp_path, measure_steps=3)
    trainer(tmp_path, meter, max_epochs=4).fit(Tiny(**manual), loader())
    profile = world.profile
    assert profile.source.how == "real"
    assert any(o.phase == "optimizer" for o in profile.operations)
    assert profile.parallel.accumulate_grad_batches == manual.get("step_every", 1)
    assert profile.plan.optimizer_steps == 64 // manual.get("step_every", 1)


def stand_in(strategy: str, device: str = "cuda", precision: str = "32-true") -> Any:
    """The part of a Trainer that the decision reads."""
    made = type(strategy, (), {"root_device": torch.device(device)})()
    return SimpleNamespace(strategy=made, precision=precision)


@pytest.mark.parametrize(
    ("strategy", "device", "precision", "how"),
    [
        ("SingleDeviceStrategy", "cuda", "bf16-mixed", "watch"),
        ("DDPStrategy", "cuda", "32-true", "watch"),
        ("SingleDeviceStrategy", "cpu", "32-true", "watch"),
        ("SingleDeviceStrategy", "cpu", "16-mixed", "fake_copy"),
        ("SingleDeviceXLAStrategy", "xla", "32-true", "fake_copy"),
        ("FSDPStrategy", "cuda", "bf16-mixed", "unseen"),
        ("DeepSpeedStrategy", "cuda", "bf16-mixed", "unseen"),
        ("ModelParallelStrategy", "cuda", "bf16-true", "unseen"),
    ],
)
def test_when_a_step_may_be_watched(strategy: str, device: str, precision: str, how: str) -> None:
    """Weights that are spread over devices are never passed off as the whole model."""
    verdict = may_watch(stand_in(strategy, device, precision), nn.Linear(2, 2))
    assert verdict.how == how
    assert bool(verdict.because) == (how != "watch")


def test_cuda_graphs_are_noticed() -> None:
    """A replayed graph hides its operations: it is not watched."""

    def make_graphed_callables() -> Any:
        def forward(x: Any) -> Any:
            return x

        return forward

    module = nn.Sequential(nn.Linear(2, 2))
    module[0].forward = make_graphed_callables()
    verdict = may_watch(stand_in("SingleDeviceStrategy"), module)
    assert verdict.how == "fake_copy"
    assert "CUDA graphs" in verdict.because
