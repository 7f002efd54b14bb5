"""The answer of `trainfare predict` as text."""

from __future__ import annotations

from builders.profiles import gpt_profile
from trainfare.report.prediction import prediction_text
from trainfare_core.prediction import predict_machine


def test_it_ends_with_the_calibration_and_the_notes() -> None:
    """How far the figures are measured stands below them, and every note of the answer."""
    answer = predict_machine(gpt_profile(), "H100-SXM-80GB")
    assert answer.notes
    lines = prediction_text(answer).splitlines()
    assert lines[-len(answer.notes) - 1 :] == [
        f"  calibrated: {answer.calibrated}",
        *(f"  note: {note}" for note in answer.notes),
    ]
