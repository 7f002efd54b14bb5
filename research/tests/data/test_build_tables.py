"""Our tables say what the collected ones say: every cell, but for remarks, of which the facts stay that parsers read."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import polars as pl
import pytest

from trainfare_research.data import TABLES
from trainfare_research.data.build_tables import (
    COLLECTED,
    LEFT_OUT,
    SHORTENED,
    SOURCE_COLUMNS,
    SOURCES,
    build_table,
    find_unlisted,
    main,
)
from trainfare_research.data.notes import shorten_network, shorten_notes
from trainfare_research.fitting.table_lines import accumulation_of, is_suspect
from trainfare_research.runners.time_to_train import network_gbit_per_s
from trainfare_research.truth_table import find_table, read_rows

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
STEPS = [
    {"source": "milabench", "devices": "8", "batch": "16.0", "throughput": "80456.0", "nodes": "",
     "notes": "eager;HOST_BOUND: within 10 % of the smallest-batch step time (fixed cost);grad_accum=4",
     "source_ref": "mila-iqia/milabench@faf39234:config/scaling/H100.yaml"},
    {"source": "timm", "devices": "1", "batch": "8", "throughput": "1234.5678", "nodes": "1",
     "notes": "batch is the largest that fitted in a decay search, as its table of results says",
     "source_ref": "huggingface/pytorch-image-models@aa4b5850c154:results/benchmark.csv"},
]  # fmt: skip


def marks() -> list[str]:
    with SOURCES.open(newline="", encoding="utf-8") as stream:
        return [line["mark"] for line in csv.DictReader(stream)]


def test_numbers_become_numbers_and_read_back_as_they_were_written(tmp_path: Path) -> None:
    """Text stays where one number of a column is written in two ways; an empty cell is null."""
    table = build_table(STEPS)
    assert table.schema == {
        "source": pl.String, "devices": pl.Int64, "batch": pl.String, "throughput": pl.Float64, "nodes": pl.Int64,
        "notes": pl.String, "source_ref": pl.String,
    }  # fmt: skip
    assert table["nodes"].to_list() == [None, 1]
    table.write_parquet(tmp_path / "steps.parquet")
    read = read_rows(tmp_path / "steps.csv")
    others = [{name: cell for name, cell in row.items() if name != "notes"} for row in STEPS]
    assert [{name: cell for name, cell in row.items() if name != "notes"} for row in read] == others
    assert [row["notes"] for row in read] == ["eager;HOST_BOUND;grad_accum=4", ""]


@pytest.mark.parametrize(
    ("notes", "facts"),
    [
        ("SUSPECT_FAST: implies 120 % of the TF32 peak", "SUSPECT_FAST"),
        ("alpaca unpacked: SUSPECT_SEQ_UNKNOWN", "alpaca unpacked: SUSPECT_SEQ_UNKNOWN"),
        ("suite=v1;flag=FP16;systems=1", "suite=v1;flag=FP16;systems=1"),
        ("unpacked sequences, logged mean 311 tokens per sample (padding may be counted)",) * 2,
        ("torch 2.4.1, transformers 4.48.1; eager", "torch 2.4.1, transformers 4.48.1; eager"),
        ("precision fp32 unless the config or README says AMP (not verified)", ""),
    ],
)
def test_remarks_keep_what_parsers_read(notes: str, facts: str) -> None:
    assert shorten_notes(notes) == facts
    line = {"notes": notes, "framework": ""}
    assert is_suspect(line) == is_suspect({"notes": facts})
    assert accumulation_of(line) == accumulation_of({"notes": facts})


@pytest.mark.parametrize(
    "text",
    [
        "Management: 1x ConnectX-6 Ethernet 100Gb/Sec, Compute: 4x ConnectX-6 IB HDR 200Gb/Sec",
        "BF3 200Gbps for NS and 2xBF3 400Gbps for EW", "Mellanox Technologies MT27800 Family [ConnectX-5]",
        "InfiniBand; Data bandwidth for GPU-PCIe: 504 GB/s; PCIe-NIC: 500 GB/s", "GCE Standard", "",
    ],
)  # fmt: skip
def test_a_shortened_network_has_the_same_rate(text: str) -> None:
    line = {"accelerator": "A100-SXM-80GB", "interconnect": "", "host_networking": text}
    assert network_gbit_per_s({**line, "host_networking": shorten_network(text)}) == network_gbit_per_s(line)


def read_text(path: Path) -> pl.DataFrame:
    """Return a table as text, by column: 340,000 rows one by one take minutes."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path).cast(pl.String)
    return pl.read_csv(path, infer_schema=False)


def test_every_source_has_its_licence() -> None:
    """Of every row of every table that we ship; a source without a line stops the command that makes them."""
    for path in sorted(TABLES.rglob("*.parquet")):
        table = read_text(path)
        names = table.select(name for name in SOURCE_COLUMNS if name in table.columns).unique()
        assert find_unlisted(names.fill_null("").to_dicts() or [{}], marks()) == [], path.name
    assert find_unlisted([{"source": "who/knows@1:file"}], marks()) == ["who/knows@1:file"]


def test_the_command_writes_each_table_once_and_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, files in COLLECTED.items():
        (tmp_path / "from" / folder).mkdir(parents=True)
        for file in files:
            rows = read_text(find_table(TABLES / folder / file)).head(3).fill_null("").to_dicts()
            text = "\n".join(
                [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
            )
            path = tmp_path / "from" / folder / file
            path.write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
    written = []
    for out in ("one", "two"):
        main(["--from", str(tmp_path / "from"), "-o", str(tmp_path / out)])
        written.append({path.name: path.read_bytes() for path in sorted((tmp_path / out).rglob("*.parquet"))})
    assert written[0] == written[1]
    assert len(written[0]) == sum(map(len, COLLECTED.values()))
    assert "prices/offers.parquet: 3 rows" in capsys.readouterr().out


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collected tables are not part of the repository")
def test_every_cell_but_remarks_is_that_of_the_collected_table() -> None:
    """All rows of all tables; remarks are what `notes.py` makes of them."""
    for folder, files in COLLECTED.items():
        for file in files:
            collected, ours = (read_text(find_table(place / folder / file)) for place in (SHARED, TABLES))
            assert [name for name in collected.columns if name not in LEFT_OUT] == ours.columns
            for name in ours.columns:
                cells = collected[name].fill_null("")
                if name in SHORTENED:
                    cells = cells.map_elements(SHORTENED[name], return_dtype=pl.String)
                assert cells.equals(ours[name].fill_null("")), f"{file}: {name}"


def test_every_fact_of_a_launch_names_where_it_was_read_and_who_applies_it() -> None:
    facts = read_rows(TABLES / "launched_facts.csv")
    modules = {path.stem for path in TABLES.parent.rglob("*.py")}
    assert len(facts) >= 38
    assert all(fact["source"] and fact["fact"] and fact["read_by"] in modules for fact in facts)
