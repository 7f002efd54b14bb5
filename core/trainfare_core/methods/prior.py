"""
Expected advantage of one method over another from rules and scaling laws alone, worth a few comparisons each.

The rules were written with most of the published comparisons known: leaving a source out of the evidence does not leave
it out of the rules. Means, deviations and weights of the rules are chosen values that follow the medians of the
comparisons (`data/strategy_evidence.csv`): a weight of 1.5 counts less than a few similar comparisons, one of 4.5 or
more less than many only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from trainfare_core.methods.methods import METHODS, Method
from trainfare_core.methods.situation import Situation, tokens_seen

LORA_BITS_PER_PARAMETER: Final = 2.0
BITS_PER_TOKEN: Final = 1.0
"""Capacity of adapters, and content of text: below it LoRA tracks full fine-tuning ("LoRA Without Regret", Schulman
et al. 2025)."""

TYPICAL_LORA_PARAMETERS: Final = 4.2e7
"""Where not given: rank 16 on all linear layers of an 8B model, with a capacity of about 8e7 tokens."""

FEW_SAMPLES: Final = 5_000
"""
Training samples up to which adapters beat full fine-tuning on most published tasks: 10 of 11 of VTAB with 1,000
images.
"""

CONVERGED_EPOCHS: Final = 50.0
"""Fewer passes from scratch leave a network far from converged: COCO 1x-4x schedules are 12-49 epochs (He et
al. 2019), ImageNet recipes 90-300."""

LONG_EPOCHS: Final = 60.0
"""5x-6x COCO schedules, where scratch was level or ahead (He et al. 2019)."""

STARVED_TOKENS_PER_PARAMETER: Final = 2.0
"""A tenth of the compute-optimal 20 to 26 tokens a parameter (Hoffmann et al. 2022, Besiroglu et al. 2024)."""

NEEDED_DETECTION: Final = 2.0
"""
Steps from scratch over steps of fine-tuning at equal mask AP on COCO (He et al. 2019: 2x against 4x, 3x against
6x).
"""
NEEDED_SMALL_DETECTION: Final = 3.7
"""The same with 10,000 images of COCO (He et al. 2019)."""
NEEDED_SMALL_CLASSIFICATION: Final = 17.0
"""Mean over 12 image data sets: 19,531 steps from scratch against 1,151 (Kornblith et al. 2019)."""
NEEDED_OTHER: Final = 4.0
"""Chosen, between detection and classification: no published rows."""


@dataclass(frozen=True, slots=True)
class ExpectedAdvantage:
    """
    Advantage of one method over another that a rule expects.

    Attributes:
        mean_pct: expected advantage, 100 ln(ratio).
        deviation_pct: its standard deviation.
        weight: number of comparisons that the rule counts as.
        because: the rule in words.
    """

    mean_pct: float
    deviation_pct: float
    weight: float
    because: str


def prior(situation: Situation, method: Method, over: Method) -> ExpectedAdvantage:
    """Return the advantage of `strategy` over `over` by the rules; exactly antisymmetric."""
    advantage = _prior(situation, method, over)
    if advantage is not None:
        return advantage
    other = _prior(situation, over, method)
    if other is None:
        return ExpectedAdvantage(0.0, 5.0, 1.0, "no rule")
    return replace(other, mean_pct=-other.mean_pct)


def lora_over_capacity(situation: Situation) -> bool:
    """Whether one pass over the data holds more bits than the adapters can store; False where unknown."""
    tokens = tokens_seen(situation)
    if tokens is None:
        return False
    parameters = situation.lora_parameters or TYPICAL_LORA_PARAMETERS
    return tokens * BITS_PER_TOKEN > parameters * LORA_BITS_PER_PARAMETER


def is_starved(situation: Situation) -> bool:
    """Whether a language model from scratch would train on far too little text; False where unknown."""
    tokens = tokens_seen(situation)
    if tokens is None or situation.parameters is None or situation.modality != "text":
        return False
    return tokens < STARVED_TOKENS_PER_PARAMETER * situation.parameters


def find_needed_step_ratio(situation: Situation) -> float:
    """Return the published ratio of steps from scratch to steps of fine-tuning at equal quality."""
    if situation.task == "vision-dense":
        small = situation.samples is not None and situation.samples <= 10_000
        return NEEDED_SMALL_DETECTION if small else NEEDED_DETECTION
    if situation.task in ("vision-classification", "video"):
        return NEEDED_SMALL_CLASSIFICATION
    return NEEDED_OTHER


def _prior(situation: Situation, method: Method, over: Method) -> ExpectedAdvantage | None:
    if situation.metric == "conserve":
        return _conserve(method, over)
    facts, other = METHODS[method], METHODS[over]
    if not facts.needs_checkpoint:
        return _scratch(situation, over)
    if facts.trains == "output layer" and other.needs_checkpoint:
        return ExpectedAdvantage(-10.0, 8.0, 1.5, "a frozen backbone learns less than one that is trained")
    if facts.packs_weights and over == facts.compared_through:
        return ExpectedAdvantage(-0.5, 0.8, 6.0, "4-bit weights add noise to the same training")
    if facts.trains == "adapters" and over == "full_finetune":
        return _adapters(situation)
    return None


def _conserve(method: Method, over: Method) -> ExpectedAdvantage | None:
    less = METHODS[over].weight_change - METHODS[method].weight_change
    if less < 0:
        return None
    mean_pct = 4.0 * less
    return ExpectedAdvantage(mean_pct, 5.0, 3.0, "weights that change less forget less")


def _scratch(situation: Situation, over: Method) -> ExpectedAdvantage:
    if METHODS[over].trains == "output layer":
        few = situation.samples is not None and situation.samples <= FEW_SAMPLES
        return ExpectedAdvantage(
            -10.0 if few else 3.0, 8.0, 1.5, "a whole network needs more than a few thousand samples"
        )
    if is_starved(situation):
        return ExpectedAdvantage(
            -40.0, 15.0, 20.0, "a language model from scratch needs some 20 tokens a parameter"
        )
    epochs, ratio = situation.scratch_epochs, situation.scratch_step_ratio
    if epochs is not None and epochs < CONVERGED_EPOCHS:
        return ExpectedAdvantage(-5.0, 4.0, 4.5, f"{epochs:.0f} epochs do not converge from scratch")
    if situation.task == "vision-dense" and (situation.samples or 0) > 10_000:
        long = epochs is not None and epochs >= LONG_EPOCHS
        if long or (ratio is not None and ratio >= find_needed_step_ratio(situation)):
            return ExpectedAdvantage(
                0.6, 1.2, 4.5, "detection from scratch is slightly ahead after long schedules"
            )
        return ExpectedAdvantage(0.0, 1.2, 1.5, "detection from scratch is level on a large data set")
    return ExpectedAdvantage(-4.0, 5.0, 1.5, "a checkpoint saves data and steps")


def _adapters(situation: Situation) -> ExpectedAdvantage:
    if situation.task == "pretraining":
        return ExpectedAdvantage(-5.0, 5.0, 4.5, "continued pre-training learns more than adapters hold")
    if lora_over_capacity(situation):
        return ExpectedAdvantage(-3.0, 5.0, 4.5, "one pass over the data holds more than the adapters can")
    if situation.samples is not None and situation.samples <= FEW_SAMPLES:
        return ExpectedAdvantage(3.0, 5.0, 1.5, "few samples: fewer trained weights overfit less")
    if situation.modality == "text":
        return ExpectedAdvantage(0.5, 3.0, 1.5, "below their capacity adapters track full fine-tuning")
    return ExpectedAdvantage(
        -3.0, 5.0, 3.0, "with more than a few thousand images training the whole backbone gains more"
    )
