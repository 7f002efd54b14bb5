"""A change of the training step that one method makes, as plain values: what is asked of a trace. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from trainfare_core.job_profile import JobProfile
from trainfare_core.methods.methods import Method


@dataclass(frozen=True)
class StepChange:
    """
    Change of a step for one method.

    Args:
        strategy: the method.
        precision: of the run, in Lightning's terms.
        lora_rank: of the adapters; alpha is twice the rank.
        head: dotted name of the output layer; None takes the last linear layer.
        trains_head: whether the output layer is trained with the adapters: that of a classifier is new, that of a
            language model is not.
        recompute: whether the repeated blocks are recomputed in backward.
    """

    strategy: Method
    precision: str
    lora_rank: int = 16
    head: str | None = None
    trains_head: bool = True
    recompute: bool = False


Tracer: TypeAlias = Callable[[StepChange], JobProfile]
"""Traces the job's step with one change; see `trainfare.fake_step.trace_changed` for its errors."""


class DescribedJob(Protocol):
    """What a method needs to know of a job besides its traces; a `TrainingJob` is one."""

    @property
    def precision(self) -> str:
        """In Lightning's terms."""
        ...

    @property
    def train_samples(self) -> int | None:
        """Samples in the training set, over all devices."""
        ...

    @property
    def tokens_per_sample(self) -> int | None:
        """Tokens of one sample."""
        ...
