"""The record of a run: its text, and the fingerprint and kind of a job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from builders.profiles import gpt_profile, operation, profile
from builders.runs import BEGAN, build_compared, run
from trainfare_core.errors import InputError
from trainfare_core.job_profile import ModuleWork, ParallelFacts, ProfileSource
from trainfare_core.ledger.run_record import RunRecord, identify_job, keep_last_sessions, name_kind


def test_a_record_is_read_as_it_was_written() -> None:
    record = run(7, run_s=build_compared(3600.0, 4000.0), job='a "name" \u202e of a module')
    assert RunRecord.from_json(record.to_json()) == record
    assert record.file_name == "20261101T120700Z-000000000007.json"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 2}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^ledger x: not a run of schema 1"):
        RunRecord.from_json(text, where="ledger x")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ended_at": BEGAN - timedelta(seconds=1)}, "it ended before it began"),
        ({"step_s": build_compared(1.0, 1e308)}, "one step took longer than a run may"),
    ],
)
def test_times_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    text = run().model_copy(update=fields).to_json()
    with pytest.raises(InputError, match=said):
        RunRecord.from_json(text)


def test_the_fingerprint_is_of_content_not_of_names() -> None:
    """Another name, place, version, length or number of devices is the same job; another operation is another one."""
    job = profile()
    names = {
        "name": "Other",
        "modules": (ModuleWork(module="secret.layer", phase="forward", flops=1, bytes_moved=1),),
        "source": ProfileSource(how="real", tool_version="9"),
        "notes": ("a note",),
        "parallel": ParallelFacts(devices=8),
        "plan": job.plan.model_copy(update={"optimizer_steps": 1}),
    }
    assert identify_job(job.model_copy(update=names)) == identify_job(job)
    changed = job.model_copy(update={"operations": (*job.operations, operation())})
    assert len({identify_job(other) for other in (job, changed, profile(batch_size=128), gpt_profile())}) == 4


def test_the_kind_is_what_takes_the_work() -> None:
    assert name_kind(profile()) == "convolution"
    assert name_kind(gpt_profile()) == "language model"
    assert name_kind(profile(operations=())) == ""


def test_of_the_sessions_of_a_run_the_last_is_kept() -> None:
    """Whatever the order of the files; a run whose sessions are not known is one of its own."""
    first, other, second = run(0, sessions_id="a"), run(1), run(2, sessions_id="a")
    assert keep_last_sessions([second, run(3, sessions_id="b"), first, other]) == [
        other,
        second,
        run(3, sessions_id="b"),
    ]
