"""Compiled code is not compiled again and is used in every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from builders import contract
from builders.contract import Tiny


class Backend:
    """A torch.compile backend that runs graphs unchanged and counts graphs and runs."""

    def __init__(self) -> None:
        self.graphs = 0
        self.runs = 0

    def __call__(self, graph: Any, example_inputs: Any) -> Callable[..., Any]:
        self.graphs += 1

        def run(*arguments: Any) -> Any:
            self.runs += 1
            return graph.forward(*arguments)

        return run


class CompiledPart(Tiny):
    """A module whose step calls a compiled function, which cannot be found by inspecting the module."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.squared = torch.compile(lambda value: value.square().mean(), backend=backend)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.squared(self.net(batch))
        self.losses.append(loss.detach().clone())
        return loss


def make_compiled_child(backend: Backend) -> Tiny:
    module = Tiny()
    module.net = torch.compile(module.net, backend=backend)  # type: ignore[assignment]
    return module


class Part(torch.nn.Module):
    """A module with its own forward, because torch does not compile a container in place."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Tensor) -> Tensor:
        return self.net(batch)


def make_compiled_in_place(backend: Backend) -> Tiny:
    module = Tiny()
    part = Part(module.net)
    part.compile(backend=backend)
    module.net = part  # type: ignore[assignment]
    return module


def make_compiled_whole(backend: Backend) -> Any:
    return torch.compile(Tiny(), backend=backend)


WAYS = {
    "function": CompiledPart,
    "child": make_compiled_child,
    "in_place": make_compiled_in_place,
    "whole": make_compiled_whole,
}


def train(make: Callable[[Backend], Any], callbacks: list[Any]) -> tuple[contract.Outcome, Backend]:
    torch._dynamo.reset()
    backend = Backend()
    return contract.fit(callbacks, lambda: make(backend), validate=False), backend


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_compiled_again(way: str, record_property: Callable[[str, object], None]) -> None:
    """The number of graphs is unchanged, and every step runs them."""
    plain, without = train(WAYS[way], [])
    metered, with_meter = train(WAYS[way], [contract.meter()])
    assert plain.error is None
    assert without.graphs > 0
    assert metered.comparable == plain.comparable
    record_property("{} graphs compiled without FareMeter", without.graphs)
    record_property("{} more with it, 0 allowed", with_meter.graphs - without.graphs)
    assert with_meter.graphs == without.graphs
    assert with_meter.runs == without.runs
    assert metered.warned == ()
    assert metered.modes == contract.NO_MODES
    contract.record_compared(record_property, plain.compared)
