"""Predictions beside published measurements, and the calibration's own account of itself."""

from __future__ import annotations

import pytest

from builders.profiles import gpt_profile, profile
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict_machine
from trainfare_core.prediction.calibration import calibration

# NVIDIA DeepLearningExamples, ConvNets, PyTorch 21.03: training performance, images/s on one GPU.
RESNET_50 = [
    ("A100-SXM-80GB", "fp16", 2470.0),
    ("A100-SXM-80GB", "tf32", 938.0),
    ("V100-SXM2-16GB", "fp16", 1200.0),
    ("V100-SXM2-16GB", "fp32", 367.0),
]


@pytest.mark.parametrize(("name", "dtype", "images_per_s"), RESNET_50)
def test_published_resnet_50_is_within_the_interval(name: str, dtype: str, images_per_s: float) -> None:
    """The published rate lies within the central 80 % of the prediction."""
    rate = predict_machine(profile(batch_size=256, dtype=dtype), name).samples_per_s
    assert rate is not None
    assert rate.low_80 <= images_per_s <= rate.high_80


@pytest.mark.parametrize(
    ("layers", "width", "heads", "tokens_per_s"), [(32, 4096, 32, 29_436.0), (24, 1024, 16, 447_963.0)]
)
def test_published_llm_is_within_the_interval(
    layers: int, width: int, heads: int, tokens_per_s: float
) -> None:
    """MPT-7B and MPT-350M of llm-foundry's benchmark table, 8 x A100-SXM4-40GB, sequence 2048, FSDP."""
    micro = 12 if width == 4096 else 16
    job = gpt_profile(
        layers=layers, width=width, heads=heads, sequence=2048, vocabulary=50_368, batch_size=8 * micro,
        checkpointing=width == 4096,
    )  # fmt: skip
    answer = predict_machine(job, "A100-SXM-40GB", 8, sharding="fsdp")
    assert answer.tokens_per_s is not None
    assert answer.tokens_per_s.low_80 <= tokens_per_s <= answer.tokens_per_s.high_80


@pytest.mark.parametrize("job", [profile(batch_size=64), gpt_profile()])
def test_the_newer_data_centre_gpu_is_faster(job: JobProfile) -> None:
    """B200 beats H100 beats A100 beats A10G beats T4, and none by more than its peak promises."""
    names = ("B200-SXM-180GB", "H100-SXM-80GB", "A100-SXM-80GB", "A10G-24GB", "T4-16GB")
    steps = [predict_machine(job, name).step_s.mid for name in names]
    assert steps == sorted(steps)


def test_the_interval_is_as_wide_as_the_worst_held_out_score() -> None:
    """`base` covers 80 % of the rows of chips and of workloads left out of the fit."""
    fit = calibration()
    held_out = ("chip_left_out", "workload_left_out")
    assert fit.sigma.base >= max(fit.scores[name]["sigma_80"] for name in held_out) - 1e-3
    assert all(fit.scores[name]["n"] >= 200 for name in held_out)


def test_the_calibration_says_where_it_comes_from() -> None:
    """Date, hash of the data and rows by source are in the file."""
    fit = calibration()
    assert len(fit.data_sha256) == 64
    assert len(fit.fitted_at) == 10
    assert fit.fitted_on["kernels"] > 1000
    assert fit.fitted_on["lambda-dlbench"] > 100
