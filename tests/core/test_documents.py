"""Documents that people keep: one record a line, with the same values."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders.profiles import operation, profile
from trainfare_core.documents import escape_controls, format_records
from trainfare_core.job_profile import JobProfile
from trainfare_core.methods.curves import CurvePoint, LearningCurve, Metric

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.json"))
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


@given(VALUES)
def test_the_values_are_the_same(value: Any) -> None:
    text = format_records(value)
    assert json.loads(text) == value
    assert format_records(json.loads(text)) == text


def test_records_have_a_line_each() -> None:
    """Lists of records, and records in records, are opened; empty ones and short lists of plain values are not."""
    value = {
        "memory": {"bytes": 1, "moments": [{"phase": "forward", "sizes": [1, 2]}, {}]},
        "names": ["a", "é"],
        "notes": ["x" * 100, "y" * 100],
        "none": [],
    }
    assert format_records(value).splitlines() == [
        "{",
        ' "memory": {',
        '  "bytes": 1,',
        '  "moments": [',
        '   {"phase": "forward", "sizes": [1, 2]},',
        "   {}",
        "  ]",
        " },",
        ' "names": ["a", "é"],',
        ' "notes": [',
        f'  "{"x" * 100}",',
        f'  "{"y" * 100}"',
        " ],",
        ' "none": []',
        "}",
    ]


def test_an_operation_is_a_line_of_a_profile() -> None:
    short = profile().to_json().splitlines()
    long = profile(operations=(*profile().operations, operation(name="aten.added"))).to_json().splitlines()
    assert len(long) == len(short) + 1
    (added,) = (line for line in long if "aten.added" in line)
    assert json.loads(added)["name"] == "aten.added"


def test_a_metric_is_a_line_of_a_learning_curve() -> None:
    """A point holds several metrics, so it is opened."""
    metrics = (Metric(name="val_loss", value=0.25), Metric(name="accuracy", value=0.5))
    curve = LearningCurve(
        tool_version="0",
        name="gpt",
        trainable_parameters=1,
        parameters=1,
        points=(CurvePoint(step=1, metrics=metrics),),
    )
    assert (
        '    {"name": "val_loss", "value": 0.25},\n    {"name": "accuracy", "value": 0.5}\n'
        in curve.to_json()
    )


@pytest.mark.sources
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_have_one_record_a_line(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert text == format_records(document)
    records = [json.loads(line.rstrip(",")) for line in text.splitlines() if line.startswith("  {")]
    operations = document["operations"]
    assert records[: len(operations)] == operations
    read = JobProfile.from_json(text)
    assert len(read.to_json().splitlines()) < len(operations) + len(document["modules"]) + 70


@given(st.text())
@example("a\x7f\x9b31m\x85\u202e\u2066\ufeff")
def test_json_holds_no_character_that_controls_a_terminal(text: str) -> None:
    """Each is written as an escape of JSON, so that the value is the same."""
    written = escape_controls(json.dumps(text, ensure_ascii=False))
    assert json.loads(written) == text
    assert not any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in written)
    assert not set(written) & set("\u200b\u200e\u202a\u202e\u2066\u2069\ufeff")
