"""The fit of what errors two runs share: pairs that differ in one thing, and the widths that they were drawn with."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from trainfare_core.changes.change_range import pair_errors
from trainfare_research.fitting.table_lines import Line
from trainfare_research.runners.change_errors import (
    LEAST_PAIRS,
    OUT,
    Pair,
    find_pairs,
    find_thing,
    fit_thing,
    score_left_out,
)

ROW = {
    "source": "lab", "accelerator": "A100", "framework": "pytorch 2.0", "measured": "step", "model": "gpt",
    "model_family": "gpt", "batch_per_device": "8", "precision": "bf16", "devices": "1", "predicted": "100",
    "measured_ms": "110", "high_80": "120",
}  # fmt: skip


def make_row(**fields: str) -> Line:
    return {**ROW, **fields}


@pytest.mark.parametrize(
    ("fields", "thing"),
    [
        ({"batch_per_device": "16"}, "batch"),
        ({"precision": "fp32"}, "precision"),
        ({"model": "bert", "model_family": "bert", "params": "1"}, "model"),
        ({"sequence_length": "512"}, "model"),
        ({"devices": "8", "strategy": "ddp", "global_batch": "64"}, "devices"),
        ({"batch_per_device": "16", "precision": "fp32"}, None),
        ({"optimizer": "adam"}, None),
        ({}, None),
    ],
)
def test_a_pair_differs_in_one_thing(fields: dict[str, str], thing: str | None) -> None:
    """Two differences, none, and what no change of a job names are no pair."""
    assert find_thing(make_row(), make_row(**fields)) == thing


def test_what_both_rows_share_cancels() -> None:
    """Runs that all take a tenth longer than predicted have no error in their ratios; another chip is no pair."""
    rows = [
        make_row(batch_per_device=str(batch), predicted=str(10 * batch), measured_ms=str(11 * batch), high_80=str(12 * batch))
        for batch in range(1, LEAST_PAIRS + 1)
    ]  # fmt: skip
    alone = make_row(accelerator="V100", batch_per_device="3")
    pairs = find_pairs([*rows, alone, make_row(predicted="")])
    assert len(pairs) == LEAST_PAIRS * (LEAST_PAIRS - 1) // 2
    assert {pair.thing for pair in pairs} == {"batch"}
    assert max(abs(pair.error) for pair in pairs) < 1e-9
    assert max(pair.log_ratio for pair in pairs) == pytest.approx(math.log(LEAST_PAIRS))
    assert find_pairs(rows[:3]) == []


def draw_pairs(source: str, count: int, *, seed: int) -> list[Pair]:
    """Draw pairs with a standard deviation of 0.1 + 0.05 |ln ratio|, times the part of the step that changed."""
    rng = np.random.default_rng(seed)
    sizes, shares = rng.uniform(0, 2, count), rng.uniform(0.2, 1, count)
    errors = shares * (0.1 + 0.05 * sizes) * rng.standard_normal(count)
    return [
        Pair(source, "model", float(size), float(share), float(error), independent=9.0)
        for size, share, error in zip(sizes, shares, errors, strict=True)
    ]


def test_the_fit_finds_what_was_drawn() -> None:
    """Both numbers come back; a source counts the same whether it has few pairs or many."""
    pairs = [*draw_pairs("a", 4000, seed=1), *draw_pairs("b", 4000, seed=2)]
    fit = fit_thing(pairs, "model")
    assert (fit.least, fit.slope) == pytest.approx((0.1, 0.05), abs=0.012)
    assert (fit.pairs, fit.sources) == (8000, 2)
    wide = [pair._replace(source="c", error=3 * pair.error) for pair in draw_pairs("c", 400, seed=3)]
    once, often = fit_thing([*pairs, *wide], "model"), fit_thing([*pairs, *wide * 5], "model")
    assert once.least == pytest.approx(often.least, rel=0.02)


def test_sources_left_out_hold_their_intervals() -> None:
    """Scored on a source that the fit has not seen, 80 % lie inside; without shared errors nothing is wider than two."""
    pairs = [pair for seed, name in enumerate("abc") for pair in draw_pairs(name, 3000, seed=seed)]
    for count, inside in score_left_out(pairs).values():
        assert count == 3000
        assert inside == pytest.approx(0.8, abs=0.03)
    capped = score_left_out([pair._replace(independent=0.0) for pair in pairs])
    assert max(inside for _, inside in capped.values()) == 0.0


def test_the_shipped_constants_are_of_this_form() -> None:
    """Every thing that can change has errors from several sources."""
    rows = json.loads(OUT.read_text(encoding="utf-8"))
    assert (
        {row["thing"] for row in rows} == {"batch", "precision", "model", "devices"} == pair_errors().keys()
    )
    assert all(row["sources"] >= 5 and row["least"] > 0 for row in rows)
