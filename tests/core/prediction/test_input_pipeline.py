"""The input pipeline: carried to other hosts by their processors' scores, its workers, and its doubt."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pytest

from builders.plans import predict_one
from builders.profiles import profile
from trainfare_core.documents import data_rows
from trainfare_core.hardware.hosts import Host, describe_hosts, find_host, usual_host
from trainfare_core.job_profile import FREE_KINDS, InputFacts, JobProfile, LoaderTime, MeasuredStep, Quantiles
from trainfare_core.prediction.input_pipeline import (
    EVERY_VCPU,
    TIMED_LOG_SIGMA,
    Z90,
    InputPipeline,
    count_threads,
    find_loading_log_sigma,
    input_pipeline,
    state_loader,
)
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80, find_longer

PLAIN = profile(batch_size=128, dtype="fp16")
G2, NC40 = "gcp:g2-standard-12", "azure:Standard_NC40ads_H100_v5"


def make_measured_job(
    step_s: float, wait_s: float | None = None, workers: int | None = None, machine: str = ""
) -> JobProfile:
    """Return a ResNet-50 whose step and wait for data were measured."""
    step, wait = (
        None if seconds is None else Quantiles(median_s=seconds, p10_s=seconds, p90_s=seconds)
        for seconds in (step_s, wait_s)
    )
    assert step is not None
    facts = MeasuredStep(
        device_name="Tesla V100-SXM2-16GB", device_kind="cuda", steps=10, step=step, data_wait=wait,
        loader_workers=workers, machine=machine,
    )  # fmt: skip
    return profile(batch_size=128, dtype="fp16", measured=facts)


def predict_on(job: JobProfile, machine: str = "", vcpus: float = math.nan, **plan: float) -> PredictionTable:
    """Return the step on an H100 of a machine."""
    return predict_one(job, "H100-SXM-80GB", machine=machine, vcpus=vcpus, **plan)  # type: ignore[arg-type]


def test_a_loader_without_workers_adds_its_time_everywhere() -> None:
    """The training process loads: half of the samples, half of the time, on any device and any number of vCPUs."""
    job = make_measured_job(1.0, wait_s=0.5, workers=0)
    assert predict_on(job).input_s[0] == pytest.approx(0.5)
    assert predict_on(job, ratio=0.5, vcpus=2).input_s[0] == pytest.approx(0.25)


def test_a_saturated_loader_needs_as_many_vcpus() -> None:
    """Four busy workers make a step of 1 s; on two vCPUs a device it takes 2 s, whatever the GPU."""
    job = make_measured_job(1.0, wait_s=0.6, workers=4)
    assert predict_on(job, vcpus=64).step_s[0] == pytest.approx(1.0)
    assert predict_on(job, vcpus=2).step_s[0] == pytest.approx(2.0, rel=0.01)
    assert predict_on(job, count=8, vcpus=16).step_s[0] == pytest.approx(2.0, rel=0.01)
    assert predict_on(job, vcpus=math.nan).step_s[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (PLAIN, "was not measured"),
        (make_measured_job(1.0, wait_s=0.5), "worker count is not known"),
        (make_measured_job(1.0, wait_s=0.001, workers=4), "kept up"),
    ],
)
def test_an_unknown_loader_costs_nothing_and_says_so(job: JobProfile, words: str) -> None:
    """No term is made up where neither the loader's speed nor its kind is known."""
    assert words in input_pipeline(job).note
    assert predict_on(job).input_s[0] == 0


def test_a_stated_rate_is_carried_to_the_processor_of_each_machine() -> None:
    """3 a vCPU on hyper-threads of g2 are 8.5 on the whole cores of NC40ads, whichever of the two states it."""
    slow, fast = state_loader(PLAIN, 3.0, "g2-standard-12"), state_loader(PLAIN, 3 * 860 / 304, NC40)
    for machine, vcpus, per_vcpu in ((G2, 12, 3.0), (NC40, 40, 3 * 860 / 304)):
        for job in (slow, fast):
            assert predict_on(job, machine, vcpus).step_s[0] == pytest.approx(
                128 / (per_vcpu * vcpus), rel=0.01
            )


def test_a_rate_of_no_known_machine_is_kept_with_the_doubt_of_all_hosts() -> None:
    """As many a vCPU everywhere, with an interval as wide as hosts differ; a known machine's is narrow there."""
    unknown, known = state_loader(PLAIN, 10.0), state_loader(PLAIN, 10.0, "g2-standard-12")
    for machine, vcpus in ((G2, 12), (NC40, 40), ("", 12)):
        table = predict_on(unknown, machine, vcpus)
        assert table.step_s[0] == pytest.approx(128 / (10 * vcpus), rel=0.01)
        assert table.log_sigma[0] == pytest.approx(usual_host().log_sigma, rel=0.05)
    assert predict_on(known, G2, 12).log_sigma[0] < 0.06
    carried = float(predict_on(known, NC40, 40).log_sigma[0])
    assert 0.06 < carried < 0.2
    assert float(predict_on(known, "gcp:new-type", 12).log_sigma[0]) > carried


def test_a_measured_loader_is_carried_from_the_host_that_make_measured_job() -> None:
    """Twelve workers on twelve hyper-threads of a g2; the same twelve have whole, faster cores on NC40ads."""
    job = make_measured_job(1.4, wait_s=0.75, workers=12, machine="gcp:g2-standard-12@us-central1")
    here, there = (float(predict_on(job, m, v).step_s[0]) for m, v in ((G2, 12), (NC40, 40)))
    assert here == pytest.approx(1.4, rel=0.01)
    assert there == pytest.approx(1.4 * (304 / 913), rel=0.15)  # a thread of all twelve, against one alone
    unknown = make_measured_job(1.4, wait_s=0.75, workers=12)
    assert predict_on(unknown, NC40, 40).step_s[0] == pytest.approx(1.4, rel=0.01)


def of_kind(kind: str, **facts: object) -> JobProfile:
    """Return a ResNet-50 whose input is of a kind that was not measured."""
    facts = {"workers": None, "pixels": 224 * 224, **facts}
    batch = {"input": InputFacts(kind=kind, **facts)}  # type: ignore[arg-type]
    return PLAIN.model_copy(update={"batch": PLAIN.batch.model_copy(update=batch)})


def test_published_rates_have_their_sources() -> None:
    """Each kind that must be decoded or tokenised has a slowest and a fastest rate with source, licence and date."""
    rows = data_rows("input_rates.csv")
    assert {(row["kind"], row["end"]) for row in rows} == {
        (kind, end) for kind in ("pictures", "video", "audio", "text") for end in ("slowest", "fastest")
    }
    assert all(row["source"] and row["licence"] and row["observed_on"] for row in rows)


def test_pictures_that_were_not_measured_are_a_doubt() -> None:
    """On few vCPUs decoding decides, and the interval is as wide as published rates; on many it does not."""
    job = of_kind("pictures")
    few, many, plain = (
        predict_on(job, "aws:g6e.xlarge", 4), predict_on(job, NC40, 400), predict_on(PLAIN, NC40, 400),
    )  # fmt: skip
    assert few.input_s[0] > 2 * plain.step_s[0]
    assert 0.5 < few.log_sigma[0] < 0.7
    assert 128 / few.step_s[0] / 4 == pytest.approx(140, rel=0.15)  # samples a second on each vCPU
    assert many.step_s[0] == pytest.approx(plain.step_s[0], rel=0.3)
    assert not input_pipeline(job).is_known
    larger = of_kind("pictures", pixels=1333 * 800)
    assert predict_on(larger, "aws:g6e.xlarge", 4).step_s[0] > 3 * few.step_s[0]


@pytest.mark.parametrize("kind", ["tokens", "numbers", "text", "video", "audio"])
def test_what_needs_no_decoding_or_has_no_size_gets_no_doubt(kind: str) -> None:
    """Tokens and numbers are there as they are; of the others, a sample's length is not known here."""
    table, plain = (predict_on(job, "aws:g6e.xlarge", 4) for job in (of_kind(kind), PLAIN))
    assert (table.step_s[0], table.log_sigma[0]) == (plain.step_s[0], plain.log_sigma[0])
    assert input_pipeline(of_kind(kind)).is_known is (kind in FREE_KINDS)


def test_other_kinds_take_what_their_samples_have() -> None:
    """Frames of video, seconds of audio and tokens of text, each by its own rates."""
    few = "aws:g6e.xlarge", 4
    video = predict_on(of_kind("video", frames=16), *few)
    assert video.step_s[0] > 3 * predict_on(of_kind("pictures"), *few).step_s[0]
    short, long = (predict_on(of_kind("audio", seconds=s), *few).step_s[0] for s in (1.0, 3600.0))
    assert long > 10 * short
    text = of_kind("text")
    tokens = text.batch.model_copy(update={"tokens_per_step": 10**8})
    assert predict_on(text.model_copy(update={"batch": tokens}), *few).input_s[0] > 1


def test_the_workers_of_the_script_count() -> None:
    """None: the training process decodes by itself, beside its step; two have two of the cores."""
    none, two, every = (
        float(predict_on(of_kind("pictures", workers=workers), NC40, 40).step_s[0])
        for workers in (0, 2, None)
    )
    assert none > two + predict_on(PLAIN).step_s[0] > every
    assert none == pytest.approx(2 * two, rel=0.15)


def test_a_loader_that_kept_up_bounds_what_was_published() -> None:
    """Twelve workers that kept up with steps of 1.4 s are not slower than that; faster GPUs may wait for them."""
    facts = InputFacts(kind="pictures", pixels=224 * 224, workers=4)
    kept_up = make_measured_job(0.1, wait_s=0.001, workers=4, machine="g2-standard-12")
    job = kept_up.model_copy(update={"batch": kept_up.batch.model_copy(update={"input": facts})})
    bounded, free = input_pipeline(job), input_pipeline(of_kind("pictures", workers=4))
    assert (bounded.basis, bounded.workers) == ("published", 4)
    assert bounded.log_sigma < free.log_sigma
    latest_s = [
        float(table.step_s[0] * np.exp(Z80 * table.log_sigma[0]))
        for table in (predict_on(job, G2, 12), predict_on(of_kind("pictures", workers=4), G2, 12))
    ]
    assert latest_s[0] < 0.13 < 0.3 < latest_s[1]


def test_workers_beyond_the_cores_share_them() -> None:
    """Six cores of two threads, 512 alone and 304 a vCPU: linear up to six workers, then less, then no more."""
    host = find_host("g2-standard-12")
    counts = [float(count_threads(workers, 12, host)) for workers in (1, 3, 6, 9, 12, 24)]
    full = 12 * 304 / 512
    assert counts[:3] == [1, 3, 6]
    assert counts[3] == pytest.approx((6 + full) / 2)
    assert counts[4:] == pytest.approx([full, full])
    large = Host(
        "large", 224.0, 2, 941.0, 409.0, 0.08
    )  # all at work, its clock falls below half a thread each
    assert float(count_threads(224, 224, large)) == pytest.approx(224 * 409 / 941)
    assert float(count_threads(4, math.nan, host)) == 4


@pytest.mark.parametrize(
    ("alone", "workers_2", "workers_4", "workers_8"),
    [(621, 1030, 1495, 1596), (864, 1532, 2605, 2920), (712, 1115, 1612, 1609), (440, 766, 1387, 1504)],
)
def test_the_queue_of_the_workers_bounds_them_as_published(
    alone: float, workers_2: float, workers_4: float, workers_8: float
) -> None:
    """DataLoader's rates with 2, 4 and 8 workers on 16 vCPUs, pictures of 0.56 MB: not linear in workers."""
    from trainfare_core.prediction.input_pipeline import QUEUE_BYTES_PER_S

    queue_s = 0.56e6 / QUEUE_BYTES_PER_S
    for workers, rate in ((2, workers_2), (4, workers_4), (8, workers_8)):
        predicted = 1 / math.hypot(1 / (alone * workers), queue_s)
        assert predicted == pytest.approx(rate, rel=0.45)
        assert predicted / (alone * workers) < 0.95


def test_a_queue_that_decides_has_its_own_doubt_and_not_that_of_the_threads() -> None:
    """Its rate is known to 25 %, where published rates of decoding span a factor of ten either way."""
    hosts = describe_hosts(np.array([-1]))
    pipeline = InputPipeline("published", 1.0, 4, usual_host(), log_sigma=1.0)
    threads, half, queue = (
        float(find_loading_log_sigma(pipeline, hosts, np.array([share]))[0]) for share in (0.0, 0.5, 1.0)
    )
    assert threads > 1.0
    assert half == pytest.approx(math.hypot(threads / 2, 0.125))
    assert queue == 0.25


def test_the_longer_of_two_times() -> None:
    """Where one is far longer it alone counts; where both are alike the median is longer than either."""
    one, sigma = np.ones(3), np.full(3, 0.2)
    median, width = find_longer(one, sigma, np.array([0.01, 1.0, 100.0]), np.full(3, 0.5))
    assert median[[0, 2]] == pytest.approx([1.0, 100.0])
    assert width[[0, 2]] == pytest.approx([0.2, 0.5], rel=1e-4)
    draws = np.random.default_rng(0).standard_normal((2, 400_000))
    longer = np.exp(np.maximum(0.2 * draws[0], 0.5 * draws[1]))
    assert median[1] == pytest.approx(np.median(longer), rel=0.01)
    assert median[1] * np.exp(Z80 * width[1]) == pytest.approx(np.quantile(longer, 0.9), rel=0.01)
    nothing, _ = find_longer(one[:1], sigma[:1], np.zeros(1), sigma[:1])
    assert nothing == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("wall_s", "cpu_s", "workers", "thread_s", "waits"),
    [
        (0.004, 0.004, 8, 0.004, 0.0),
        (0.016, 0.004, 8, 0.008, math.log(2) / Z90),  # three quarters of it waits for files
        (0.002, 0.004, 0, 0.004, 0.0),  # two threads, where a worker has one
        (0.004, 0.0, None, 0.004, 0.0),  # a clock of CPU time that is too coarse
    ],
)
def test_first_batches_say_what_a_sample_takes(
    wall_s: float, cpu_s: float, workers: int | None, thread_s: float, waits: float
) -> None:
    """Its CPU time goes to other processors; its waits are a doubt of both sides."""
    timed = LoaderTime(
        sample_s=wall_s, sample_cpu_s=cpu_s, batches=5, workers=workers, processor="AMD EPYC 7R13 Processor",
        measured_on=date(2026, 12, 3),
    )  # fmt: skip
    job = PLAIN.model_copy(update={"batch": PLAIN.batch.model_copy(update={"loader_time": timed})})
    pipeline = input_pipeline(job)
    assert (pipeline.basis, pipeline.thread_s) == ("measured", pytest.approx(128 * thread_s))
    assert pipeline.log_sigma == pytest.approx(math.hypot(TIMED_LOG_SIGMA, waits))
    assert pipeline.workers == (EVERY_VCPU if workers is None else workers)
    assert pipeline.host is not None
    free = job.batch.model_copy(update={"input": InputFacts(kind="tokens")})
    assert input_pipeline(job.model_copy(update={"batch": free})).is_free
    assert input_pipeline(state_loader(job, 100.0)).basis == "stated"
