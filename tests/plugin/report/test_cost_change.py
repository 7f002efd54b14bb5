"""A change of the cost as text: what a terminal and a pull request show."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainfare.report.cost_change import build_change_section, change_headline
from trainfare.report.render.text import format_lines, format_markdown
from trainfare_core.changes.cost_change import (
    CauseName,
    CostCause,
    CostChange,
    CostSide,
    FlopsChange,
    ModuleChange,
    QualityCost,
)
from trainfare_core.documents import Interval
from trainfare_core.recommendation import ChangeRange, QualityRatio

COLUMNS = 80


def side(label: str, usd: float | None, machine: str = "aws:a100.1x@us-east-1 (on_demand)") -> CostSide:
    if usd is None:
        return CostSide(label=label, machine=None, usd=None, hours=None, unknown_because="nothing fits")
    around = Interval(mid=usd, low_80=usd / 2, high_80=usd * 2)
    return CostSide(label=label, machine=machine, usd=around, hours=Interval(mid=4, low_80=2, high_80=8))


def change(base: float | None, head: float | None, **causes: float) -> CostChange:
    known = base is not None and head is not None
    difference = head - base if base is not None and head is not None else None
    return CostChange(
        base=side("base.json", base),
        head=side("head", head),
        change_usd=difference,
        change_fraction=difference / base if difference is not None and base else None,
        causes=tuple(CostCause(cause=name, usd=usd, detail=f"{name} differ") for name, usd in causes.items()),  # type: ignore[arg-type]
        unknown_because=None if known else "base.json: nothing fits",
    )


@pytest.mark.parametrize(
    ("base", "head", "text"),
    [
        (412.0, 688.0, "$412.00 -> $688.00 per run: +$276.00 (+67.0 %)"),
        (1688.0, 412.0, "$1,688.00 -> $412.00 per run: -$1,276.00 (-75.6 %)"),
        (0.0005, 0.001, "$0.000500 -> $0.001000 per run: +$0.000500 (+100.0 %)"),
        (1e6, 1_000_000.5, "$1,000,000.00 -> $1,000,000.50 per run: +$0.50 (less than 0.1 %)"),
        (0.0, 2.0, "$0.00 -> $2.00 per run: +$2.00"),
        (412.0, 412.0, "no change in cost: $412.00 per run"),
        (412.0, 412.001, "no change in cost: $412.00 per run (less than $0.01 apart)"),
        (0.0, 0.0, "no change in cost: $0.00 per run"),
        (None, 5.0, "unknown, because base.json: nothing fits"),
        (5.0, None, "unknown, because base.json: nothing fits"),
    ],
)
def test_the_headline(base: float | None, head: float | None, text: str) -> None:
    """Dollars, difference and percent; never an increase of $0.00, and unknown with its reason."""
    assert change_headline(change(base, head)) == text


def test_the_interval_of_a_change_is_shown_in_every_format() -> None:
    """Percent in the sentence, dollars in the table; whole percent where the interval is wide, tenths where it is not."""
    wide = ChangeRange(low_80=0.6012, high_80=0.7449, low=0.5, high=0.8)
    usd = ChangeRange(low_80=160.119, high_80=430.1, low=100, high=500)
    known = change(412.0, 688.0).model_copy(update={"fraction_range": wide, "usd_range": usd})
    assert change_headline(known).endswith("+$276.00 (+67.0 % [+60 % to +74 %])")
    for text in (
        format_lines(build_change_section(known), width=COLUMNS),
        format_markdown(build_change_section(known)),
    ):
        assert "+67.0 % [+60 % to +74 %]" in " ".join(text.replace("\\", "").split())
        assert "+276.00 [+160.12 to +430.10]" in " ".join(text.replace("\\", "").split())
        assert "no interval" not in text
    narrow = known.model_copy(
        update={"fraction_range": ChangeRange(low_80=-0.001, high_80=0.0204, low=-0.001, high=0.0204)}
    )
    assert change_headline(narrow).endswith("[-0.1 % to +2.0 %])")


def test_a_change_of_nothing_has_no_interval() -> None:
    """Identical jobs read as before."""
    nothing = ChangeRange(low_80=0, high_80=0, low=0, high=0)
    known = change(5.0, 5.0).model_copy(update={"fraction_range": nothing, "usd_range": nothing})
    text = format_lines(build_change_section(known), width=COLUMNS)
    assert "no change in cost: $5.00 per run" in text
    assert "change, USD" not in text


def test_no_zero_increase_in_any_format() -> None:
    """A change of zero is 'no change in cost' everywhere, and has no causes."""
    for text in (
        format_lines(build_change_section(change(5.0, 5.0)), width=COLUMNS),
        format_markdown(build_change_section(change(5.0, 5.0))),
    ):
        assert "no change in cost" in text
        assert "cause" not in text
        assert not re.search(r"[+-]\$?0\.0", text)


def test_an_unknown_side_keeps_the_other() -> None:
    """The known side's dollars are shown beside the reason of the other."""
    text = format_lines(build_change_section(change(None, 5.0)), width=COLUMNS)
    assert "unknown, because base.json: nothing fits" in text
    assert "5.00 [2.50 to 10.00]" in text


def rows_of(markdown: str) -> list[list[str]]:
    table = markdown.split("| cause | USD | what differs |")[1].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|") and "---" not in line
    ]


def parse_usd(cell: str) -> Decimal:
    return Decimal(cell.replace("\\", "").replace(",", ""))


NAMES: tuple[CauseName, ...] = (
    "prices",
    "steps",
    "global_batch",
    "model",
    "memory_fit",
    "checkpoints",
    "other",
)


@given(
    base=st.floats(1e-6, 1e7),
    parts=st.lists(st.floats(-1, 3), min_size=1, max_size=len(NAMES)),
)
def test_shown_causes_add_up_to_the_shown_total(base: float, parts: list[float]) -> None:
    """What is printed adds up exactly: base, the causes, head."""
    causes = {name: base * part / len(parts) for name, part in zip(NAMES, parts, strict=False)}
    head = base + sum(causes.values())
    if head < 0:
        return
    cost_change = change(base, head, **causes)
    total = sum(parse_usd(row[1]) for row in rows_of(format_markdown(build_change_section(cost_change))))
    headline = change_headline(cost_change)
    if headline.startswith("no change"):
        assert total == 0
        return
    shown = re.search(r"\$([\d.,]+) -> \$([\d.,]+) ", headline)
    assert shown is not None
    assert total == parse_usd(shown[2]) - parse_usd(shown[1])


def test_eighty_columns_hold_every_line() -> None:
    """At 80 columns cells are folded, not cut: each word is there."""
    cost_change = change(412.0, 688.0, steps=300.0, model=-24.0)
    flops = (FlopsChange(part="matmul forward", base_flops=1e9, head_flops=2e9),)
    model = cost_change.causes[1].model_copy(update={"detail": "word " * 40, "flops": flops})
    long = cost_change.model_copy(update={"causes": (cost_change.causes[0], model)})
    text = format_lines(build_change_section(long), width=COLUMNS)
    lines = text.splitlines()
    assert all(len(line) <= COLUMNS for line in lines if not line.startswith("  note"))
    assert text.count("word") == 40
    assert "steps" in text
    assert "+300.00" in text
    assert "-24.00" in text
    assert " ".join(text.split()).count("matmul forward 1 -> 2 GFLOP") == 1


def test_hostile_labels_stay_text() -> None:
    """The name of a branch or machine neither controls the terminal nor breaks the Markdown table."""
    evil = side("a|b`<script>\x1b[31m](javascript:x)", 5.0, machine="m|<img>")
    cost_change = change(4.0, 5.0, steps=1.0).model_copy(update={"base": evil})
    markdown = format_markdown(build_change_section(cost_change))
    assert "\x1b" not in markdown + format_lines(build_change_section(cost_change), width=COLUMNS)
    assert "<script>" not in markdown
    assert "](javascript" not in markdown
    assert {line.count("|") for line in markdown.splitlines() if line.startswith("|")} == {4}


def test_modules_are_named_with_what_they_add() -> None:
    """The detail of the model names modules, signs and units; kinds of operations only where modules are not known."""
    modules = (
        ModuleChange(
            module="encoder.layers", base_flops=1e12, head_flops=4.1e12, base_bytes=0, head_bytes=2e9
        ),
        ModuleChange(module="", base_flops=0, head_flops=0, base_bytes=1500, head_bytes=0),
        ModuleChange(module=None, base_flops=9, head_flops=10, base_bytes=5, head_bytes=5),
    )
    flops = (FlopsChange(part="matmul backward", base_flops=1e9, head_flops=2e9),)
    cause = CostCause(cause="model", usd=1, detail="more FLOPs", flops=flops, modules=modules)
    cost_change = change(412.0, 413.0).model_copy(update={"causes": (cause,)})
    text = " ".join(format_lines(build_change_section(cost_change), width=200).split())
    assert (
        "more FLOPs; encoder.layers: +3.1 TFLOP and +2 GB; outside of modules: -1.5 kB; other modules: +1 FLOP"
        in text
    )
    assert "matmul backward" not in text


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        (
            QualityCost(ratio=QualityRatio(low=1.03, mid=1.15, high=1.7), low_usd=148.2, high_usd=245.0),
            "$148 to $245: 1.03 to 1.7 times the samples",
        ),
        (
            QualityCost(ratio=QualityRatio(low=1.2, mid=None, high=None), low_usd=172.0, high_usd=None),
            "at least $172: at least 1.2 times the samples",
        ),
        (
            QualityCost(
                ratio=None, low_usd=None, high_usd=None, unknown_because="not predicted: of no known loss"
            ),
            "not predicted: of no known loss",
        ),
        (None, None),
    ],
)
def test_other_global_batches_are_named_with_what_the_larger_costs(
    quality: QualityCost | None, said: str | None
) -> None:
    known = change(50.0, 144.0)
    sides = (
        {"global_batch_size": 128, "optimizer_steps": 900_900.0},
        {"global_batch_size": 1_024, "optimizer_steps": 112_680.0},
    )
    base, head = (
        side.model_copy(update=facts) for side, facts in zip((known.base, known.head), sides, strict=True)
    )
    text = " ".join(
        format_lines(
            build_change_section(known.model_copy(update={"base": base, "head": head, "quality": quality})),
            width=200,
        ).split()
    )
    assert "global batch 128 in 900,900 steps 1,024 in 112,680 steps" in text
    assert ("to the quality of 128" in text) is (said is not None)
    if said is not None:
        assert f"to the quality of 128 {said}" in text
    same = known.model_copy(update={"base": base, "head": base})
    assert "global batch" not in format_lines(build_change_section(same), width=200)
