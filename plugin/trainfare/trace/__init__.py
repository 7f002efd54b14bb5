"""One optimizer step as operations with FLOPs, bytes and memory: `StepTrace` records it, `StepFacts` holds it."""

from trainfare.trace.batch_counts import batch_elements, count_samples, count_tokens
from trainfare.trace.batch_spread import BatchSpread
from trainfare.trace.module_facts import group_parameters
from trainfare.trace.step_facts import StepFacts, collect_untraced_facts
from trainfare.trace.step_trace import StepTrace

__all__ = [
    "BatchSpread",
    "StepFacts",
    "StepTrace",
    "batch_elements",
    "collect_untraced_facts",
    "count_samples",
    "count_tokens",
    "group_parameters",
]
