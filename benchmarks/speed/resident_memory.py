"""Peak resident memory of a process, and work done in a process of its own."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_a_fresh_process(work: Callable[[Argument], Result], argument: Argument) -> Result:
    """Return what a function of a module returns in a new interpreter, whose memory holds nothing of this one's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, argument).result()


def peak_resident_bytes() -> int:
    """Return the largest resident memory of this process so far; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
