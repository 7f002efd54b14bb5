"""What `trainfare strategy` says of products in fp8: the predicted step of this very job."""

from __future__ import annotations

import math
import re

import pytest

from builders.plans import predict_one
from builders.profiles import gpt_profile
from builders.recommendations import option
from trainfare_core.documents import Interval
from trainfare_core.job_profile import JobProfile
from trainfare_core.methods.knobs import fp8_line
from trainfare_core.prediction.uncertainty import UNFITTED_SIGMA, Z80
from trainfare_core.variants import in_8_bits, may_be_in_8_bits

H100 = "H100-SXM-80GB"


def large(**overrides: object) -> JobProfile:
    return gpt_profile(layers=32, width=4096, heads=32, **overrides)


def line_of(job: JobProfile, step_s: float, *, nodes: int = 1, micro: int = 8) -> list[int]:
    """Return the three changes in the line, per cent; more time is positive."""
    step = Interval(mid=step_s, low_80=step_s / 2, high_80=step_s * 2)
    run = option(
        accelerator=H100, nodes=nodes, micro_batch_size=micro, accumulate_grad_batches=1, step_s=step
    )
    found = re.findall(r"(\d+) % (less|more)", fp8_line(job, run))[:3]
    return [int(size) * (-1 if way == "less" else 1) for size, way in found]


def test_the_change_is_that_of_the_jobs_own_step_with_the_width_of_an_unfitted_precision() -> None:
    job = large()
    changed = in_8_bits(job, may_be_in_8_bits(job))
    before_s, after_s = (float(predict_one(profile, H100).step_s[0]) for profile in (job, changed))
    mid, low, high = line_of(job, before_s)
    assert mid == pytest.approx(100 * (after_s / before_s - 1), abs=0.6)
    spread = math.exp(Z80 * UNFITTED_SIGMA)
    assert (low, high) == pytest.approx(
        tuple(100 * (after_s / before_s * by - 1) for by in (1 / spread, spread)), abs=0.6
    )


def test_the_passes_are_those_of_the_options_own_micro_batch() -> None:
    """A step of one sample gains other than one of eight: less of it is products."""
    job = large()
    changed = in_8_bits(job, may_be_in_8_bits(job))
    ratio = 1 / (job.batch.micro_batch_size or 1)
    before_s, after_s = (
        float(predict_one(profile, H100, ratio=ratio).step_s[0]) for profile in (job, changed)
    )
    assert line_of(job, before_s, micro=1)[0] == pytest.approx(100 * (after_s / before_s - 1), abs=0.6)


def test_what_devices_exchange_stays() -> None:
    """A step of which half is communication gains half as much."""
    job = large()
    alone_s = float(predict_one(job, H100).step_s[0])
    assert line_of(job, 2 * alone_s, nodes=4)[0] == pytest.approx(line_of(job, alone_s)[0] / 2, abs=0.6)


def test_a_job_that_has_nothing_to_cast_is_told_nothing() -> None:
    """Full precision is cast to 16 bits first; what is in fp8 already stays so; small models gain little."""
    job = large()
    for other in (large(dtype="fp32"), in_8_bits(job, may_be_in_8_bits(job)), gpt_profile()):
        assert not fp8_line(other, option(accelerator=H100))
    assert fp8_line(job, option(accelerator=H100))
