"""`predict_machine`: one machine with all its parts, and refusals in words."""

from __future__ import annotations

import math

import pytest

from builders.plans import predict_one
from builders.profiles import gpt_profile, profile
from builders.toy_market import book, offer_row
from trainfare_core.errors import CannotTellError, InputError, UnknownNameError
from trainfare_core.job_profile import BatchFacts, JobProfile, ParallelFacts
from trainfare_core.prediction import MachinePrediction, predict_machine
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank


def test_it_agrees_with_the_table() -> None:
    """The answer for a plan is the table's row of that plan."""
    job = gpt_profile(batch_size=64)
    answer = predict_machine(job, "A100-SXM-80GB", 8, sharding="ddp")
    row = predict_one(
        job, "A100-SXM-80GB", count=8, ratio=1 / 8 / answer.accumulate, accumulate=answer.accumulate
    )
    assert answer.step_s.mid == pytest.approx(float(row.step_s[0]))
    assert answer.memory_bytes.mid == pytest.approx(float(row.memory_bytes[0]))
    assert answer.fits == bool(row.fits[0])


def test_parts_and_breakdown_add_up() -> None:
    """Step parts make the step, memory parts the peak, operations the device time."""
    answer = predict_machine(gpt_profile(batch_size=64), "H100-SXM-80GB", 4, 2, network_gbit_per_s=100)
    parts, memory = answer.parts, answer.memory_parts.model_dump()
    total_s = (
        parts.compute_bound_s + parts.memory_bound_s + parts.launch_s + parts.communication_s + parts.input_s
    )
    assert total_s == pytest.approx(answer.step_s.mid)
    assert sum(memory.values()) == pytest.approx(answer.memory_bytes.mid)
    device_s = sum(part.device_s for part in answer.operations)
    assert parts.compute_bound_s + parts.memory_bound_s < device_s <= total_s
    assert {part.phase for part in answer.operations} == {"forward", "backward", "optimizer"}


def test_the_breakdown_of_one_device_is_its_time() -> None:
    """Of each phase: the products of the step, and the update once."""
    answer = predict_machine(profile(), "A100-SXM-80GB")
    parts = answer.parts
    device_s = parts.compute_bound_s + parts.memory_bound_s + parts.launch_s
    assert sum(part.device_s for part in answer.operations) == pytest.approx(device_s, rel=1e-6)


def test_the_global_batch_stays() -> None:
    """Eight devices share 64 samples, whatever the split: throughput is 64 samples a step."""
    answer = predict_machine(gpt_profile(batch_size=64), "A100-SXM-80GB", 8)
    assert answer.micro_batch is not None
    assert answer.micro_batch * answer.accumulate * 8 == 64
    assert answer.samples_per_s is not None
    assert answer.tokens_per_s is not None
    assert answer.samples_per_s.mid == pytest.approx(64 / answer.step_s.mid)
    assert answer.tokens_per_s.mid == pytest.approx(64 * 1024 / answer.step_s.mid)


def test_intervals_enclose_their_median() -> None:
    """Low, mid and high are apart, and symmetric in the logarithm."""
    step = predict_machine(profile(), "A100-SXM-80GB").step_s
    assert step.low_80 < step.mid < step.high_80
    assert step.mid / step.low_80 == pytest.approx(step.high_80 / step.mid)


def test_utilisation_counts_recomputation_apart() -> None:
    """With activation checkpointing MFU is below HFU; both are shares of the dense bf16 peak."""
    answer = predict_machine(gpt_profile(checkpointing=True, layers=24, width=2048), "A100-SXM-80GB")
    assert answer.mfu is not None
    assert answer.hfu is not None
    assert 0.1 < answer.mfu < answer.hfu < 1
    assert answer.hfu / answer.mfu == pytest.approx(4 / 3, rel=0.1)


def test_auto_shards_what_does_not_fit_whole() -> None:
    """A 7B with AdamW in fp32 states needs FSDP on 80 GB; a small model keeps DDP, which is Lightning's auto."""
    large = gpt_profile(layers=32, width=4096, heads=32, sequence=2048, batch_size=8, checkpointing=True)
    assert predict_machine(large, "H100-SXM-80GB", 8).strategy == "fsdp"
    assert predict_machine(large, "H100-SXM-80GB", 8).fits
    small = predict_machine(gpt_profile(), "H100-SXM-80GB", 8)
    assert small.strategy == "ddp"
    assert small.step_s == predict_machine(gpt_profile(), "H100-SXM-80GB", 8, sharding="ddp").step_s


def test_what_does_not_fit_says_by_how_much() -> None:
    """One L4 cannot hold a 7B with its optimizer: the answer still has a time, and what is missing."""
    large = gpt_profile(layers=32, width=4096, heads=32, sequence=2048, batch_size=1)
    answer = predict_machine(large, "L4-24GB")
    assert not answer.fits
    assert answer.missing_bytes > 80 * 2**30


@pytest.mark.parametrize(
    ("name", "measured", "words"),
    [
        ("A100-SXM-80GB", (True, True), "ampere was measured with fp32 arithmetic and tensor arithmetic"),
        ("RTX-5090-32GB", (False, False), "rtx-blackwell devices were never measured"),
        ("MI210-64GB", (True, False), "never with tensor arithmetic"),
    ],
)
def test_it_says_how_it_was_calibrated(name: str, measured: tuple[bool, bool], words: str) -> None:
    """Device and dtype, seen or unseen, in words and as flags."""
    answer = predict_machine(gpt_profile(), name)
    assert (answer.device_measured, answer.dtype_measured) == measured
    assert words in answer.calibrated


def test_porting_is_marked() -> None:
    """A TPU's answer is never shown as a drop-in."""
    answer = predict_machine(gpt_profile(), "TPU-v5e")
    assert answer.needs_porting
    assert any("needs porting" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"accelerator_name": "A100-SXM-80GB", "devices": 4, "nodes": 2},
            "network of this machine is not known",
        ),
        ({"accelerator_name": "Inferentia2"}, "cannot train"),
        ({"accelerator_name": "A100-SXM-80GB", "devices": 3}, "cannot be shared evenly by 3 devices"),
        ({"accelerator_name": "A100-SXM-80GB", "devices": 512}, "cannot be shared evenly by 512 devices"),
        ({"accelerator_name": "A100-SXM-80GB", "devices": 2, "sharding": "none"}, "this run has 2"),
    ],
)
def test_a_fair_question_without_an_answer(arguments: dict[str, object], words: str) -> None:
    """The reason is in the error, and the exit code says 'cannot tell'."""
    with pytest.raises(CannotTellError, match=words) as caught:
        predict_machine(gpt_profile(), **arguments)  # type: ignore[arg-type]
    assert caught.value.exit_code == 3


def test_an_unknown_batch_is_only_predicted_as_profiled() -> None:
    """Without a batch size the step on as many devices is known, its throughput and another count are not."""
    job = gpt_profile(
        batch=BatchFacts(micro_batch_size=None, samples_per_step=None),
        parallel=ParallelFacts(strategy="ddp", devices=2),
    )
    answer = predict_machine(job, "A100-SXM-80GB", 2)
    assert answer.samples_per_s is None
    assert answer.tokens_per_s is None
    assert not math.isnan(answer.step_s.mid)
    with pytest.raises(CannotTellError, match="batch size is not known"):
        predict_machine(job, "A100-SXM-80GB", 4)


def test_an_unknown_accelerator_is_bad_input() -> None:
    """The message suggests near names and picks none."""
    with pytest.raises(UnknownNameError, match="H100-SXM-80GB") as caught:
        predict_machine(gpt_profile(), "H100-SXM-80G")
    assert caught.value.exit_code == 2


def test_json_is_stable_and_comes_back() -> None:
    """The same prediction gives the same bytes, and they validate."""
    first, second = (predict_machine(gpt_profile(), "A100-SXM-80GB").to_json() for _ in range(2))
    assert first == second
    assert MachinePrediction.model_validate_json(first).to_json() == first


def test_between_the_expected_figure_and_its_interval_a_job_may_not_fit() -> None:
    """The verdict follows the device's use: its upper end decides that it fits, its expected figure that it does not."""
    for gib, verdict in ((8, "fits"), (15, "may not fit"), (40, "does not fit")):
        job = profile(batch_size=1)
        memory = job.memory.model_copy(update={"saved_activation_bytes": int(gib * 0.72 * 2**30)})
        answer = predict_machine(job.model_copy(update={"memory": memory}), "T4-16GB")
        assert answer.verdict == verdict, answer.memory_bytes
        assert answer.fits == (verdict == "fits")
        assert (answer.missing_bytes > 0) == (verdict != "fits")


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    "job",
    [
        gpt_profile(batch_size=64),
        gpt_profile(batch_size=64).model_copy(
            update={"parallel": ParallelFacts(strategy="fsdp", accumulate_grad_batches=4)}
        ),
        gpt_profile(layers=32, width=4096, heads=32, sequence=2048, batch_size=8, checkpointing=True),
    ],
    ids=["ddp", "fsdp", "large"],
)
def test_it_takes_the_plan_that_a_ranking_takes(job: JobProfile, devices: int) -> None:
    """Of one machine with these devices, `rank` and `predict_machine` name one strategy, micro-batch and step."""
    machine = book(offer_row(instance_type="h100", accelerator="H100-SXM-80GB", accelerator_count=devices))
    options = rank(job, machine, Request(max_nodes=1)).options
    answer = predict_machine(job, "H100-SXM-80GB", devices)
    if not options:
        assert not answer.fits
        return
    (option,) = options
    assert (answer.strategy, answer.micro_batch, answer.accumulate) == (
        option.sharding,
        option.micro_batch_size,
        option.accumulate_grad_batches,
    )
    assert answer.step_s.mid == pytest.approx(option.step_s.mid, rel=1e-5)


def test_batch_norm_is_split_only_where_it_must_be_and_said() -> None:
    """128 samples under BatchNorm on 8 devices: DDP with 16 of each, and that a ranking asks before it does so."""
    job = profile(batch_size=128)
    job = job.model_copy(update={"batch": job.batch.model_copy(update={"batch_norm": True})})
    answer = predict_machine(job, "A100-SXM-80GB", 8)
    assert (answer.strategy, answer.micro_batch, answer.accumulate) == ("ddp", 16, 1)
    assert any("micro-batch 16 instead of 128: BatchNorm sees fewer" in note for note in answer.notes)
    whole = predict_machine(job, "A100-SXM-80GB")
    assert (whole.micro_batch, any("BatchNorm" in note for note in whole.notes)) == (128, False)


def test_micro_batch_and_accumulation_can_be_given() -> None:
    """Either gives the other; both must be the samples of a device."""
    job = gpt_profile(batch_size=64)
    for asked in ({"micro_batch": 4}, {"accumulate": 2}, {"micro_batch": 4, "accumulate": 2}):
        answer = predict_machine(job, "A100-SXM-80GB", 8, **asked)
        assert (answer.micro_batch, answer.accumulate) == (4, 2)
    for asked in (
        {"micro_batch": 3},
        {"micro_batch": 16},
        {"accumulate": 3},
        {"micro_batch": 4, "accumulate": 4},
    ):
        with pytest.raises(
            InputError, match="not a way to split the 8 samples that each of 8 has of a global"
        ):
            predict_machine(job, "A100-SXM-80GB", 8, **asked)
