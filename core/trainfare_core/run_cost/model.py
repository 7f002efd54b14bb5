"""The trained model as a file."""

from __future__ import annotations

from trainfare_core.job_profile import JobProfile

__all__ = ["trained_model_gb"]

_GB = 1e9


def trained_model_gb(profile: JobProfile) -> float:
    """Return the GB of the last checkpoint, of a run that writes none of its weights; 0 without a known end."""
    if profile.plan.optimizer_steps is None:
        return 0.0
    return (profile.plan.checkpoint_bytes or profile.parameter_bytes) / _GB
