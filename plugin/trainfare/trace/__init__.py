"""One optimizer step as operations with FLOPs, bytes and memory: `StepTrace` records it, `StepFacts` holds it."""

from trainfare.trace.step_facts import StepFacts
from trainfare.trace.step_trace import StepTrace

__all__ = ["StepFacts", "StepTrace"]
