"""Modules of many equal blocks: their step follows from versions with few blocks, and equals that of a whole trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainfare.fake_step import trace_changed, trace_job
from trainfare.fake_step.equal_blocks import EqualBlocks, equal_blocks
from trainfare.job import TrainingJob
from trainfare.methods.module_changes import ModuleChange
from trainfare.trace.repetition import Item, NotRepeatedError, extend_rows, extend_sequence

WIDTH, BLOCKS, WORDS, TOKENS = 16, 8, 24, 6
LATER = 5
"""A block that no short version has."""
ALWAYS = 3.0
"""The short versions of as few blocks are traced too: together they have fewer than three times as many."""
MANY = 24
"""Blocks enough that the short versions are worth it."""
FORWARDS: list[int] = []
"""One entry for each block that ran."""


class Block(nn.Module):
    """A residual MLP, or two in a row."""

    def __init__(self, number: int, *, wide: bool = False) -> None:
        super().__init__()
        self.number, self.wide = number, wide
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        FORWARDS.append(self.number)
        for _ in range(1 + self.wide):
            x = x + self.down(functional.gelu(self.up(self.norm(x))))
        return x


class Net(nn.Module):
    """An embedding, blocks, and a head that may share the embedding's weight."""

    def __init__(self, blocks: int = BLOCKS, *, tied: bool = False, alternating: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(Block(i, wide=alternating and i % 2 == 1) for i in range(blocks))
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def one(self, number: int, block: nn.Module, x: Tensor) -> Tensor:
        """Run one block."""
        del number
        tensor: Tensor = block(x)
        return tensor

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.words(batch)
        for number, block in enumerate(self.blocks):
            x = self.one(number, block, x)
        return functional.cross_entropy(self.head(x).flatten(0, 1), batch.flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad])


class Checkpointed(Net):
    """Recomputes every block."""

    def one(self, number: int, block: nn.Module, x: Tensor) -> Tensor:
        del number
        tensor: Tensor = checkpoint(block, x, use_reentrant=False)
        return tensor


class CheckpointedFrom(Net):
    """Recomputes the later blocks."""

    def one(self, number: int, block: nn.Module, x: Tensor) -> Tensor:
        tensor: Tensor = checkpoint(block, x, use_reentrant=False) if number >= LATER else block(x)
        return tensor


class Skips(Net):
    """Adds something after one block in the middle."""

    def one(self, number: int, block: nn.Module, x: Tensor) -> Tensor:
        tensor: Tensor = block(x)
        return tensor + functional.softmax(tensor, -1) if number == LATER else tensor


class ByNumber(Net):
    """Runs as many blocks as it was built with."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.words(batch)
        for number in range(BLOCKS):
            x = self.blocks[number](x)
        return functional.cross_entropy(self.head(x).flatten(0, 1), batch.flatten())


class Collects(Net):
    """Adds up the results of all blocks at once, in one operation over a list that grows with the blocks."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x, tensors = self.words(batch), list[Tensor]()
        for block in self.blocks:
            x = block(x)
            tensors.append(x)
        mean = torch.stack(tensors).mean(0)
        return functional.cross_entropy(self.head(mean).flatten(0, 1), batch.flatten())


class Plain(Net):
    """An optimizer of one operation for each weight, where the blocks are the point."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class FrozenWords(Net):
    """Its first block's input needs no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.words.requires_grad_(requires_grad=False)


def job(module: Callable[[], nn.Module], **changes: Any) -> TrainingJob:
    return TrainingJob(
        module=module,
        batch=lambda: torch.zeros(2, TOKENS, dtype=torch.long),
        batch_size=2,
        max_steps=10,
        **changes,
    )


def _language_model(name: str, **sizes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(vocab_size=WORDS, **sizes)
    kind = {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name}ForCausalLM")

    class Model(Plain):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.model = getattr(transformers, kind)(config).train()

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            loss: Tensor = self.model(input_ids=batch, labels=batch).loss
            return loss

    return Model()


def _llama() -> nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    return _language_model("Llama", num_hidden_layers=BLOCKS, **sizes)


def _vit() -> nn.Module:
    timm = pytest.importorskip("timm")

    class Model(Plain):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.model = timm.models.vision_transformer.VisionTransformer(
                img_size=8,
                patch_size=4,
                embed_dim=16,
                depth=BLOCKS,
                num_heads=2,
                num_classes=4,
                drop_path_rate=0.2,
            )

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            logits = self.model(batch.new_zeros(2, 3, 8, 8, dtype=torch.float32))
            return functional.cross_entropy(logits, batch[:, 0])

    return Model()


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "plain": (Net, {}),
    "clipped, accumulated": (
        Net,
        {"gradient_clip_val": 1.0, "accumulate_grad_batches": 3, "precision": "32-true"},
    ),
    "tied": (lambda: Net(tied=True), {}),
    "alternating": (lambda: Net(2 * BLOCKS, alternating=True), {"precision": "bf16-true"}),
    "checkpointed": (Checkpointed, {}),
    "frozen words": (FrozenWords, {}),
    "checkpointed from the middle": (CheckpointedFrom, {}),
    "another operation in the middle": (Skips, {}),
    "by number": (ByNumber, {}),
    "over a list": (Collects, {}),
    "GPT-2": (lambda: _language_model("GPT2", n_layer=BLOCKS, n_embd=16, n_head=2), {}),
    "Llama": (_llama, {}),
    "ViT": (_vit, {}),
}


EVERY_BLOCK = {"checkpointed from the middle", "another operation in the middle", "by number", "over a list"}
"""Cases in which short versions do not stand for the whole module."""


def _counting(module: nn.Module, calls: list[int]) -> nn.Module:
    """Give a module a class that counts the calls of its training step."""
    step = type(module).training_step

    def training_step(self: Any, batch: Tensor, batch_idx: int) -> Any:
        calls.append(batch_idx)
        return cast("Any", step)(self, batch, batch_idx)

    module.__class__ = type("Counting", (type(module),), {"training_step": training_step})
    return module


@pytest.mark.parametrize("case", CASES)
def test_the_step_equals_that_of_every_block(case: str) -> None:
    """Operations, submodules, memory, parameters and notes are those of a trace of all blocks."""
    module, changes = CASES[case]
    calls: list[int] = []
    described = job(lambda: _counting(module(), calls), **changes)
    profile = trace_changed(described, None, worthwhile=ALWAYS)
    # The forwards of two short versions and of the whole module, and two steps of each of three short versions.
    assert (sum(index < 2 for index in calls) == 3 + 2 * 3) == (case not in EVERY_BLOCK)
    assert profile == trace_changed(described, None, worthwhile=0)


@pytest.mark.parametrize(("worthwhile", "batches"), [(0, 1), (ALWAYS, 3)], ids=["whole", "short versions"])
@pytest.mark.parametrize("case", ["plain", "clipped, accumulated", "alternating", "tied", "GPT-2"])
def test_the_step_without_a_first_batch_is_the_same(case: str, worthwhile: float, batches: int) -> None:
    """States made with gradients of zero leave the optimizer as a batch does; of the first, the forward alone runs."""
    module, changes = CASES[case]
    calls: list[int] = []
    described = job(lambda: _counting(module(), calls), **changes)
    profile = trace_changed(described, None, worthwhile=worthwhile, first_batch=False)
    assert calls.count(1) == batches
    assert calls.count(0) == batches + (3 if worthwhile else 0)  # the forwards that are compared
    assert max(calls) == 1
    assert profile == trace_changed(described, None, worthwhile=worthwhile)


@pytest.mark.parametrize(
    "change",
    [
        ModuleChange("lora", "bf16-mixed", trains_head=False),
        ModuleChange("full_finetune", "bf16-mixed", recompute=True),
    ],
    ids=["lora", "recompute"],
)
def test_the_step_of_a_strategy_equals_that_of_every_block(change: ModuleChange) -> None:
    """Adapters in every block, and recomputed blocks."""
    if change.strategy == "lora":
        pytest.importorskip("peft")
    described = job(Net)
    profile = trace_changed(described, change, worthwhile=ALWAYS)
    assert profile == trace_changed(described, change, worthwhile=0)


def test_few_blocks_run_where_many_are_equal() -> None:
    """Each block runs forward once, and three short versions run beside; a whole trace runs all blocks twice."""
    FORWARDS.clear()
    trace_job(job(lambda: Net(MANY)))
    # Forward of 2, 3 and all blocks; two steps of versions with 2, 3 and 4; of the shortest 15 later batches.
    assert len(FORWARDS) == 2 + 3 + MANY + 2 * (2 + 3 + 4) + 15 * 2


def test_a_live_module_stays_as_it_is() -> None:
    """Its blocks, gradients and attributes are those from before."""
    live = Net(MANY)
    before = {name: value.clone() for name, value in live.state_dict().items()}
    trace_job(
        job(lambda: live).__class__(
            module=live, batch=torch.zeros(2, TOKENS, dtype=torch.long), batch_size=2, max_steps=1
        )
    )
    assert len(live.blocks) == MANY
    assert all(parameter.grad is None for parameter in live.parameters())
    assert all(torch.equal(value, before[name]) for name, value in live.state_dict().items())


def test_equal_blocks_are_found_with_their_period() -> None:
    """Blocks alternate in pieces of two; their numbers do not count; few of them are not worth it."""
    assert equal_blocks(Net(MANY)) == EqualBlocks("blocks", 0, 1, MANY)
    assert equal_blocks(Net(2 * MANY, alternating=True)) == EqualBlocks("blocks", 0, 2, MANY)
    assert equal_blocks(Net(12)) is None
    other = Net(2 * MANY)
    other.blocks[0] = Block(0, wide=True)
    other.blocks[1].down.weight.requires_grad_(requires_grad=False)
    assert equal_blocks(other) == EqualBlocks("blocks", 2, 1, 2 * MANY - 2)


def test_amounts_that_do_not_grow_linearly_are_refused() -> None:
    """Three lengths are needed to see it."""
    assert extend_rows([{"mm": [3]}, {"mm": [5]}, {"mm": [7]}], 10) == {"mm": [23]}
    with pytest.raises(NotRepeatedError):
        extend_rows([{"mm": [3]}, {"mm": [5]}, {"mm": [8]}], 10)
    with pytest.raises(NotRepeatedError):
        extend_rows([{"mm": [3]}, {"mm": [5]}, {"mm": [7], "relu": [0]}], 10)


def test_sequences_grow_by_the_same_entries() -> None:
    """At several places at once, with one entry over all blocks whose amount grows."""

    def step(blocks: int) -> list[Item]:
        inner = [Item("f", (4,)), Item("g", (2,))] * blocks
        return [Item("begin"), *inner, Item("all", (8 * blocks,)), *[Item("b", (4,))] * blocks, Item("end")]

    assert extend_sequence(step(2), step(3), step(4), 8) == step(10)
    with pytest.raises(NotRepeatedError):
        extend_sequence(step(2), step(3), [*step(4), Item("more")], 8)
    with pytest.raises(NotRepeatedError):
        extend_sequence(step(3), step(2), step(1), 8)


def test_what_is_released_list_by_list_grows_list_by_list() -> None:
    """A cache of transformers 4.51 has all keys in one list and all values in another; they lie side by side at its end."""

    def step(blocks: int) -> list[Item]:
        return [
            Item("all", (blocks,)),
            *[Item("key")] * blocks,
            *[Item("value"), Item("sum")] * blocks,
            Item("end"),
        ]

    assert extend_sequence(step(2), step(3), step(4), 8) == step(10)
    with pytest.raises(NotRepeatedError):
        extend_sequence(step(2), step(3), [*step(4)[:-2], Item("value"), Item("end")], 8)
