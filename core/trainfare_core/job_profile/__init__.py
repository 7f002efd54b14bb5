"""
Stage 1: `JobProfile`, the operations of one optimizer step on one device, and the number of steps.

The profile is the contract between the machine that traced or measured a run and the machine that prices it.
It holds counts, sizes and times; never weights, data, paths or host names. All sizes are bytes, all times
seconds, and one FLOP is one floating-point operation (a multiply-add is two).
"""

from __future__ import annotations

from trainfare_core.job_profile.fields import (
    MAX_TEXT_CHARACTERS as MAX_TEXT_CHARACTERS,
)
from trainfare_core.job_profile.fields import (
    Axis as Axis,
)
from trainfare_core.job_profile.fields import (
    Bytes as Bytes,
)
from trainfare_core.job_profile.fields import (
    Seconds as Seconds,
)
from trainfare_core.job_profile.fields import (
    Text as Text,
)
from trainfare_core.job_profile.profile import (
    POINTWISE_KINDS as POINTWISE_KINDS,
)
from trainfare_core.job_profile.profile import (
    QUANTISED_BYTES as QUANTISED_BYTES,
)
from trainfare_core.job_profile.profile import (
    REDUCTION_KINDS as REDUCTION_KINDS,
)
from trainfare_core.job_profile.profile import (
    SCHEMA_VERSION as SCHEMA_VERSION,
)
from trainfare_core.job_profile.profile import (
    SHAPE_AXES as SHAPE_AXES,
)
from trainfare_core.job_profile.profile import (
    SPARSE_TENSOR as SPARSE_TENSOR,
)
from trainfare_core.job_profile.profile import (
    USUAL_FUSED_BYTES_SHARE as USUAL_FUSED_BYTES_SHARE,
)
from trainfare_core.job_profile.profile import (
    BlockFacts as BlockFacts,
)
from trainfare_core.job_profile.profile import (
    JobProfile as JobProfile,
)
from trainfare_core.job_profile.profile import (
    MeasuredStep as MeasuredStep,
)
from trainfare_core.job_profile.profile import (
    MemoryFacts as MemoryFacts,
)
from trainfare_core.job_profile.profile import (
    MemoryMoment as MemoryMoment,
)
from trainfare_core.job_profile.profile import (
    ModuleWork as ModuleWork,
)
from trainfare_core.job_profile.profile import (
    OperationGroup as OperationGroup,
)
from trainfare_core.job_profile.profile import (
    OperationKind as OperationKind,
)
from trainfare_core.job_profile.profile import (
    OptimizerFacts as OptimizerFacts,
)
from trainfare_core.job_profile.profile import (
    ParameterGroup as ParameterGroup,
)
from trainfare_core.job_profile.profile import (
    Phase as Phase,
)
from trainfare_core.job_profile.profile import (
    ProfileSource as ProfileSource,
)
from trainfare_core.job_profile.profile import (
    Quantiles as Quantiles,
)
from trainfare_core.job_profile.profile import (
    StepInPrecision as StepInPrecision,
)
from trainfare_core.job_profile.rollout import (
    Engine as Engine,
)
from trainfare_core.job_profile.rollout import (
    Rollout as Rollout,
)
from trainfare_core.job_profile.run import (
    FREE_KINDS as FREE_KINDS,
)
from trainfare_core.job_profile.run import (
    UPPER_BOUND as UPPER_BOUND,
)
from trainfare_core.job_profile.run import (
    BatchFacts as BatchFacts,
)
from trainfare_core.job_profile.run import (
    BatchScale as BatchScale,
)
from trainfare_core.job_profile.run import (
    BatchVariation as BatchVariation,
)
from trainfare_core.job_profile.run import (
    EpochFacts as EpochFacts,
)
from trainfare_core.job_profile.run import (
    InputFacts as InputFacts,
)
from trainfare_core.job_profile.run import (
    InputKind as InputKind,
)
from trainfare_core.job_profile.run import (
    LoaderTime as LoaderTime,
)
from trainfare_core.job_profile.run import (
    ParallelFacts as ParallelFacts,
)
from trainfare_core.job_profile.run import (
    RunPlan as RunPlan,
)
from trainfare_core.job_profile.run import (
    SynchronizedNorms as SynchronizedNorms,
)
