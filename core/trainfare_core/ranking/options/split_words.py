"""A plan that splits the model: its numbers, and what it changes of the script (stage 6)."""

from __future__ import annotations

from trainfare_core.candidates import CandidateTable
from trainfare_core.recommendation import ModelSplit, PlanFacts, PlanWriter


def split_of(candidates: CandidateTable, plan: int, devices: int) -> ModelSplit | None:
    """
    Return how a plan splits the model; None where it does not.

    Args:
        candidates: plans.
        plan: row of `candidates`.
        devices: that the plan uses of all its machines.
    """
    parallel = candidates.parallel
    if parallel is None or not parallel.splits[plan]:
        return None
    return ModelSplit(
        tensor=int(parallel.tensor[plan]),
        pipeline=int(parallel.pipeline[plan]),
        context=int(parallel.context[plan]),
        expert=int(parallel.expert[plan]),
        replicas=devices // int(parallel.devices[plan]),
    )


def split_changes(plan: PlanFacts, writer: PlanWriter) -> tuple[str, ...]:
    """Return how a plan splits the model, as a change of the script; empty where it does not."""
    split = plan.split
    if split is None:
        return ()
    parts = [
        *([f"tensor parallelism over {split.tensor} devices"] if split.tensor > 1 else []),
        *([f"a pipeline of {split.pipeline} stages"] if split.pipeline > 1 else []),
        *([f"context parallelism over {split.context} devices"] if split.context > 1 else []),
        *([f"expert parallelism over {split.expert} devices"] if split.expert > 1 else []),
    ]
    copies = f"{split.replicas} replica{'s' * (split.replicas > 1)}"
    return (f"{', '.join(parts)} ({copies} of the model): needs {writer.name_split_need(plan)}",)


def split_text(candidates: CandidateTable, plan: int) -> tuple[str, ...]:
    """Return the parts of a split in a few words each, e.g. ("tensor 8", "pipeline 4")."""
    if candidates.parallel is None:
        return ()
    names = ("tensor", "pipeline", "context", "expert")
    degrees = candidates.parallel.degrees[:, plan].tolist()
    return tuple(f"{name} {degree}" for name, degree in zip(names, degrees, strict=True) if degree > 1)
