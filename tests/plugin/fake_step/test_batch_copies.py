"""A step that writes into its batch, and a module with containers of its own, are traced as they train."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainfare import TrainingJob, trace_job
from trainfare.fake_step.module_parts import attributes_kept

ROWS, WIDTH = 4, 16


@dataclass
class Fields:
    """A batch with fields."""

    x: Tensor
    y: Tensor
    z: Tensor


class Graph:
    """A batch whose attributes lie in a store of its own, as torch_geometric's do."""

    def __init__(self, **tensors: Tensor) -> None:
        self.__dict__["store"] = tensors

    def __getattr__(self, name: str) -> Any:
        if name not in vars(self).get("store", {}):
            raise AttributeError(name)
        return self.store[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.store[name] = value


Pair = namedtuple("Pair", ["inner"])  # noqa: PYI024 - one that needs no types
BATCHES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "a dict": dict,
    "a dict in a list": lambda tensors: [tensors],
    "a dict in a named tuple": lambda tensors: Pair(tensors),
    "a UserDict": UserDict,
    "an OrderedDict": OrderedDict,
    "fields": lambda tensors: Fields(**tensors),
    "an object": lambda tensors: Graph(**tensors),
}


class Writes(nn.Module):
    """A step that puts its prediction where the target was, as schnetpack's models do, and changes tensors in place."""

    def __init__(self, *, writes: bool = True, reads: bool = False) -> None:
        super().__init__()
        self.net, self.writes, self.reads = nn.Linear(WIDTH, WIDTH), writes, reads
        self.seen: list[tuple[float, tuple[int, ...]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inner = batch[0] if isinstance(batch, (list, tuple)) else batch
        values = (
            inner.store if isinstance(inner, Graph) else vars(inner) if isinstance(inner, Fields) else inner
        )
        x, target = values["x"], values["y"]
        if self.reads:
            self.seen.append((float(self.net.weight.sum() * 0 + values["z"].sum()), values["z"].shape))
        prediction = self.net(x)
        loss = functional.mse_loss(prediction, target)
        if self.writes:
            values["y"] = prediction
            values["z"].add_(1).unsqueeze_(0)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _job(module: nn.Module, make: Callable[[dict[str, Tensor]], Any]) -> TrainingJob:
    tensors = {name: torch.ones(ROWS, WIDTH) for name in "xyz"}
    return TrainingJob(module=module, batch=make(tensors), batch_size=ROWS, max_steps=4)


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_a_batch_that_is_written_into_is_new_in_each_run(make: Callable[[dict[str, Tensor]], Any]) -> None:
    """On fake tensors; as many FLOPs as without the writing."""
    profile = trace_job(_job(Writes(), make))
    assert profile.source.how == "fake"
    assert profile.step_flops == trace_job(_job(Writes(writes=False), make)).step_flops > 0


def test_on_real_tensors_the_values_are_new_too() -> None:
    """What the first run has added to them, the second does not see, nor do the 15 whose forwards are compared."""
    module = Writes(reads=True)
    seen: list[Any] = []
    vars(module)["seen"] = type("Seen", (), {"append": lambda self, value: seen.append(value)})()
    assert trace_job(_job(module, dict)).source.how == "real"
    assert seen == [(ROWS * WIDTH, (ROWS, WIDTH))] * 17


class Space(OrderedDict[str, int]):
    """A mapping that is made of something else, as torchphysics' spaces are."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__({name: size})


class Names(list[str]):
    """A list that is made of a text."""

    def __init__(self, text: str) -> None:
        super().__init__(text.split())


class Marks(set[str]):
    """A set that is made of something else."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__((first, second))


class Keeps(Writes):
    """A module with such containers, which its step changes; it trains by LBFGS or reads a value."""

    def __init__(self, *, reads: bool) -> None:
        super().__init__(writes=False, reads=reads)
        self.space, self.names, self.marks = Space("x", 2), Names("a b"), Marks("c", "d")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.space["y"] = batch_idx
        self.names.append("c")
        self.marks.clear()
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return (
            super().configure_optimizers() if self.reads else torch.optim.LBFGS(self.parameters(), max_iter=2)
        )


@pytest.mark.parametrize("reads", [True, False])
def test_containers_with_a_constructor_of_their_own_are_put_back(reads: bool) -> None:
    """By their contents, in their order; the objects stay the same."""
    module = Keeps(reads=reads)
    space = module.space
    profile = trace_job(_job(module, dict))
    assert (profile.source.how, profile.step_flops > 0) == ("real", True)
    assert module.space is space
    assert (list(space.items()), module.names, module.marks) == ([("x", 2)], ["a", "b"], {"c", "d"})


def test_containers_that_check_what_is_put_in_are_put_back() -> None:
    """Their own methods are not called."""

    class Refuses(dict[str, int]):
        def update(self, *_: Any, **__: Any) -> None:
            raise AssertionError

        clear = keys = update  # type: ignore[assignment]

    owner = type("Owner", (), {})()
    owner.values = Refuses(a=1)
    with attributes_kept([owner]):
        owner.values["b"] = 2
    assert dict.__eq__(owner.values, {"a": 1})
