"""Terms of a model split over devices: uneven stages, what a library hides, and trainers without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from builders.plans import plan, predict_one, shapes
from builders.profiles import gpt_profile
from trainfare_core.candidates import ModelParallel
from trainfare_core.job_profile import POINTWISE_KINDS, JobProfile
from trainfare_core.prediction import PredictionTable, predict
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.language_models.sums import LIBRARY_PRECISION, DecoderLedger
from trainfare_core.variants import in_8_bits, may_be_in_8_bits

A100 = "A100-SXM-80GB"
H100 = "H100-SXM-80GB"


def _split(
    job: JobProfile,
    *,
    device: str = A100,
    count: int = 8,
    nodes: int = 1,
    network: int = 800,
    accumulate: int = 8,
    **split: Any,
) -> PredictionTable:
    parallel = ModelParallel.none(1)
    for name, value in split.items():
        parallel = replace(parallel, **{name: np.array([value])})
    plans = replace(plan(nodes=nodes, sharding="ddp", accumulate=accumulate), parallel=parallel)
    return predict(job, shapes(device, count=count, network=network), plans)


def _in_library(**sizes: Any) -> JobProfile:
    return gpt_profile(**sizes).model_copy(update={"precision": LIBRARY_PRECISION})


def test_the_longest_stage_decides_where_blocks_do_not_divide_into_chunks() -> None:
    """30 blocks on four stages take as long as 32: embedding and head count as a block each, and hide behind them."""
    for chunks in (1, 2):
        uneven, even = (
            _split(gpt_profile(layers=n, width=4096, heads=32, head=False), pipeline=4, virtual=chunks)
            for n in (30, 32)
        )
        assert uneven.step_s[0] == pytest.approx(even.step_s[0], rel=0.02), chunks
        assert uneven.compute_s[0] < 0.95 * even.compute_s[0]
    with_head, without = (
        [_split(gpt_profile(layers=n, width=4096, heads=32, head=head), pipeline=4) for n in (30, 32)]
        for head in (True, False)
    )
    waited = [
        table.communication_s[0] - other.communication_s[0]
        for table, other in zip(with_head, without, strict=True)
    ]
    assert waited[0] < 0.5 * waited[1], "the last stage has a block fewer beside the head"


def test_without_sequence_parallelism_every_device_of_a_tensor_group_runs_norms_and_sums() -> None:
    job = gpt_profile(layers=32, width=4096, heads=32)
    ledger = DecoderLedger.of(job)
    assert 0 < float(ledger.replicated_bytes) < float(ledger.vector_bytes)
    again_s = [
        _split(job, tensor=n, sequence_parallel=False).memory_s[0]
        - _split(job, tensor=n, sequence_parallel=True).memory_s[0]
        for n in (1, 4, 8)
    ]
    assert again_s[0] == 0
    assert again_s[2] == pytest.approx((7 / 8) / (3 / 4) * again_s[1])
    assert again_s[1] > 0.05 * _split(job, tensor=4).memory_s[0]


def test_products_in_8_bits_gain_from_wider_matrices_than_those_in_16() -> None:
    """Of 16 bits 4,096 is wide; of 8 bits the sides of a device's matrix count, 8,192 and 16,384 here."""
    grown: list[float] = []
    for narrow in (False, True):
        jobs = [gpt_profile(layers=8, width=width, heads=32) for width in (4096, 8192)]
        jobs = [in_8_bits(job, may_be_in_8_bits(job)) if narrow else job for job in jobs]
        times = [predict_one(job, H100).compute_s[0] for job in jobs]
        grown.append(times[1] / times[0])
    assert grown[1] < 0.93 * grown[0]


def test_a_library_gathers_the_operands_of_narrow_products_in_8_bits() -> None:
    """A quarter of what a tensor-parallel group of a library exchanges: half of the bytes of the gathers, its half."""
    for precision, share in ((LIBRARY_PRECISION, 0.75), ("bf16-true", 1.0)):
        job = gpt_profile(layers=32, width=4096, heads=32).model_copy(update={"precision": precision})
        narrow = in_8_bits(job, may_be_in_8_bits(job))
        wide_s, narrow_s = (
            _split(profile, device=H100, tensor=8).communication_s[0] for profile in (job, narrow)
        )
        assert narrow_s == pytest.approx(share * wide_s, rel=0.01), precision


def test_a_library_sends_to_the_next_stage_while_it_works_on_another_chunk() -> None:
    """One replica over all devices, so that nothing but boundaries crosses the network."""

    def compute_sent_s(job: JobProfile, chunks: int) -> float:
        slow, fast = (
            _split(job, nodes=2, network=network, pipeline=16, virtual=chunks).communication_s[0]
            for network in (800, 10**9)
        )
        return float(slow - fast)

    library, eager = (make(layers=32, width=4096, heads=32) for make in (_in_library, gpt_profile))
    exposed = decoder_calibration().tensor_exposed
    assert compute_sent_s(library, 2) == pytest.approx(exposed * compute_sent_s(eager, 2), rel=0.02)
    assert compute_sent_s(library, 1) == pytest.approx(compute_sent_s(eager, 1), rel=0.02)


def _with_share(job: JobProfile, share: float) -> JobProfile:
    """Return the job where a fusing compiler leaves this share of the bytes of every pointwise operation."""
    operations = tuple(
        group.model_copy(update={"fused_bytes_share": share}) if group.kind in POINTWISE_KINDS else group
        for group in job.operations
    )
    return job.model_copy(update={"operations": operations})


def test_fused_software_moves_what_the_profile_says_is_left() -> None:
    """torch.compile, a library's kernels and those of Megatron in 2021; an eager step and a graph compiler do not."""
    eager = gpt_profile(layers=8, width=1024, heads=16)
    compiled = eager.model_copy(update={"source": eager.source.model_copy(update={"compiled": True})})
    for job, device, overlap, by_share in (
        (compiled, A100, True, True),
        (_in_library(layers=8, width=1024, heads=16), A100, True, True),
        (eager, A100, False, True),
        (eager, A100, True, False),
        (compiled, "TPU-v5e", True, False),
    ):
        few_s, many_s = (
            _split(_with_share(job, share), device=device, overlap=overlap, tensor=2).memory_s[0]
            for share in (0.2, 0.8)
        )
        assert bool(few_s < 0.8 * many_s) == by_share, (device, overlap)
        assert by_share or few_s == many_s
