"""A step of reinforcement learning as phases: generation, scoring and update, each with time, memory and doubt."""

from __future__ import annotations

from trainfare_core.prediction.rollout.phases import PHASES, PhaseColumns, PhaseName, predict_phases

__all__ = ["PHASES", "PhaseColumns", "PhaseName", "predict_phases"]
