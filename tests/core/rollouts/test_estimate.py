"""The machines for a run that generates: the fewest that hold every phase, and no dollars without a measured interval."""

from __future__ import annotations

from typing import Any

import pytest

from builders.rollouts import rollout_job
from builders.toy_market import book, offer_row
from trainfare_core.errors import CannotTellError
from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints
from trainfare_core.rollouts import RolloutAnswer, estimate_rollout

A100 = offer_row(usd_per_hour=4.0)
ELSEWHERE = offer_row(usd_per_hour=3.0, region="elsewhere")
PAIR = offer_row(instance_type="pair", accelerator_count=2.0, usd_per_hour=9.0)
TINY = offer_row(
    instance_type="tiny", accelerator="T4-16GB", accelerator_memory_gib=16.0, usd_per_hour=0.5, vcpus=4.0
)


def estimate(job: JobProfile, *rows: dict[str, Any], **constraints: Any) -> RolloutAnswer:
    return estimate_rollout(job, book(*rows), Request(Constraints(**constraints)))


def test_a_machine_counts_once_at_its_cheapest_region() -> None:
    """With its phases, whose times add up, and the hours of all steps."""
    answer = estimate(rollout_job(), A100, ELSEWHERE)
    (machine,) = answer.machines
    assert (machine.region, machine.usd_per_hour, machine.nodes) == ("elsewhere", 3.0, 1)
    assert [phase.phase for phase in machine.phases] == ["generation", "scoring", "update"]
    total_s = sum(phase.time_s.mid for phase in machine.phases)
    assert machine.round_s.mid == pytest.approx(total_s)
    assert machine.round_s.low_80 < total_s < machine.round_s.high_80
    assert machine.run_hours is not None
    assert machine.run_hours.mid == pytest.approx(total_s * 100_000 / 3600)


def test_no_dollars_while_the_interval_is_chosen() -> None:
    """The reason stands in place of them, and limits that cannot be applied are named."""
    answer = estimate(rollout_job(), A100, max_usd=5.0)
    assert answer.machines[0].run_usd is None
    assert answer.interval_is == "chosen"
    assert "chosen" in str(answer.cost_unknown_because)
    assert any("limits of cost and time are not applied" in note for note in answer.notes)
    assert not any("limits" in note for note in estimate(rollout_job(), A100).notes)


def test_machines_that_fit_come_first_and_others_say_where_they_fail() -> None:
    """The cheapest one is too small for the updates."""
    answer = estimate(rollout_job(wide=True, vllm_memory_share=0.4), TINY, A100)
    assert [machine.fits for machine in answer.machines] == [True, False]
    assert answer.machines[1].worst_phase == "update"
    assert answer.machines[1].instance_type == "tiny"


def test_devices_that_generate_are_paid_and_do_not_train() -> None:
    """One of two generates: the batch is that of one device. A machine of one has none left to train."""
    job = rollout_job(engine="vllm-server", vllm_devices=1, vllm_memory_share=0.9)
    answer = estimate(job, A100, PAIR)
    (machine,) = answer.machines
    assert (machine.instance_type, machine.devices, machine.generating_devices) == ("pair", 2, 1)
    assert machine.strategy == "none"
    assert sum(refusal.machines for refusal in answer.refused) == 1
    with pytest.raises(CannotTellError, match="no machine has a prediction"):
        estimate(job, A100)


def test_a_run_of_unknown_length_has_times_and_no_hours() -> None:
    """The phases do not need it."""
    job = rollout_job()
    lost = job.plan.model_copy(update={"optimizer_steps": None, "unknown_because": "no end"})
    answer = estimate(job.model_copy(update={"plan": lost}), A100)
    assert answer.machines[0].run_hours is None
    assert answer.machines[0].round_s.mid > 0


def test_a_job_that_generates_nothing_is_none() -> None:
    """It has a ranking instead."""
    with pytest.raises(CannotTellError, match="generates nothing"):
        estimate(rollout_job().model_copy(update={"rollout": None}), A100)
