"""What each strategy does to a real module, traced as it would run."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from builders import jobs
from builders.lightning_modules import lightning_module, update_by
from trainfare.fake_step import trace_changed, trace_job
from trainfare.job import TrainingJob
from trainfare.methods.four_bit_layer import FourBitLinear, unpack
from trainfare.methods.module_changes import ModuleChange, tracer_of
from trainfare.methods.step_change import StepChange
from trainfare_core.errors import InputError, MissingExtraError, TraceError
from trainfare_core.job_profile import JobProfile

WIDTH, DEPTH, CLASSES, BATCH, TOKENS = 64, 4, 10, 8, 16
BODY = DEPTH * 2 * WIDTH * 4 * WIDTH


class Block(nn.Module):
    """A gated-free MLP with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(functional.gelu(self.up(x)))


class Net(pl.LightningModule):
    """Four blocks and an output layer, on (batch, tokens, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, CLASSES, bias=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, labels = batch
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.head(x.mean(1)), labels)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), foreach=False)


def job(module: Any = Net, precision: str = "bf16-mixed") -> TrainingJob:
    batch = lambda: (torch.zeros(BATCH, TOKENS, WIDTH), torch.zeros(BATCH, dtype=torch.long))  # noqa: E731
    return jobs.job(module, batch, BATCH, precision=precision)


def trace_module(strategy: str, **settings: Any) -> JobProfile:
    precision = settings.pop("precision", "bf16-mixed")
    change = ModuleChange(strategy, precision, lora_rank=settings.pop("lora_rank", 4), **settings)
    return trace_changed(job(settings.get("module", Net), precision), change)


def product_flops(profile: JobProfile, phase: str) -> int:
    return sum(
        operation.flops
        for operation in profile.operations
        if operation.kind == "matmul" and operation.phase == phase
    )


def test_full_fine_tuning_is_the_unchanged_job() -> None:
    """Nothing changed: the same operations as the plain trace."""
    assert trace_module("full_finetune").operations == trace_job(job()).operations
    assert trace_module("scratch").operations == trace_job(job()).operations


def test_full_fine_tuning_trains_frozen_parts_with_a_note() -> None:
    """A module that freezes itself: every weight trains, with a note."""

    class Frozen(Net):
        def __init__(self) -> None:
            super().__init__()
            self.blocks.requires_grad_(False)

    profile = trace_changed(job(Frozen), ModuleChange("full_finetune", "bf16-mixed"))
    assert profile.trainable_parameters == BODY + WIDTH * CLASSES
    assert any("freezes" in note for note in profile.notes)


def test_a_linear_probe_goes_backward_through_its_head_only() -> None:
    """One forward pass of the backbone, saved for nobody; the backward is the head's."""
    probe, full = trace_module("linear_probe"), trace_module("full_finetune")
    assert probe.trainable_parameters == WIDTH * CLASSES
    assert product_flops(probe, "forward") == product_flops(full, "forward")
    assert product_flops(probe, "backward") == 2 * BATCH * WIDTH * CLASSES
    assert probe.memory.saved_activation_bytes < full.memory.saved_activation_bytes / 5
    assert probe.optimizer.state_bytes < full.optimizer.state_bytes / 50


def test_lora_costs_two_thirds_and_its_adapters() -> None:
    """No weight gradients for frozen products: 4P of 6P, and 6 P_t of the adapters."""
    pytest.importorskip("peft")
    lora, full = trace_module("lora", trains_head=False), trace_module("full_finetune")
    adapters = DEPTH * 2 * 4 * (WIDTH + 4 * WIDTH)
    assert lora.trainable_parameters == adapters
    rows = 2 * BATCH * TOKENS
    assert product_flops(lora, "forward") == rows * (BODY + adapters) + 2 * BATCH * WIDTH * CLASSES
    # The first block's input needs no gradient, of the frozen weight's product and of the adapter's.
    first = rows * (WIDTH * 4 * WIDTH + 4 * WIDTH)
    expected = rows * (BODY + 2 * adapters) - first + 2 * BATCH * WIDTH * CLASSES
    assert product_flops(lora, "backward") == expected
    assert lora.memory.gradient_bytes == 4 * adapters
    assert lora.optimizer.state_bytes == pytest.approx(8 * adapters, rel=0.02)
    assert full.memory.gradient_bytes == 4 * (BODY + WIDTH * CLASSES)


def test_frozen_weights_are_held_in_autocasts_type() -> None:
    """Two bytes a frozen scalar under bf16-mixed, four under 32-true; adapters stay in full precision."""
    pytest.importorskip("peft")
    for precision, size in (("bf16-mixed", 2), ("32-true", 4)):
        profile = trace_module("lora", precision=precision, trains_head=False)
        frozen = {
            parameter.dtype: parameter.parameter_bytes
            for parameter in profile.parameters
            if not parameter.trainable
        }
        assert sum(frozen.values()) == size * (BODY + WIDTH * CLASSES)
        assert {parameter.dtype for parameter in profile.parameters if parameter.trainable} == {"fp32"}


def test_shared_weights_stay_shared() -> None:
    """An output layer tied to its embedding is counted once, whatever type frozen weights are held in."""

    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.classes = nn.Embedding(CLASSES, WIDTH)
            self.head.weight = self.classes.weight

    pytest.importorskip("peft")
    profile = trace_changed(job(Tied), ModuleChange("lora", "bf16-mixed", lora_rank=4, trains_head=False))
    adapters = DEPTH * 2 * 4 * (WIDTH + 4 * WIDTH)
    assert sum(parameter.count for parameter in profile.parameters) == BODY + WIDTH * CLASSES + adapters


def test_qlora_packs_the_frozen_weights() -> None:
    """Half a byte a scalar and its scales; the same products as LoRA; unpacked in both directions."""
    pytest.importorskip("peft")
    qlora, lora = trace_module("qlora", trains_head=False), trace_module("lora", trains_head=False)
    packed = sum(parameter.parameter_bytes for parameter in qlora.parameters if parameter.dtype == "int8")
    assert packed == BODY // 2 + BODY // 64
    assert product_flops(qlora, "forward") == product_flops(lora, "forward")
    assert product_flops(qlora, "backward") == product_flops(lora, "backward")
    unpacks = [operation for operation in qlora.operations if "unpack_4bit" in operation.name]
    assert {unpack.phase for unpack in unpacks} == {"forward", "backward"}
    assert all(unpack.kind == "elementwise" for unpack in unpacks)
    # The first layer's input is data: nothing to unpack it for in backward.
    assert sum(unpack.launches for unpack in unpacks) == 2 * 2 * DEPTH - 1
    assert qlora.coverage == 1.0
    assert qlora.trainable_parameters == lora.trainable_parameters
    assert qlora.memory.saved_activation_bytes <= lora.memory.saved_activation_bytes * 1.05


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_layers_that_gpt_2_stores_the_other_way_round_are_adapted(strategy: str) -> None:
    """`Conv1D` of transformers is a linear layer: adapters, packed weights and products are those of one."""
    pytest.importorskip("peft")
    transposed = pytest.importorskip("transformers.pytorch_utils").Conv1D

    class Turned(Net):
        def __init__(self) -> None:
            super().__init__()
            for block in self.blocks:
                block.up, block.down = transposed(4 * WIDTH, WIDTH), transposed(WIDTH, 4 * WIDTH)
                for layer in (block.up, block.down):
                    layer.bias.data.zero_()

    change = ModuleChange(strategy, "bf16-mixed", lora_rank=4, trains_head=False)
    turned, straight = trace_changed(job(Turned), change), trace_changed(job(), change)
    assert turned.trainable_parameters == straight.trainable_parameters > 0
    for phase in ("forward", "backward"):
        assert product_flops(turned, phase) == product_flops(straight, phase)
    biases = DEPTH * 5 * WIDTH
    frozen = sum(parameter.count for parameter in turned.parameters) - sum(
        parameter.count for parameter in straight.parameters
    )
    assert frozen == biases


def test_the_packed_layer_computes_its_product() -> None:
    """On real tensors: the unpacked weight's product, and the gradient of its input."""
    layer = FourBitLinear(nn.Linear(6, 4))
    layer.weight.data = torch.randint(0, 256, layer.weight.shape, dtype=torch.uint8)
    layer.scales.data = torch.full(layer.scales.shape, 3, dtype=torch.uint8)
    x = torch.randn(2, 6, requires_grad=True)
    weight = unpack(layer.weight, layer.scales, 4, 6, x)
    assert weight.abs().max() <= 3
    layer(x).sum().backward()
    assert torch.allclose(layer(x), functional.linear(x, weight, layer.bias))
    assert torch.allclose(x.grad, weight.sum(0).expand(2, 6))


def test_recomputed_blocks_cost_a_forward_and_save_activations() -> None:
    """Blocks run again in backward, marked so; what is saved shrinks."""
    plain, again = trace_module("full_finetune"), trace_module("full_finetune", recompute=True)
    repeated = sum(
        operation.flops
        for operation in again.operations
        if operation.recomputed and operation.kind == "matmul"
    )
    # Half of each block: torch stops a recomputation once nothing after it is needed, and `down` is last.
    assert repeated == BATCH * TOKENS * BODY
    assert again.model_step_flops == plain.model_step_flops
    assert again.memory.saved_activation_bytes < 0.6 * plain.memory.saved_activation_bytes


def test_the_users_module_stays_as_it_is() -> None:
    """A live module is copied: its weights, their types and what trains are not touched."""
    pytest.importorskip("peft")
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trace_changed(job(net), ModuleChange("qlora", "bf16-mixed", recompute=True))
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any("lora" in name for name, _ in net.named_modules())


@pytest.mark.parametrize(
    ("strategy", "settings", "word"),
    [
        ("linear_probe", {"head": "nowhere"}, "linear ones: blocks.0.up"),
        ("lora", {"head": "nowhere"}, "there is no such layer"),
    ],
)
def test_an_absent_head_is_named(strategy: str, settings: dict[str, Any], word: str) -> None:
    """With the layers that are."""
    with pytest.raises(InputError, match=word):
        trace_module(strategy, **settings)


Conv = lightning_module(
    lambda self, batch, index: functional.cross_entropy(
        self.head(self.norm(self.conv(batch[0])).mean(2)), batch[1]
    ),
    update_by(torch.optim.SGD, lr=0.1, foreach=False),
    lambda: {"conv": nn.Conv1d(TOKENS, 4, 3), "norm": nn.BatchNorm1d(4), "head": nn.Linear(4, CLASSES)},
)
"""No linear layer but the output."""


def test_nothing_to_adapt_and_nothing_to_recompute_are_errors() -> None:
    """A convolution net has no adapters and no list of equal blocks."""
    with pytest.raises(InputError, match="adapters need one"):
        trace_changed(job(Conv), ModuleChange("lora", "32-true"))
    with pytest.raises(InputError, match="no list of equal blocks"):
        trace_changed(job(Conv), ModuleChange("full_finetune", "32-true", recompute=True))
    probe = trace_changed(job(Conv), ModuleChange("linear_probe", "bf16-mixed"))
    assert any("batch norm" in note for note in probe.notes)


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a guess: the strategy needs what is not there."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"\[lora\]"):
        trace_module("lora")


def test_what_the_change_itself_breaks_is_a_trace_error() -> None:
    """An optimizer that refuses frozen parameters: said in one sentence."""

    class Picky(Net):
        def configure_optimizers(self) -> Any:
            if not all(parameter.requires_grad for parameter in self.parameters()):
                raise RuntimeError("all must train")
            return super().configure_optimizers()

    with pytest.raises(TraceError, match="all must train"):
        trace_changed(job(Picky), ModuleChange("linear_probe", "bf16-mixed"))


class Caching(Net):
    """Makes what every batch needs in its first forward, as rotary embeddings do."""

    def __init__(self, calls: list[int]) -> None:
        super().__init__()
        self.calls, self.scale = calls, None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.calls.append(batch_idx)
        if self.scale is None:
            self.scale = torch.arange(WIDTH).float().cos()
        x, labels = batch
        return super().training_step((x * self.scale, labels), batch_idx)


def test_batches_are_compared_in_the_first_trace_alone() -> None:
    """The second method's trace is what it is by itself, and runs two batches: a forward and the step."""
    calls: list[int] = []
    described = job(lambda: Caching(calls))
    tracer = tracer_of(described)
    tracer(StepChange("full_finetune", "bf16-mixed"))
    assert len(calls) > 10
    calls.clear()
    shared = tracer(StepChange("linear_probe", "bf16-mixed"))
    assert len(calls) == 2
    assert shared == tracer_of(described)(StepChange("linear_probe", "bf16-mixed"))
