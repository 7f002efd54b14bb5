"""A pilot report in a terminal."""

from __future__ import annotations

from trainfare.report.strategy import render_pilots
from trainfare_core.documents import Interval
from trainfare_core.methods.pilots import PilotLine, PilotReport


def report(*lines: PilotLine, common_step: int | None) -> PilotReport:
    return PilotReport(
        tool_version="0",
        metric="val_loss",
        higher_is_better=False,
        common_step=common_step,
        lines=lines,
        notes=(),
    )


RANKED = PilotLine(
    strategy="lora",
    runs=1,
    value_at_common_step=0.25,
    rank=1,
    final=Interval(mid=0.2, low_80=0.15, high_80=0.26),
    steps_to_target=1_500,
    cannot_tell=None,
    notes=(),
)
UNRANKED = PilotLine(
    strategy="full_finetune",
    runs=1,
    value_at_common_step=None,
    rank=None,
    final=None,
    steps_to_target=None,
    cannot_tell="too few points",
    notes=(),
)


def test_the_order_is_at_a_step_and_what_is_not_known_is_said() -> None:
    """A line a strategy: place, value there, the level at the end, and when the target was reached."""
    head, first, second, *_ = render_pilots(report(RANKED, UNRANKED, common_step=2_000)).splitlines()
    assert head == "Pilots by val_loss (lower is better), at step 2,000:"
    assert " ".join(first.split()) == (
        "1. LoRA 0.25 end: 0.2 [0.15 - 0.26], target reached after 1,500 steps"
    )
    assert " ".join(second.split()) == "- full fine-tuning unknown end: unknown"


def test_without_a_common_step_there_is_no_order() -> None:
    """Runs that do not overlap are not compared, and the head says so."""
    text = render_pilots(report(UNRANKED, common_step=None))
    assert text.startswith("Pilots by val_loss (lower is better), no common step:\n")
