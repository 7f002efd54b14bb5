"""The fit of price ages: it finds the numbers that its pairs were drawn with, and scores what it has not seen."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from trainfare_core.prices.age_doubt import ANY, price_moves
from trainfare_research.data import TABLES
from trainfare_research.runners.price_age import Pairs, fit, read_pairs, score_folds

HISTORY = ("provider", "instance_type", "accelerator", "accelerator_count", "date", "price_usd_per_hour")
PRICES = TABLES / "prices"


def draw_rows(option: str, *, size: float, change_days: float, seed: int) -> Pairs:
    """Pairs of a made-up cloud whose prices move as the model says, with settling in 60 days."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(5, 400, 3000)
    changed = rng.random(3000) < 1 - np.exp(-age / change_days)
    spread = size * np.sqrt(1 - np.exp(-age / 60))
    return Pairs(
        [("cloud", "vm", option)] * 3000,
        [f"machine {i % 100}" for i in range(3000)],
        ["a" if i % 2 else "b" for i in range(3000)],
        ["a" if i % 2 else "b" for i in range(3000)],
        age,
        np.where(changed, rng.laplace(0.0, 1.0, 3000) * spread, 0.0),
        np.ones(3000),
    )


def test_the_fit_finds_what_was_drawn() -> None:
    """Change time and size come back within a tenth, and the pool of the kind stands last."""
    moves_list = fit(draw_rows("spot", size=0.3, change_days=80.0, seed=1))
    assert moves_list[0].change_days == pytest.approx(80.0, rel=0.15)
    assert moves_list[0].size == pytest.approx(0.3, rel=0.1)
    assert (moves_list[-1].provider, moves_list[-1].purchase_option) == (ANY, "spot")


def test_intervals_hold_on_pairs_left_out() -> None:
    """Scored on a source that the fit has not seen, the intervals hold what they say."""
    pairs = draw_rows("spot", size=0.3, change_days=40.0, seed=2)
    folds = [pairs.where(lambda *names, source=source: source in names[2:]) for source in "ab"]
    score = score_folds(pairs, folds)["cloud", "vm", "spot"]
    assert score.pairs == 3000
    assert score.inside_50 == pytest.approx(0.5, abs=0.03)
    assert score.inside_80 == pytest.approx(0.8, abs=0.03)
    assert score.inside_90 == pytest.approx(0.9, abs=0.03)


def write(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def test_a_history_of_changes_is_read_every_month(tmp_path: Path) -> None:
    """A price that changed once in a year makes pairs without a change too; offers of two dates make one pair each."""
    machine = ("gcp", "g2", "L4", "1")
    source = "Cyclenerd/calculator@1:pricing.yml"
    write(
        tmp_path / "price_history.csv",
        (*HISTORY, "purchase_option", "source", "region"),
        [
            (*machine, "2025-01-01", "1.0", "spot", source, "eu"),
            (*machine, "2025-12-31", "2.0", "spot", source, "eu"),
        ],
    )
    places = ("provider", "service", "instance_type", "region", "zone", "purchase_option")
    columns = (*places, "price_usd_per_hour", "observed_on", "source")
    key = ("aws", "ec2", "p4d", "us", "", "on_demand")
    write(tmp_path / "offers.csv", columns, [(*key, "10", "2026-01", "x@1")])
    write(tmp_path / "offers_2026-11.csv", columns, [(*key, "5", "2026-03-16", "y")])
    pairs = read_pairs(tmp_path)
    rows = list(zip(pairs.key, pairs.age_days.tolist(), pairs.log_ratio.tolist(), strict=True))
    assert (("aws", "ec2", "on_demand"), 60.0, math.log(0.5)) in rows
    google = [row for row in rows if row[0][0] == "gcp"]
    assert len(google) == 14 * 13 / 2  # thirteen months and the last day
    assert sum(ratio != 0.0 for _, _, ratio in google) == 13
    assert max(age for _, age, _ in google) == 364.0


def test_the_shipped_classes_cover_every_option() -> None:
    """A pool stands for what was not measured, spot settles wide, and list prices hardly move in a quarter."""
    pools = {move.purchase_option for move in price_moves() if move.provider == ANY}
    assert pools == {"spot", "capacity_block", ANY}
    by_name = {(move.provider, move.service, move.purchase_option): move for move in price_moves()}
    assert by_name["aws", "ec2", "on_demand"].chance_changed(90.0) < 0.02
    assert by_name["azure", "azure_vm", "spot"].log_half_width(90.0) > by_name[
        "gcp", "gce", "spot"
    ].log_half_width(90.0)


def test_the_shipped_classes_are_the_fit() -> None:
    """What ships is what the command writes from the tables."""
    numbers = ("change_days", "change_power", "size", "settle_days")
    fitted, shipped = (
        {
            (moves.provider, moves.service, moves.purchase_option): [getattr(moves, name) for name in numbers]
            for moves in classes
        }
        for classes in (fit(read_pairs(PRICES)), price_moves())
    )
    assert fitted.keys() == shipped.keys()
    for key, values in fitted.items():
        assert values == pytest.approx(shipped[key], rel=0.02), key
