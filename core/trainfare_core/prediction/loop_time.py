"""
The host's time that a training loop takes itself: its hooks, its loader's hand-over, its bookkeeping.

A step of a small model takes at least that, on any device. `data/loop_time.csv` has it for a pass (a micro-batch),
beside the launches of its kernels, as `benchmarks/loop_time.py` measures it on a host.
"""

from __future__ import annotations

from functools import lru_cache

from trainfare_core.documents import data_rows
from trainfare_core.job_profile import JobProfile


def find_pass_s(profile: JobProfile) -> float:
    """Return the seconds of the loop itself in a pass; 0 where the step was not seen in a loop."""
    return load_pass_times()[profile.source.loop or "lightning"] if profile.source.in_loop else 0.0


@lru_cache(maxsize=1)
def load_pass_times() -> dict[str, float]:
    """Return seconds by loop, as they ship with trainfare."""
    return {row["loop"]: float(row["pass_s"]) for row in data_rows("loop_time.csv")}
