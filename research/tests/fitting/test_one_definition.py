"""Predictions and the fit are of one model: the same coefficients give the same seconds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from builders.plans import plan, shapes
from builders.profiles import gpt_profile, operation, profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.engine import predict_run, prepare
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import Operations
from trainfare_research.fitting.calibration_file import with_coefficients
from trainfare_research.fitting.one_device_rows import Index, RowMaker, merge_operations
from trainfare_research.fitting.one_device_solver import Problem, prior

LINE = {"source": "made", "model": "made", "framework": "pytorch 1.12", "measured": ""}
JOBS = {
    "one matmul": profile(operations=(operation(shape=(1, 4096, 4096, 4096), bytes_fixed=2 * 4096**2),)),
    "ResNet-50 in fp32": profile(batch_size=64, dtype="fp32"),
    "ResNet-50 in bf16": profile(batch_size=64, dtype="bf16"),
    "BERT": gpt_profile(layers=2, attention="math", head=False, dropout=True, dtype="bf16"),
    "LSTM": profile(
        operations=(operation(kind="recurrent", dtype="bf16", shape=(128, 32, 1024, 1024, 1, 1)),)
    ),
    "compiled BERT": gpt_profile(
        layers=2, attention="math", source=profile().source.model_copy(update={"compiled": True})
    ),
}


@pytest.mark.parametrize("ratio", [1.0, 1 / 16, 4.0])
@pytest.mark.parametrize("name", ["T4-16GB", "L40S-48GB", "H100-SXM-80GB", "TPU-v4"])
@pytest.mark.parametrize("job", list(JOBS.values()), ids=list(JOBS))
def test_a_prediction_is_the_fitted_model(job: JobProfile, name: str, ratio: float) -> None:
    """At the profiled micro-batch and at others, whatever the coefficients, on GPUs and behind a graph compiler."""
    job = job.model_copy(update={"source": job.source.model_copy(update={"torch_version": "1.12"})})
    device, index, skipped = accelerator(name), Index(prior), Counter[str]()
    row = RowMaker(index, skipped).row(
        Operations.of(job), device, 1.0, LINE, ratio=ratio, source="made", workload="made", precision="fp16"
    )
    assert row is not None, skipped
    row.old_host = True
    problem = Problem([row], index)
    theta = np.array(index.mean) + np.random.default_rng(0).normal(0.0, 0.3, len(index.mean))
    fit = with_coefficients(calibration(), index, theta, [device.name])
    fit = fit.model_copy(
        update={"coefficients": {k: float(theta[i]) for k, i in index.of.items() if "|" in k}}
    )
    predicted = predict_run(prepare(job, fit), shapes(name), plan(ratio=ratio))
    assert predicted.step_s[0] == pytest.approx(float(np.exp(problem.predict(theta)[0])), rel=1e-9)


def test_merging_a_row_for_speed_keeps_its_prediction() -> None:
    """Merged operations differ in intensity by a step at most: the sum stays within half a percent."""
    index = Index(prior)
    row = RowMaker(index, Counter()).row(
        Operations.of(JOBS["ResNet-50 in bf16"]), accelerator("V100-SXM2-16GB"), 1.0, LINE, source="made",
        workload="made", precision="fp16",
    )  # fmt: skip
    assert row is not None
    whole, less = Problem([row], index), Problem([merge_operations(row)], index)
    theta = np.array(index.mean)
    assert whole.predict(theta)[0] == pytest.approx(less.predict(theta)[0], abs=5e-3)
