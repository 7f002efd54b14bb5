"""The text at the end of a metered run."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from builders.profiles import profile
from builders.recommendations import hostile_recommendation, option, recommendation
from trainfare.report.run_end import WIDTH, render_run_end
from trainfare_core.recommendation import Recommendation, RunnerUp

TODAY = date(2026, 11, 24)
FILES = tuple(Path("runs") / f"trainfare-{name}" for name in ("profile.json", "report.html", "report.json"))
LONG = recommendation(
    options=tuple(
        option(
            rank=rank, usd=float(rank), hours=30.0 - rank, needs_porting=rank == 1,
            instance_type=f"Standard_NC{rank}ads_" + "x" * 60, probability_within=0.97,
        )
        for rank in range(1, 26)
    ),
    cheapest_rank=2,
    fastest_rank=25,
)  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        recommendation(),
        LONG,
        hostile_recommendation(),
        recommendation(options=(), unknown_because="no " * 300),
    ],
    ids=["usual", "long", "hostile", "none"],
)
def test_it_has_at_most_20_lines_of_100_columns(answer: Recommendation) -> None:
    """Whatever is named how: no more than 20 lines, none wider than 100 columns, no control byte."""
    text = render_run_end(answer, profile(), TODAY, FILES)
    lines = text.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= WIDTH
    assert text.replace("\n", "").isprintable()


def test_it_names_answer_runner_up_fastest_and_files() -> None:
    """Cheapest, runner-up of another machine, fastest, what was written where, and how to rank again."""
    options = tuple(
        option(rank=rank, usd=float(rank), hours=30.0 - rank, instance_type=name)
        for rank, name in enumerate(("g6.xlarge", "g6.xlarge", "g5.xlarge", "p5.48xlarge"), start=1)
    )
    text = render_run_end(
        recommendation(options=options, cheapest_rank=1, fastest_rank=4, runner_up=RunnerUp(rank=3)),
        profile(),
        TODAY,
        FILES,
    )
    joined = " ".join(text.split())
    assert "trainfare: cheapest: $1.00 [" in joined
    assert "trainfare: runner-up: $3.00 [" in joined
    assert "trainfare: fastest: $4.00 [" in joined
    assert "1 x g6.xlarge" in joined
    assert "Brackets are 80 % intervals; prices of 2026-07-20, 127 days old." in joined
    assert (
        f"wrote trainfare-profile.json, trainfare-report.html, trainfare-report.json to {FILES[0].parent.resolve()}"
        in (joined)
    )
    assert f"trainfare recommend {FILES[0]}" in joined


def test_it_says_what_the_number_of_steps_is() -> None:
    """A note about a number stands beside it."""
    answer = recommendation()
    job = replace_steps(answer, "stopped at step 48 of at most 800: priced to the last")
    assert "(stopped at step 48 of at most 800: priced to the last)" in " ".join(
        render_run_end(job, profile(), TODAY, FILES).split()
    )


def replace_steps(answer: Recommendation, note: str) -> Recommendation:
    return answer.model_copy(update={"job": answer.job.model_copy(update={"steps_note": note})})
