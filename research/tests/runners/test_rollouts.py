"""The scores of published steps: the tables are whole, and a source is never in what it is scored with."""

from __future__ import annotations

import math

import pytest

from trainfare_research.runners.rollouts import (
    PhaseError,
    fit_interval,
    lengths_of,
    list_errors,
    score_left_out,
)
from trainfare_research.workloads.rollouts import read_devices, read_models, read_steps
from trainfare_research.workloads.rollouts.published import read_rows


def error(source: str, ratio: float, phase: str = "generation") -> PhaseError:
    return PhaseError(source, source, phase, 100.0 * ratio, 100.0, own_half_80=math.log(1.5))


def test_every_row_has_its_source_licence_and_trap() -> None:
    """Of at least 20 rows and 4 sources; the scored ones name a model and a device of the tables beside them."""
    rows = read_rows()
    assert len(rows) >= 20
    assert len({row["source"] for row in rows}) >= 4
    assert all(row[name] for row in rows for name in ("id", "source", "reference", "licence", "trap"))
    assert len({row["id"] for row in rows}) == len(rows)
    steps = read_steps()
    assert {step.model for step in steps} <= {model.model for model in read_models()}
    machines = {step.machine for step in steps} | {step.training_machine for step in steps}
    assert machines <= {device.machine for device in read_devices()}


def test_a_distribution_has_the_published_mean() -> None:
    for mean, cap in ((1350, 8192), (4090, 4096), (999, 4096)):
        assert lengths_of(mean, cap).mean_tokens == pytest.approx(mean)


def test_a_source_is_scored_with_the_others_alone() -> None:
    """One that is three times off does not widen its own interval, and its rows do not outvote another source."""
    alike = [error("a", 1.0), error("b", 1.1), error("c", 0.9)]
    odd = [error("d", 3.0), error("d", 3.0), error("d", 3.0)]
    coverage = score_left_out([*alike, *odd], "generation", own=False)
    assert (coverage.rows, coverage.sources) == (6, 4)
    assert coverage.inside_share == pytest.approx(3 / 6)
    factor, _ = fit_interval([*alike, *odd])
    assert factor == pytest.approx(math.sqrt(1.0 * 1.1))


def test_the_own_interval_has_no_factor() -> None:
    coverage = score_left_out(
        [error("a", 1.4), error("b", 1.6), error("b", 9.0, "update")], "generation", own=True
    )
    assert (coverage.rows, coverage.inside_share) == (2, 0.5)


def test_generation_of_left_out_sources_is_inside_in_70_to_90_percent() -> None:
    """Of the rows; half of them within a factor of 1.3. That of the product is wider than it says."""
    errors = list_errors(read_steps(), training=False)
    fitted = score_left_out(errors, "generation", own=False)
    assert fitted.rows >= 15
    assert 0.7 <= fitted.inside_share <= 0.9
    assert fitted.median_factor < 1.3
    assert score_left_out(errors, "generation", own=True).inside_share > 0.9
