"""
Samples that each method trains on until it reaches the target, as a distribution.

Sources of the median, best first: the user's plan; published rules (BiT's steps, epochs of instruction tuning, step
ratios of training from scratch). The spreads are chosen values, not measurements. The part of the spread that all
methods share (how hard the task is) is drawn once for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from trainfare_core.methods.laws import bit_steps
from trainfare_core.methods.methods import METHOD_NAMES, METHODS, Method
from trainfare_core.methods.prior import find_needed_step_ratio, lora_over_capacity
from trainfare_core.methods.question import Question
from trainfare_core.methods.situation import task_of

SHARED: Final = 0.6
"""Part of ln(samples)'s standard deviation that all methods have in common. Chosen: most of the 0.7 of
fine-tuning, since a hard task takes longer by every method; it cancels when methods are compared."""
OVER_CAPACITY: Final = 4.0
"""
Times the samples of full fine-tuning for adapters beyond their capacity: in the middle of 2 to 6. One published case:
LoRA at 20B tokens about equals full fine-tuning at 4B (Biderman et al. 2024, HumanEval 0.224 and 0.218).
"""
INSTRUCTION_EPOCHS: Final = {"full_finetune": 2.0, "lora": 3.0}
"""
Full fine-tuning on instructions peaks near the second epoch, LoRA near the fourth; 3 is the cautious side of that.
"""
OTHER_EPOCHS: Final = 3.0
"""Usual for fine-tuning language models on tasks such as GLUE. Chosen."""
BIT_BATCH: Final = 512
"""Images a step in the BiT rule (Kolesnikov et al. 2020)."""


@dataclass(frozen=True, slots=True)
class Amount:
    """
    Samples that one method trains on until the target.

    Attributes:
        samples: the median.
        shared: standard deviation of ln(samples), the part that all methods have in common.
        own: the part that is independent between methods.
        because: source of the median.
    """

    samples: float
    shared: float
    own: float
    because: str


def amount_of(question: Question, method: Method, planned_samples: float | None = None) -> Amount | None:
    """
    Return the samples to target of a method; None where neither a plan nor the data set's size is known.

    Args:
        question: the question.
        method: the method.
        planned_samples: samples of the user's own plan, taken as full fine-tuning's.
    """
    amount = _full_finetune(question, planned_samples)
    if amount is None:
        return None
    samples, because = amount
    factor, why = _factor(question, method)
    facts = METHODS[method]
    if facts.trains == "output layer" and question.cache_features and question.samples is not None:
        samples, factor, why = (
            question.samples,
            1.0,
            "one pass of the backbone, later epochs train the head only",
        )
    spread = facts.log_samples_sigma
    shared = min(SHARED, 0.9 * spread)
    return Amount(
        samples=samples * factor,
        shared=shared,
        own=math.sqrt(spread**2 - shared**2),
        because=f"{because}{f'; {why}' if why else ''}",
    )


def _full_finetune(question: Question, planned: float | None) -> tuple[float, str] | None:
    if question.epochs is not None and question.samples is not None:
        return question.epochs * question.samples, f"{question.epochs:g} epochs, as given"
    if planned is not None:
        return planned, "the job's own plan"
    if question.samples is None:
        return None
    task = task_of(question.domain)
    if task == "vision-classification":
        steps = bit_steps(question.samples)
        return float(steps * BIT_BATCH), f"BiT's rule: {steps:,} steps of {BIT_BATCH}"
    if task == "instruction":
        epochs = INSTRUCTION_EPOCHS["full_finetune"]
        return epochs * question.samples, f"{epochs:g} epochs, where instruction tuning peaks"
    epochs = 1.0 if task == "pretraining" else OTHER_EPOCHS
    return epochs * question.samples, f"{epochs:g} epochs, the usual for {question.domain}"


def _factor(question: Question, method: Method) -> tuple[float, str]:
    situation, facts = question.situation(METHOD_NAMES), METHODS[method]
    if not facts.needs_checkpoint:
        if question.checkpoint == "none":
            return 1.0, ""
        ratio = find_needed_step_ratio(situation)
        return ratio, f"{ratio:g} times as long from scratch, as published"
    if facts.trains == "adapters":
        if lora_over_capacity(situation):
            return OVER_CAPACITY, f"{OVER_CAPACITY:g} times as long: the data holds more than the adapters"
        if situation.task == "instruction" and question.epochs is None:
            ratio = INSTRUCTION_EPOCHS["lora"] / INSTRUCTION_EPOCHS["full_finetune"]
            return ratio, f"{ratio:g} times full fine-tuning's: LoRA peaks later"
    return 1.0, ""
