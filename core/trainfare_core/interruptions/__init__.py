"""Spot machines as a process: how often they are taken back, and what a run that saves its state takes then."""

from __future__ import annotations

from trainfare_core.interruptions.hazard import (
    HAZARDS,
    PRIOR,
    Hazard,
    find_hazards,
    hazard_of_band,
    hazard_of_range,
)
from trainfare_core.interruptions.process import FinishTimes, SpotProcess

__all__ = [
    "HAZARDS",
    "PRIOR",
    "FinishTimes",
    "Hazard",
    "SpotProcess",
    "find_hazards",
    "hazard_of_band",
    "hazard_of_range",
]
