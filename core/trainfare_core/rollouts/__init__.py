"""What a run of reinforcement learning takes on each machine: time and memory of its phases."""

from __future__ import annotations

from trainfare_core.rollouts.answer import Refusal, RolloutAnswer, RolloutMachine, RolloutPhase
from trainfare_core.rollouts.estimate import estimate_rollout

__all__ = ["Refusal", "RolloutAnswer", "RolloutMachine", "RolloutPhase", "estimate_rollout"]
