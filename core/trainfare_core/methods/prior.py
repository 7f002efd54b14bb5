"""
Expected advantage of one method over another from rules and scaling laws alone, worth a few comparisons each.

The rules were written with most of the published comparisons known: leaving a source out of the evidence does not leave
it out of the rules. Means, deviations and weights of the rules are chosen values that follow the medians of the
comparisons (`data/strategy_evidence.csv`): a weight of 1.5 counts less than a few similar comparisons, one of 4.5 or
more less than many only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from pydantic import TypeAdapter

from trainfare_core.documents import data_rows
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


RULES: Final = MappingProxyType(
    {
        row.pop("rule"): TypeAdapter(ExpectedAdvantage).validate_python(row)
        for row in data_rows("method_rules.csv")
    }
)
"""What each rule expects; `conserve` for each unit of `weight_change`."""


@dataclass(frozen=True, slots=True)
class ChoiceConstants:
    """
    Chosen constants of the choice between methods; a weight is relative to 1 for a comparison just like the situation.

    `research/trainfare_research/fitting/strategy_nested.py` fits others, to score the choice without its own rows.

    Attributes:
        same_task: weight of another domain of the same kind of task.
        same_modality, other_modality: of another task.
        other_metric: of a loss for a task score, or the reverse.
        unlike_metric: where one measures what the model keeps (forgetting, shifted data), the other what it learns.
        both_conserve: at least this where both measure what the model keeps: such comparisons are few in any domain.
        source_power: all comparisons of one source together weigh their sum to this power: they are correlated.
        decades: sizes this many powers of ten apart have the weight 1/e.
        unknown_size: of a comparison whose size is not known.
        across_few: factor for one on the other side of `few_samples`, where the sign of adapters may change.
        unknown_schedule: where one of two schedules from scratch is not known.
        few_samples: up to which the rules speak of few samples.
        rules: what each rule expects.
    """

    same_task: float = 0.35
    same_modality: float = 0.12
    other_modality: float = 0.05
    other_metric: float = 0.5
    unlike_metric: float = 0.03
    both_conserve: float = 0.3
    source_power: float = 0.67
    decades: float = 0.65
    unknown_size: float = 0.4
    across_few: float = 0.4
    unknown_schedule: float = 0.5
    few_samples: float = FEW_SAMPLES
    rules: Mapping[str, ExpectedAdvantage] = field(default_factory=lambda: RULES)


CONSTANTS: Final = ChoiceConstants()


def prior(
    situation: Situation, method: Method, over: Method, constants: ChoiceConstants = CONSTANTS
) -> ExpectedAdvantage:
    """Return the advantage of `strategy` over `over` by the rules; exactly antisymmetric."""
    name, factor = find_rule(situation, method, over, constants)
    if name is None:
        return ExpectedAdvantage(0.0, 5.0, 1.0, "no rule")
    rule = constants.rules[name]
    because = rule.because.format(epochs=situation.scratch_epochs)
    return replace(rule, mean_pct=factor * rule.mean_pct, because=because)


def find_rule(
    situation: Situation, method: Method, over: Method, constants: ChoiceConstants = CONSTANTS
) -> tuple[str | None, float]:
    """Return the rule for a pair, and the factor on its mean: negative where it is of `over` over `method`."""
    if situation.metric == "conserve":
        return "conserve", METHODS[over].weight_change - METHODS[method].weight_change
    rule = _find_rule(situation, method, over, constants)
    return (rule, 1.0) if rule else (_find_rule(situation, over, method, constants), -1.0)


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


def _find_rule(situation: Situation, method: Method, over: Method, constants: ChoiceConstants) -> str | None:
    facts, other = METHODS[method], METHODS[over]
    if not facts.needs_checkpoint:
        return _find_scratch_rule(situation, over, constants)
    if facts.trains == "output layer" and other.needs_checkpoint:
        return "probe"
    if facts.packs_weights and over == facts.compared_through:
        return "packed"
    if facts.trains == "adapters" and over == "full_finetune":
        return _find_adapter_rule(situation, constants)
    return None


def _find_scratch_rule(situation: Situation, over: Method, constants: ChoiceConstants) -> str:
    if METHODS[over].trains == "output layer":
        few = situation.samples is not None and situation.samples <= constants.few_samples
        return "scratch_probe_few" if few else "scratch_probe"
    if is_starved(situation):
        return "starved"
    epochs, ratio = situation.scratch_epochs, situation.scratch_step_ratio
    if epochs is not None and epochs < CONVERGED_EPOCHS:
        return "scratch_short"
    if situation.task == "vision-dense" and (situation.samples or 0) > 10_000:
        long = epochs is not None and epochs >= LONG_EPOCHS
        enough = ratio is not None and ratio >= find_needed_step_ratio(situation)
        return "scratch_long" if long or enough else "scratch_dense"
    return "scratch"


def _find_adapter_rule(situation: Situation, constants: ChoiceConstants) -> str:
    if situation.task == "pretraining":
        return "adapters_pretraining"
    if lora_over_capacity(situation):
        return "adapters_full"
    if situation.samples is not None and situation.samples <= constants.few_samples:
        return "adapters_few"
    return "adapters_text" if situation.modality == "text" else "adapters"
