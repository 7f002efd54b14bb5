"""
The models of the measured tables, as training steps that trainfare can trace.

`resolve(row)` returns a `StepJob`, or the reason why there is none; `ProfileCache` keeps the traces on disk.
"""

from __future__ import annotations

from trainfare_research.workloads.cache import ProfileCache, profile_of
from trainfare_research.workloads.registry import resolve
from trainfare_research.workloads.single_device import Row, StepJob

__all__ = ["ProfileCache", "Row", "StepJob", "profile_of", "resolve"]
