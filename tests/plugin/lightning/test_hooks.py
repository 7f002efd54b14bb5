"""The hooks that are called before launch: each once a pass, in the order in which Lightning calls them, as docs list them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from trainfare import TrainingJob
from trainfare.fake_step import trace_changed
from trainfare.fake_step.random_work import MOST_DRAWS
from trainfare.lightning.training_step import HOOKS, START_HOOKS

BLOCKS = 8
PAGE = Path(__file__).parents[3] / "docs" / "scripts.md"
CALLS: list[str] = []


def _recording(name: str) -> Callable[..., Any]:
    plain: Callable[..., Any] = getattr(LightningModule, name)

    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        CALLS.append(name)
        return plain(self, *args, **kwargs)

    return hook


class Records(LightningModule):
    """Notes every hook of Lightning's that is called, of which it overrides all."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(BLOCKS))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        CALLS.append("training_step")
        for block in self.blocks:
            batch = block(batch)
        return batch.mean()

    def configure_optimizers(self) -> Any:
        CALLS.append("configure_optimizers")
        self.optimizer = torch.optim.AdamW(
            [
                {"params": block.parameters(), "lr": 0.1 / (index + 1)}
                for index, block in enumerate(self.blocks)
            ]
        )
        return [self.optimizer], [torch.optim.lr_scheduler.StepLR(self.optimizer, 3)]


_NO_HOOKS = {"training_step", "configure_optimizers", "configure_callbacks"}
_NAMES = [
    name
    for name in vars(LightningModule)
    | {name: 0 for base in LightningModule.__mro__[1:-1] for name in vars(base)}
    if re.match(r"(on|configure|optimizer|setup|prepare|lr_scheduler|transfer|backward)(_|$)", name)
    and callable(getattr(LightningModule, name))
]
for _name in set(_NAMES) - _NO_HOOKS:
    setattr(Records, _name, _recording(_name))


def _job() -> TrainingJob:
    batch = lambda: torch.zeros(4, 8)  # noqa: E731
    return TrainingJob(module=Records, batch=batch, batch_size=4, max_steps=9, gradient_clip_val=1.0)


def test_all_hooks_that_are_called_are_listed_in_their_order() -> None:
    """Of a module that overrides every hook of Lightning's."""
    CALLS.clear()
    trace_changed(_job(), None)
    assert list(dict.fromkeys(CALLS)) == list(HOOKS)


@pytest.mark.sources
def test_the_page_lists_the_hooks_that_code_calls() -> None:
    """Name by name, in their order."""
    page = PAGE.read_text(encoding="utf-8")
    listed = re.search(r"<!-- hooks -->(.*?)<!-- end of hooks -->", page, re.DOTALL)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == list(HOOKS)


@pytest.mark.parametrize("worthwhile", [0, 3.0], ids=["every block", "short versions"])
def test_hooks_before_the_first_step_are_called_once(
    worthwhile: float, record_property: pytest.RecordProperty
) -> None:
    """Whether the module itself is traced or versions of it with fewer blocks."""
    CALLS.clear()
    profile = trace_changed(_job(), None, worthwhile=worthwhile)
    compared = MOST_DRAWS - 1  # whether later batches do other work
    assert CALLS.count("training_step") == (9 if worthwhile else 2) + compared
    counts = {
        name: CALLS.count(name) for name in ("setup", "configure_model", "configure_optimizers", *START_HOOKS)
    }
    assert set(counts.values()) == {1}
    record_property("at most {} calls of a hook before the first step in one pass", max(counts.values()))
    assert profile == trace_changed(_job(), None, worthwhile=0)
