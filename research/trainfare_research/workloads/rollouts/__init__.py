"""Published steps of reinforcement learning, with the seconds of their phases, and published peaks of memory."""

from trainfare_research.workloads.rollouts.published import (
    PublishedDevice,
    PublishedModel,
    PublishedStep,
    read_devices,
    read_models,
    read_steps,
)

__all__ = ["PublishedDevice", "PublishedModel", "PublishedStep", "read_devices", "read_models", "read_steps"]
