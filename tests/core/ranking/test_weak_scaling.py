"""A job whose batch follows the devices: what is priced is the run that the script would make on each machine."""

from __future__ import annotations

from typing import Any

import pytest

from builders.batches import H100, MACHINES
from builders.batches import make_scaling_job as job
from builders.toy_market import ToyPredictor
from trainfare_core.batch_scaling import MOST_TIMES, CriticalBatch, find_critical_batch, launch_on
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option, Recommendation


def answer(profile: JobProfile, **limits: Any) -> Recommendation:
    request = Request(constraints=Constraints(max_nodes=1, **limits))
    return rank(profile, MACHINES, request, predict=ToyPredictor({H100: 0.05}))


def on_machine(recommendation: Recommendation, count: int) -> Option:
    (option,) = (option for option in recommendation.options if option.accelerator_count == count)
    return option


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_the_price_is_that_of_the_number_written_in(devices: int) -> None:
    """To the last digit: steps, validations, checkpoints, hours and dollars."""
    here, written = answer(job()), answer(launch_on(job(), devices))
    own, other = on_machine(here, devices), on_machine(written, devices)
    assert own.global_batch_size == other.global_batch_size == 32 * devices
    for name in (
        "run_usd",
        "run_hours",
        "optimizer_steps",
        "checkpoint_every_n_steps",
        "expected_usd",
    ):
        assert getattr(own, name) == getattr(other, name), name


def test_the_batch_is_shared_where_the_script_names_its_devices_or_is_asked() -> None:
    for recommendation in (
        answer(job("fixed")),
        answer(job("global")),
        answer(job(None)),
        answer(job(), scale="batch"),
    ):
        assert {option.global_batch_size for option in recommendation.options} == {32}
    weak = answer(job("fixed"), scale="samples")
    assert on_machine(weak, 8).global_batch_size == 256
    assert any(
        "global batch 256 (8 x 32) instead of 32" in change for change in on_machine(weak, 8).plan_changes
    )
    assert on_machine(answer(job()), 8).plan_changes == ()  # what the script does by itself is no change


@pytest.mark.parametrize(
    ("loop", "changes"), [("", ("2 machines instead of 1, which the script must say",)), ("huggingface", ())]
)
def test_more_machines_are_a_change_of_a_lightning_script_alone(loop: str, changes: tuple[str, ...]) -> None:
    """Its "auto" means the devices of one machine; the launcher of other loops says the machines."""
    profile = job()
    profile = profile.model_copy(update={"source": profile.source.model_copy(update={"loop": loop})})
    request = Request(constraints=Constraints(max_nodes=2))
    recommendation = rank(profile, MACHINES, request, predict=ToyPredictor({H100: 0.05}))
    (two,) = (o for o in recommendation.options if (o.nodes, o.accelerator_count) == (2, 8))
    assert two.plan_changes == changes


def test_a_number_of_steps_costs_the_same_steps_everywhere() -> None:
    profile = job(epochs=None, max_steps=5_000)
    eight = on_machine(answer(profile), 8)
    assert (eight.optimizer_steps, eight.samples_ratio) == (5_000, 8)


def test_a_machine_with_more_devices_than_steps_in_an_epoch_has_no_plan() -> None:
    profile = job(samples=300, batches=9, drops_last=True)
    profile = profile.model_copy(update={"plan": profile.plan.model_copy(update={"optimizer_steps": 900})})
    recommendation = answer(profile)
    assert 32 not in {option.accelerator_count for option in recommendation.options}
    assert any(
        "has not one step of 32 samples" in rejection.detail for rejection in recommendation.rejections
    )


def test_the_same_quality_takes_the_samples_of_the_critical_batch() -> None:
    """By hand: with a critical batch of 64, 256 instead of 32 take (1 + 4) / (1 + 0.5) = 3.33 times the samples."""
    samples, quality = (answer(job(), scale=scale, critical_batch="64") for scale in ("samples", "quality"))
    for count, ratio in ((1, 1.0), (2, 2 / 1.5), (8, 5 / 1.5)):
        seen, needed = on_machine(samples, count), on_machine(quality, count)
        assert seen.optimizer_steps is not None
        assert needed.optimizer_steps == pytest.approx(seen.optimizer_steps * ratio, abs=1)
        if count > 1:
            assert seen.quality_ratio is not None
            assert seen.quality_ratio.mid == pytest.approx(ratio)
            spread = needed.run_hours.high_80 / needed.run_hours.low_80
            assert spread > seen.run_hours.high_80 / seen.run_hours.low_80
            assert needed.run_usd.high_80 > seen.run_usd.high_80


def test_beyond_sixteen_times_the_batch_only_a_lower_end_is_said() -> None:
    ratio = on_machine(answer(job()), 32).quality_ratio
    assert ratio is not None
    assert (ratio.mid, ratio.high) == (None, None)
    assert ratio.low > 1
    assert MOST_TIMES == 16
    quality = answer(job(), scale="quality")
    assert 32 not in {option.accelerator_count for option in quality.options}
    assert any("more than 16 times the script's" in rejection.detail for rejection in quality.rejections)


def test_what_is_not_predicted_is_said_and_not_ranked_by() -> None:
    contrastive = job().model_copy(update={"name": "SimCLR"})
    facts = answer(contrastive).critical_batch
    assert facts is not None
    assert facts.samples is None
    assert "contrastive" in (facts.unknown_because or "")
    with pytest.raises(InputError, match="scale quality: not predicted: a contrastive loss"):
        answer(contrastive, scale="quality")
    assert answer(contrastive, scale="quality", critical_batch="64").options


def test_a_stated_critical_batch_goes_before_the_prior() -> None:
    prior, stated = find_critical_batch(job()), find_critical_batch(job(), "200..800")
    assert isinstance(prior, CriticalBatch)
    assert isinstance(stated, CriticalBatch)
    assert (prior.source, stated.source) == ("prior", "stated")
    with pytest.raises(InputError):
        answer(job(), critical_batch="many")


def test_where_no_machine_is_left_the_shared_batch_is_a_way_on() -> None:
    """A run of stated steps is not faster on more devices; sharing its batch is."""
    profile = job(epochs=None, max_steps=500_000, checkpoint_every_n_epochs=None)
    seldom = profile.plan.model_copy(update={"checkpoint_every_n_steps": 250_000})
    profile = profile.model_copy(update={"plan": seldom})
    request = Request(constraints=Constraints(deadline_hours=4.0, max_nodes=1))
    recommendation = rank(profile, MACHINES, request, predict=ToyPredictor({H100: 0.05}))
    assert not recommendation.options
    found = with_alternatives(recommendation, profile, MACHINES, request, predict=ToyPredictor({H100: 0.05}))
    assert "--scale batch" in {alternative.flag for alternative in found.alternatives}


def test_a_script_that_says_its_devices_is_told_what_their_own_batches_would_give() -> None:
    """It is the fastest of `--scale samples`, where that takes a fifth less time than the shared batch does."""
    toy = ToyPredictor({H100: 0.2}, link_s=0.02)

    def answer(profile: JobProfile, **limits: Any) -> Recommendation:
        return rank(profile, MACHINES, Request(constraints=Constraints(max_nodes=1, **limits)), predict=toy)

    shared, scaled = answer(job("fixed")), answer(job("fixed"), scale="samples").best("fastest")
    fastest, told = shared.best("fastest"), shared.fastest_scaled
    assert fastest is not None
    assert told is not None
    assert scaled is not None
    assert told.run_hours.mid < 0.8 * fastest.run_hours.mid
    assert fastest.global_batch_size == 32
    assert (told.instance_type, told.global_batch_size, told.run_usd, told.run_hours) == (
        scaled.instance_type, scaled.global_batch_size, scaled.run_usd, scaled.run_hours,
    )  # fmt: skip
    for other in (job(), job("global"), job("fixed", max_steps=31_300, epochs=None)):
        assert answer(other).fastest_scaled is None, "it is what is ranked, no way to train, or no faster"
    assert answer(job("fixed"), scale="batch").fastest_scaled is None, "the shared batch was asked for"


def test_a_run_that_was_metered_on_eight_devices_gets_the_prices_of_one() -> None:
    """Its batch is that of eight: fewer devices train with a smaller one, which is no saving, and more with a larger."""
    launched = launch_on(job(), 8)
    metered = launched.model_copy(
        update={"batch": launched.batch.model_copy(update={"scales": "per_device"})}
    )
    here, traced = answer(metered), answer(job())
    for count in (1, 2, 4, 8, 32):
        own, other = on_machine(here, count), on_machine(traced, count)
        assert (own.run_usd, own.optimizer_steps) == (other.run_usd, other.optimizer_steps)
        assert (own.global_batch_size, own.batch_ratio) == (32 * count, count / 8)
        assert (own.quality_ratio is not None) is (count > 8)
