"""`make accuracy`: every table that is there is scored, by two processes, and the page is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from builders.peaks import PEAK
from trainfare_research.runners import memory
from trainfare_research.runners.all_tables import main
from trainfare_research.truth_table import write_rows

HEADER = (
    "device,op,op_class,direction,dtype,batch,m,n,k,rows,cols,c_in,c_out,kernel_size,in_size,stride,padding,flops,"
    "bytes,latency_ms,kernel,launches,grid_x,grid_y,grid_z,threads_per_block,framework,source_split,flag"
)
KERNEL = (
    "L4-24GB,bmm,gemm,forward,fp32,192,96,196,196,,,,,,,,,1416167424,58404864,{ms},,1,,,,,torch2.1.0,test,"
)


def _measurements(folder: Path, latency_ms: str) -> list[str]:
    """Write a table of one kernel, and return the command line that scores it."""
    (folder / "data" / "calibration").mkdir(parents=True)
    table = f"{HEADER}\n{KERNEL.format(ms=latency_ms)}\n"
    (folder / "data" / "calibration" / "kernels.csv.gz").write_bytes(gzip.compress(table.encode()))
    (folder / "docs").mkdir()
    (folder / "research" / "results").mkdir(parents=True)
    return [
        "--data",
        str(folder / "data"),
        "--cache",
        str(folder / "cache"),
        "--results",
        str(folder / "kept"),
    ]


def test_the_tables_that_are_there_are_scored_and_the_others_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = _measurements(tmp_path, "0.24")
    monkeypatch.chdir(tmp_path)
    main([*command, "--note", "One kernel is scored."])
    printed = capfd.readouterr().out
    for name in ("step_time", "memory", "strategy", "decline_hindcast", "step_time_apart", "time_to_train"):
        assert f"{name}: skipped" in printed
    assert json.loads((tmp_path / "kept" / "kernels.json").read_text())["n"] == 1
    assert "L4-24GB" in (tmp_path / "kept" / "kernels.log").read_text()
    page = (tmp_path / "docs" / "accuracy.md").read_text()
    assert "One kernel is scored." in page
    assert "| kernels timed alone | rows of the fit | 1 |" in page


def test_what_is_written_of_a_second_table_has_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two peaks, a table of each, left out of the other's fit."""
    command = _measurements(tmp_path, "0.24")
    (tmp_path / "data" / "strategy").mkdir()
    for name, source, samples, peak in (("", "litgpt", "1", "4.489"), ("_2", "litgpt-2", "2", "6.296")):
        row = PEAK | {"source_id": source, "micro_batch": samples, "peak_gib": peak}
        write_rows(tmp_path / "data" / "strategy" / f"memory_reference{name}.csv", [row])
    monkeypatch.chdir(tmp_path)
    main(command)
    for name, source in (("memory", "litgpt"), ("memory_2", "litgpt-2")):
        assert list(json.loads((tmp_path / "kept" / f"{name}.json").read_text())["by_source"]) == [source]
        assert (tmp_path / "kept" / f"{name}.csv").read_text(encoding="utf-8").count("\n") == 2


def test_rows_of_memory_are_traced_from_the_last_to_the_first(tmp_path: Path) -> None:
    """By the second process, beside the one that scores them; language models have small traces of their own."""
    bert = {
        "domain": "nlp", "method": "full_finetune", "method_detail": "", "precision": "fp32", "seq_len_or_res": "16",
        "params_m": "", "source_id": "bert",
    }  # fmt: skip
    rows = [PEAK | bert | {"model": name} for name in ("BERT-base", "BERT-large")]
    table, cache = tmp_path / "memory.csv", tmp_path / "cache"
    write_rows(table, [*rows[:1], PEAK, *rows[1:]])
    command = ["--truth", str(table), "--cache", str(cache), "--trace-backwards"]
    memory.main(command)
    paths = sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    sizes = [
        sum(group["count"] for group in json.loads(gzip.decompress(path.read_bytes()))["parameters"])
        for path in paths
    ]
    assert len(sizes) == 2
    assert sizes[0] > sizes[1]
    memory.main(command)
    assert sorted(cache.iterdir()) == sorted(paths)


def test_what_a_runner_says_is_printed_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = _measurements(tmp_path, "soon")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="soon"):
        main(command)
    assert "kernels ..." in capfd.readouterr().out
    assert not (tmp_path / "docs" / "accuracy.md").exists()
