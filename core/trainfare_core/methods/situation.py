"""
`Situation`: data, size, metric and possible methods, the facts that a user's job shares with published comparisons.

It holds nothing that is only known after training, so that `choice` can be scored on published comparisons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias, cast

from trainfare_core.documents import data_rows
from trainfare_core.errors import InputError
from trainfare_core.methods.methods import Method

MetricKind: TypeAlias = Literal["task", "loss", "conserve"]
"""What a metric measures: learning a task, a loss, or what the model keeps of the checkpoint (forgetting, accuracy on
shifted data)."""

Task: TypeAlias = Literal[
    "vision-classification", "vision-dense", "video", "text-classification", "text-generation",
    "instruction", "pretraining", "unknown",
]  # fmt: skip

_DOMAIN_ROWS: Final = data_rows("method_domains.csv")
DOMAINS: Final[dict[str, Task]] = {row["domain"]: cast("Task", row["task"]) for row in _DOMAIN_ROWS}
"""Domains of the published comparisons, and their kinds of task."""

_TOKENS_PER_SAMPLE: Final[dict[Task, float]] = {
    "instruction": 250.0,
    "text-generation": 50.0,
    "text-classification": 50.0,
}
"""Assumed where not given: answers as in Alpaca have a few hundred tokens, sentences as in GLUE some tens. Chosen."""

_CONSERVE: Final = re.compile(r"forget|retention|retain|ood|shift|robust|backward_transfer", re.IGNORECASE)
_LOSS: Final = re.compile(r"loss|perplex|ppl|nll|bits_per|bpb|bpc", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Situation:
    """
    The facts that a job shares with published comparisons.

    Args:
        domain: one of `DOMAINS`; another name with the same first word ("vision-...") takes the usual task of that
        word.
        offered: methods that are possible, two or more, without repetition.
        samples: training samples (images, examples); for pre-training corpora tokens. None is unknown.
        metric: kind of metric.
        tokens: training tokens in one pass; None is estimated from the samples.
        scratch_epochs: passes that training from scratch would get; None is unknown.
        scratch_step_ratio: steps from scratch over steps of full fine-tuning; None is unknown.
        lora_parameters: trainable parameters of the adapters; None assumes `TYPICAL_LORA_PARAMETERS`.
        parameters: of the model; None is unknown.

    Raises:
        InputError: fewer than two methods, one twice, or a number that is not positive.
    """

    domain: str
    offered: tuple[Method, ...]
    samples: float | None = None
    metric: MetricKind = "task"
    tokens: float | None = None
    scratch_epochs: float | None = None
    scratch_step_ratio: float | None = None
    lora_parameters: float | None = None
    parameters: float | None = None

    def __post_init__(self) -> None:
        if len(self.offered) < 2 or len(set(self.offered)) != len(self.offered):
            msg = f"strategies {', '.join(self.offered) or '(none)'}: give two or more different ones"
            raise InputError(msg)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not value > 0:
                raise InputError(f"{field.name}: {value} is not a positive number")

    @property
    def task(self) -> Task:
        """Kind of task."""
        return task_of(self.domain)

    @property
    def modality(self) -> str:
        """`vision`, `text` or `unknown`."""
        return modality_of(self.task)


def task_of(domain: str) -> Task:
    """Return the kind of task of a domain; an unknown domain takes the usual task of its first word."""
    if domain in DOMAINS:
        return DOMAINS[domain]
    usual = {row["domain"].split("-")[0]: row["domain"] for row in _DOMAIN_ROWS if row["usual"] == "yes"}
    return DOMAINS.get(usual.get(domain.lower().split("-")[0], ""), "unknown")


def modality_of(task: Task) -> str:
    """Return `vision`, `text` or `unknown`."""
    if task in ("vision-classification", "vision-dense", "video"):
        return "vision"
    return "unknown" if task == "unknown" else "text"


def metric_kind(metric: str) -> MetricKind:
    """Return the kind of a metric from its name, e.g. `val_loss`, `top1_OOD`, `accuracy`."""
    if _CONSERVE.search(metric):
        return "conserve"
    return "loss" if _LOSS.search(metric) else "task"


def tokens_seen(situation: Situation) -> float | None:
    """Return the tokens of one pass, as given or estimated from the task's usual length; None for images."""
    if situation.tokens is not None:
        return situation.tokens
    if situation.samples is None:
        return None
    if situation.task == "pretraining":
        return situation.samples
    tokens = _TOKENS_PER_SAMPLE.get(situation.task)
    return None if tokens is None else situation.samples * tokens
