"""The tables of samples by batch: which runs and rounds count, and that the judged workloads stand apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainfare_research.data.build_batch_points import (
    BATCH_TABLES,
    FITTED,
    JUDGED,
    Workload,
    list_rows,
    main,
    read_points,
)
from trainfare_research.truth_table import read_rows


def write_points(folder: Path, round_name: str, benchmark: str, runs: dict[int, list[float]]) -> None:
    path = folder / "mlperf_logging" / "rcp_checker" / round_name / f"rcps_{benchmark}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    points = {
        f"{benchmark}_ref_{batch}": {"Benchmark": benchmark, "BS": batch, "Epochs to converge": counts}
        for batch, counts in runs.items()
    }
    path.write_text(json.dumps(points), encoding="utf-8")


def rows_of(
    folder: Path, workload: Workload, submissions: list[dict[str, str]] | None = None
) -> list[list[str]]:
    points = read_points(folder / "mlperf_logging" / "rcp_checker")
    rows = list_rows(workload, points, submissions or [], "abc")
    return [[row["batch"], row["samples"], row["samples_median"], row["runs"]] for row in rows]


def test_the_newest_round_counts_and_one_run_ten_times_too_long_does_not(tmp_path: Path) -> None:
    write_points(tmp_path, "training_3.0.0", "gpt3", {64: [7, 7, 7], 32: [3, 5]})
    write_points(tmp_path, "training_4.1.0", "gpt3", {64: [8, 8, 9, 9, 9, 80]})
    assert rows_of(tmp_path, Workload("gpt3", "gpt3", "token", "Adam", 100.0)) == [
        ["32", "400", "400", "2"],
        ["64", "875", "900", "6"],
    ]


def test_counts_and_rounds_are_those_of_the_workload(tmp_path: Path) -> None:
    """SSD300 of old rounds is not RetinaNet of later ones under the same name; epochs of dlrm begin at 1."""
    write_points(tmp_path, "training_1.1.0", "ssd", {1024: [50] * 5})
    write_points(tmp_path, "training_2.0.0", "ssd", {1024: [6] * 5, 256: [4] * 5})
    old = Workload("ssd300", "ssd", "image", "SGD", 10.0, rounds=("", "training_1.1.0"))
    assert rows_of(tmp_path, old) == [["1024", "500", "500", "5"]]
    shifted = Workload("a", "ssd", "row", "SGD", 10.0, counted_from=1.0, left_out=(256,))
    assert rows_of(tmp_path, shifted) == [["1024", "50", "50", "5"]]


def test_batches_without_a_point_have_the_median_of_submissions(tmp_path: Path) -> None:
    submissions = [
        {"benchmark": "resnet", "global_batch_size": "408", "round": one, "samples_to_converge": samples}
        for one, samples in (("v0.5", "1"), ("v1.0", "40"), ("v2.0", "41"), ("v2.0", "90"))
    ]
    workload = Workload("resnet", "resnet", "image", "LARS", submitted=((408, "v1.0"),))
    assert rows_of(tmp_path, workload, submissions) == [["408", "41", "41", "3"]]
    (row,) = list_rows(workload, [], submissions, "abc")
    assert row["source"].endswith("mlcommons/training_results_v1.0, mlcommons/training_results_v2.0")


def test_the_command_writes_both_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for workload in (*FITTED, *JUDGED):
        if workload.benchmark not in ("ssd", "gnmt"):
            write_points(tmp_path, "training_4.0.0", workload.benchmark, {8: [2, 2], 16: [3, 3]})
    write_points(tmp_path, "training_1.1.0", "ssd", {8: [2, 2]})
    folder = str(tmp_path / "mlperf_logging" / "rcp_checker")
    main(["--from", folder, "--commit", "abc", "--out", str(tmp_path)])
    assert "judged_points.csv: 12 points of 6 workloads" in capsys.readouterr().out
    rows = read_rows(tmp_path / "published_points.csv")
    assert {row["workload"] for row in rows} == {workload.name for workload in FITTED}
    assert any(
        "@abc:mlperf_logging/rcp_checker/training_4.0.0/rcps_bert.json:bert_ref_8" in row["source"]
        for row in rows
    )


def test_no_row_of_a_judged_workload_is_in_the_table_that_is_fitted() -> None:
    published, judged = (read_rows(BATCH_TABLES / f"{name}_points.csv") for name in ("published", "judged"))
    assert {row["workload"] for row in judged} == {
        "retinanet", "llama2_70b_lora", "llama31_8b", "stable_diffusion", "flux1", "dlrm_dcnv2",
    }  # fmt: skip
    assert len({row["workload"] for row in published}) == 14
    for row in published:
        assert not any(
            name in row["source"] for name in ("retinanet", "llama2", "31_8b", "diffusion", "flux", "dcnv2")
        )
        assert "rcps_ssd" not in row["source"] or "/training_1." in row["source"]
    assert all(row["source"] and int(row["runs"]) >= 1 for row in (*published, *judged))
    (tenfold,) = [row for row in published if (row["workload"], row["batch"]) == ("gpt3", "3072")]
    assert 580_000 < float(tenfold["samples"]) < 600_000
