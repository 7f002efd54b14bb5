"""Choice between tracing the real step and tracing an uncompiled copy on fake tensors at the end of the run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from builders.lightning_modules import MeterHarness, Tiny, is_restored, loader, quiet, trainer
from trainfare.fake_step.live_step import MAX_KEPT_BYTES, copy_small_batch
from trainfare.lightning.run_facts import read_run
from trainfare.meter.tracing_method import TracingMethod, tracing_method

pytestmark = quiet


class ModeRecorder(Tiny):  # type: ignore[misc]
    """Counts the training steps that ran under a dispatch mode."""

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(**behaviour)
        self.traced_steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.traced_steps += bool(_get_current_dispatch_mode_stack())
        return super().training_step(batch, batch_idx)


def make_compiled_layer() -> Any:
    module = ModeRecorder()
    module.layer = torch.compile(module.layer, backend="eager")
    return module


def make_compiled_in_place() -> Any:
    module = ModeRecorder()
    module.layer.compile(backend="eager")
    return module


@pytest.mark.parametrize("make", [make_compiled_layer, make_compiled_in_place])
def test_a_compiled_step_is_traced_as_a_fake_copy(tmp_path: Path, make: Any) -> None:
    """A dispatch mode would make compiled code slower for the rest of the run; the profile notes the copy."""
    harness, module = MeterHarness(), make()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=1)
    fit.fit(module, loader())
    assert module.traced_steps == 0
    profile = harness.profile
    assert (profile.source.how, profile.source.compiled) == ("fake", True)
    assert any("torch.compile" in note for note in profile.notes)
    assert profile.measured is not None
    assert is_restored(fit)


def test_a_compiled_lightning_module(tmp_path: Path) -> None:
    """torch.compile(LightningModule) is recognised as well."""
    harness, module = MeterHarness(), ModeRecorder()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1).fit(
        torch.compile(module, backend="eager"), loader()
    )
    assert module.traced_steps == 0
    assert harness.profile.source.compiled


def test_the_copy_has_the_operations_of_the_real_step(tmp_path: Path) -> None:
    """FLOPs, matmuls, parameters and optimizer of a compiled run equal those of the same run traced for real."""
    profiles: list[Any] = []
    for module in (ModeRecorder(), make_compiled_layer()):
        harness = MeterHarness()
        trainer(tmp_path, harness.meter(tmp_path), max_epochs=1).fit(module, loader())
        profiles.append(harness.profile)
    traced, copied = profiles
    assert copied.step_flops == traced.step_flops > 0
    matmuls = [
        sorted((o.phase, o.shape, o.launches, o.flops) for o in p.operations if o.kind == "matmul")
        for p in profiles
    ]
    assert matmuls[0] == matmuls[1]
    assert copied.parameters == traced.parameters
    assert copied.optimizer == traced.optimizer


def test_mixed_precision_on_a_cpu_is_traced_as_cuda_would_run_it(tmp_path: Path) -> None:
    """Autocast on a CPU differs from CUDA: the real step is not traced, and the copy casts as CUDA does."""
    harness, module = MeterHarness(), ModeRecorder()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1, precision="bf16-mixed").fit(module, loader())
    assert module.traced_steps == 0
    assert harness.profile.source.how == "fake"
    assert {o.dtype for o in harness.profile.operations if o.kind == "matmul"} == {"bf16"}
    assert any("mixed precision on a CPU" in note for note in harness.profile.notes)


@pytest.mark.parametrize(("accumulate", "epochs"), [(1, 1), (4, 3)])
def test_accumulation_multiplies_forward_and_backward(tmp_path: Path, accumulate: int, epochs: int) -> None:
    """Operations of the traced batch are multiplied by the accumulation; the update is counted once."""
    harness = MeterHarness()
    meter = harness.meter(tmp_path, warmup_steps=1, measure_steps=4)
    trainer(tmp_path, meter, max_epochs=epochs, accumulate_grad_batches=accumulate).fit(Tiny(), loader())
    profile = harness.profile
    forward = sum(o.flops for o in profile.operations if o.phase == "forward" and o.kind == "matmul")
    assert forward == accumulate * 2 * 4 * (8 * 8 + 8 * 2)
    assert any(o.phase == "optimizer" for o in profile.operations)
    assert profile.batch.samples_per_step == accumulate * 4
    assert profile.parallel.accumulate_grad_batches == accumulate


@pytest.mark.parametrize("manual", [{"manual": True, "step_every": 4}, {"manual": True, "optimizers": 2}])
def test_manual_optimization_is_traced_in_a_batch_that_steps(tmp_path: Path, manual: dict[str, Any]) -> None:
    """The traced batch is one in which an optimizer steps."""
    harness = MeterHarness()
    meter = harness.meter(tmp_path, measure_steps=3)
    trainer(tmp_path, meter, max_epochs=4).fit(Tiny(**manual), loader())
    profile = harness.profile
    assert profile.source.how == "real"
    assert any(o.phase == "optimizer" for o in profile.operations)
    assert profile.parallel.accumulate_grad_batches == manual.get("step_every", 1)
    assert profile.plan.optimizer_steps == 64 // manual.get("step_every", 1)


def fake_trainer(strategy: str, device: str = "cuda", precision: str = "32-true") -> Any:
    """The attributes of a Trainer by which a way of tracing is chosen."""
    made = type(strategy, (), {"root_device": torch.device(device)})()
    numbers = {"num_devices": 1, "num_nodes": 1, "accumulate_grad_batches": 1, "fit_loop": None}
    return SimpleNamespace(strategy=made, precision=precision, world_size=1, **numbers)


def chosen_method(trainer: Any, module: nn.Module) -> TracingMethod:
    return tracing_method(read_run(trainer, module), module)


@pytest.mark.parametrize(
    ("strategy", "device", "precision", "how"),
    [
        ("SingleDeviceStrategy", "cuda", "bf16-mixed", "real_step"),
        ("DDPStrategy", "cuda", "32-true", "real_step"),
        ("SingleDeviceStrategy", "cpu", "32-true", "real_step"),
        ("SingleDeviceStrategy", "cpu", "16-mixed", "fake_copy"),
        ("SingleDeviceXLAStrategy", "xla", "32-true", "fake_copy"),
        ("SingleDeviceStrategy", "cuda", "transformer-engine", "none"),
        ("FSDPStrategy", "cuda", "bf16-mixed", "none"),
        ("DeepSpeedStrategy", "cuda", "bf16-mixed", "none"),
        ("ModelParallelStrategy", "cuda", "bf16-true", "none"),
    ],
)
def test_tracing_method_by_strategy_and_device(strategy: str, device: str, precision: str, how: str) -> None:
    """One shard of the weights is never reported as the whole model."""
    method = chosen_method(fake_trainer(strategy, device, precision), nn.Linear(2, 2))
    assert method.how == how
    assert bool(method.reason) == (how != "real_step")


@pytest.mark.parametrize(("sampler", "said"), [({"num_replicas": 2}, "splits"), ({}, "may split")])
def test_a_model_that_is_split_over_devices_is_not_traced(sampler: dict[str, int], said: str) -> None:
    """By what the strategy tells the sampler; where it tells nothing, the model may be split."""
    trainer = fake_trainer("ModelParallelStrategy")
    trainer.world_size, trainer.strategy.distributed_sampler_kwargs = 8, sampler
    method = chosen_method(trainer, nn.Linear(2, 2))
    assert method.how == "none"
    assert f"ModelParallelStrategy {said} the model over devices" in method.reason


def test_a_module_with_cuda_graphs_is_traced_as_a_fake_copy() -> None:
    """The operations of a replayed graph are not visible to a trace of the real step."""

    def make_graphed_callables() -> Any:
        def forward(x: Any) -> Any:
            return x

        return forward

    module = nn.Sequential(nn.Linear(2, 2))
    module[0].forward = make_graphed_callables()
    method = chosen_method(fake_trainer("SingleDeviceStrategy"), module)
    assert method.how == "fake_copy"
    assert "CUDA graphs" in method.reason


class ReadsItsLoss(ModeRecorder):
    """Reads a value that depends on the weights, and keeps what it has read."""

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(**behaviour)
        self.seen: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.seen.append(float(loss.detach()))
        return loss * 2 if self.seen[-1] > 1e9 else loss


def make_compiled_reader() -> Any:
    module = ReadsItsLoss()
    module.layer = torch.compile(module.layer, backend="eager")
    return module


def train_module(folder: Path, make: Any, harness: MeterHarness | None, precision: str) -> Any:
    torch.manual_seed(0)
    module, callbacks = make(), [] if harness is None else [harness.meter(folder)]
    fit = trainer(folder, *callbacks, max_epochs=1, precision=precision)
    fit.fit(module, loader())
    states = [state for optimizer in fit.optimizers for state in optimizer.state.values()]
    return module, [value.clone() for state in states for value in state.values()], torch.rand(3)


@pytest.mark.parametrize(
    ("make", "precision"),
    [(make_compiled_reader, "32-true"), (ReadsItsLoss, "bf16-mixed"), (ReadsItsLoss, "16-mixed")],
)
def test_a_step_that_reads_a_value_is_traced_after_the_training(
    tmp_path: Path, make: Any, precision: str
) -> None:
    """On the run's own batch and module: operations as a fake copy has them, and nothing of the run is changed."""
    harness, plain = MeterHarness(), MeterHarness()
    module, states, drawn = train_module(tmp_path, make, harness, precision)
    expected, wanted, after = train_module(tmp_path, make, None, precision)
    assert module.seen == expected.seen
    assert all(torch.equal(*pair) for pair in zip(module.parameters(), expected.parameters(), strict=True))
    assert all(torch.equal(*pair) for pair in zip(states, wanted, strict=True))
    assert torch.equal(drawn, after)
    train_module(
        tmp_path, make_compiled_layer if make is make_compiled_reader else ModeRecorder, plain, precision
    )
    profile, fake = harness.profile, plain.profile
    assert (profile.source.how, fake.source.how) == ("real", "fake")
    assert profile.source.compiled == fake.source.compiled
    assert profile.step_flops == fake.step_flops > 0
    assert {o.dtype for o in profile.operations if o.kind == "matmul"} == {
        o.dtype for o in fake.operations if o.kind == "matmul"
    }
    assert (profile.parameters, profile.optimizer) == (fake.parameters, fake.optimizer)
    assert profile.measured is not None
    said = [note for note in profile.notes if "after the training, because" in note]
    assert len(said) == 1
    assert "test_callback_compiled.py:" in said[0]
    assert "reads a value" in said[0]


def test_a_batch_that_is_too_large_to_be_kept(tmp_path: Path) -> None:
    """Then the operations stay unknown, and the measured times are saved all the same."""
    harness = MeterHarness(keep_batch=lambda _: None)
    train_module(tmp_path, make_compiled_reader, harness, "32-true")
    assert harness.profiles == []
    assert any("needs the values of a tensor" in line for line in harness.lines)
    assert (tmp_path / "trainfare-profile.json").is_file()


def test_large_batches_are_not_kept() -> None:
    """A copy of the batch would take the accelerator's memory."""
    small, large = torch.zeros(8), torch.empty(MAX_KEPT_BYTES, dtype=torch.uint8)
    kept = copy_small_batch({"x": [small]})
    assert kept["x"][0] is not small
    assert torch.equal(kept["x"][0], small)
    assert copy_small_batch((small, large)) is None


def test_phases_of_a_run_that_is_traced_at_its_end(tmp_path: Path) -> None:
    """A copy is of the last phase: that the others were not traced is said beside the FLOPs."""

    class Unfreezes(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            next(pl_module.parameters()).requires_grad_(trainer.current_epoch > 0)

    harness = MeterHarness()
    callbacks = [harness.meter(tmp_path), Unfreezes()]
    trainer(tmp_path, *callbacks, max_epochs=2).fit(make_compiled_layer(), loader())
    assert harness.profile.work_note == "of the last of 2 phases: the step of the others was not traced"
