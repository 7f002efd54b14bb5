"""Spot machines as a process: how often they are taken back, and what a run that saves its state takes then."""

from __future__ import annotations

from trainfare_core.interruptions.ends import RunEnds, find_normals
from trainfare_core.interruptions.hazard import (
    HAZARDS,
    PRIOR,
    Hazard,
    find_hazards,
    hazard_of_band,
    hazard_of_range,
)
from trainfare_core.interruptions.process import SpotProcess

__all__ = [
    "HAZARDS",
    "PRIOR",
    "Hazard",
    "RunEnds",
    "SpotProcess",
    "find_hazards",
    "find_normals",
    "hazard_of_band",
    "hazard_of_range",
]
