"""Described runs for tests of the memory model."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainfare_core.prediction.memory.peak import MemoryParts
from trainfare_research.fitting import memory_rows


def size_run(gib: float, **more: Any) -> memory_rows.Predicted:
    """Return a described run whose allocated parts are so many GiB of weights."""
    size, zero = np.array([gib * 2**30]), np.zeros(1)
    return memory_rows.Predicted(MemoryParts(size, zero, zero, zero, zero, zero), **more)
