"""`recommend_many`: the answers of `recommend`, in the order of the jobs, on any executor."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from builders.profiles import write_profile
from builders.toy_market import book, offer_row, small_job
from trainfare import TrainingJob, recommend, recommend_many
from trainfare_core.errors import FetchError, InputError, MissingExtraError, ProfileError, TrainfareError
from trainfare_core.recommendation import Recommendation

PRICES = book(offer_row(), offer_row(instance_type="a100.8x", accelerator_count=8.0, usd_per_hour=30.0))


def spawn_executor() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize(
    "make", [spawn_executor, lambda: ThreadPoolExecutor(2)], ids=["processes", "threads"]
)
def test_an_executor_gives_the_answers_of_one_job_after_the_other(
    make: type[Executor], tmp_path: Path
) -> None:
    """Profiles, files and jobs that fail: each has its own answer in its own place, byte for byte."""
    unsent = TrainingJob(module=lambda: None, batch=list, batch_size=1)
    jobs = [small_job(batch=32), str(tmp_path / "absent.json"), small_job(batch=64), unsent]
    jobs.append(write_profile(tmp_path, small_job(batch=16)))
    alone = recommend_many([job for job in jobs if job is not unsent], price_book=PRICES, max_nodes=1)
    with make() as executor:
        many = list(recommend_many(jobs, executor=executor, price_book=PRICES, max_nodes=1))
    failed = many.pop(3)
    assert isinstance(failed, TrainfareError)
    if make is spawn_executor:
        assert "jobs[3] cannot be sent to another process" in str(failed)
    assert [type(answer) for answer in many] == [Recommendation, ProfileError, Recommendation, Recommendation]
    assert str(many[1]) == str(alone[1])
    assert [answer for answer in many if isinstance(answer, Recommendation)] == [
        answer for answer in alone if isinstance(answer, Recommendation)
    ]
    first, direct = many[0], recommend(jobs[0], price_book=PRICES, max_nodes=1)
    assert isinstance(first, Recommendation)
    assert first.options == direct.options


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no system call of that name"
)
def test_forked_processes_are_refused() -> None:
    """A fork has none of the threads that this process's libraries wait for: an error says what to give."""
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor,
        pytest.raises(InputError, match=r'get_context\("spawn"\)'),
    ):
        recommend_many([small_job()], executor=executor, price_book=PRICES)


def test_errors_of_ours_pass_between_processes() -> None:
    """Also those that make their message of other arguments, with what they know besides."""
    for error in (MissingExtraError("torch", "lightning"), FetchError("aws", "no answer", status=503)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
