"""
trainfare: predict what a whole training run costs on every machine for rent, with an interval for each figure.

    from trainfare import FareMeter, TrainingJob, trace_job, recommend

Importing this package loads neither torch, Lightning, a cloud SDK nor polars: each name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainfare.loops import register_loop, register_script, register_words
from trainfare_core.installation import __version__ as __version__

if TYPE_CHECKING:
    from trainfare.fake_step import trace_job
    from trainfare.job import RealLimits, TrainingJob
    from trainfare.lightning import FareMeter
    from trainfare.recommendation import recommend, recommend_many

__all__ = ["FareMeter", "RealLimits", "TrainingJob", "recommend", "recommend_many", "trace_job"]

_HOMES = {
    "FareMeter": "trainfare.lightning",
    "RealLimits": "trainfare.job",
    "TrainingJob": "trainfare.job",
    "recommend": "trainfare.recommendation",
    "recommend_many": "trainfare.recommendation",
    "trace_job": "trainfare.fake_step",
}

register_loop(
    "trainfare.lightning.loop_kind",
    plan_code="trainfare.lightning.plan_code",
    script="trainfare.lightning.script.interception",
    trainers={"lightning.pytorch": "fit", "pytorch_lightning": "fit"},
)
register_words("huggingface", "trainfare.huggingface.plan_code")
register_script("trainfare.huggingface.script", {"transformers.trainer": "train"})
register_script("trainfare.keras.script", {"keras.src.models.model": "fit"})
register_script("trainfare.plain_loop.script")


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'trainfare' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
