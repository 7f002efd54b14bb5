"""Pilots: the order at the same step, the level at the end with an interval, and what cannot be told."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_core.errors import InputError, ProfileError
from trainfare_core.methods.curves import CurvePoint, LearningCurve, Metric
from trainfare_core.methods.pilot_ends import drops, ill_behaved
from trainfare_core.methods.pilots import (
    PilotLine,
    PilotReport,
    common_metric,
    predict_reached,
    read_pilots,
    sentences,
    steps_to,
)
from trainfare_core.methods.question import Question


def curve(values: dict[int, float], metric: str = "val_loss", **fields: Any) -> LearningCurve:
    """A run with one metric at some steps of a schedule of 1,000."""
    points = tuple(
        CurvePoint(step=step, metrics=(Metric(name=metric, value=value),), learning_rate=1e-3)
        for step, value in values.items()
    )
    base: dict[str, Any] = {
        "tool_version": "0", "name": "run", "trainable_parameters": 1, "parameters": 1, "planned_steps": 1000,
        "samples_per_step": 8, "train_samples": 8000, "points": points,
    }  # fmt: skip
    return LearningCurve(**{**base, **fields})


def read(curves: dict[str, list[LearningCurve]], **fields: Any) -> PilotReport:
    metric = fields.pop("metric", None) or common_metric(curves)
    direction = "max" if fields.pop("higher_is_better", False) else "min"
    question = Question(metric=metric, direction=direction, **fields)
    return read_pilots(curves, question, tool_version="0")


def line(report: PilotReport, strategy: str) -> PilotLine:
    return next(line for line in report.lines if line.strategy == strategy)


def test_strategies_are_ranked_at_the_last_common_step() -> None:
    """LoRA is ahead where both have been, whatever the longer run came to later."""
    lora = curve({100: 1.2, 300: 1.0})
    full = curve({100: 1.3, 300: 1.1, 500: 0.8})
    report = read({"lora": [lora], "full_finetune": [full]})
    assert report.common_step == 300
    assert [line.strategy for line in report.lines] == ["lora", "full_finetune"]
    assert [line.rank for line in report.lines] == [1, 2]
    assert line(report, "full_finetune").value_at_common_step == pytest.approx(1.1)


def test_the_end_is_the_last_value_less_the_usual_drop() -> None:
    """At half of the schedule the mean drop of the public curves, their residuals the interval."""
    half = next(drop for drop in drops() if drop.seen == 0.5)
    final = line(read({"lora": [curve({100: 1.5, 500: 1.0})]}), "lora").final
    assert final.mid == pytest.approx(math.exp(half.mean_log))
    assert (final.low_80, final.high_80) == pytest.approx((math.exp(half.low_log), math.exp(half.high_log)))
    done = line(read({"lora": [curve({100: 1.5, 1000: 1.0})]}), "lora").final
    assert done.mid == 1.0
    assert done.high_80 - done.low_80 < 0.04


def test_the_interval_of_the_end_is_two_deviations_wide() -> None:
    """From the tenth to the ninth tenth of a log-normal: 2 x 1.2816 standard deviations, as draws take it."""
    report = read({"lora": [curve({100: 1.5, 500: 1.0})]})
    final, reached = line(report, "lora").final, predict_reached(report)["lora"]
    assert reached.log_value == pytest.approx(math.log(final.mid))
    assert reached.log_sigma == pytest.approx(math.log(final.high_80 / final.low_80) / 2 / 1.2816, rel=1e-4)


def test_a_score_keeps_its_last_value() -> None:
    """No scores were among the public curves: the spread of the losses on its error, and no drop."""
    scored = {"lora": [curve({100: 0.6, 500: 0.8}, "val_accuracy")]}
    final = line(read(scored, higher_is_better=True), "lora").final
    assert final.mid == pytest.approx(0.8)
    assert 0.7 < final.low_80 < 0.8 < final.high_80 < 0.9


@pytest.mark.parametrize(
    ("strategy", "made", "fields", "word"),
    [
        ("lora", curve({100: 1.0}), {}, "too early"),
        ("scratch", curve({100: 1.0, 400: 0.9}), {}, "too early"),
        ("lora", curve({500: 1.0}, planned_steps=None), {}, "length of its schedule"),
        ("lora", curve({500: -1.0}), {}, "neither a positive loss"),
        ("lora", curve({1000: 1.0}, train_samples=10), {"samples": 1e6}, "times larger"),
        ("lora", curve({1000: 1.0}), {"samples": 8e4}, "two or more parts"),
    ],
)
def test_what_cannot_be_predicted_has_a_reason(
    strategy: str, made: Any, fields: dict[str, Any], word: str
) -> None:
    """No number, and the reason."""
    report = read({strategy: [made]}, **fields)
    assert line(report, strategy).final is None
    assert word in line(report, strategy).cannot_tell
    assert strategy not in predict_reached(report)
    assert any(word in text for text in sentences(report))


def test_scratch_is_not_ranked_early() -> None:
    """Scratch and fine-tuning cross late: an early order of the two is not given."""
    early = {"scratch": [curve({100: 0.5, 300: 0.4})], "full_finetune": [curve({100: 1.0, 300: 0.9})]}
    report = read(early)
    assert line(report, "scratch").rank is None
    assert line(report, "full_finetune").rank == 1
    late = {"scratch": [curve({100: 0.5, 700: 0.4})], "full_finetune": [curve({100: 1.0, 700: 0.9})]}
    assert line(read(late), "scratch").rank == 1


def test_nested_parts_predict_the_whole() -> None:
    """An error of 0.2 + 3 n^-0.35 seen at 1, 3 and 10 % of the data: the interval at the whole holds the truth."""

    def error(samples: float) -> float:
        return 0.2 + 3 * samples**-0.35

    whole = 1e5
    parts = [
        curve({1000: error(share * whole)}, train_samples=int(share * whole)) for share in (0.01, 0.03, 0.1)
    ]
    final = line(read({"lora": parts}, samples=whole), "lora").final
    assert final.low_80 <= error(whole) <= final.high_80
    assert final.mid < error(0.1 * whole)
    assert final.high_80 - final.low_80 > 0.004


def test_of_several_learning_rates_the_best_run_counts() -> None:
    """Two learning rates: the best last value on the most data; with one rate a note."""
    runs = {"lora": [curve({500: 1.0}), curve({500: 0.7})]}
    report = read(runs)
    assert line(report, "lora").value_at_common_step == 0.7
    assert line(report, "lora").runs == 2
    assert any("one learning rate" in note for note in line(report, "lora").notes)


def test_steps_to_a_target_lie_between_points() -> None:
    """Linear in ln(step) on the running best; None where it was never held."""
    series = [(10, 2.0), (100, 1.0), (1000, 1.5)]
    assert steps_to(series, 1.5, higher_is_better=False) == math.ceil(10 * math.sqrt(10))
    assert steps_to(series, 2.5, higher_is_better=False) == 10
    assert steps_to(series, 0.5, higher_is_better=False) is None
    assert steps_to([], 0.5, higher_is_better=True) is None
    rising = {"lora": [curve({100: 0.5, 1000: 0.9}, "val_accuracy")]}
    assert line(read(rising, higher_is_better=True, target_value=0.9), "lora").steps_to_target == 1000


def test_a_peak_is_flagged_and_widens() -> None:
    """A dip and a return are told; a plain fall is not."""
    assert not ill_behaved([(i, 1 / i) for i in range(1, 20)])
    peaked = {i: 1.0 - 0.02 * i for i in range(1, 20)} | {i: 0.64 + 0.04 * (i - 19) for i in range(20, 30)}
    assert ill_behaved(sorted(peaked.items()))
    spikes = [(step, float(step % 2)) for step in range(1, 7)]
    assert (ill_behaved(spikes[:5]), ill_behaved(spikes[:4])) == (True, False), "five points say something"
    wide = line(read({"lora": [curve({20 * step: value for step, value in peaked.items()})]}), "lora")
    assert any("peak or a dip" in note for note in wide.notes)


def test_the_metric_that_most_recorded_is_taken() -> None:
    """Validation before training loss; one that nobody recorded is refused with those that are there."""
    report = read({"lora": [curve({500: 1.0})], "full_finetune": [curve({500: 1.0})]})
    assert report.metric == "val_loss"
    with pytest.raises(InputError, match="val_loss"):
        read({"lora": [curve({500: 1.0})]}, metric="val_f1")
    with pytest.raises(InputError, match="no pilot"):
        read({})
    with pytest.raises(InputError, match="recorded a loss"):
        read({"lora": [curve({})]})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40),
    st.sampled_from(["lora", "full_finetune", "scratch"]),
)
def test_any_loss_gives_an_ordered_interval(values: list[float], strategy: str) -> None:
    """Low, middle and high in order, positive, and readable as `draws` need them."""
    step = max(1, 1000 // len(values))
    learning_curve = curve({step * (index + 1): value for index, value in enumerate(values)})
    report = read({strategy: [learning_curve]})
    final = line(report, strategy).final
    if final is not None:
        assert 0 <= final.low_80 <= final.mid <= final.high_80
    for by in predict_reached(report).values():
        assert math.isfinite(by.log_value)
        assert by.log_sigma > 0


def test_a_curve_reads_back_and_a_broken_one_is_refused() -> None:
    """The same bytes; no NaN, no newer schema, no more points than the limit."""
    learning_curve = curve({1: 1.0, 2: 0.5})
    assert LearningCurve.from_json(learning_curve.to_json()) == learning_curve
    data = json.loads(learning_curve.to_json())
    for change in ({"schema_version": 2}, {"points": data["points"] * 200}, {"parameters": -1}):
        with pytest.raises(ProfileError, match="not a learning curve"):
            LearningCurve.from_json(json.dumps({**data, **change}))
    with pytest.raises(ProfileError):
        LearningCurve.from_json(learning_curve.to_json().replace("0.5", "NaN"))
