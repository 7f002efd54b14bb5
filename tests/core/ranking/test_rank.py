"""What is ranked, in which order, under which constraints, and what is said about the rest."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timezone
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from builders.profiles import gpt_profile
from builders.toy_market import GIB, ToyPredictor, book, names_of, offer_row, small_job
from trainfare.lightning.plan_code import WRITER, format_plan
from trainfare_core.candidates import CandidateTable
from trainfare_core.clouds import service_startup_s
from trainfare_core.job_profile import (
    BatchFacts,
    BatchVariation,
    InputFacts,
    JobProfile,
    MeasuredStep,
    ParallelFacts,
    ProfileSource,
    Quantiles,
    RunPlan,
)
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.entries import front
from trainfare_core.ranking.pricing.chances import probability
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance, rank
from trainfare_core.recommendation import Constraints, Option, Recommendation
from trainfare_core.run_cost.disks import PLANNED_USD_PER_GIB_MONTH

SYSTEM_DISK_USD_PER_HOUR = 100 * 0.08 / 730
"""Of a machine of EC2 in us-east-1."""

A100, H100, T4, TPU = "A100-SXM-80GB", "H100-SXM-80GB", "T4-16GB", "TPU-v5e"
SPEEDS = {A100: 0.1, H100: 0.05, T4: 0.4, TPU: 0.02}

A100_ROW = offer_row()
H100_ROW = offer_row(instance_type="h100.1x", accelerator=H100, usd_per_hour=12.0)
T4_ROW = offer_row(instance_type="t4.1x", accelerator=T4, accelerator_memory_gib=16.0, usd_per_hour=0.5)
TPU_ROW = offer_row(
    provider="gcp",
    service="tpu",
    instance_type="v5e-1",
    accelerator=TPU,
    network_gbit_per_s=None,
    usd_per_hour=1.0,
)


class FasterSharded(ToyPredictor):
    """FSDP takes half the time of DDP."""

    def __call__(
        self, profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable
    ) -> PredictionTable:
        table = super().__call__(profile, shapes, candidates)
        return replace(table, step_s=table.step_s * np.where(candidates.sharding == 2, 0.5, 1.0))


def rank_rows(prices: PriceBook, **options: Any) -> Recommendation:
    """Rank the small job with toy speeds on one machine at a time by default."""
    job = options.pop("job", None) or small_job()
    notes = options.pop("notes", ())
    toy = options.pop("predict", ToyPredictor(seconds=SPEEDS))
    return rank(job, prices, Request(**{"max_nodes": 1, **options}), notes=notes, predict=toy)


def count_rejected(answer: Recommendation, reason: str) -> tuple[int, str]:
    rejections = [item for item in answer.rejections if item.reason == reason]
    return (rejections[0].count, rejections[0].detail) if rejections else (0, "")


def test_cost_is_time_times_price_times_count() -> None:
    """Dollars are hours x nodes x price to the cent, and the hours are start-up and steps."""
    option = rank_rows(book(A100_ROW)).options[0]
    hours = (36_000 * 0.1 + service_startup_s("ec2")) / 3600
    assert option.run_hours.mid == pytest.approx(hours)
    assert option.run_usd.mid == pytest.approx((4.0 + SYSTEM_DISK_USD_PER_HOUR) * hours, abs=0.005)
    assert option.usd_per_hour == 4.0


def test_several_machines_pay_for_each() -> None:
    """Two machines cost twice the price an hour and share the batch."""
    answer = rank_rows(book(A100_ROW), max_nodes=2)
    two = next(option for option in answer.options if option.nodes == 2)
    assert two.usd_per_hour == 8.0
    assert (two.micro_batch_size, two.accumulate_grad_batches, two.sharding) == (16, 1, "ddp")
    assert two.step_s.mid == pytest.approx(0.05)
    assert any("together" in note.text for note in two.notes)


def test_intervals_are_the_central_80_percent() -> None:
    """Low and high are the tenth and ninetieth percentile of the log-normal; throughput turns them round."""
    option = rank_rows(book(A100_ROW)).options[0]
    spread = math.exp(NormalDist().inv_cdf(0.9) * 0.2)
    assert option.step_s.low_80 == pytest.approx(0.1 / spread)
    assert option.step_s.high_80 == pytest.approx(0.1 * spread)
    assert option.samples_per_s is not None
    assert option.samples_per_s.mid == pytest.approx(320)
    assert option.samples_per_s.low_80 == pytest.approx(320 / spread)
    assert option.samples_per_s.high_80 == pytest.approx(320 * spread)


def test_cost_parts_add_up_to_the_cost() -> None:
    """Training, start-up, validation, checkpoints, interruptions and storage are all of it."""
    job = small_job(validation_batches=100, checkpoint_bytes=50 * GIB)
    spot = offer_row(purchase_option="spot", usd_per_hour=2.0)
    for option in rank_rows(book(A100_ROW, spot), job=job).options:
        parts = option.cost_parts.model_dump()
        assert sum(parts.values()) == pytest.approx(option.run_usd.mid, rel=1e-8)
        assert parts["storage_usd"] > 0
        assert (parts["interruption_usd"] > 0) == (option.purchase_option == "spot")


def test_cheapest_and_fastest_come_first() -> None:
    """The objective decides the order; both ranks are named under either."""
    prices = book(A100_ROW, H100_ROW, T4_ROW)
    cheap, fast = rank_rows(prices), rank_rows(prices, objective="fastest")
    assert [option.accelerator for option in cheap.options] == [T4, A100, H100]
    assert [option.accelerator for option in fast.options] == [H100, A100, T4]
    assert (cheap.cheapest_rank, cheap.fastest_rank) == (1, 3)
    assert (fast.cheapest_rank, fast.fastest_rank) == (3, 1)
    assert [option.rank for option in cheap.options] == [1, 2, 3]


@pytest.mark.parametrize(("log_sigma", "fastest"), [(0.0, H100), (0.3, A100)])
def test_the_fastest_is_the_cheapest_of_those_whose_times_tie(log_sigma: float, fastest: str) -> None:
    """A tenth faster within wide intervals is no reason to pay more; without an interval it is."""
    predict = ToyPredictor({H100: 0.09, A100: 0.1, T4: 2.0}, log_sigma=log_sigma)
    answer = rank_rows(book(A100_ROW, H100_ROW, T4_ROW), predict=predict)
    assert answer.options[(answer.fastest_rank or 0) - 1].accelerator == fastest


def test_what_needs_porting_is_marked_and_never_called_best() -> None:
    """A TPU that is cheapest and fastest is listed with its mark, below the GPUs; the ranks name those."""
    answer = rank_rows(book(A100_ROW, H100_ROW, TPU_ROW))
    assert [option.needs_porting for option in answer.options] == [False, False, True]
    ported = answer.options[-1]
    assert ported.accelerator == TPU
    assert ported.run_usd.mid < min(option.run_usd.mid for option in answer.options[:-1])
    assert any("torch_xla" in note.text for note in ported.notes)
    one = rank_rows(book(A100_ROW, H100_ROW, TPU_ROW), limit=1)
    assert one.options[0] == answer.options[0]
    refused = rank_rows(book(TPU_ROW), constraints=Constraints(no_porting=True))
    assert (refused.unknown_because or "").endswith("; leave out --no-porting to rank these")
    assert answer.options[(answer.cheapest_rank or 0) - 1].accelerator == A100
    assert answer.options[(answer.fastest_rank or 0) - 1].accelerator == H100
    alone = rank_rows(book(TPU_ROW))
    assert (alone.cheapest_rank, alone.fastest_rank, len(alone.options)) == (None, None, 1)


def test_the_script_s_plan_is_kept_where_it_fits_and_a_faster_one_is_named() -> None:
    """FSDP would be faster by a half here; it is priced only with leave."""
    prices = book(offer_row(accelerator_count=4.0))
    job = small_job(parallel=ParallelFacts(strategy="ddp_spawn", accumulate_grad_batches=1))
    option = rank_rows(prices, job=job, predict=FasterSharded(seconds=SPEEDS), writer=WRITER).options[0]
    assert (option.sharding, option.micro_batch_size, option.plan_changes) == (
        "ddp",
        8,
        ("micro-batch 8 instead of 32",),
    )
    assert option.trainer is not None
    assert option.trainer.batch_size == 8
    assert format_plan(option.trainer) == (
        "Trainer(devices=4, num_nodes=1, strategy='ddp_spawn', precision='bf16-mixed', accumulate_grad_batches=1)"
    )
    assert any("FSDP, micro-batch 8 would take 50 % less time a step" in note.text for note in option.notes)
    free = rank_rows(
        prices, job=job, predict=FasterSharded(seconds=SPEEDS), constraints=Constraints(allow=("plan",))
    ).options[0]
    assert (free.sharding, free.step_s.mid) == ("fsdp", pytest.approx(option.step_s.mid / 2))
    assert free.plan_changes == ("FSDP instead of DDP", "micro-batch 8 instead of 32")
    assert not any("--allow plan" in note.text for note in free.notes)


def test_a_plan_is_changed_where_the_script_s_own_does_not_fit() -> None:
    """The micro-batch is halved until it fits; with --keep-plan the machine is not ranked."""
    toy = ToyPredictor(seconds=SPEEDS, activation_gib=40.0, capacity_gib={A100: 30.0})
    option = rank_rows(book(A100_ROW), predict=toy).options[0]
    assert (option.micro_batch_size, option.accumulate_grad_batches) == (16, 2)
    assert option.plan_changes == ("micro-batch 16 instead of 32",)
    recommendation = rank_rows(book(A100_ROW), predict=toy, constraints=Constraints(keep_plan=True))
    assert (len(recommendation.options), count_rejected(recommendation, "does_not_fit")[0]) == (0, 1)


def test_memory_that_fits_by_its_median_alone_may_not_fit() -> None:
    """Two verdicts with their figures: the upper end of the interval decides what is ranked."""
    tight = ToyPredictor(seconds=SPEEDS, activation_gib=0.0, fixed_gib=36.0, memory_log_sigma=0.2)
    for capacity_gib, reason in ((40.0, "may_not_fit"), (35.0, "does_not_fit")):
        answer = rank_rows(book(A100_ROW), predict=replace(tight, capacity_gib={A100: capacity_gib}))
        count, detail = count_rejected(answer, reason)
        assert (len(answer.options), count, f"has {capacity_gib}" in detail, "36.0" in detail) == (
            0,
            1,
            True,
            True,
        )
        assert ("up to 46.5 (80 % interval)" in detail) == (reason == "may_not_fit")
    assert rank_rows(book(A100_ROW), predict=replace(tight, capacity_gib={A100: 47.0})).options


def test_runs_of_more_than_sixty_days_are_not_ranked_unless_asked_for() -> None:
    """1,500 hours are over the limit of 1,440, and the count says so."""
    job = small_job(steps=54_000_000)
    answer = rank_rows(book(A100_ROW), job=job)
    assert not answer.options
    assert "1,500 h, over --max-hours 1440" in count_rejected(answer, "too_long")[1]
    assert rank_rows(book(A100_ROW), job=job, constraints=Constraints(max_run_hours=1_600)).options


def test_an_input_pipeline_that_was_not_measured_is_unknown_and_its_load_is_stated() -> None:
    """32 pictures in 0.1 s from 2 vCPUs are 160 a second each: more than a core decodes. Of numbers nothing is said."""
    few = offer_row(instance_type="few", vcpus=2.0)
    none = offer_row(instance_type="none", vcpus=None, usd_per_hour=5.0)
    rows = book(few, offer_row(vcpus=16.0, usd_per_hour=4.5), none)
    facts = BatchFacts(micro_batch_size=32, samples_per_step=32, input=InputFacts(kind="pictures"))
    answer = rank_rows(rows, job=small_job(batch=32).model_copy(update={"batch": facts}))
    assert not any("each vCPU must" in note.text for each in rank_rows(rows).options for note in each.notes)
    assert answer.job.input_known is False
    rates = [option.loader_samples_per_s_per_vcpu for option in answer.options]
    assert rates == [pytest.approx(160), pytest.approx(20), None]
    noted = [any("each vCPU must load" in note.text for note in option.notes) for option in answer.options]
    assert noted == [True, False, False]


def test_a_stated_input_pipeline_is_timed() -> None:
    """At 20 samples a second on each of 2 vCPUs, 32 samples take 0.8 s, whatever the device does."""
    job = gpt_profile(batch_size=32)
    batch = job.batch.model_copy(update={"loader_samples_per_s_per_vcpu": 20.0})
    stated = job.model_copy(update={"batch": batch})
    request = Request(max_nodes=1)
    option = rank(stated, book(offer_row(vcpus=2.0)), request).options[0]
    assert option.step_s.mid == pytest.approx(0.8)
    assert option.bound_by == "input"
    assert rank(stated, book(offer_row(vcpus=2.0)), request).job.input_known is True
    assert not any("each vCPU must load" in note.text for note in option.notes)
    assert rank(job, book(offer_row(vcpus=2.0)), request).options[0].step_s.mid < 0.8


def test_no_porting_leaves_out_what_does_not_run_the_script_and_counts_it() -> None:
    """Only the GPU is left, and the rejection says what the TPU would need."""
    answer = rank_rows(book(A100_ROW, TPU_ROW), constraints=Constraints(no_porting=True))
    assert [option.accelerator for option in answer.options] == [A100]
    count, detail = count_rejected(answer, "needs_porting")
    assert (count, "torch_xla" in detail) == (1, True)
    nothing = rank_rows(book(TPU_ROW), constraints=Constraints(no_porting=True))
    assert "needs porting" in (nothing.unknown_because or "")


def test_a_gpu_that_no_wheel_supports_is_not_ranked() -> None:
    """A K80 is the cheapest by far, and PyTorch 2.13 has no kernels for it."""
    k80 = offer_row(instance_type="k80.1x", accelerator="K80-12GB", usd_per_hour=0.01)
    source = ProfileSource(how="fake", tool_version="0", torch_version="2.13.0")
    answer = rank_rows(book(A100_ROW, k80), job=small_job(source=source))
    assert [option.accelerator for option in answer.options] == [A100]
    assert "no wheel of PyTorch 2.13" in count_rejected(answer, "cannot_train")[1]
    assert "K80-12GB" in {option.accelerator for option in rank_rows(book(A100_ROW, k80)).options}


@pytest.mark.parametrize(
    "asked",
    [
        Constraints(services=("ec2",)),
        Constraints(instance_types=("a100.1x",)),
        Constraints(accelerators=(A100,)),
        Constraints(excluded=("tpu", "h100.1x")),
    ],
)
def test_each_filter_leaves_the_machine_asked_for(asked: Constraints) -> None:
    """What a filter leaves out is counted, with the filter in words."""
    rows = (A100_ROW, TPU_ROW, offer_row(instance_type="h100.1x", service="sagemaker", accelerator=H100))
    answer = rank_rows(book(*rows), constraints=asked)
    assert [option.accelerator for option in answer.options] == [A100]
    names = [
        *(asked.services or ()),
        *(asked.instance_types or ()),
        *(asked.accelerators or ()),
        *asked.excluded,
    ]
    count, detail = count_rejected(answer, "filtered")
    assert (count, all(name in detail for name in names)) == (2, True)


def test_porting_does_not_push_drop_ins_off_the_front() -> None:
    """GPUs stand on the front of the GPUs; a TPU must hold against all."""
    answer = rank_rows(book(A100_ROW, H100_ROW, T4_ROW, TPU_ROW))
    assert all(option.on_front for option in answer.options)
    slow = rank_rows(book(A100_ROW, TPU_ROW), predict=ToyPredictor(seconds={A100: 0.01, TPU: 1.0}))
    assert [(option.accelerator, option.on_front) for option in slow.options] == [(A100, True), (TPU, False)]


def test_a_machine_that_does_not_fit_is_not_ranked_and_says_by_how_much() -> None:
    """A job of 5 GiB a device at the least does not fit in 4.5, and the nearest miss is named."""
    toy = ToyPredictor(seconds=SPEEDS, fixed_gib=5.0, activation_gib=0.0, capacity_gib={T4: 4.5, A100: 2.0})
    answer = rank_rows(book(A100_ROW, T4_ROW, H100_ROW), predict=toy)
    assert [option.accelerator for option in answer.options] == [H100]
    count, detail = count_rejected(answer, "does_not_fit")
    assert count == 2
    assert detail == "T4-16GB: needs 5.0 GiB a device, has 4.5, misses by 0.5 GiB"


def test_a_smaller_micro_batch_is_found_where_the_whole_does_not_fit() -> None:
    """The share is split until it fits, and the option says how."""
    toy = ToyPredictor(fixed_gib=1.0, activation_gib=8.0, capacity_gib={A100: 3.5})
    option = rank_rows(book(A100_ROW), predict=toy).options[0]
    assert (option.micro_batch_size, option.accumulate_grad_batches) == (8, 4)
    assert option.memory_gib.mid == pytest.approx(3.0)


def test_the_fastest_plan_that_fits_is_taken() -> None:
    """FSDP is taken where DDP does not fit, DDP where both do and take the same time."""
    pair = offer_row(instance_type="a100.2x", accelerator_count=2.0)
    roomy = rank_rows(book(pair)).options[0]
    tight = rank_rows(book(pair), predict=ToyPredictor(fixed_gib=10.0, capacity_gib={A100: 6.0})).options[0]
    assert (roomy.sharding, tight.sharding) == ("ddp", "fsdp")


def test_unknown_hardware_has_no_prediction_and_no_neighbours_figure() -> None:
    """Unknown accelerators, those that cannot train, shares of devices and failed predictions have different reasons."""
    answer = rank_rows(
        book(
            offer_row(instance_type="x", accelerator="Nonesuch-9000"),
            offer_row(instance_type="y", accelerator="Inferentia2"),
            offer_row(instance_type="z", accelerator="A10-24GB", accelerator_count=0.5),
            H100_ROW,
        ),
        predict=ToyPredictor(unknown={H100: "no calibration"}),
    )
    assert answer.options == ()
    assert count_rejected(answer, "unknown_accelerator") == (1, "Nonesuch-9000")
    assert count_rejected(answer, "cannot_train") == (1, "Inferentia2")
    count, detail = count_rejected(answer, "no_prediction")
    assert count == 2
    assert "A10-24GB: a share of a device" in detail
    assert "no calibration" in detail
    assert answer.unknown_because is not None
    assert "Nonesuch-9000" in answer.unknown_because


def test_spot_is_refused_without_checkpoints() -> None:
    """A run that saves nothing gets no spot machine, and the reason names the setting."""
    spot = offer_row(purchase_option="spot", usd_per_hour=1.0)
    constraints = Constraints(purchase=("on_demand", "spot"))
    answer = rank_rows(book(A100_ROW, spot), job=small_job(every=None), constraints=constraints)
    assert [option.purchase_option for option in answer.options] == ["on_demand"]
    count, detail = count_rejected(answer, "filtered")
    assert count == 1
    assert "saves no checkpoints" in detail
    assert "ModelCheckpoint(every_n_train_steps=3000) allows spot" in detail
    assert len(rank_rows(book(A100_ROW, spot), constraints=constraints).options) == 2


def test_a_short_job_is_told_to_save_before_it_ends() -> None:
    """An interval that is longer than the run saves nothing: half the run is the longest advice."""
    spot = offer_row(purchase_option="spot", usd_per_hour=1.0)
    answer = rank_rows(book(A100_ROW, spot), job=small_job(steps=500, every=None), constraints=Constraints())
    assert answer.no_spot_because is not None
    assert "ModelCheckpoint(every_n_train_steps=250) allows spot" in answer.no_spot_because
    answer = rank_rows(book(A100_ROW, spot), job=small_job(steps=514, every=None), constraints=Constraints())
    assert "ModelCheckpoint(every_n_train_steps=250) allows spot" in (answer.no_spot_because or "")


def test_a_job_of_two_days_without_checkpoints_says_what_spot_would_take() -> None:
    """48.5 h of work that saves nothing: the answer says why no spot machine is offered, the hours, and the callback."""
    spot = offer_row(purchase_option="spot", usd_per_hour=1.0)
    job = small_job(steps=1_746_000, every=None)
    certain = ToyPredictor(seconds=SPEEDS, log_sigma=0.0)
    answer = rank_rows(book(A100_ROW, spot), job=job, constraints=Constraints(), predict=certain)
    assert answer.best_spot is None
    assert answer.no_spot_because is not None
    assert "saves no checkpoints" in answer.no_spot_because
    assert "48.6 h of work would take 321 h on average" in answer.no_spot_because
    assert "ModelCheckpoint(every_n_train_steps=3000) allows spot" in answer.no_spot_because
    saves = rank_rows(
        book(A100_ROW, spot), job=small_job(steps=1_746_000, every=3_000), constraints=Constraints()
    )
    assert saves.no_spot_because is None
    assert saves.best_spot is not None


def test_a_spot_run_changes_to_the_price_on_demand_of_its_region() -> None:
    """The outlook's fallback is priced with the same machine on demand; without such a price there is none."""
    spot = offer_row(purchase_option="spot", usd_per_hour=1.0)
    constraints = Constraints(purchase=("spot",), deadline_hours=130.0, confidence=0.6)
    job = small_job(steps=3_600_000, checkpoint_bytes=10**9)
    (option,) = rank_rows(book(A100_ROW, spot), job=job, constraints=constraints).options
    assert option.spot is not None
    back = option.spot.fallback
    assert back is not None
    assert back.after == 3
    assert option.run_usd.mid < back.run_usd < 4 * option.run_usd.mid
    assert back.p90_hours <= option.spot.p90_hours
    assert option.spot.p50_hours < option.spot.p90_hours
    assert option.spot.chance_in_time is not None
    assert back.chance_in_time is not None
    assert 0 < option.spot.chance_in_time <= back.chance_in_time < 1
    far = offer_row(region="eu-west-1")
    (alone,) = rank_rows(book(far, spot), job=job, constraints=constraints).options
    assert alone.spot is not None
    assert alone.spot.fallback is None


def test_a_spot_machine_is_interrupted_as_often_as_in_its_region() -> None:
    """Of one machine in two regions with bands far apart the calmer is ranked, though the other is a little cheaper."""
    calm = offer_row(purchase_option="spot", usd_per_hour=1.0, instance_type="g5.xlarge", region="eu-north-1")
    often = {**calm, "usd_per_hour": 0.999, "region": "us-east-1"}
    constraints = Constraints(purchase=("spot",), run_cost=CostAssumptions(system_disk_gib=0.0))
    job = small_job(steps=36_000_000, every=30_000, checkpoint_bytes=10**9)
    (option,) = rank_rows(book(calm, often), job=job, constraints=constraints).options
    assert option.region == "eu-north-1"
    assert option.spot is not None
    assert option.spot.rate_source == "5-10% a month"


def test_reserved_prices_are_ranked_only_when_asked_for() -> None:
    """The default is on demand; what is left out is counted. A term is ranked only with a stated use."""
    reserved = offer_row(purchase_option="reserved_1y", usd_per_hour=1.0)
    prices = book(A100_ROW, reserved)
    answer = rank_rows(prices)
    assert [option.purchase_option for option in answer.options] == ["on_demand"]
    assert count_rejected(answer, "filtered")[0] == 1
    recommendation = rank_rows(prices, constraints=Constraints(purchase=("reserved_1y",), use=1.0))
    assert [option.purchase_option for option in recommendation.options] == ["reserved_1y"]


def test_filters_keep_only_what_was_named() -> None:
    """Providers and regions filter, and the filter is named in the answer."""
    there = offer_row(region="eu-west-1", usd_per_hour=3.0)
    answer = rank_rows(
        book(A100_ROW, there, TPU_ROW), constraints=Constraints(providers=("aws",), regions=("eu-west-1",))
    )
    assert names_of(answer.options) == ["1xaws:a100.1x@eu-west-1/on_demand"]
    count, detail = count_rejected(answer, "filtered")
    assert count == 2
    assert "eu-west-1" in detail
    assert "aws" in detail


def test_a_budget_is_kept_with_the_asked_confidence() -> None:
    """The limit at the 90th percentile of the cost, disk included, is feasible; a cent less is not."""
    job = small_job(checkpoint_bytes=10_000 * GIB, every=None)
    option = rank_rows(book(A100_ROW), job=job, max_nodes=1).options[0]
    assert option.cost_parts.storage_usd > 0.1
    for slack, feasible in ((0.01, True), (-0.01, False)):
        limit = option.run_usd.high_80 + slack
        answer = rank_rows(book(A100_ROW), job=job, constraints=Constraints(max_usd=limit))
        assert bool(answer.options) == feasible
    count, detail = count_rejected(answer, "over_budget")
    assert count == 1
    assert "over the budget" in detail
    assert "0.01 over" in detail


def test_a_near_miss_that_needs_porting_says_so() -> None:
    """The flag below admits another machine, which runs the script as it is."""
    answer = rank_rows(book(A100_ROW, TPU_ROW), constraints=Constraints(max_usd=0.01))
    assert "(on_demand, needs porting)" in count_rejected(answer, "over_budget")[1]


def test_a_deadline_is_kept_with_the_asked_confidence() -> None:
    """As for the budget, in hours; what is late is late whatever it costs."""
    option = rank_rows(book(A100_ROW)).options[0]
    high = option.run_hours.high_80
    assert rank_rows(book(A100_ROW), constraints=Constraints(deadline_hours=high * 1.001)).options
    answer = rank_rows(book(A100_ROW), constraints=Constraints(deadline_hours=high * 0.999, max_usd=0.0))
    assert count_rejected(answer, "past_deadline")[0] == 1
    assert count_rejected(answer, "over_budget")[0] == 0
    assert "past the deadline" in count_rejected(answer, "past_deadline")[1]


def test_less_confidence_accepts_more() -> None:
    """At even odds the median decides."""
    middle = rank_rows(book(A100_ROW)).options[0].run_usd.mid
    limits = Constraints(max_usd=middle * 1.01, confidence=0.5)
    assert rank_rows(book(A100_ROW), constraints=limits).options
    assert not rank_rows(book(A100_ROW), constraints=limits.model_copy(update={"confidence": 0.9})).options


def test_probability_within_is_the_joint_chance() -> None:
    """The tighter of both limits decides, and there is no chance without a limit."""
    free = rank_rows(book(A100_ROW)).options[0]
    assert free.probability_within is None
    hours, usd = free.run_hours, free.run_usd
    limits = Constraints(max_usd=usd.high_80 * 2, deadline_hours=hours.high_80, confidence=0.5)
    option = rank_rows(book(A100_ROW), constraints=limits).options[0]
    assert option.probability_within == pytest.approx(0.9)


def test_the_nearest_miss_of_a_budget_is_an_offer_it_refuses() -> None:
    """Where one region is affordable and another is not, the rejection names the expensive one."""
    expensive = offer_row(region="sa-east-1", usd_per_hour=40.0)
    answer = rank_rows(book(A100_ROW, expensive), constraints=Constraints(max_usd=10.0))
    count, detail = count_rejected(answer, "over_budget")
    assert count == 1
    log_sigma = math.hypot(
        0.2 * 3600 / 3840, 0.5 * 240 / 3840
    )  # of the step and of the start-up, each by its share
    sure = (
        (3_600 * math.exp(NormalDist().inv_cdf(0.9) * log_sigma) * 3840 / 3600)
        / 3600
        * (40 + 100 * PLANNED_USD_PER_GIB_MONTH / 730)
    )
    assert f"{sure:,.2f} USD" in detail
    assert len(answer.options) == 1


def test_offers_are_ranked_or_counted_once() -> None:
    """Ranked offers and rejections add up to the book."""
    prices = book(
        A100_ROW,
        H100_ROW,
        T4_ROW,
        TPU_ROW,
        offer_row(region="eu-west-1", usd_per_hour=400.0),
        offer_row(purchase_option="spot"),
        offer_row(purchase_option="reserved_3y"),
        offer_row(instance_type="x", accelerator="Nonesuch-9000"),
        offer_row(instance_type="y", accelerator="Inferentia2"),
    )
    answer = rank_rows(
        prices,
        job=small_job(every=None),
        constraints=Constraints(max_usd=50.0, deadline_hours=3.0),
        all_regions=True,
    )
    assert sum(item.count for item in answer.rejections) + answer.options_total == len(prices)
    types = {
        (row["provider"], row["service"], row["instance_type"]) for row in prices.frame.iter_rows(named=True)
    }
    listed = {(option.provider, option.service, option.instance_type) for option in answer.options}
    assert sum(item.machines or 0 for item in answer.rejections) == len(types - listed)
    assert answer.options_total == len(answer.options) == 3


def test_a_machine_is_listed_once_at_its_cheapest_region() -> None:
    """Forty regions of one machine are one line; --all-regions lists them; the total counts them all either way."""
    rows = [offer_row(region=f"r-{i:02}", usd_per_hour=4.0 + (i * 7 % 40) / 100) for i in range(40)]
    once, every = rank_rows(book(*rows)), rank_rows(book(*rows), all_regions=True, limit=100)
    assert names_of(once.options) == ["1xaws:a100.1x@r-00/on_demand"]
    assert len(every.options) == once.options_total == every.options_total == 40
    prices = [option.usd_per_hour for option in every.options]
    assert prices == sorted(prices)


def test_equal_regions_are_decided_by_name() -> None:
    """Where the price is the same, the first region by name is shown, and all of them are on the front."""
    rows = [offer_row(region=region) for region in ("us-west-2", "ap-south-1", "eu-west-1")]
    assert rank_rows(book(*rows)).options[0].region == "ap-south-1"
    every = rank_rows(book(*rows), all_regions=True)
    assert [option.region for option in every.options] == ["ap-south-1", "eu-west-1", "us-west-2"]
    assert all(option.on_front for option in every.options)


def test_equal_dollars_and_hours_put_the_drop_in_first() -> None:
    """A TPU that ties in both comes after the GPU, though its names sort before."""
    compile_s = 300
    tie = offer_row(provider="aa", instance_type="aa", accelerator=TPU, network_gbit_per_s=None)
    toy = ToyPredictor(seconds={A100: 0.1, TPU: (3_600 - compile_s) / 36_000})
    answer = rank_rows(book(A100_ROW, tie), predict=toy)
    assert answer.options[0].run_hours.mid == answer.options[1].run_hours.mid
    assert [option.needs_porting for option in answer.options] == [False, True]


def test_the_last_bits_of_a_prediction_decide_nothing() -> None:
    """Times that differ by rounding noise are a tie, which the cheaper machine wins."""
    toy = ToyPredictor(seconds={A100: 0.1, H100: 0.1 * (1 + 1e-13)})
    prices = book(A100_ROW, offer_row(instance_type="h", accelerator=H100, usd_per_hour=3.0))
    assert rank_rows(prices, predict=toy, objective="fastest").options[0].accelerator == H100


def test_the_list_is_cut_but_never_the_front_nor_a_cloud() -> None:
    """Besides the first `limit` there are the front and the first of every cloud service and purchase option."""
    rows = [offer_row(instance_type=f"a.{i}", usd_per_hour=4.0 + i / 10) for i in range(20)]
    expensive = offer_row(provider="azure", service="azure_vm", instance_type="n.1", usd_per_hour=50.0)
    answer = rank_rows(book(*rows, H100_ROW, expensive), limit=3)
    assert [option.instance_type for option in answer.options] == ["a.0", "a.1", "a.2", "h100.1x", "n.1"]
    assert answer.options_total == 22
    assert [option.on_front for option in answer.options] == [True, False, False, True, False]


def predict_sure_a100(profile: JobProfile, shapes: MachineShapes, plans: CandidateTable) -> PredictionTable:
    """Predict a slow A100, of which all is known, and a fast H100."""
    table = ToyPredictor({A100: 0.15, H100: 0.1})(profile, shapes, plans)
    return replace(table, log_sigma=np.where(shapes.accelerator[plans.shape] == A100, 0.01, 0.2))


@pytest.mark.parametrize(("deviations", "on_front"), [(2.6, True), (3.4, False)])
def test_chances_are_compared_to_a_thousandth(deviations: float, on_front: bool) -> None:
    """A slower machine that costs more is on the front for a budget kept with 1 for 0.997, and not with 1 for 0.9998."""
    prices = book(A100_ROW, {**H100_ROW, "usd_per_hour": 4.0})
    (best, *_) = rank_rows(prices, predict=predict_sure_a100).options
    budget = best.run_usd.mid * math.exp(0.2 * deviations)
    answer = rank_rows(prices, predict=predict_sure_a100, constraints=Constraints(max_usd=budget))
    assert [(option.accelerator, option.on_front) for option in answer.options] == [
        (H100, True),
        (A100, on_front),
    ]


def test_a_run_of_unknown_length_is_priced_per_thousand_steps() -> None:
    """Its budget cannot be applied, and that is said."""
    answer = rank_rows(book(A100_ROW), job=small_job(steps=None), constraints=Constraints(max_usd=0.0))
    option = answer.options[0]
    assert answer.basis == "per_1000_steps"
    assert option.run_usd.mid == pytest.approx(1_000 * 0.1 / 3600 * (4.0 + SYSTEM_DISK_USD_PER_HOUR))
    assert option.probability_within is None
    assert any("could not be applied" in line for line in answer.assumptions)
    assert any("the data has no length" in line for line in answer.assumptions)


def test_no_offers_is_an_answer_too() -> None:
    """An empty book has no options and says so."""
    answer = rank_rows(PriceBook.empty())
    assert (answer.options, answer.options_total, answer.cheapest_rank) == ((), 0, None)
    assert answer.unknown_because == "the price book has no offers"


def test_prices_carry_their_doubts_as_notes() -> None:
    """Old, estimated, converted and caveated prices are pointed out on the option."""
    old = offer_row(observed_on="2022-03", observed_on_estimated=True, caveat="list price", currency="EUR")
    new = offer_row(instance_type="b", usd_per_hour=9.0)
    notes = " | ".join(note.text for note in rank_rows(book(old, new)).options[0].notes)
    for words in ("old price: of 2022-03", "estimate", "price: list price", "converted from EUR"):
        assert words in notes
    assert rank_rows(book(old, new)).options[1].notes == ()


def test_max_time_is_pointed_out_where_it_stops_the_run() -> None:
    """A Trainer that stops after half an hour does not finish an hour of steps."""
    plan = RunPlan(optimizer_steps=36_000, checkpoint_every_n_steps=100, max_time_s=1_800)
    answer = rank_rows(book(A100_ROW), job=small_job(plan=plan))
    assert any("max_time of 30 min" in note.text for note in answer.options[0].notes)
    long = plan.model_copy(update={"max_time_s": 36_000.0})
    assert rank_rows(book(A100_ROW), job=small_job(plan=long)).options[0].notes == ()


def test_spot_says_how_often_it_is_interrupted_and_how_to_save() -> None:
    """A run that saves far too rarely gets a better interval as advice."""
    spot = offer_row(purchase_option="spot")
    job = small_job(steps=3_600_000, every=100_000, checkpoint_bytes=10**9)
    option = rank_rows(book(spot), job=job, constraints=Constraints(purchase=("spot",))).options[0]
    assert "interruptions expected over the middle 80 % of rates" in option.notes[0].text
    assert option.spot is not None
    advice = f"ModelCheckpoint(every_n_train_steps={option.spot.save_every_n_steps}) would lose least"
    assert advice in option.notes[1].text
    assert "every 100,000 steps" in option.notes[1].text


def test_a_band_of_interruptions_ages_with_the_day_of_the_answer() -> None:
    """The 10 to 15 % that AWS showed for p4d in 2025-06 are a range of three bands at the end of 2026."""
    spot = offer_row(purchase_option="spot", instance_type="p4d.24xlarge", observed_on="2026-12-01")
    rates = []
    for as_of in (None, datetime(2026, 12, 1, 12, tzinfo=timezone.utc)):
        answer = rank_rows(book(spot), as_of=as_of, constraints=Constraints(purchase=("spot",)))
        assert answer.options[0].spot is not None
        rates.append(answer.options[0].spot.rate_source)
    assert rates == ["10-15% a month", "5-10% to 15-20% a month in other regions or years"]


def test_an_unknown_batch_gives_no_throughput() -> None:
    """Without a batch size there are hours and dollars on the same number of devices, and no samples a second."""
    job = small_job().model_copy(update={"batch": BatchFacts(micro_batch_size=None, samples_per_step=None)})
    option = rank_rows(book(A100_ROW), job=job).options[0]
    assert option.samples_per_s is None
    assert option.micro_batch_size is None


def test_the_summary_names_the_job_and_where_it_was_measured() -> None:
    """Name, sizes and the measured device come from the profile."""
    time = Quantiles(median_s=0.3, p10_s=0.2, p90_s=0.4)
    measured = MeasuredStep(device_name="NVIDIA RTX A4000", device_kind="cuda", steps=5, step=time)
    answer = rank_rows(
        book(A100_ROW), job=small_job(measured=measured, notes=("one thing",)), notes=("another",)
    )
    assert (answer.job.name, answer.job.global_batch_size, answer.job.optimizer_steps) == (
        "small",
        32,
        36_000,
    )
    assert (answer.job.measured_on, answer.job.measured_step_s) == ("NVIDIA RTX A4000", 0.3)
    assert "profile: one thing" in answer.assumptions
    assert answer.assumptions[-1] == "another"
    assert answer.job.batch_flops is None


def test_the_summary_says_how_far_batches_vary() -> None:
    """The smallest and largest work of a step and device, where the batches differ."""
    variation = BatchVariation(batches=9, smallest_flops=10**12, largest_flops=3 * 10**12, work_log_sigma=0.1)
    batch = BatchFacts(micro_batch_size=32, samples_per_step=32, variation=variation)
    answer = rank_rows(book(A100_ROW), job=small_job().model_copy(update={"batch": batch}))
    assert answer.job.batch_flops == (10**12, 3 * 10**12)


def test_the_assumptions_say_whether_the_plan_may_be_changed() -> None:
    """With `keep_plan` the script's strategy and micro-batch are kept, else where they fit."""
    said = [
        next(
            line
            for line in rank_rows(book(A100_ROW), constraints=Constraints(keep_plan=keep)).assumptions
            if "own strategy" in line
        )
        for keep in (False, True)
    ]
    assert "micro-batch are kept where they fit, and what is changed is named" in said[0]
    assert "micro-batch are kept;" in said[1]


@pytest.mark.parametrize(
    ("limit", "median", "log_sigma", "chance"),
    [
        (1.0, 1.0, 0.3, 0.5),
        (math.e, 1.0, 1.0, NormalDist().cdf(1.0)),
        (0.0, 1.0, 0.3, 0.0),
        (math.inf, 1.0, 0.3, 1.0),
        (1.0, 1.0, 0.0, 1.0),
        (0.99, 1.0, 0.0, 0.0),
        (0.1, 0.0, 0.3, 1.0),
    ],
)
def test_probability_of_a_log_normal(limit: float, median: float, log_sigma: float, chance: float) -> None:
    """Median, one sigma, and the edges: no limit, no time, no uncertainty."""
    assert probability(limit, median, log_sigma) == pytest.approx(chance)


def test_front_of_hand_made_points() -> None:
    """Dominated points are off, equal points stand together, the same hours keep only the cheapest."""
    usd = np.array([1.0, 2.0, 3.0, 1.0, 2.5, 5.0, 0.5, 1.0])
    hours = np.array([9.0, 5.0, 5.0, 9.0, 6.0, 1.0, 10.0, 9.5])
    assert front(usd, hours).tolist() == [True, True, False, True, False, True, True, False]
    assert front(np.zeros(0), np.zeros(0)).tolist() == []


def best(prices: PriceBook, job: Any = None, **limits: Any) -> Option | None:
    toy = ToyPredictor(seconds=SPEEDS)
    option = best_chance(job or small_job(), prices, Request(Constraints(**limits), max_nodes=1), predict=toy)
    return None if isinstance(option, str) else option


def test_the_best_chance_is_a_drop_in() -> None:
    """A TPU that would keep the limits does not make a CUDA script keep them."""
    option = best(book(A100_ROW, H100_ROW, TPU_ROW), deadline_hours=0.1)
    assert option is not None
    assert option.accelerator == H100
    assert option.probability_within == pytest.approx(0.0, abs=1e-6)


def test_a_measured_machine_that_keeps_the_limits_comes_before_a_guess() -> None:
    """A cheaper machine whose time is a guess is chosen only where no measured one keeps the limits."""
    toy, prices = ToyPredictor(seconds=SPEEDS, guesses=(A100,)), book(A100_ROW, H100_ROW)
    options = [
        best_chance(small_job(), prices, Request(Constraints(max_usd=usd), max_nodes=1), predict=toy)
        for usd in (1e6, 5.0)
    ]
    assert [option if isinstance(option, str) else option.accelerator for option in options] == [H100, A100]
    kept, guess = (option for option in options if not isinstance(option, str))
    assert (kept.guess_because, guess.guess_because[:30]) == ("", "nothing like it was measured: ")
    assert guess.notes[0].text == f"a guess: {guess.guess_because}"


def test_sure_enough_is_enough() -> None:
    """A more expensive machine with an even better chance is not preferred to the cheapest that is sure enough."""
    deadline = 1.5
    option, sure = (
        best(book(A100_ROW, H100_ROW), deadline_hours=deadline),
        best(book(H100_ROW), deadline_hours=deadline),
    )
    assert option is not None
    assert sure is not None
    assert option.accelerator == A100
    assert 0.9 <= (option.probability_within or 0.0) < (sure.probability_within or 0.0)


def test_equal_chances_go_to_the_cheaper_one() -> None:
    """With room to spare all chances are one, and the cheapest region of the cheapest machine is named."""
    option = best(book(H100_ROW, A100_ROW, offer_row(region="eu-west-1", usd_per_hour=3.0)), max_usd=1e6)
    assert option is not None
    assert (option.machine, option.probability_within) == ("aws:a100.1x@eu-west-1", 1.0)


def test_no_chance_is_named_where_nothing_can_be_priced() -> None:
    """Unknown length, nothing that fits, and only machines that need porting each say why."""
    toy = ToyPredictor(fixed_gib=1_000.0)
    limits = Request(Constraints(max_usd=1.0))
    length = best_chance(small_job(steps=None), book(A100_ROW), limits, predict=toy)
    assert "the data has no length" in str(length)
    memory = best_chance(small_job(), book(A100_ROW), limits, predict=toy)
    assert "misses by" in str(memory)
    porting = best_chance(small_job(), book(TPU_ROW), limits, predict=ToyPredictor())
    assert porting == "only machines that need porting could run it"


def test_the_price_of_an_hour_is_limited_over_all_machines_of_a_run() -> None:
    """Only runs whose machines together keep the limit are ranked; the nearest miss is named; three times 0.1 is 0.3."""
    prices = book(A100_ROW, H100_ROW)
    highest_usd = max(option.usd_per_hour for option in rank_rows(prices).options)
    limit = min(option.usd_per_hour for option in rank_rows(prices).options)
    recommendation = rank_rows(prices, constraints=Constraints(max_usd_per_hour=limit))
    assert {option.usd_per_hour for option in recommendation.options} == {limit}
    assert highest_usd > limit
    none = rank_rows(prices, constraints=Constraints(max_usd_per_hour=limit - 0.01))
    assert not none.options
    (over,) = [item for item in none.rejections if item.reason == "over_budget"]
    assert over.count == 2
    assert f"{limit:,.2f} USD an hour, 0.01 over the limit" in over.detail
    cents = book({**A100_ROW, "usd_per_hour": 0.1})
    three = rank_rows(
        cents, job=small_job(batch=3), max_nodes=3, constraints=Constraints(max_usd_per_hour=0.3)
    )
    assert {option.nodes for option in three.options} == {1, 3}


def test_accelerators_are_filtered_and_counted() -> None:
    """Other accelerators are left out, and the rejection names the filter."""
    answer = rank_rows(book(A100_ROW, H100_ROW), constraints=Constraints(accelerators=(H100,)))
    assert {option.accelerator for option in answer.options} == {H100}
    (left_out,) = [item for item in answer.rejections if item.reason == "filtered"]
    assert left_out.count == 1
    assert f"accelerator other than {H100}" in left_out.detail


def test_one_machine_under_two_names_is_listed_once() -> None:
    """Equal shape, place and price, or within 1 % of a better one; what differs more, or elsewhere, stays."""
    rows = [
        A100_ROW,
        offer_row(instance_type="a100.1x.v2"),
        offer_row(instance_type="a100.1x.dear", usd_per_hour=4.03),
        offer_row(instance_type="a100.1x.costlier", usd_per_hour=4.05),
        offer_row(instance_type="a100.1x.v2", region="us-west-2"),
        offer_row(instance_type="nd.1x", provider="azure", service="azure_vm"),
    ]
    answer = rank_rows(book(*rows), all_regions=True)
    assert names_of(answer.options) == [
        "1xaws:a100.1x@us-east-1/on_demand",
        "1xaws:a100.1x.v2@us-west-2/on_demand",
        "1xaws:a100.1x.costlier@us-east-1/on_demand",
        "1xazure:nd.1x@us-east-1/on_demand",
    ]
    assert [option.rank for option in answer.options] == [1, 2, 3, 4]
    folded = [note.text for note in answer.options[0].notes if note.kind == "same_machine"]
    assert [note.split()[0] for note in folded] == ["a100.1x.v2", "a100.1x.dear"]
    assert answer.options_total == len(rows)


@pytest.mark.parametrize(
    ("most", "tried"), [(3, {1, 2}), (4, {1, 2, 4}), (10, {1, 2, 4, 5, 8, 10}), (7, {1, 2, 4, 5})]
)
def test_every_number_of_machines_that_shares_the_batch_is_tried(most: int, tried: set[int]) -> None:
    """Of a batch of 40 on machines with one device: its divisors up to the number asked for, which the answer names."""
    answer = rank(
        small_job(batch=40),
        book(A100_ROW),
        Request(Constraints(), limit=100, max_nodes=most),
        predict=ToyPredictor(seconds=SPEEDS),
    )
    assert {option.nodes for option in answer.options} == tried
    assert answer.constraints.max_nodes == most
    asked = Request(Constraints(max_nodes=most))
    assert (asked.max_nodes, Request(Constraints()).constraints.max_nodes) == (most, None)
