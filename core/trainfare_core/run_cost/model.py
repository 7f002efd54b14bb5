"""What a run saves: its checkpoints, and the trained model as a file."""

from __future__ import annotations

import numpy as np

from trainfare_core.arrays import Column
from trainfare_core.candidates import CandidateTable
from trainfare_core.job_profile import JobProfile

_GB = 1e9


def checkpoint_bytes(
    profile: JobProfile, candidates: CandidateTable, *, if_none_written: bool = False
) -> Column:
    """
    Return the size of a checkpoint of each plan, in the plan's precision, shape (plans,).

    Args:
        profile: the job.
        candidates: plans.
        if_none_written: of a run that writes none, the size of its weights and optimizer state; else 0.
    """
    saved = [variant.convert_saved_state(profile) for variant in candidates.variants]
    sizes = [
        profile.plan.checkpoint_bytes
        or (profile.parameter_bytes + profile.optimizer.state_bytes if if_none_written else 0)
        for profile in saved
    ]
    return np.array(sizes, dtype=np.float64)[candidates.variant_or_none]


def compute_trained_model_gb(profile: JobProfile) -> float:
    """Return the GB of the last checkpoint without its optimizer state, else of the weights; 0 without a known end."""
    if profile.plan.optimizer_steps is None:
        return 0.0
    saved_bytes = profile.plan.checkpoint_bytes or profile.parameter_bytes
    model_bytes = saved_bytes - profile.optimizer.state_bytes
    # Less than the weights: the checkpoint has no optimizer state (ModelCheckpoint(save_weights_only=True)).
    return (model_bytes if model_bytes >= profile.parameter_bytes else saved_bytes) / _GB


def describe_trained_model(profile: JobProfile) -> str:
    """Return the size of the trained model, and what it is of a checkpoint."""
    gb = compute_trained_model_gb(profile)
    more = " and what else the script saves" if gb * _GB > profile.parameter_bytes else ""
    return f"a trained model of {gb:.3g} GB: weights{more}, without optimizer state"
