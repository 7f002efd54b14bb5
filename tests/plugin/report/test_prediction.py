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


def test_an_input_pipeline_that_was_not_measured_is_unknown() -> None:
    """No time of 0 is shown for it; a stated one has its time and share."""
    job = gpt_profile()
    unknown = prediction_text(predict_machine(job, "H100-SXM-80GB"))
    stated = job.model_copy(
        update={"batch": job.batch.model_copy(update={"loader_samples_per_s_per_vcpu": 1.0})}
    )
    known = prediction_text(predict_machine(stated, "H100-SXM-80GB", vcpus=8))
    lines = [
        next(line for line in text.splitlines() if "input pipeline  " in line) for text in (unknown, known)
    ]
    assert lines[0].split() == ["input", "pipeline", "unknown"]
    assert lines[1].endswith("%")


def test_it_says_what_was_nearest_and_that_a_guess_is_one() -> None:
    """Below the step stands why it is a guess, and above the calibration which runs are nearest and how they came out."""
    for name, guess in (("H100-SXM-80GB", False), ("MI300X", True)):
        answer = predict_machine(gpt_profile(), name)
        text = prediction_text(answer)
        assert f"\n  nearest measured: {answer.nearest_measured}\n" in text
        assert (f"\n  a guess: {answer.guess_because}\n" in text) is guess
        assert ("a guess" in text) is guess
