"""JobProfile: a contract that survives JSON, refuses nonsense at the border, and derives its totals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from builders.profiles import operation, profile
from trainfare_core.errors import ProfileError
from trainfare_core.job_profile import SHAPE_AXES, JobProfile, ParallelFacts, RunPlan


def change_field(path: str, value: Any) -> str:
    """JSON text of a good profile with one value replaced; `path` is dotted, numbers are list positions."""
    document = json.loads(profile().to_json())
    place = document
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return json.dumps(document)


def test_json_round_trip_is_exact() -> None:
    """What is written is what is read, and it is written the same way twice."""
    job = profile()
    assert JobProfile.from_json(job.to_json()) == job
    assert JobProfile.from_json(job.to_json()).to_json() == job.to_json()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("operations.0.flops", -1),
        ("operations.0.flops", "NaN"),
        ("operations.0.shape", [-1]),
        ("operations.0.shape", [10**30]),
        ("operations.0.bytes_read", 10**30),
        ("operations.0.kind", "magic"),
        ("operations.0.phase", "sideways"),
        ("batch.tokens_per_step", 10**30),
        ("parallel.devices", 0),
        ("parallel.accumulate_grad_batches", 0),
        ("plan.optimizer_steps", -5),
        ("plan.max_time_s", float("inf")),
        ("schema_version", 2),
        ("surprise", 1),
        ("name", "x" * 501),
    ],
)
def test_nonsense_is_refused_with_its_field(path: str, value: Any) -> None:
    """A value out of range is an error of ours that names the field and the file."""
    field = path.split(".")[-1]
    with pytest.raises(ProfileError, match=rf"job\.json: .*{field}"):
        JobProfile.from_json(change_field(path, value), where="job.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"schema_version": 1', "\x00", "[" * 5000])
def test_what_is_not_a_profile_is_refused(text: str) -> None:
    """Broken or foreign JSON is an error of ours that says how to write a good one."""
    with pytest.raises(ProfileError, match="trainfare profile"):
        JobProfile.from_json(text)


@pytest.mark.parametrize("key", ["optimizer_steps", "name", "schema_version"])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_key_that_stands_twice_is_refused(key: str, escaped: bool) -> None:
    """At any depth, and where one of the two is written with an escape: readers of JSON differ in which they take."""
    text = profile().to_json()
    line = next(line for line in text.splitlines() if f'"{key}"' in line)
    start = line.index(f'"{key}"')
    value = json.loads(f"{{{line[start:].rstrip(',')}" + ("" if line.rstrip(",").endswith("}") else "}"))[key]
    written = f"\\u{ord(key[0]):04x}{key[1:]}" if escaped else key
    twice = f'{line[:start]}"{written}": {json.dumps(value)}, {line[start:]}'
    with pytest.raises(ProfileError, match=rf"job\.json: .*key '{key}' stands twice") as refused:
        JobProfile.from_json(text.replace(line, twice), where="job.json")
    assert len(str(refused.value)) < 300


def test_a_profile_without_its_schema_version_is_refused() -> None:
    """A file of another time that fits by chance is not read as one of today."""
    document = json.loads(profile().to_json())
    assert JobProfile.from_json(json.dumps(document)) == profile()
    del document["schema_version"]
    with pytest.raises(ProfileError, match=r"job\.json: .*schema_version is missing"):
        JobProfile.from_json(json.dumps(document), where="job.json")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No input makes the reader fail in any other way."""
    with pytest.raises(ProfileError):
        JobProfile.from_json(data)


def test_fixed_bytes_are_a_part_of_the_bytes() -> None:
    """bytes_fixed cannot exceed what is moved."""
    with pytest.raises(ValidationError, match="bytes_fixed"):
        operation(bytes_read=10, bytes_written=10, bytes_fixed=21)


def test_unknown_length_needs_its_reason() -> None:
    """A plan without steps says why."""
    with pytest.raises(ValidationError, match="say why"):
        RunPlan(optimizer_steps=None)
    assert RunPlan(optimizer_steps=None, unknown_because="the dataset has no length").optimizer_steps is None


def test_recomputation_counts_for_the_hardware_alone() -> None:
    """Hardware FLOPs include recomputed forward work, model FLOPs do not."""
    job = profile(operations=(operation(flops=100), operation(flops=30, phase="backward", recomputed=True)))
    assert job.step_flops == 130
    assert job.model_step_flops == 100


def test_unknown_operations_lower_the_coverage() -> None:
    """An operation without a formula is reported as missing coverage, by bytes."""
    known = operation(bytes_read=60, bytes_written=15)
    unknown = operation(kind="unknown", name="my::kernel", flops=0, bytes_read=20, bytes_written=5)
    job = profile(operations=(known, unknown))
    assert job.coverage == pytest.approx(0.75)
    assert job.unknown_operations == (unknown,)
    assert profile(operations=()).coverage == 1.0


def test_global_batch_counts_every_device() -> None:
    """Samples per step over all devices, or unknown where the batch is."""
    job = profile(parallel=ParallelFacts(strategy="ddp", devices=4, num_nodes=2))
    assert job.global_samples_per_step == job.batch.samples_per_step * 8
    blind = job.model_copy(update={"batch": job.batch.model_copy(update={"samples_per_step": None})})
    assert blind.global_samples_per_step is None


def test_shapes_have_the_axes_they_declare() -> None:
    """The builder's matmuls carry as many numbers as SHAPE_AXES names."""
    for group in profile().operations:
        if group.kind in SHAPE_AXES and group.shape:
            assert len(group.shape) == len(SHAPE_AXES[group.kind]), group
