"""The host's time of a training loop itself: a step of a small model takes at least that."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.toy_market import operation, shapes, small_job
from trainfare_core.candidates import enumerate_candidates
from trainfare_core.job_profile import BatchFacts, JobProfile
from trainfare_core.prediction import predict
from trainfare_core.prediction.loop_time import find_pass_s, load_pass_times

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
TINY = (operation(phase="forward", flops=10**6, bytes_read=10**4, bytes_written=10**4),)


def seen_in(job: JobProfile, loop: str, *, in_loop: bool = True) -> JobProfile:
    source = job.source.model_copy(update={"loop": loop, "in_loop": in_loop})
    return job.model_copy(update={"source": source})


def predict_step_s(job: JobProfile) -> float:
    machine = shapes(("H100-SXM-80GB", 1.0))
    plans = enumerate_candidates(job, machine)
    return float(predict(job, machine, plans).step_s[plans.as_scripted][0])


@pytest.mark.parametrize("loop", ["", "huggingface", "keras", "plain"])
def test_a_small_step_takes_the_time_of_its_loop(loop: str) -> None:
    job = small_job(operations=TINY)
    own_s = find_pass_s(seen_in(job, loop))
    bare_s, step_s = (predict_step_s(seen_in(job, loop, in_loop=seen)) for seen in (False, True))
    assert find_pass_s(seen_in(job, loop, in_loop=False)) == 0
    assert bare_s < 1e-4 < own_s
    assert own_s <= step_s <= 1.1 * (own_s + bare_s)


def test_each_pass_of_an_accumulated_step_takes_it() -> None:
    job = seen_in(small_job(operations=TINY), "")
    four = job.model_copy(
        update={
            "parallel": job.parallel.model_copy(update={"accumulate_grad_batches": 4}),
            "batch": BatchFacts(micro_batch_size=32, samples_per_step=128),
        }
    )
    assert predict_step_s(four) >= 4 * find_pass_s(job)


def test_a_large_step_hides_it() -> None:
    """Of a language model too: the host works beside the device."""
    decoder = JobProfile.from_json((EXAMPLES / "llama-7b.json").read_text(encoding="utf-8"))
    large = tuple(operation(phase=phase, flops=10**14) for phase in ("forward", "backward"))
    for job in (small_job(operations=large), decoder):
        bare_s, step_s = (predict_step_s(seen_in(job, "keras", in_loop=seen)) for seen in (False, True))
        assert bare_s > 5 * load_pass_times()["keras"]
        assert bare_s <= step_s < 1.01 * bare_s
