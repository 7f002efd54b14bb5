"""Regret of a choice: computed by hand, with prices of the snapshot, and with held-out errors."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from trainfare_research.runners.pick_cheapest import (
    RULES,
    consistent,
    device_prices,
    read_held_out,
    regrets,
    summary,
    workloads,
)

PRICES = {"T4-16GB": 1.0, "A100-SXM-40GB": 4.0}


def _row(name: str, throughput: float, predicted_over_measured: float, **changes: str) -> dict[str, str]:
    row = {
        "source": "bench", "model": "net", "precision": "fp32", "task": "train", "framework": "torch 2", "notes": "",
        "accelerator": name, "devices": "1", "throughput": str(throughput), "measured_ms": "10",
        "predicted": str(10 * predicted_over_measured), "batch_per_device": "8",
    }  # fmt: skip
    return {**row, **changes}


def test_regret_of_a_wrong_choice_is_its_measured_cost() -> None:
    """A T4 at 100/s and 1 USD costs twice as much per unit as an A100 at 800/s and 4 USD, predicted 3 times too slow."""
    rows = [_row("T4-16GB", 100, 1.0), _row("A100-SXM4-40GB", 800, 3.0)]
    ((regret, picked, cheapest),) = regrets(workloads(rows, PRICES, {}), RULES["trainfare"]).values()
    assert (picked, cheapest) == ("T4-16GB", "A100-SXM-40GB")
    assert regret == pytest.approx(1.0)
    rows[1] = _row("A100-SXM4-40GB", 800, 1.5)
    document = summary(workloads(rows, PRICES, {}))
    assert document["rules"]["trainfare"]["all"] == {
        "n": 1, "mean": 0.0, "p90": 0.0, "worst": 0.0, "picks_cheapest": 1.0,
    }  # fmt: skip
    assert document["rules"]["lowest price of an hour"]["one device"]["mean"] == pytest.approx(1.0)


def test_rows_without_price_or_prediction_and_suspect_rows_are_left_out() -> None:
    rows = [_row("T4-16GB", 100, 1.0), _row("A100-SXM4-40GB", 800, 1.0)]
    assert len(workloads(rows, PRICES, {})) == 1
    for other in (
        _row("RTX-3090-24GB", 500, 1.0),
        _row("Abacus-9", 500, 1.0),
        _row("A100-SXM4-40GB", 500, 1.0, predicted=""),
        _row("A100-SXM4-40GB", 500, 1.0, notes="SUSPECT_superlinear"),
        _row("A100-SXM4-40GB", 500, 1.0, framework="torch 1"),
        _row("A100-SXM4-40GB", 500, 1.0, devices="8"),
    ):
        assert workloads([rows[0], other], PRICES, {}) == {}


def _run(devices: int, measured_ms: float, **changes: str) -> dict[str, str]:
    facts = {
        "sequence_length": "",
        "nodes": "1",
        "params": "1e8",
        "devices": str(devices),
        "measured_ms": str(measured_ms),
    }
    return _row("A100-SXM4-40GB", 800, 1.0, **{**facts, **changes})


def test_runs_that_one_device_contradicts_are_not_of_a_healthy_machine() -> None:
    """0.4 GB of gradients over PCIe take 0.03 s: a step of 0.3 s cannot take 1 s on eight devices, nor 0.1 s."""
    alone, good = _run(1, 300), _run(8, 330)
    slow, fast = _run(8, 1000), _run(8, 100)
    assert consistent([alone, good, slow, fast]) == [alone, good]
    for other in (
        _run(8, 1000, params=""),
        _run(8, 1000, nodes="2"),
        _run(8, 1000, batch_per_device="16"),
        _run(8, 1000, notes="suite=v2;runs=1"),
    ):
        assert consistent([alone, other]) == [alone, other]
    assert consistent([slow]) == [slow]


def test_several_devices_are_scored_with_and_without_contradicted_runs() -> None:
    rows = [_run(1, 300), _run(8, 330), _run(8, 1000)]
    rows += [{**row, "accelerator": "T4-16GB", "throughput": "100"} for row in rows[:2]]
    fields = summary(workloads(rows, PRICES, {}), workloads(consistent(rows), PRICES, {}))
    parts = fields["rules"]["trainfare"]
    assert parts["several devices"]["n"] == parts["several devices, no run contradicted"]["n"] == 1


def test_held_out_errors_replace_fitted_ones_of_one_device(tmp_path: Path) -> None:
    path = tmp_path / "residuals.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        names = [
            "source",
            "model",
            "precision",
            "accelerator",
            "batch_per_device",
            "framework",
            "chip_and_workload_left_out",
        ]
        writer.writerow(names)
        writer.writerow(["bench", "net", "fp32", "A100-SXM4-40GB", "8", "torch 2", "1.5"])
        writer.writerow(["bench", "net", "fp32", "T4-16GB", "8", "torch 2", "nan"])
    errors = read_held_out(path)
    assert list(errors.values()) == [1.5]
    rows = [_row("T4-16GB", 100, 1.0), _row("A100-SXM4-40GB", 800, 1.0)]
    ((_, picked, _),) = regrets(workloads(rows, PRICES, errors), RULES["trainfare"]).values()
    assert picked == "T4-16GB"


def test_prices_are_of_one_device() -> None:
    prices = device_prices()
    assert 0 < prices["T4-16GB"] < prices["A100-SXM-80GB"] < prices["H100-SXM-80GB"] < 20
