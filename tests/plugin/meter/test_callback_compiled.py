"""Which steps are traced while they happen, and which are timed and not traced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from builders.lightning_modules import (
    MeterHarness,
    Tiny,
    is_restored,
    lightning_module,
    loader,
    quiet,
    trainer,
)
from trainfare.lightning.run_facts import read_run
from trainfare.meter.tracing_method import TracingMethod, tracing_method
from trainfare_core.job_profile import JobProfile

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


def make_compiled_whole() -> Any:
    return torch.compile(ModeRecorder(), backend="eager")


@pytest.mark.parametrize("make", [make_compiled_layer, make_compiled_in_place, make_compiled_whole])
def test_a_compiled_step_is_timed_and_not_traced(tmp_path: Path, make: Any) -> None:
    """A dispatch mode would make compiled code slower for the rest of the run: one sentence has the way out."""
    harness, module = MeterHarness(), make()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=1)
    fit.fit(module, loader())
    assert module.traced_steps == 0
    assert harness.profiles == []
    path = tmp_path / "trainfare-profile.json"
    profile = JobProfile.from_json(path.read_bytes())
    assert (profile.source.compiled, profile.operations) == (True, ())
    assert profile.measured is not None
    assert profile.measured.steps == 10
    assert profile.trainable_parameters == 8 * 8 + 8 + 8 * 2 + 2
    reason = (
        "the step was not traced, because the step runs under torch.compile: trace it before launch with "
        "`trainfare profile TARGET`"
    )
    assert reason in profile.notes
    assert harness.lines[-1] == f"trainfare: no ranking: {reason}. The measured times are in {path}"
    assert any("a step" in line for line in harness.lines)
    assert is_restored(fit)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_mixed_precision_on_a_cpu_is_traced_while_it_trains(tmp_path: Path, precision: str) -> None:
    """Steps of the training, with the casts of the CPU's autocast; the note has what CUDA does otherwise."""
    harness, module = MeterHarness(), ModeRecorder()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1, precision=precision).fit(module, loader())
    profile = harness.profile
    assert module.traced_steps == 3
    assert profile.source.how == "real"
    assert {o.dtype for o in profile.operations if o.kind == "matmul"} == {"bf16"}
    assert profile.step_flops == 4 * 2 * (2 * 8 * 8 + 3 * 8 * 2)
    assert sum("mixed precision on a CPU" in note for note in profile.notes) == 1


def test_an_lstm_under_autocast_has_the_type_of_its_results(tmp_path: Path) -> None:
    """Autocast casts its operands inside the call, where a trace does not see it."""
    module = lightning_module(
        lambda self, batch, index: self.rnn(batch[:, None])[0].float().square().mean(),
        layers=lambda: {"rnn": nn.LSTM(8, 8, batch_first=True)},
    )
    for precision, kinds in (("32-true", {"fp32", "tf32"}), ("bf16-mixed", {"bf16"})):
        harness = MeterHarness()
        trainer(tmp_path, harness.meter(tmp_path), max_epochs=1, precision=precision).fit(module(), loader())
        assert {o.dtype for o in harness.profile.operations if o.kind == "recurrent"} <= kinds


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
    ("strategy", "device", "precision", "traces"),
    [
        ("SingleDeviceStrategy", "cuda", "bf16-mixed", True),
        ("DDPStrategy", "cuda", "32-true", True),
        ("SingleDeviceStrategy", "cpu", "32-true", True),
        ("SingleDeviceStrategy", "cpu", "16-mixed", True),
        ("SingleDeviceXLAStrategy", "xla", "32-true", False),
        ("SingleDeviceStrategy", "cuda", "transformer-engine", False),
        ("FSDPStrategy", "cuda", "bf16-mixed", False),
        ("DeepSpeedStrategy", "cuda", "bf16-mixed", False),
        ("ModelParallelStrategy", "cuda", "bf16-true", False),
    ],
)
def test_tracing_method_by_strategy_and_device(
    strategy: str, device: str, precision: str, traces: bool
) -> None:
    """One shard of the weights is never reported as the whole model; each reason has a way out."""
    method = chosen_method(fake_trainer(strategy, device, precision), nn.Linear(2, 2))
    assert (method.why_not == "") == traces
    assert traces or "`trainfare " in method.why_not
    assert bool(method.note) == (device == "cpu" and "mixed" in precision)


@pytest.mark.parametrize(("sampler", "said"), [({"num_replicas": 2}, "splits"), ({}, "may split")])
def test_a_model_that_is_split_over_devices_is_not_traced(sampler: dict[str, int], said: str) -> None:
    """By what the strategy tells the sampler; where it tells nothing, the model may be split."""
    trainer = fake_trainer("ModelParallelStrategy")
    trainer.world_size, trainer.strategy.distributed_sampler_kwargs = 8, sampler
    method = chosen_method(trainer, nn.Linear(2, 2))
    assert f"ModelParallelStrategy {said} the model over devices" in method.why_not


def test_a_module_with_cuda_graphs_is_not_traced() -> None:
    """The operations of a replayed graph are not visible to a trace of the real step."""

    def make_graphed_callables() -> Any:
        def forward(x: Any) -> Any:
            return x

        return forward

    module = nn.Sequential(nn.Linear(2, 2))
    module[0].forward = make_graphed_callables()
    method = chosen_method(fake_trainer("SingleDeviceStrategy"), module)
    assert "CUDA graphs" in method.why_not
