"""What more devices do to a run whose batch follows them, and what the larger batch costs in samples."""

from trainfare_core.batch_scaling.critical_batch import (
    MOST_TIMES,
    CriticalBatch,
    CriticalBatchSource,
    SamplesRatio,
)
from trainfare_core.batch_scaling.job_batch import find_critical_batch
from trainfare_core.batch_scaling.noise_scale import LEAST_READINGS, estimate_noise_scale
from trainfare_core.batch_scaling.not_predicted import (
    NotPredicted,
    explain_not_predicted,
    find_not_predicted,
)
from trainfare_core.batch_scaling.prior import (
    BatchPrior,
    CriticalBatchFit,
    load_critical_batch_fit,
    predict_critical_batch,
)
from trainfare_core.batch_scaling.scaled_run import ScaledRun, launch_on, scale_run
from trainfare_core.batch_scaling.sources import (
    choose_critical_batch,
    describe_source,
    judge_noise_scale,
    limit_by_tokens,
    parse_critical_batch,
)

__all__ = [
    "LEAST_READINGS",
    "MOST_TIMES",
    "BatchPrior",
    "CriticalBatch",
    "CriticalBatchFit",
    "CriticalBatchSource",
    "NotPredicted",
    "SamplesRatio",
    "ScaledRun",
    "choose_critical_batch",
    "describe_source",
    "estimate_noise_scale",
    "explain_not_predicted",
    "find_critical_batch",
    "find_not_predicted",
    "judge_noise_scale",
    "launch_on",
    "limit_by_tokens",
    "load_critical_batch_fit",
    "parse_critical_batch",
    "predict_critical_batch",
    "scale_run",
]
