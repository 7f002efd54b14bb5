"""The published schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from builders.profiles import profile
from builders.recommendations import (
    hostile_recommendation,
    make_measured_step,
    no_answer,
    option,
    recommendation,
)
from trainfare.schema import PublishedSchema, list_published_schemas, write_schemas
from trainfare_core.recommendation import Constraints

DOCS = Path(__file__).parents[3] / "docs" / "schema"


def _validator(name: str) -> Draft202012Validator:
    schema: dict[str, Any] = json.loads((DOCS / name).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.sources  # another pydantic orders and words the same schema otherwise
@pytest.mark.parametrize("schema", list_published_schemas(), ids=lambda schema: schema.file_name)
def test_the_file_on_disk_is_current(schema: PublishedSchema) -> None:
    """What is published is what the models say; if not: python -m trainfare.schema docs/schema."""
    assert (DOCS / schema.file_name).read_text(encoding="utf-8") == schema.text


def test_a_property_is_a_line_of_its_schema() -> None:
    """A change of one property changes one line of its schema."""
    (text,) = (schema.text for schema in list_published_schemas() if schema.file_name == "job-profile-1.json")
    schema = json.loads(text)
    lines = [line.strip().rstrip(",") for line in text.splitlines()]
    for body in (schema, *schema["$defs"].values()):
        for name, stated in body["properties"].items():
            assert f"{json.dumps(name)}: {json.dumps(stated, ensure_ascii=False)}" in lines


def test_every_file_is_published_by_the_code() -> None:
    """No schema lies in the folder that nothing keeps current."""
    assert sorted(path.name for path in DOCS.iterdir()) == [
        schema.file_name for schema in list_published_schemas()
    ]


@pytest.mark.parametrize(
    "answer",
    [
        recommendation(),
        no_answer(),
        hostile_recommendation(),
        recommendation(
            basis="per_1000_steps",
            constraints=Constraints(max_usd=5, deadline_hours=1, providers=("aws",)),
            options=(option(probability_within=0.5, samples_per_s=None, micro_batch_size=None),),
        ),
    ],
    ids=["whole", "none", "hostile", "constrained"],
)
def test_answers_satisfy_the_schema(answer: Any) -> None:
    """The JSON we write validates, with every optional field there and missing."""
    _validator("recommendation-1.json").validate(json.loads(answer.to_json()))


def test_profiles_satisfy_the_schema() -> None:
    """A traced and a measured profile both validate."""
    for job in (profile(), profile(measured=make_measured_step())):
        _validator("job-profile-1.json").validate(json.loads(job.to_json()))


@pytest.mark.parametrize(
    "change", [{"rank": 0}, {"usd_per_hour": -1.0}, {"bound_by": "magic"}, {"surprise": 1}, {"run_usd": None}]
)
def test_the_schema_refuses_what_the_model_refuses(change: dict[str, Any]) -> None:
    """Ranges, words, unknown fields and missing numbers are part of the schema, not only of the code."""
    document = json.loads(recommendation().to_json())
    document["options"][0].update(change)
    assert not _validator("recommendation-1.json").is_valid(document)


def test_writing_gives_every_schema(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The command that keeps docs/schema current writes one file a model, named with its version."""
    paths = write_schemas(tmp_path / "schema")
    declines = ("decline-claims", "decline-decomposition", "decline-forecast", "decline-wait")
    others = (
        "device-measurement",
        "doctor",
        "job-profile",
        "learning-curve",
        "ledger-runs",
        "ledger-score",
        "machine-prediction",
        "offers",
        "pilot-report",
        "policy",
        "policy-check",
        "price-explanation",
        "prices-status",
        "prices-update",
        "prices-verification",
        "recommendation",
        "rollout",
        "run",
        "run-explanation",
        "run-status",
        "savings",
        "strategy-answer",
        "why-not",
    )
    names = ("bill-reconciliation", "budget-check", *declines, *others)
    assert [path.name for path in paths] == [f"{name}-1.json" for name in names]
    assert all(
        json.loads(path.read_text(encoding="utf-8"))["$id"].startswith("urn:trainfare:schema:")
        for path in paths
    )
    record_property("{} JSON schemas with their version", len(paths))
