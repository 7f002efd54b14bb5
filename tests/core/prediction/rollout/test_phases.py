"""Phases of a step that generates: each has its time and memory, and the worst decides whether it fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builders.rollouts import make_rollout, rollout_job
from builders.toy_market import shapes
from trainfare_core.candidates import enumerate_candidates, take
from trainfare_core.errors import CannotTellError, ProfileError
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict, predict_machine
from trainfare_core.prediction.rollout import PHASES, PhaseColumns, predict_phases

GENERATION, SCORING, UPDATE = range(3)


def phases_of(
    job: JobProfile, name: str = "A100-SXM-80GB", count: float = 1, *, all_plans: bool = False
) -> PhaseColumns:
    """Return the phases of the script's own plan on one machine."""
    machine = shapes((name, count))
    plans = enumerate_candidates(job.model_copy(update={"rollout": None}), machine)
    assert plans.as_scripted is not None
    return predict_phases(job, machine, plans if all_plans else take(plans, plans.as_scripted))


def memory(job: JobProfile, **machine: Any) -> list[float]:
    return phases_of(job, **machine).memory_bytes[:, 0].tolist()


def test_updates_are_the_step_as_it_is_predicted() -> None:
    """Once for each optimizer step that a generation feeds, and again for every epoch."""
    job = rollout_job()
    plain = job.model_copy(update={"rollout": None})
    machine = shapes(("A100-SXM-80GB", 1))
    plans = enumerate_candidates(plain, machine)
    step_s = predict(plain, machine, plans).step_s
    once = predict_phases(job, machine, plans)
    assert once.updates == 1
    assert once.time_s[UPDATE].tolist() == pytest.approx(step_s.tolist())
    again = predict_phases(rollout_job(prompts=32, update_epochs=3), machine, plans)
    assert again.updates == 6
    assert again.time_s[UPDATE].tolist() == pytest.approx((6 * step_s).tolist())
    assert again.time_s[SCORING].tolist() == pytest.approx((2 * once.time_s[SCORING]).tolist())


def test_scoring_is_a_forward_pass_for_each_model() -> None:
    """None takes nothing, two take twice as long as one, and each is less than a third of a step with recomputation."""
    none, one, two = (
        phases_of(rollout_job(scores_old_policy=count > 0, scores_reference=count > 1)).time_s[:, 0]
        for count in (0, 1, 2)
    )
    assert none[SCORING] == 0
    assert two[SCORING] == pytest.approx(2 * one[SCORING])
    assert 0.1 < one[SCORING] / one[UPDATE] < 1 / 3


def test_a_vllm_that_sleeps_does_not_count_while_the_policy_trains() -> None:
    """Awake it takes its share in every phase, asleep in generation alone."""
    awake, asleep = (memory(rollout_job(vllm_sleeps=sleeps)) for sleeps in (False, True))
    share_bytes = 0.3 * 80 * 2**30
    assert awake[GENERATION] == pytest.approx(asleep[GENERATION])
    assert share_bytes > awake[UPDATE] - asleep[UPDATE] > 0.8 * share_bytes
    assert awake[GENERATION] < awake[UPDATE]


def test_the_worst_phase_decides_and_phases_are_never_added_up() -> None:
    """A share of 0.6 fits beside the resting policy and not beside its updates, unless vLLM sleeps."""
    awake, asleep = (
        phases_of(rollout_job(wide=True, vllm_memory_share=0.6, vllm_sleeps=sleeps))
        for sleeps in (False, True)
    )
    assert not awake.fits[0]
    assert awake.upper_bytes[UPDATE, 0] > awake.usable_memory_bytes[0] > awake.upper_bytes[GENERATION, 0]
    assert asleep.fits[0]
    assert asleep.upper_bytes[:, 0].sum() > asleep.usable_memory_bytes[0]


def test_vllm_on_its_own_devices_takes_nothing_of_those_that_train() -> None:
    """Generation's memory is that of the other devices, and more of them generate faster."""
    alone = rollout_job(engine="vllm-server", vllm_devices=1, vllm_memory_share=0.9)
    generation, scoring, update = memory(alone)
    assert generation == pytest.approx(0.9 * 80 * 2**30)
    assert [scoring, update] < memory(rollout_job())[1:]
    more = rollout_job(engine="vllm-server", vllm_devices=4, vllm_memory_share=0.9)
    one_s, four_s = (phases_of(job).time_s[GENERATION, 0] for job in (alone, more))
    assert four_s < one_s


def test_a_reference_model_lies_there_in_every_phase() -> None:
    """Its bytes are added to the devices that train, a shard of them with FSDP on four machines of two."""
    job, reference = rollout_job(), rollout_job(reference_bytes=8 * 10**9)
    more = np.array(memory(reference)) - np.array(memory(job))
    assert more.tolist() == pytest.approx([8e9] * 3)
    sharded = phases_of(reference, count=2, all_plans=True).memory_bytes
    plain = phases_of(job, count=2, all_plans=True).memory_bytes
    assert (sharded - plain)[UPDATE].min() == pytest.approx(8e9 / 8)


def test_generate_of_transformers_waits_for_the_launches_of_every_layer() -> None:
    """Twice the layers take twice the host's time for each token; the cache alone comes on top of the policy."""
    small, wide = (phases_of(rollout_job(engine="transformers", wide=wide)) for wide in (False, True))
    assert wide.time_s[GENERATION, 0] > 1.8 * small.time_s[GENERATION, 0]
    vllm = phases_of(rollout_job())
    cache_bytes = 128 * 1024 * 4 * 12 * 768
    assert small.memory_bytes[GENERATION, 0] - cache_bytes == pytest.approx(
        vllm.memory_bytes[GENERATION, 0] - 0.3 * 80 * 2**30
    )


def test_a_policy_larger_than_its_share_is_no_plan() -> None:
    """With the reason; over more devices it fits."""
    small = rollout_job(wide=True, vllm_memory_share=0.04)
    assert set(phases_of(small).unknown_because) == {"the policy does not fit into vLLM's share of a device"}
    split = rollout_job(wide=True, vllm_memory_share=0.04, vllm_tensor_parallel=4)
    assert "" in set(phases_of(split, count=4).unknown_because)
    assert np.isnan(phases_of(small).time_s).all()


def test_what_cannot_generate_says_so() -> None:
    """A TPU, and a profile without the size of its batch."""
    reasons = phases_of(rollout_job(), "TPU-v5e").unknown_because
    assert set(reasons) == {"generation is predicted for GPUs alone"}
    job = rollout_job()
    lost = job.model_copy(update={"batch": job.batch.model_copy(update={"micro_batch_size": None})})
    with pytest.raises(CannotTellError, match="need its rollout and its batch"):
        phases_of(lost)


def test_no_other_prediction_takes_the_step_for_its_updates() -> None:
    """A step that generates has no single time: to predict it as one is refused."""
    with pytest.raises(CannotTellError, match="generates text first"):
        predict_machine(rollout_job(), "H100-SXM-80GB")


def test_a_profile_keeps_its_rollout_and_older_ones_have_none() -> None:
    """In JSON and back; a profile without one does not name it."""
    job = rollout_job()
    assert JobProfile.from_json(job.to_json()).rollout == make_rollout()
    assert "rollout" not in job.model_copy(update={"rollout": None}).to_json()
    wrong = job.to_json().replace('"completion_tokens_low": 100', '"completion_tokens_low": 1000')
    with pytest.raises(ProfileError, match="completion_tokens_low exceeds"):
        JobProfile.from_json(wrong)
    assert len(PHASES) == 3
