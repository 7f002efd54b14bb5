"""
The user's question: data, checkpoint, target and limits. Every field has a default;
`list_assumptions` lists those taken.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field

from trainfare_core.documents import Record
from trainfare_core.methods.methods import METHOD_NAMES, METHODS, Method
from trainfare_core.methods.situation import Situation, metric_kind, task_of

Checkpoint: TypeAlias = Literal["none", "same", "related", "distant", "unknown"]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_LOWER: Final = re.compile(
    r"loss|perplex|ppl|nll|error|\bwer\b|\bcer\b|\bmae\b|\bmse\b|rmse|fid", re.IGNORECASE
)
_THRESHOLDED: Final = re.compile(r"humaneval|mbpp|pass_?@?\d|exact_?match|\bem\b|gsm8k", re.IGNORECASE)


class Question(Record):
    """How to train one model on one data set."""

    model_config = ConfigDict(str_max_length=500)

    domain: str = Field(
        default="vision-cls",
        description="kind of data: vision-cls, vision-det, nlp-glue, llm-ift, llm-cpt, ...",
    )
    samples: Positive | None = Field(
        default=None, description="training samples in one pass; None: the job's own"
    )
    tokens_per_sample: Positive | None = Field(default=None, description="None: the job's own")
    checkpoint: Checkpoint = Field(
        default="related",
        description="data that this model was pre-trained on: none, same, related, distant or unknown",
    )
    metric: str = Field(
        default="quality", description="what the target is measured by, e.g. accuracy, val_loss"
    )
    direction: Literal["max", "min"] | None = Field(
        default=None, description="max or min is better; None: read from the metric's name"
    )
    target_value: Positive | None = Field(
        default=None, description="value to reach; None: full fine-tuning's quality less `within_pct`"
    )
    within_pct: Annotated[float, Field(ge=0, le=50)] = Field(
        default=1.0, description="accepted loss of quality against full fine-tuning, percent"
    )
    known_value: Positive | None = Field(default=None, description="what `known_strategy` is known to reach")
    known_strategy: Method = Field(default="full_finetune", description="strategy of the known value")
    strategies: Annotated[tuple[Method, ...], Field(min_length=1)] = Field(
        default=METHOD_NAMES, description="to compare, by default all"
    )
    epochs: Positive | None = Field(
        default=None, description="passes that full fine-tuning would get; None: the job's plan"
    )
    lora_rank: Annotated[int, Field(ge=1, le=4096)] = Field(default=16, description="rank of the adapters")
    head: str | None = Field(
        default=None, description="name of the output layer; None: the last linear layer"
    )
    cache_features: bool = Field(
        default=False, description="linear probe: run the backbone once and keep its output; no augmentation"
    )
    learning_rate_trials: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="full runs of each strategy to find its learning rate"
    )
    max_usd: Positive | None = Field(
        default=None, description="budget of all runs of the strategy, USD; None: no limit"
    )
    deadline_hours: Positive | None = Field(
        default=None, description="time for all runs of the strategy; None: no limit"
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        default=0.9, description="chance with which limits are kept"
    )

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the metric is better."""
        if self.direction is not None:
            return self.direction == "max"
        return _LOWER.search(self.metric) is None

    @property
    def thresholded(self) -> bool:
        """Whether the metric has a threshold (pass@1, exact match), so that it may jump where a loss moves smoothly."""
        return _THRESHOLDED.search(self.metric) is not None

    @property
    def tokens(self) -> float | None:
        """Tokens of one pass; None where not known."""
        if self.samples is None or self.tokens_per_sample is None:
            return None
        return self.samples * self.tokens_per_sample

    def impossible(self) -> dict[Method, str]:
        """Return the methods that this question excludes, each with the reason."""
        reasons: dict[Method, str] = {}
        generates = task_of(self.domain) in ("instruction", "pretraining")
        for method, facts in METHODS.items():
            if method not in self.strategies:
                reasons[method] = "not asked for"
            elif self.checkpoint == "none" and facts.needs_checkpoint:
                reasons[method] = "there is no checkpoint to start from"
            elif generates and not facts.generates_text:
                reasons[method] = (
                    f"training the {facts.trains} alone cannot teach a language model to generate text"
                )
        return reasons

    def situation(
        self,
        offered: tuple[Method, ...],
        lora_parameters: float | None = None,
        parameters: float | None = None,
    ) -> Situation:
        """Return the part of the question that published comparisons share."""
        samples = self.tokens if task_of(self.domain) == "pretraining" else self.samples
        return Situation(
            domain=self.domain,
            offered=offered,
            samples=samples,
            metric=metric_kind(self.metric),
            tokens=self.tokens,
            lora_parameters=lora_parameters,
            parameters=parameters,
        )

    def list_assumptions(self) -> tuple[str, ...]:
        """Return the defaults taken, in sentences."""
        given = self.model_fields_set
        lines = ["pre-training is sunk cost and counted nowhere"]
        if "checkpoint" not in given:
            lines.append(f"a free checkpoint of the same model on {self.checkpoint} data exists")
        if self.target_value is None:
            lines.append(f"the target is what full fine-tuning reaches, less {self.within_pct:g} %")
        if self.direction is None:
            lines.append(f"{'higher' if self.higher_is_better else 'lower'} {self.metric} is better")
        if "lora_rank" not in given:
            lines.append(f"LoRA of rank {self.lora_rank} on every linear layer but the output layer")
        if "learning_rate_trials" not in given:
            rate_text = "each strategy's learning rate is found in one run"
            lines.append(f"{rate_text}; LoRA's is about ten times full fine-tuning's")
        if not self.cache_features:
            lines.append("features of a linear probe are not cached, so that augmentation stays possible")
        return tuple(lines)
