"""Backward passes of a script, and the weights that move after them without an optimizer of torch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch.optim.optimizer import Optimizer

from trainfare.trace import torch_private

MOST_PASSES: Final = 10
"""Backward passes after which a script is left that has no optimizer and moves no weight. Chosen: above what prepares a
model, such as a look at the gradient of a few samples."""
MOST_PASSES_WITH_OPTIMIZER: Final = 1000
"""The same where an optimizer has not stepped yet. Chosen: above the batches that one step accumulates."""
MOST_S: Final = 600.0
"""Seconds after which it is left in either case. Chosen: those in which a TARGET must answer."""
_VALUES: Final = 16
"""Of each weight that are compared. Chosen: an update moves nearly all of a weight, or of the rows that were used."""
_WEIGHTS: Final = 8
"""That are compared once it is known which ones move: the smallest, so that a measured step is not held up."""


@final
class UpdateByHand(Optimizer):
    """Stands for the lines of a script, or the optimizer of a library, that move weights."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        super().__init__(list(weights), {})


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some values of a weight after a backward pass."""

    weight: torch.Tensor
    places: torch.Tensor | None
    values: torch.Tensor

    @classmethod
    def of(cls, weight: torch.Tensor) -> _Sample:
        """Take those with the largest gradients, where it has some: of an embedding only a few rows may move."""
        gradient = weight.grad
        if gradient is None or gradient.layout is not torch.strided or gradient.numel() > 10**6:
            return cls(weight, None, _read(weight, None))
        places = gradient.detach().reshape(-1).abs().topk(min(_VALUES, gradient.numel())).indices
        return cls(weight, places, _read(weight, places))

    def has_moved(self) -> bool:
        """Return whether one of the values is another one now."""
        return not torch.equal(self.values, _read(self.weight, self.places))


def _read(weight: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
    values = weight.detach().reshape(-1)
    values = values[:: max(1, values.numel() // _VALUES)] if places is None else values[places]
    return values.nan_to_num().clone()


def list_optimizers() -> list[Optimizer]:
    """Return the optimizers of torch that exist."""
    return [item for item in gc.get_objects() if issubclass(type(item), Optimizer)]


class BackwardWatch:
    """
    Counts the backward passes after which no optimizer of torch has stepped, and sees which weights move.

    Args:
        now: seconds from any origin.
        has_optimizer: returns whether an optimizer of the script exists.
    """

    def __init__(self, now: Callable[[], float], has_optimizer: Callable[[], bool]) -> None:
        self._now, self._has_optimizer = now, has_optimizer
        self._began_s = 0.0
        self._samples: list[_Sample] = []
        self._most = MOST_PASSES
        self.passes = 0
        """Since the last step."""

    def forget(self) -> None:
        """Begin anew after a step, and keep no weight."""
        self.passes = 0
        self._samples.clear()

    def find_moved(self) -> list[torch.Tensor]:
        """Return the weights that have moved since the last backward pass."""
        with torch.no_grad(), torch_private.without_modes():
            return [sample.weight for sample in self._samples if sample.has_moved()]

    def note(self, inputs: Sequence[Any] | None, weights: Iterable[torch.Tensor] | None = None) -> None:
        """
        Note the end of a backward pass.

        Args:
            inputs: for which gradients were returned; None: they were added to those of the leaves.
            weights: to look at; None: they are not known yet, and looked for where it may be worth the time.
        """
        self.count()
        if torch_private.functorch_active():  # what it differentiates is no weight that stays
            inputs = ()
        with torch.no_grad(), torch_private.without_modes():
            if weights is None and inputs is None and self.passes & (self.passes - 1):
                weights = [sample.weight for sample in self._samples]
            elif weights is None:
                self._most = MOST_PASSES_WITH_OPTIMIZER if self._has_optimizer() else MOST_PASSES
                weights = filter(_is_leaf, gc.get_objects() if inputs is None else inputs)
                weights = [item for item in weights if inputs is not None or item.grad is not None]
            else:
                weights = sorted(weights, key=torch.numel)[:_WEIGHTS]
            self._samples = [_Sample.of(weight) for weight in weights if weight.numel()]

    def count(self) -> None:
        """Count a pass after which nothing is looked at."""
        self.passes += 1
        if self.passes == 1:
            self._began_s = self._now()

    def explain_end(self, *, most: int | None = None) -> str:
        """Return why the script is to be left here, "" where it may go on; `most` passes are allowed."""
        over_s = self._now() - self._began_s if self.passes else 0.0
        if self.passes < (most or self._most) and over_s < MOST_S:
            return ""
        times = f"{self.passes} backward passes" if over_s < MOST_S else f"{over_s:,.0f} s"
        return f"in {times} no optimizer of torch stepped, and no weight that is kept was seen to move"


def _is_leaf(item: Any) -> bool:
    # Other classes of tensors, such as fake and distributed ones, may do anything when they are asked.
    if type(item) not in (torch.Tensor, torch.nn.Parameter) or item.layout is not torch.strided:
        return False
    try:
        return bool(item.is_leaf and item.requires_grad)
    except RuntimeError:  # torch's answer for a view made under no_grad whose base has changed since
        return False
