"""The difference of two runs' dollars, split into causes that add up to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.batches import H100, make_scaling_job
from builders.profiles import gpt_profile, profile
from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.batch_scaling import launch_on
from trainfare_core.changes.change_words import _format_numbers, _model
from trainfare_core.changes.cost_change import CostChange
from trainfare_core.changes.explain_change import PricedJob, _Walk, explain_change
from trainfare_core.job_profile import JobProfile, MeasuredStep, ParallelFacts, Quantiles, SynchronizedNorms
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints

REQUEST = Request(Constraints(max_usd=1e9, purchase=("on_demand",)))
T4 = offer_row(instance_type="t4", accelerator="T4-16GB", accelerator_memory_gib=16.0, usd_per_hour=0.5)
A100 = offer_row()
MARKET = book(T4, A100)
EIGHT = book(offer_row(instance_type="h100.8x", accelerator=H100, accelerator_count=8.0, usd_per_hour=32.0))
CENT = 0.01


def change_of(
    base: JobProfile, head: JobProfile, *, before: PriceBook = MARKET, after: PriceBook = MARKET
) -> CostChange:
    """Explain a change between two jobs, with the real predictor."""
    return explain_change(PricedJob(base, before, "base"), PricedJob(head, after, "head"), REQUEST)


def parts(change: CostChange) -> dict[str, float]:
    return {cause.cause: cause.usd for cause in change.causes}


def with_plan(job: JobProfile, **fields: Any) -> JobProfile:
    return job.model_copy(update={"plan": job.plan.model_copy(update=fields)})


def assert_added_up(change: CostChange) -> None:
    assert change.change_usd is not None
    assert change.base.usd is not None
    assert change.head.usd is not None
    assert change.change_usd == pytest.approx(change.head.usd.mid - change.base.usd.mid, abs=1e-6)
    assert sum(cause.usd for cause in change.causes) == pytest.approx(change.change_usd, abs=1e-6)


def test_more_steps_are_named() -> None:
    """Twice the steps are the only cause, with both numbers in words."""
    job = gpt_profile()
    change = change_of(job, with_plan(job, optimizer_steps=200_000))
    assert list(parts(change)) == ["steps"]
    assert change.causes[0].detail == "100,000 -> 200,000 optimizer steps"
    assert change.change_fraction == pytest.approx(1.0, abs=0.05)
    assert_added_up(change)


def test_a_smaller_global_batch_is_named() -> None:
    """A trace with another batch is the same model: the batch is the cause, not FLOPs."""
    change = change_of(gpt_profile(batch_size=16), gpt_profile(batch_size=8))
    assert list(parts(change)) == ["global_batch"]
    assert change.causes[0].detail == "16 -> 8 samples per step"
    assert parts(change)["global_batch"] < 0
    assert_added_up(change)


def test_accumulation_at_the_same_batch_is_strategy() -> None:
    """The same samples per step in smaller micro-batches is no other model."""
    base, head = gpt_profile(batch_size=16), gpt_profile(batch_size=8)
    doubled = tuple(
        group
        if group.phase == "optimizer"
        else group.model_copy(
            update={
                name: 2 * getattr(group, name)
                for name in ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")
            }
        )
        for group in head.operations
    )
    head = head.model_copy(
        update={
            "operations": doubled,
            "batch": head.batch.model_copy(update={"samples_per_step": 16, "tokens_per_step": 16_384}),
            "parallel": ParallelFacts(accumulate_grad_batches=2),
        }
    )
    assert set(parts(change_of(base, head))) <= {"strategy"}


def test_precision_is_named_where_the_model_is_the_same() -> None:
    """The operations of full precision differ in type and bytes alone."""
    change = change_of(gpt_profile(dtype="bf16"), gpt_profile(dtype="fp32"))
    assert parts(change)["precision"] > 0
    assert set(parts(change)) <= {"precision", "memory_fit", "strategy"}
    assert next(c for c in change.causes if c.cause == "precision").detail == "bf16-mixed -> 32-true"
    assert_added_up(change)


def test_model_and_precision_are_told_apart() -> None:
    """A larger model in half precision: the model costs more, the precision less."""
    change = change_of(gpt_profile(dtype="fp32"), gpt_profile(dtype="bf16", layers=24))
    assert parts(change)["model"] > 0
    assert parts(change)["precision"] < 0
    assert_added_up(change)


def test_a_larger_model_names_its_operations() -> None:
    """The kinds of operations whose FLOPs changed most are listed, largest first."""
    change = change_of(gpt_profile(), gpt_profile(layers=24))
    model = next(cause for cause in change.causes if cause.cause == "model")
    assert model.usd > 0
    assert "FLOPs" in model.detail
    assert "parameters" in model.detail
    assert model.flops[0].part == "matmul backward"
    grown = [flop.head_flops - flop.base_flops for flop in model.flops]
    assert grown == sorted(grown, reverse=True)
    assert parts(change)["checkpoints"] > 0
    assert_added_up(change)


def test_norms_that_are_synchronized_are_named() -> None:
    """`sync_batchnorm=True` changes no operation: its exchange on eight devices is the model's part, in words."""
    job = profile(batch_size=64)
    norms = SynchronizedNorms(modules=53, channels=26_560)
    synced = job.model_copy(update={"batch": job.batch.model_copy(update={"synchronized_norms": norms})})
    eight = book(offer_row(accelerator_count=8, usd_per_hour=30.0))
    change = change_of(job, synced, before=eight, after=eight)
    assert parts(change)["model"] > 0
    assert change.causes[0].detail.endswith("SyncBatchNorm in 0 -> 53 layers")
    assert_added_up(change)


def test_a_job_that_no_longer_fits_names_the_other_machine() -> None:
    """What the larger machine costs more than the same work on the small one is the memory's part."""
    small = gpt_profile(batch_size=1)
    large = gpt_profile(batch_size=1, layers=48, width=1600, heads=25)
    cheap_t4 = book(offer_row(**{**T4, "usd_per_hour": 0.05}), A100)
    change = change_of(small, large, before=cheap_t4, after=cheap_t4)
    assert change.base.machine == "aws:t4@us-east-1 (on_demand)"
    assert change.head.machine == "aws:a100.1x@us-east-1 (on_demand)"
    fit = next(cause for cause in change.causes if cause.cause == "memory_fit")
    assert fit.usd > 0
    assert "aws:t4@us-east-1 -> aws:a100.1x@us-east-1" in fit.detail
    assert "GiB" in fit.detail
    assert_added_up(change)


def test_memory_on_the_same_machine_is_strategy() -> None:
    """A smaller micro-batch on the same machine, because of memory, is another plan and no other machine."""
    only_a100 = book(A100)
    base = gpt_profile(batch_size=16)
    heavy = base.memory.model_copy(update={"saved_activation_bytes": 20 * base.memory.saved_activation_bytes})
    head = gpt_profile(batch_size=16, layers=13).model_copy(update={"memory": heavy})
    change = change_of(base, head, before=only_a100, after=only_a100)
    assert "memory_fit" not in parts(change)
    assert "micro-batch 16 x 1 -> " in next(c for c in change.causes if c.cause == "strategy").detail
    assert_added_up(change)


def test_validation_and_checkpoints_are_named() -> None:
    """Each has its own part and its own numbers."""
    job = profile()
    head = with_plan(job, validation_batches=3 * job.plan.validation_batches, checkpoint_every_n_steps=50)
    change = change_of(job, head)
    assert list(parts(change)) == ["validation", "checkpoints"]
    assert change.causes[0].detail == "17,550 -> 52,650 validation batches in the whole run"
    assert "every 5,000 steps" in change.causes[1].detail
    assert "every 50 steps" in change.causes[1].detail
    assert_added_up(change)


def test_the_same_validation_set_in_larger_batches_is_no_cause() -> None:
    """Half the batches of twice the size are the same samples."""
    base = with_plan(gpt_profile(batch_size=8), validation_batches=1000)
    head = with_plan(gpt_profile(batch_size=16), validation_batches=500)
    assert "validation" not in parts(change_of(base, head))


def test_other_prices_are_a_cause() -> None:
    """With a price book of its own, the base's difference in price is named with both rates."""
    costlier = book(offer_row(usd_per_hour=5.0))
    change = change_of(gpt_profile(), gpt_profile(), before=book(A100), after=costlier)
    assert list(parts(change)) == ["prices"]
    assert change.causes[0].detail.startswith("4 USD per hour (aws:a100.1x@us-east-1) -> 5 USD per hour")
    assert change.change_fraction == pytest.approx(0.25, rel=0.01)  # disks cost the same
    assert_added_up(change)


def test_compilation_is_other_and_says_so() -> None:
    """The start-up of torch.compile is none of the named causes."""
    job = gpt_profile()
    compiled = job.model_copy(update={"source": job.source.model_copy(update={"compiled": True})})
    change = change_of(job, compiled)
    assert list(parts(change)) == ["other"]
    assert change.causes[0].detail == "torch.compile off -> on"
    assert_added_up(change)


def test_a_measured_base_is_other() -> None:
    """A base that was measured is corrected; that part of the difference is not the model's."""
    job = gpt_profile()
    step = Quantiles(median_s=1.0, p10_s=0.9, p90_s=1.1)
    measured = MeasuredStep(device_name="NVIDIA A100-SXM4-80GB", device_kind="cuda", steps=10, step=step)
    change = change_of(job.model_copy(update={"measured": measured}), with_plan(job, optimizer_steps=120_000))
    assert set(parts(change)) == {"steps", "other"}
    assert "measured on NVIDIA A100" in change.causes[-1].detail
    assert_added_up(change)


def test_no_difference_has_no_cause() -> None:
    """Equal jobs and equal prices: zero, and nothing to explain."""
    change = change_of(gpt_profile(), gpt_profile())
    assert (change.change_usd, change.causes, change.unknown_because) == (0.0, (), None)


def test_a_name_is_no_cause() -> None:
    """Names, notes and the tool's version cost nothing."""
    job = gpt_profile()
    source = job.source.model_copy(update={"tool_version": "9"})
    renamed = job.model_copy(update={"name": "other", "notes": ("a note",), "source": source})
    assert change_of(job, renamed).causes == ()


@pytest.mark.parametrize("side", ["base", "head"])
def test_an_unknown_length_says_whose(side: str) -> None:
    """Without a number of steps on one side there is no change in dollars, and the reason names the side."""
    known, unknown = small_job(), small_job(steps=None)
    change = change_of(*((unknown, known) if side == "base" else (known, unknown)))
    assert (change.change_usd, change.change_fraction, change.causes) == (None, None, ())
    assert change.unknown_because is not None
    assert change.unknown_because.startswith(f"{side}: the length of the run is not known")
    assert (change.base.usd is None, change.head.usd is None) == (side == "base", side == "head")


def test_a_batch_that_cannot_be_mixed_is_other_with_its_reason() -> None:
    """A base traced on 8 devices has no share of a batch of 12: what cannot be told apart is said to be so."""
    base = small_job(parallel=ParallelFacts(strategy="ddp", devices=8), batch=4)
    head = small_job(batch=12, steps=50_000, operations=gpt_profile().operations)
    change = change_of(base, head)
    other = next(cause for cause in change.causes if cause.cause == "other")
    assert "a global batch of 12 cannot be shared by the 8 devices" in other.detail
    assert "global batch" in other.detail
    assert_added_up(change)


@dataclass(frozen=True)
class Toy:
    """A predictor by hand whose time and memory follow the profile's FLOPs and saved activations."""

    def __call__(self, job: JobProfile, shapes: Any, candidates: Any) -> Any:
        each_s = job.step_flops / 1e12 / job.parallel.accumulate_grad_batches
        predictor = ToyPredictor(
            seconds={"T4-16GB": 8 * each_s, "A100-SXM-80GB": each_s},
            capacity_gib={"T4-16GB": 12.0},
            activation_gib=job.memory.saved_activation_bytes / 2**30,
        )
        return predictor(job, shapes, candidates)


def _scale_flops(job: JobProfile, factor: int) -> JobProfile:
    groups = tuple(group.model_copy(update={"flops": group.flops * factor}) for group in job.operations)
    return job.model_copy(update={"operations": groups})


@st.composite
def jobs(draw: st.DrawFn) -> JobProfile:
    """Draw a small job: any factor may differ between two draws."""
    job = small_job(
        steps=draw(st.integers(1, 10**6)),
        batch=draw(st.sampled_from([1, 8, 12, 32])),
        every=draw(st.sampled_from([None, 10, 1_000])),
        checkpoint_bytes=draw(st.sampled_from([0, 2**30, 2**36])),
        validation_batches=draw(st.sampled_from([0, 100, 10**5])),
        precision=draw(st.sampled_from(["bf16-mixed", "32-true"])),
        parallel=ParallelFacts(devices=draw(st.sampled_from([1, 2]))),
    )
    memory = job.memory.model_copy(
        update={"saved_activation_bytes": draw(st.sampled_from([2**30, 2**34, 2**36]))}
    )
    scales = draw(st.sampled_from([None, "fixed", "per_device"]))
    batch = job.batch.model_copy(update={"scales": scales})
    return _scale_flops(
        job.model_copy(update={"memory": memory, "batch": batch}), draw(st.sampled_from([1, 2, 5]))
    )


BOOKS = (MARKET, book(T4, offer_row(usd_per_hour=2.0), offer_row(accelerator_count=4.0, usd_per_hour=7.0)))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=20)
@given(base=jobs(), head=jobs(), books=st.tuples(st.sampled_from(BOOKS), st.sampled_from(BOOKS)))
def test_causes_add_up_and_swapping_turns_every_sign(
    base: JobProfile, head: JobProfile, books: tuple[PriceBook, PriceBook]
) -> None:
    """The causes add up to the change within a cent, and the way back costs the opposite, cause by cause."""
    there = explain_change(
        PricedJob(base, books[0], "b"), PricedJob(head, books[1], "h"), REQUEST, predict=Toy()
    )
    back = explain_change(
        PricedJob(head, books[1], "h"), PricedJob(base, books[0], "b"), REQUEST, predict=Toy()
    )
    if there.change_usd is None:
        assert there.unknown_because
        assert back.change_usd is None
        return
    assert abs(sum(cause.usd for cause in there.causes) - there.change_usd) < CENT
    assert back.change_usd == -there.change_usd
    backwards = parts(back)
    assert backwards.keys() == parts(there).keys()
    for name, usd in parts(there).items():
        assert backwards[name] == pytest.approx(-usd, abs=CENT)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=15)
@given(job=jobs())
def test_no_change_has_zero_causes(job: JobProfile) -> None:
    """Any job against itself has no causes."""
    change = explain_change(PricedJob(job, MARKET, "b"), PricedJob(job, MARKET, "h"), REQUEST, predict=Toy())
    assert change.causes == ()
    assert change.change_usd in (0.0, None)


def test_what_one_side_does_not_know_is_said() -> None:
    """A batch of unknown size is "unknown", and a change of the model is then of a step, not of a sample."""
    base = gpt_profile()
    head = base.model_copy(
        update={"batch": base.batch.model_copy(update={"micro_batch_size": None, "samples_per_step": None})}
    )
    assert _format_numbers(None, 8, "samples per step") == "unknown -> 8 samples per step"
    assert _model(base, base).endswith("bytes a sample")
    assert _model(base, head).endswith("a step")


def test_a_measured_step_of_the_head_comes_last_on_both_ways() -> None:
    """Every other factor is taken once before it, in either order."""
    time = Quantiles(median_s=0.3, p10_s=0.2, p90_s=0.4)
    base = gpt_profile()
    head = with_plan(
        base.model_copy(
            update={
                "measured": MeasuredStep(device_name="NVIDIA A100", device_kind="cuda", steps=5, step=time)
            }
        ),
        optimizer_steps=200_000,
    )
    walk = _Walk(PricedJob(base, MARKET, ""), PricedJob(head, MARKET, ""), REQUEST, ToyPredictor())
    assert walk.orders == (("base_measurement", "steps", "head_measurement"),) * 2


@pytest.mark.parametrize("written", [1, 8])
def test_devices_that_a_script_no_longer_names_are_the_cause(written: int) -> None:
    """On eight devices one was used, and eight are: steps and batch of one device are no cause of their own."""
    follows = make_scaling_job()
    base = launch_on(follows, 8) if written == 8 else make_scaling_job("fixed")
    predict = ToyPredictor(link_s=0.01)
    there, back = (
        explain_change(PricedJob(a, EIGHT, "a"), PricedJob(b, EIGHT, "b"), REQUEST, predict=predict)
        for a, b in ((base, follows), (follows, base))
    )
    if written == 8:  # the script as it is runs there on all eight
        assert (there.change_usd, there.causes) == (0, ())
        return
    assert there.change_usd is not None
    assert there.change_usd < 0
    assert [(c.cause, c.detail) for c in there.causes] == [
        ("devices", "devices: 1 -> auto, global batch 32 -> 256 on 8 devices")
    ]
    assert [(c.cause, c.detail, c.usd) for c in back.causes] == [
        ("devices", "devices: auto -> 1, global batch 256 -> 32 on 8 devices", -there.causes[0].usd)
    ]


def test_devices_are_told_apart_from_what_changes_with_them() -> None:
    """Twice the epochs double the steps of both; the launcher gives the devices of loops other than Lightning's."""
    base, head = make_scaling_job("fixed"), make_scaling_job(epochs=200)
    head = with_plan(head, optimizer_steps=62_600).model_copy(
        update={"source": head.source.model_copy(update={"loop": "huggingface"})}
    )
    change = explain_change(
        PricedJob(base, EIGHT, "b"), PricedJob(head, EIGHT, "h"), REQUEST, predict=ToyPredictor(link_s=0.01)
    )
    assert {c.cause: c.detail for c in change.causes} == {
        "steps": "31,300 -> 62,600 optimizer steps",
        "devices": "devices: 1 -> as launched, global batch 32 -> 256 on 8 devices",
    }
    assert parts(change)["steps"] > 0 > parts(change)["devices"]
    assert_added_up(change)


def test_steps_that_are_stated_on_any_number_of_devices_are_a_cause() -> None:
    """Of as many steps as 100 epochs have on one device, eight take all, where epochs have an eighth of them."""
    change = explain_change(
        PricedJob(make_scaling_job(), EIGHT, "b"),
        PricedJob(make_scaling_job(epochs=None, max_steps=31_300), EIGHT, "h"),
        REQUEST,
        predict=ToyPredictor(),
    )
    assert [(c.cause, c.detail) for c in change.causes] == [
        ("steps", "the same 31,300 optimizer steps, and others on other numbers of devices")
    ]
    assert change.change_fraction == pytest.approx(7, abs=1.5)  # less the start-up's part


def explain_to_eight(head: JobProfile, **limits: Any) -> CostChange:
    """Explain a change from one written device to another job, on a machine of eight."""
    request = Request(Constraints(purchase=("on_demand",), **limits))
    base = PricedJob(make_scaling_job("fixed"), EIGHT, "b")
    return explain_change(base, PricedJob(head, EIGHT, "h"), request, predict=ToyPredictor())


def test_a_larger_batch_costs_more_to_the_quality_of_the_base_s() -> None:
    """Whether the script takes the devices that are there or names them."""
    for head in (make_scaling_job(), launch_on(make_scaling_job(), 8)):
        change = explain_to_eight(head, critical_batch="32")
        assert [side.global_batch_size for side in (change.base, change.head)] == [32, 256]
        assert [side.optimizer_steps for side in (change.base, change.head)] == [31_300, 4_000]
        quality, usd = change.quality, change.head.usd
        assert quality is not None
        assert quality.ratio is not None
        assert usd is not None
        assert quality.ratio.mid == pytest.approx((1 + 256 / 32) / (1 + 32 / 32), rel=0.05)
        seen = 31_300 * 32 / (4_000 * 256)
        assert quality.low_usd is not None
        assert usd.mid < quality.low_usd < usd.mid * seen * quality.ratio.low
        assert quality.high_usd is not None
        assert quality.high_usd > quality.low_usd


def test_steps_that_stay_are_priced_by_the_samples_of_the_base() -> None:
    """Eight devices see eight times the samples in as many steps: the quality of the base takes fewer."""
    head = make_scaling_job(epochs=None, max_steps=31_300)
    quality = explain_to_eight(head, critical_batch="1000").quality
    usd = explain_to_eight(head).head.usd
    assert quality is not None
    assert usd is not None
    assert quality.high_usd is not None
    assert quality.high_usd < usd.mid


def test_what_is_not_known_of_the_quality_is_not_said() -> None:
    """Nothing of another model, of a smaller batch, and where the samples are counted; a reason where none is predicted."""
    assert explain_to_eight(make_scaling_job(), scale="quality").quality is None
    assert explain_to_eight(make_scaling_job("fixed")).quality is None
    assert explain_to_eight(_scale_flops(make_scaling_job(), 2)).quality is None
    base = make_scaling_job("fixed").model_copy(update={"name": "InfoNCE"})
    change = explain_change(
        PricedJob(base, EIGHT, "b"),
        PricedJob(make_scaling_job(), EIGHT, "h"),
        REQUEST,
        predict=ToyPredictor(),
    )
    assert change.quality is not None
    assert change.quality.ratio is None
    assert (change.quality.unknown_because or "").startswith("not predicted: a contrastive loss")
