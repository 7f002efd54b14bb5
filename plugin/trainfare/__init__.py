"""
trainfare: what the whole training run will cost on every machine you could rent, and how sure that is.

    from trainfare import FareMeter, TrainingJob, trace_job, recommend

Importing this package loads neither torch, Lightning, a cloud SDK nor polars: names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainfare_core._version import __version__ as __version__

if TYPE_CHECKING:
    from trainfare.job.training_job import TrainingJob
    from trainfare.meter import FareMeter
    from trainfare.prelaunch.job_trace import trace_job
    from trainfare.recommendation import recommend

__all__ = ["FareMeter", "TrainingJob", "recommend", "trace_job"]

_HOMES = {
    "FareMeter": "trainfare.meter",
    "TrainingJob": "trainfare.job.training_job",
    "recommend": "trainfare.recommendation",
    "trace_job": "trainfare.prelaunch.job_trace",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'trainfare' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
