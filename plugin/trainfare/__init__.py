"""
trainfare: what the whole training run will cost on every machine you could rent, and how sure that is.

    from trainfare import FareMeter, TrainingJob, trace_job, recommend

Importing this package loads neither torch, Lightning, a cloud SDK nor polars: names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainfare.callback import FareMeter
    from trainfare.job_trace import trace_job
    from trainfare.recommendation import recommend
    from trainfare.training_job import TrainingJob

__all__ = ["FareMeter", "TrainingJob", "recommend", "trace_job"]

__version__ = "0.1.0"

_HOMES = {
    "FareMeter": "trainfare.callback",
    "TrainingJob": "trainfare.training_job",
    "recommend": "trainfare.recommendation",
    "trace_job": "trainfare.job_trace",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'trainfare' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
