"""Peak resident memory of this process."""

from __future__ import annotations

import resource
import sys

__all__ = ["peak_resident_bytes"]


def peak_resident_bytes() -> int:
    """Return the largest resident memory of this process so far; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
