"""What tracing on real tensors may use. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REAL_GIB: Final = 8.0
"""Chosen: half of the memory of a common laptop, enough for some 400 million parameters in fp32 with AdamW."""
REAL_CPU_S: Final = 300.0
"""Chosen: below the 600 s in which a TARGET must answer; the 21 projects of the trial took below 30 s each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealLimits:
    """
    Limits of a trace on real tensors, which runs two training steps on the CPU.

    Args:
        memory_gib: GiB that weights, gradients, optimizer state and activations may take together.
        cpu_s: CPU seconds for building the module and both steps.
    """

    memory_gib: float = REAL_GIB
    cpu_s: float = REAL_CPU_S


REAL_LIMITS: Final = RealLimits()
"""The limits where nothing else is asked for."""
