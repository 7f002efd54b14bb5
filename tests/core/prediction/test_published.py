"""Predictions beside published measurements, and the calibration's own account of itself."""

from __future__ import annotations

import math
import pathlib

import pytest

from builders.plans import predict_one
from builders.profiles import gpt_profile, profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile, OperationGroup
from trainfare_core.prediction import predict_machine
from trainfare_core.prediction.roofline.coefficients import calibration

Z90 = 1.645
"""Standard deviations to either end of the central 90 % of a normal distribution."""
# NVIDIA DeepLearningExamples, ConvNets, PyTorch 21.03: training performance, images/s on one GPU.
RESNET_50 = [
    ("A100-SXM-80GB", "fp16", 2470.0),
    ("A100-SXM-80GB", "tf32", 938.0),
    ("V100-SXM2-16GB", "fp16", 1200.0),
    ("V100-SXM2-16GB", "fp32", 367.0),
]


def _resnet_50(dtype: str) -> JobProfile:
    """Return the trace of the example (bf16, channels first) as the published runs are: fp16 is channels-last."""
    trace = pathlib.Path(__file__).parents[3] / "docs/examples/resnet50.json"
    job = JobProfile.from_json(trace.read_text())
    assert job.batch.micro_batch_size == 256
    half = dtype == "fp16"
    groups = [_as(group, dtype) for group in job.operations if half or group.name != "aten._to_copy"]
    return job.model_copy(update={"operations": tuple(groups)})


def _as(group: OperationGroup, dtype: str) -> OperationGroup:
    matrix = group.kind in ("convolution", "matmul")
    if group.dtype != "bf16":
        return group
    if dtype == "fp16":
        shape = (*group.shape[:-1], 1) if group.kind == "convolution" else group.shape
        return group.model_copy(update={"shape": shape, "dtype": dtype})
    twice = {name: 2 * getattr(group, name) for name in ("bytes_read", "bytes_written", "bytes_fixed")}
    return group.model_copy(update={"dtype": dtype if matrix else "fp32", **twice})


@pytest.mark.parametrize(("name", "dtype", "images_per_s"), RESNET_50)
def test_published_resnet_50_is_within_the_interval(name: str, dtype: str, images_per_s: float) -> None:
    """The published rate lies within the central 90 %: four rates of one source are no test of an 80 % interval."""
    job = _resnet_50(dtype)
    row = predict_one(job, name)
    reach = math.exp(Z90 * float(row.log_sigma[0]))
    assert float(row.step_s[0]) / reach <= 256 / images_per_s <= float(row.step_s[0]) * reach


@pytest.mark.parametrize(
    ("layers", "width", "heads", "tokens_per_s"), [(32, 4096, 32, 29_436.0), (24, 1024, 16, 447_963.0)]
)
def test_published_llm_is_within_the_interval(
    layers: int, width: int, heads: int, tokens_per_s: float
) -> None:
    """
    MPT-7B and MPT-350M of llm-foundry's benchmark table, 8 x A100-SXM4-40GB, sequence 2048, FSDP.

    At the published micro-batch, within the central 90 %: two rows of a table are no test of an 80 % interval.
    """
    micro = 12 if width == 4096 else 16
    job = gpt_profile(
        layers=layers, width=width, heads=heads, sequence=2048, vocabulary=50_368, batch_size=8 * micro,
        checkpointing=width == 4096,
    )  # fmt: skip
    row = predict_one(
        job, "A100-SXM-40GB", count=8, sharding="fsdp", ratio=1 / 8
    )  # the published micro-batch
    step_s, reach = 8 * micro * 2048 / tokens_per_s, math.exp(Z90 * float(row.log_sigma[0]))
    assert float(row.step_s[0]) / reach <= step_s <= float(row.step_s[0]) * reach


@pytest.mark.parametrize("job", [profile(batch_size=64), gpt_profile()])
def test_the_newer_data_centre_gpu_is_faster(job: JobProfile) -> None:
    """B200 beats H100 beats A100 beats A10G beats T4, and none by more than its peak promises."""
    names = ("B200-SXM-180GB", "H100-SXM-80GB", "A100-SXM-80GB", "A10G-24GB", "T4-16GB")
    steps = [predict_machine(job, name).step_s.mid for name in names]
    assert steps == sorted(steps)


def test_a_measured_step_on_another_device_narrows_the_interval() -> None:
    fit = calibration()
    unseen = math.hypot(fit.sigma.base, fit.sigma.unseen_device)
    assert fit.sigma.corrected < unseen


def test_an_unseen_device_has_a_wider_interval_than_its_measured_sibling() -> None:
    """The V100 was measured; the RTX 3080 Ti's generation was, it was not; Blackwell's consumer cards never were."""
    fit = calibration()
    names = ("V100-SXM2-16GB", "RTX-3080Ti-12GB", "RTX-5090-32GB")
    assert [fit.is_known(accelerator(name)) for name in names] == [True, False, False]
    steps = [predict_machine(profile(batch_size=64, dtype="fp16"), name).step_s for name in names]
    widths = [step.high_80 / step.mid for step in steps]
    assert widths == sorted(widths)
    assert len(set(widths)) == 3


def test_the_calibration_says_where_it_comes_from() -> None:
    """Date, hash of the data and rows by source are in the file."""
    fit = calibration()
    assert len(fit.data_sha256) == 64
    assert len(fit.fitted_at) == 10
    assert fit.fitted_on["kernels"] > 1000
    assert fit.fitted_on["lambda-dlbench"] > 100
