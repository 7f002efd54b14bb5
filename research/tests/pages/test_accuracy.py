"""The page of all scores: every figure comes from a runner's file, and a runner that was not run is named."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

pytest.importorskip("timm")

from trainfare_research.fits import distance_record
from trainfare_research.pages.accuracy import document, write_tables
from trainfare_research.truth_table import write_rows

RUN = {
    "source": "near", "precision": "bf16", "accelerator": "A30", "batch_per_device": "8.0", "framework": "PyTorch 2.4",
}  # fmt: skip
"""What a row of residuals and the same run on several devices share, but for its model."""
LEFT_OUT = ("workload", "chip_and_workload", "chip", "generation", "source")
SCORE = {
    "n": 41, "mape": 0.1234, "median_ape": 0.08, "p90_ape": 0.3, "worst_ape": 0.777, "bias": -0.05,
    "coverage": {"50": 0.51, "80": 0.83, "90": 0.94},
}  # fmt: skip


def _write(folder: Path) -> None:
    groups = {f"by_{name}": {f"some {name}": SCORE} for name in ("device", "family", "source", "scope")}
    fields = {
        "n": 41,
        "skipped": {
            "a | reason at lib/a.py:4 in get, called from b.py:8 in _net": 2,
            "b at /tmp/b.py:8 in _net": 1,
        },
        "fitted_on": [],
        "overall": SCORE,
        **groups,
    }
    (folder / "time_to_train.json").write_text(json.dumps(fields), encoding="utf-8")
    (folder / "time_to_train.csv").write_text(
        "source,benchmark,accelerator,accelerators_total,predicted,time_to_train_min\n"
        "near,resnet,A30,8,102,100\nfar,resnet,A30,8,250,100\nnone,resnet,A30,8,,100\n",
        encoding="utf-8",
    )


def _write_residuals(folder: Path) -> None:
    """Errors of 0.08 (0.2 without their chip) in two sources, one in each of AMP in PyTorch 2."""
    errors = {f"{name}_left_out": "0.2" for name in LEFT_OUT}
    errors |= {"workload_left_out": "0.08", "source_left_out": "0.08"}
    lines = [
        {**RUN, "model": "any", "source": source, "precision": precision, "timed": timed, **errors}
        for source in ("near", "far")
        for precision, timed in (("bf16", "trainer"), ("fp32", "trainer"), ("fp32", "steps"))
    ]
    write_rows(folder / "residuals.csv", lines)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_table_is_one_line_of_the_page(tmp_path: Path) -> None:
    _write(tmp_path)
    page = document(tmp_path, "A subset.")
    line = "benchmark left out | 41 | 12.3 % | 8.0 % | 30.0 % | -5.0 % | 51.0 % | 83.0 % | 94.0 % | 3 |"
    assert f"| MLPerf time to train, v0.5 to v3.1 | {line}" in page
    assert "some device" not in page
    assert "\nA subset.\n" in page


def test_several_devices_are_scored_with_their_chip_left_out(tmp_path: Path) -> None:
    """Of the run without a row's chip, the jobs on several devices alone; the other table was not run."""
    fields = {
        "overall": {**SCORE, "mape": 0.5},
        "by_scope": {"multi": SCORE, "single": {**SCORE, "mape": 0.5}},
        "multi_not_suspect": {**SCORE, "mape": 0.25},
    }
    (tmp_path / "step_time_apart.json").write_text(json.dumps(fields), encoding="utf-8")
    page = document(tmp_path)
    bar = "20 mean, 13 median"
    assert f"| several devices, unseen chip, first table | {bar} | met | 41 | 12.3 % | 8.0 % |" in page
    sound = "first table, without readings marked as suspect"
    assert f"| several devices, unseen chip, {sound} | {bar} | **missed** | 41 | 25.0 % | 8.0 % |" in page
    assert f"| several devices, unseen chip, second table | {bar} | not scored |" in page
    assert "| several devices, first table | chip | 51 % | 83 % | 94 % | met |" in page
    both = "| several devices, both tables, without readings marked as suspect | chip |"
    assert f"{both} - | - | - | not scored |" in page
    inside = {"50": 0.2, "80": 0.43, "90": 0.69}
    second = {**fields, "multi_not_suspect": {**SCORE, "n": 123, "coverage": inside}}
    (tmp_path / "step_time_apart_2.json").write_text(json.dumps(second), encoding="utf-8")
    assert f"{both} 28 % | 53 % | 75 % | **missed** |" in document(tmp_path), "three times as many rows"


def test_errors_on_several_devices_are_set_beside_those_of_the_same_runs_on_one(tmp_path: Path) -> None:
    """A run of another model, one without a prediction and one without a held-out error count for nothing."""
    errors = {"a": math.log(1.1), "b": math.log(0.8), "c": math.nan, "d": 0.0}
    others = {f"{left}_left_out": "0.1" for left in LEFT_OUT}
    lines = [
        {**RUN, "model": name, "timed": "trainer", **others, "chip_left_out": str(error)}
        for name, error in errors.items()
    ]
    lines += [
        {**RUN, "model": "of no table", "source": source, "timed": timed, **others}
        for source in ("near", "far") for timed in ("trainer", "steps")
    ]  # fmt: skip
    write_rows(tmp_path / "residuals.csv", lines)
    several = [
        {**RUN, "model": name, "predicted": predicted, "measured_ms": "100"}
        for name, predicted in (("a", "132"), ("b", "80"), ("c", "500"), ("d", ""), ("e", "500"))
    ]
    write_rows(tmp_path / "step_time_apart.csv", several)
    page = " ".join(document(tmp_path).split())
    assert "Several devices: 2 runs of the first table were measured on one device too." in page
    assert "They are 26.0 % off on several and 15.0 % on one" in page
    assert "what several take over one is 10.0 % off." in page


def test_groups_reasons_and_named_rows_are_in_the_tables(tmp_path: Path) -> None:
    _write(tmp_path)
    write_tables(tmp_path, tmp_path / "tables")
    scores = rows_of(tmp_path / "tables" / "scores.csv")
    assert [(row["group"], row["name"]) for row in scores] == [
        ("all", ""), ("scope", "some scope"), ("family", "some family"), ("source", "some source"),
        ("device", "some device"),
    ]  # fmt: skip
    assert {key: scores[-1][key] for key in ("table", "rows", "mean", "bias", "inside_80")} == {
        "table": "time_to_train", "rows": "41", "mean": "0.1234", "bias": "-0.0500", "inside_80": "0.8300",
    }  # fmt: skip
    assert rows_of(tmp_path / "tables" / "extremes.csv") == [
        {"table": "time_to_train", "error": "0.0200", "row": "near, resnet, 8 x A30"},
        {"table": "time_to_train", "error": "1.5000", "row": "far, resnet, 8 x A30"},
    ]
    assert rows_of(tmp_path / "tables" / "unanswered.csv") == [
        {"table": "time_to_train", "rows": "2", "reason": "a / reason"},
        {"table": "time_to_train", "rows": "1", "reason": "b"},
    ]


def test_a_runner_without_a_file_is_named_and_the_bars_stand(tmp_path: Path) -> None:
    page = document(tmp_path)
    assert "not run: there is no memory.json" in page
    assert "not run: there is no time_to_train.json" in page
    assert "Not run: there is no pick_cheapest.json." in page
    assert "| TPU, one generation left out | 12 mean, each 18 | met | 51 |" in page
    assert "| the same, one step of the job measured | 5 mean | **missed** |" in page
    assert "NeuSight" in page
    assert "| several devices, unseen chip, first table | 20 mean, 13 median | not scored | | | | | |" in page
    assert "| one device, bare steps | source | - | - | - | not scored |" in page
    assert "| MLPerf time to train, v0.5 to v3.1 | benchmark | - | - | - | not scored |" in page


def test_groups_are_covered_within_five_points_or_not(tmp_path: Path) -> None:
    """All errors within the half of the others' is as wrong as none of them."""
    _write(tmp_path)
    _write_residuals(tmp_path)
    page = document(tmp_path)
    assert "| MLPerf time to train, v0.5 to v3.1 | benchmark | 51 % | 83 % | 94 % | met |" in page
    assert "| one device, a trainer's loop | source | 100 % | 100 % | 100 % | **missed** |" in page
    assert "| language models | source | " in page
    line = "13 mean, 9 median | met | 2 | 8.3 % | 8.3 % |"
    assert f"| one device, AMP or bf16, PyTorch 2.x: unseen model, seen chip | {line}" in page
    assert "| the same, unseen chip and model | 18 mean, 13 median | **missed** | 2 | 22.1 % |" in page


def test_regret_stands_beside_the_rules_that_know_no_workload(tmp_path: Path) -> None:
    part = {"all": {"n": 7, "mean": 0.021, "p90": 0.05, "worst": 0.4, "picks_cheapest": 0.75}}
    fields = {
        "n": 7, "held_out": True, "contradicted_rows": 3, "rules": {"trainfare": part, "lowest price of an hour": part},
        "worst": [{"workload": "a, b", "regret": 0.4, "picked": "T4", "cheapest": "L4"}],
    }  # fmt: skip
    (tmp_path / "pick_cheapest.json").write_text(json.dumps(fields), encoding="utf-8")
    page = document(tmp_path)
    assert "| trainfare, all | 7 | 2.1 % | 5.0 % | 40.0 % | 75.0 % |" in page
    assert "without the chip and the model" in page
    assert "leaves out 3 rows on several devices" in page
    assert "Worst, 40.0 %: a, b: picked T4, cheapest L4." in page


def test_coverage_by_group_stands_on_the_page_the_worst_first(tmp_path: Path) -> None:
    """Every group of the record has its line, in the order of the distance of its share to 80 %."""
    groups = distance_record().groups
    page = document(tmp_path).partition("## How often intervals hold, by group")[2].partition("\n## ")[0]
    cells = [
        line.split(" | ") for line in page.splitlines() if line.startswith(("| source", "| vendor", "| work"))
    ]
    assert [(line[0][2:], line[1]) for line in cells] == [(group.left_out, group.name) for group in groups]
    shares = [float(line[-2].removesuffix(" %")) for line in cells]
    assert shares == [pytest.approx(100 * group.held) for group in groups]
    assert [abs(share - 80) for share in shares] == sorted(
        (abs(share - 80) for share in shares), reverse=True
    )
    assert f"{100 * distance_record().groups_held:.1f} % of {len(groups)} groups hold 70 to 90 %" in page
