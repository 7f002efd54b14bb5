"""
Stage 3: machine shape x nodes x sharding x micro-batch -> `CandidateTable`, the plans to predict.

Every plan keeps the job's global batch, and so its optimizer steps. The script's own strategy and micro-batch are tried
on every machine and marked; `PlanSpace` says how far other plans may go.
"""

from trainfare_core.candidates.enumeration import enumerate_candidates, list_accumulations
from trainfare_core.candidates.layouts import explain_gap, plan_gaps
from trainfare_core.candidates.space import (
    MAX_NODES,
    NODE_COUNTS,
    USUAL,
    PlanSpace,
    own_micro_batch,
    own_sharding,
)
from trainfare_core.candidates.table import SHARDINGS, CandidateTable, ModelParallel, sharding_label, take

__all__ = [
    "MAX_NODES",
    "NODE_COUNTS",
    "SHARDINGS",
    "USUAL",
    "CandidateTable",
    "ModelParallel",
    "PlanSpace",
    "enumerate_candidates",
    "explain_gap",
    "list_accumulations",
    "own_micro_batch",
    "own_sharding",
    "plan_gaps",
    "sharding_label",
    "take",
]
