"""What is said of a run whose global batch grows with its devices: both batches, the steps, and what it costs in samples."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from builders.batches import ONE, TRAINER
from builders.batches import make_eight as eight
from builders.batches import make_scaled_answer as answer
from builders.profiles import profile
from builders.recommendations import make_why_not
from builders.reports import render_html, render_markdown, render_terminal
from trainfare.report.rows import marks
from trainfare.report.why import why_text
from trainfare_core.recommendation import (
    Constraints,
    QualityRatio,
    Recommendation,
)

TODAY = date(2026, 11, 24)


def show(recommended: Recommendation) -> str:
    return " ".join(render_terminal(recommended, profile=profile(), as_of=TODAY, details=False).split())


def test_both_batches_steps_and_what_the_quality_costs_are_said() -> None:
    """By hand: of $144 a fiftieth is start-up, and the rest 1.03 and 1.7 times: $148 and $243."""
    text = show(answer(eight()))
    assert "batch 128 " in text
    assert "batch 1,024 " in text
    assert (
        "Each of 8 devices has 128 samples: a global batch of 1,024, not 128, in 112,680 steps, not 900,900. "
        "To the quality of 128 it needs 1.03 to 1.7 times the samples, $148 to $243 (from published workloads, none "
        "measured here; --critical-batch narrows it)."
    ) in text


def test_of_several_options_with_another_batch_the_one_that_is_described_is_named() -> None:
    four = TRAINER.model_copy(update={"devices": 4})
    other = eight(
        rank=3, usd=90.0, hours=2.4, instance_type="h200.4x", accelerator_count=4.0, trainer=four, global_batch_size=512
    )  # fmt: skip
    text = show(answer(eight(), options=(ONE, eight(), other), best_value_rank=3))
    assert "Fastest: each of 8 devices has 128 samples: a global batch of 1,024, not 128" in text


def test_batches_that_are_added_up_can_be_shared_instead() -> None:
    """Four of 32 samples on one device are as many on four."""
    text = show(answer(eight(accumulate_grad_batches=4)))
    assert (
        "The 4 batches added up for a step could be shared by up to 4 devices, which keeps 128: --scale batch."
        in text
    )
    assert "added up" not in show(answer(eight()))


def test_the_batch_on_each_device_is_offered_where_the_script_shares_it() -> None:
    own = eight(global_batch_size=128, batch_ratio=1.0, quality_ratio=None)
    text = show(answer(own).model_copy(update={"fastest_scaled": eight()}))
    assert (
        "With 128 samples on each of 8 devices, a global batch of 1,024, 1 x p6-b200.48xlarge would take 1.26 h and "
        "$144: --scale samples."
    ) in text


def test_nothing_is_said_where_the_batch_stays() -> None:
    text = show(answer(eight(global_batch_size=128, batch_ratio=1.0, quality_ratio=None)))
    assert "global batch" not in text
    assert "batch 128 " not in text


def test_the_same_steps_with_more_samples_are_said_and_priced_by_the_samples_needed() -> None:
    """Eight times the samples were seen where 1.7 times are needed: less than the price."""
    text = show(answer(eight(optimizer_steps=900_900, samples_ratio=8.0)))
    assert "in the same 900,900 steps, which see 8 times the samples" in text
    assert "1.03 to 1.7 times the samples, $21.05 to $32.87" in text


def test_a_batch_beyond_what_was_published_has_a_lower_end_alone() -> None:
    text = show(answer(eight(quality_ratio=QualityRatio(low=1.2, mid=None, high=None))))
    assert "it needs at least 1.2 times the samples, at least $172" in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("stated", "(by the critical batch that you state)"),
        (
            "noise_scale",
            "(by FareMeter's noise scale 3,000 samples, a factor of 4 either way; --critical-batch narrows it)",
        ),
        (None, "is not predicted: a contrastive loss: --critical-batch says it."),
    ],
)
def test_the_source_is_said(source: str | None, said: str) -> None:
    ratio = None if source is None else eight().quality_ratio
    assert said in show(answer(eight(quality_ratio=ratio), source=source))


def test_samples_that_are_counted_are_not_offered_again() -> None:
    text = show(answer(eight(), constraints=Constraints(scale="quality")))
    assert "it needs 1.03 to 1.7 times the samples, which are counted here." in text
    assert "more devices keep the quality" in text


def test_the_first_screen_keeps_its_lines() -> None:
    screen = render_terminal(answer(eight()), profile=profile(), as_of=TODAY, details=False, width=100)
    assert len(screen.splitlines()) <= 24


WHAT_IT_COSTS = (
    "Each of 8 devices has 128 samples: a global batch of 1,024, not 128, in 112,680 steps, not 900,900. To the "
    "quality of 128 it needs 1.03 to 1.7 times the samples, $148 to $243 (from published workloads, none measured here"
)


@pytest.mark.parametrize("render", [render_html, render_markdown, render_terminal])
def test_every_whole_report_names_both_batches_and_what_the_larger_costs(render: Callable[..., str]) -> None:
    """In the page: beside the headline and in the plan of the option that has it."""
    text = " ".join(render(answer(eight()), as_of=TODAY).replace("\\", "").split())
    assert text.count(WHAT_IT_COSTS) == (2 if render is render_html else 1)
    assert "batch 128" in text
    assert "batch 1,024" in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_of_any_width_names_the_other_batch_in_its_row(width: int) -> None:
    table = render_terminal(answer(eight()), as_of=TODAY, width=width).partition("----")[2]
    rows = table.partition("2 of 412")[0]
    assert rows.count("batch 1,024") == 1
    assert rows.replace("micro-batch", "").count("batch") == 1


def test_a_page_says_why_nothing_is_predicted() -> None:
    page = render_html(answer(eight(quality_ratio=None), source=None), as_of=TODAY)
    assert page.count("What the larger batch costs in samples is not predicted: a contrastive loss") == 2


def test_a_smaller_batch_is_no_saving() -> None:
    small = eight(global_batch_size=64, batch_ratio=0.5, optimizer_steps=1_801_800, quality_ratio=None)
    one = small.model_copy(update={"trainer": TRAINER.model_copy(update={"devices": 1})})
    text = show(answer(one))
    assert "The one device has 64 samples: a global batch of 64, not 128, in 1,801,800 steps" in text
    assert "A smaller batch may need fewer samples, which is not counted." in text


def test_a_row_and_why_name_the_batch() -> None:
    assert marks(eight(), TODAY)[0] == "batch 1,024"
    assert "batch 128" not in marks(ONE, TODAY)
    critical = answer(eight()).critical_batch
    scaled = make_why_not(job=answer(eight()).job, critical_batch=critical, option=eight(), best=ONE)
    text = " ".join(why_text(scaled, width=100).split())
    assert (
        "Global batch 1,024 in 112,680 steps; the answer's: 128 in 900,900 steps. To the quality of 128 it needs 1.03 "
        "to 1.7 times the samples, $148 to $243 (from published workloads, none measured here; --critical-batch narrows "
        "it). Usual learning rate then: x 8 with a warm-up (linear scaling rule, SGD). A warm-up or decay that the script "
        "counts in steps is not known here: it must fit 112,680."
    ) in text
    of_answer = scaled.model_copy(update={"option": ONE, "best": eight()})
    text = " ".join(why_text(of_answer, width=100).split())
    assert (
        "Global batch 128 in 900,900 steps; the answer's: 1,024 in 112,680 steps. The answer's: To the quality of 128"
    ) in text
    assert "learning rate" not in text


@pytest.mark.parametrize(
    ("optimizers", "said"),
    [
        (("SGD",), "x 8 with a warm-up (linear scaling rule, SGD)"),
        (("AdamW",), "x 2.8 (square root rule, AdamW)"),
        (("SGD", "AdamW"), ""),
        (("Muon",), ""),
        ((), ""),
    ],
)
def test_the_usual_learning_rate_is_said_in_whole_reports_alone(
    optimizers: tuple[str, ...], said: str
) -> None:
    scaled = answer(eight())
    scaled = scaled.model_copy(update={"job": scaled.job.model_copy(update={"optimizers": optimizers})})
    assert "learning rate" not in show(scaled)
    for render in (render_html, render_markdown, render_terminal):
        text = " ".join(render(scaled, as_of=TODAY).replace("\\", "").split())
        if said:
            assert text.count(f"Usual learning rate then: {said}.") == (2 if render is render_html else 1)
        else:
            assert "learning rate" not in text


@pytest.mark.parametrize(
    ("warmup", "steps", "said"),
    [
        (
            112_680,
            112_680,
            "The warm-up of 112,680 steps does not end in these 112,680: state it as a share of the steps",
        ),
        (112_679, 112_680, ""),
        (
            None,
            112_680,
            "A warm-up or decay that the script counts in steps is not known here: it must fit 112,680.",
        ),
        (None, 900_900, ""),
        (900_900, 900_900, ""),
    ],
)
def test_a_warm_up_that_fewer_steps_do_not_hold_is_a_warning(
    warmup: int | None, steps: int, said: str
) -> None:
    """In whole reports alone; where the steps stay, so does the schedule."""
    scaled = answer(eight(optimizer_steps=steps))
    scaled = scaled.model_copy(update={"job": scaled.job.model_copy(update={"warmup_steps": warmup})})
    assert "warm-up" not in show(scaled)
    for render in (render_html, render_markdown, render_terminal):
        text = " ".join(render(scaled, as_of=TODAY).replace("\\", "").split())
        assert "learning rate" in text
        if said:
            assert said in text
        else:
            assert "does not end" not in text
            assert "counts in steps is not known here" not in text
