"""Fits of the memory model: a source is scored by a fit without it, and corrections rest on what rows show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")

from row_builders.memory_runs import size_run
from trainfare_core.prediction.memory.calibrated import MemoryClass
from trainfare_core.prediction.memory.peak import MemoryParts
from trainfare_research.fitting import memory as fit_memory
from trainfare_research.fitting import memory_rows


def draw_rows(
    source: str, name: MemoryClass, gib: float, count: int, **more: Any
) -> list[memory_rows.MemoryRow]:
    """Return rows of one source in groups of two, of 10 GiB of weights and measured peaks of `gib`, within 10 %."""
    run = size_run(10.0, name=name, quantity="allocated", **more)
    spread = np.linspace(-0.1, 0.1, count)
    return [
        memory_rows.MemoryRow(source, source, (source, str(n // 2), "lora"), run, gib * math.exp(s))
        for n, s in enumerate(spread)
    ]


def test_a_source_is_scored_by_a_fit_without_it() -> None:
    """Two sources agree that 4-bit weights hold 2 GiB more; the third holds 20: without it the correction is theirs."""
    rows = [
        row
        for source, gib in (("a", 12.0), ("b", 12.0), ("c", 30.0))
        for row in draw_rows(source, "quantised", gib, 20)
    ]
    fits = fit_memory.leave_one_source_out(rows)
    assert fits["c"].corrections.quantised_bytes == pytest.approx(2 * 2**30, rel=0.15)
    assert set(fits["c"].fitted_on) == {"a", "b"}
    assert fits["c"].allocated["quantised"].half_80 < 0.2, "the two agree with each other"
    assert fits["a"].allocated["quantised"].half_80 > 0.5, "b and c do not"
    scores = fit_memory.score_held_out(rows)["source_left_out"]
    assert scores["coverage_80"] > 0.6, "rows of a and b are inside their wide interval, those of c are not"
    assert scores["mape"] > 0.15


def test_a_source_of_few_rows_counts_as_much_as_one_of_many_where_sources_count_the_same() -> None:
    rows = [
        row
        for source, gib, count in (("a", 12.0, 20), ("b", 12.0, 20), ("c", 30.0, 4))
        for row in draw_rows(source, "quantised", gib, count)
    ]
    scores = fit_memory.score_held_out(rows)["source_left_out"]
    assert scores["coverage_90"] == pytest.approx(40 / 44, abs=1e-4)
    assert scores["coverage_90_by_source"] == pytest.approx(2 / 3, abs=1e-4)


def test_fits_without_two_sources_are_those_of_the_rows_alone() -> None:
    """A fit without a source leaves out each other one; the pairs that two such fits share are made once."""
    rows = [
        row
        for source, gib in (("a", 12.0), ("b", 12.5), ("c", 13.0), ("d", 15.0))
        for row in draw_rows(source, "quantised", gib, 8)
    ]
    alone = {left: fit_memory.fit_rows([row for row in rows if row.source != left]) for left in "abcd"}
    assert fit_memory.leave_one_source_out(rows) == alone
    known = fit_memory.SourcesLeftOut(rows)
    assert known.corrections("a", "b") is known.corrections("b", "a")
    assert known.corrections("a", "b") == fit_memory.fit_corrections(
        [row for row in rows if row.source in "cd"]
    )


def test_workspaces_of_convolutions_and_gradients_of_split_models_are_fitted() -> None:
    half = np.array([5.0 * 2**30])
    zero = 0 * half
    rows = [
        replace(row, run=replace(row.run, parts=MemoryParts(half, gradients, zero, half - gradients, zero, zero)))
        for name, gib, gradients, more in (
            ("one_device", 11.0, zero, {"convolutions": True}), ("one_device", 10.0, zero, {}),
            ("model_parallel", 15.0, half, {}),
        )
        for source in "ab"
        for row in draw_rows(source, name, gib, 20, **more)
    ]  # fmt: skip
    fit = fit_memory.fit_corrections(rows)
    assert fit.convolution_bytes == pytest.approx(2**30, rel=0.2)
    assert fit.split_gradient_factor == pytest.approx(2.0, rel=0.1)


def test_corrections_start_from_none_and_a_removed_one_stays_there() -> None:
    rows = draw_rows("a", "quantised", 12.0, 10) + draw_rows("b", "quantised", 12.0, 10)
    fit = fit_memory.fit_corrections(rows)
    assert fit.quantised_bytes == pytest.approx(2 * 2**30, rel=0.2)
    assert fit.split_gradient_factor == 1.0, "no row has gradients"
    assert fit_memory.fit_corrections(rows, "quantised_bytes").quantised_bytes == 0.0
    losses = fit_memory.losses_without(rows)
    assert losses["none"] < losses["quantised_bytes"], "it earns its place with either source left out"
    spreads = fit_memory.fit_rows(rows).device
    assert spreads["one_device"].rows == 0
    assert spreads["one_device"].half_80 >= 0.05, "nothing is known of it: as far as everything spreads"
