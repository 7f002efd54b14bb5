"""How to train: scratch, full fine-tuning, LoRA, QLoRA or a linear probe, by the cost to reach a target."""

from __future__ import annotations

from trainfare_core.strategy.choice import Advantage, Choice, advantage, choose
from trainfare_core.strategy.situation import DOMAINS, STRATEGIES, Situation, Strategy, metric_kind

__all__ = [
    "DOMAINS",
    "STRATEGIES",
    "Advantage",
    "Choice",
    "Situation",
    "Strategy",
    "advantage",
    "choose",
    "metric_kind",
]
