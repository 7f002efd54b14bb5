"""Corrections by earlier runs on simulated projects, as issue 51 bars them, and the replay of rows by hand."""

from __future__ import annotations

import math

import pytest

from trainfare_research.runners.ledger_replay import (
    list_projects,
    list_simulations,
    measure_share,
    replay,
    simulate,
    write_page,
)

SIMULATIONS = {simulation.name: simulation for simulation in list_simulations()}


@pytest.mark.parametrize("name", SIMULATIONS)
def test_the_bars_of_issue_62_hold(name: str) -> None:
    """More runs do no harm, intervals hold where runs scatter, and steps that are apart inside a run hide no bias."""
    simulation = SIMULATIONS[name]
    before, one, three, ten = simulate(simulation, projects=300)
    assert ten.mean_error <= 1.1 * three.mean_error
    assert ten.mean_error <= before.mean_error + 0.01
    assert min(outcome.held for outcome in (one, three, ten)) >= (0.65 if simulation.run <= 0.15 else 0.4)
    if simulation.bias == 1.3:
        assert one.mean_error <= 0.08
        assert three.mean_error <= 0.04
        assert ten.mean_error <= 0.035


def _row(error: float, **changes: str) -> dict[str, str]:
    row = {
        "source": "lab", "model": "net", "precision": "fp32", "batch_per_device": "8", "timed": "trainer",
        "accelerator": "L4-24GB", "source_left_out": str(error),
    }  # fmt: skip
    return {**row, **changes}


def test_rows_are_replayed_in_order_by_project() -> None:
    """Four runs that took 1.2 times their prediction: without one 17 % off, then less; other dies are projects apart."""
    late = -math.log(1.2)
    rows = [_row(late) for _ in range(4)] + [
        _row(late, accelerator="T4-16GB"),
        _row(late, accelerator="Abacus"),
    ]
    rows += [_row(math.nan), _row(late, timed="bare")]
    projects = list_projects(rows, by=("source", "die"), timed="trainer")
    assert {key: len(project) for key, project in projects.items()} == {
        ("lab", "AD104"): 4,
        ("lab", "TU104"): 1,
    }
    before, one, three = (replay(projects, runs) for runs in (0, 1, 3))
    assert len(before.error) == 1
    assert before.mean_error == pytest.approx(1 - 1 / 1.2)
    assert before.mean_error > one.mean_error > three.mean_error
    assert before.width > one.width > three.width


def test_first_runs_on_a_die_are_found() -> None:
    """After three on an L4, the first on a T4 is predicted and its second is not."""
    rows = [_row(-0.2) for _ in range(3)] + [_row(-0.2, accelerator="T4-16GB") for _ in range(2)]
    projects = list_projects(rows, by=("source",), timed="trainer")
    assert len(replay(projects, 3).error) == 2
    assert len(replay(projects, 3, first_on_die=True).error) == 1


def test_the_share_that_a_project_has_in_common() -> None:
    """Two projects of two runs: means +-0.3, each run 0.1 off: 0.09 less half of the 0.02 within, of both."""
    rows = [
        _row(error, model=name)
        for name, mean in (("a", 0.3), ("b", -0.3))
        for error in (mean + 0.1, mean - 0.1)
    ]
    share = measure_share(list_projects(rows, by=("model",), timed="trainer"))
    assert share == pytest.approx((0.09 - 0.01) / (0.09 - 0.01 + 0.02))


def test_the_page_has_every_line() -> None:
    """Of simulations and of replayed projects."""
    rows = [_row(-0.1 * index, timed=timed) for timed in ("trainer", "bare") for index in range(5)]
    rows.append(_row(-0.1, accelerator="T4-16GB"))
    page = write_page(rows, projects=20)
    assert page.count("\n| ") == 2 + len(SIMULATIONS) + 5
    assert write_page([], projects=5).count("\n| ") == 1 + len(SIMULATIONS)
