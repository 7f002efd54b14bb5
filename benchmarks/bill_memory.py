"""
Memory of `trainfare reconcile` by the size of a made bill, and the share of its bytes that is read.

    python -m benchmarks.bill_memory [--parts 4 20]

Each part is a Parquet file of 0.2 GB with 1,000,000 hourly lines of FOCUS, a tenth of which carry the tag of one of
2,000 runs; twelve columns are of no use, as most of a real export are. `read` is of the storage: pages of the kernel's
cache are dropped before each command, which needs Linux.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

ROWS = 1_000_000
RUNS = 2_000
COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")


def write_part(file: Path, seed: int) -> None:
    """Write a part of a month of its own."""
    random = np.random.default_rng(seed)
    rows = pl.DataFrame(
        {
            "id": random.integers(0, 2**62, ROWS),
            "run": random.integers(0, RUNS, ROWS),
            "cost": random.random(ROWS),
            "tagged": random.random(ROWS) < 0.1,
        }
    ).with_columns(pl.col("id", "run").cast(pl.String))
    run = pl.col("run").str.zfill(12)
    tag = pl.concat_str(pl.lit('"trainfare-prediction": "'), run, pl.lit('", '))
    some_tag = pl.when("tagged").then(tag).otherwise(pl.lit(""))
    unused = {
        f"x_{index}": pl.concat_str(pl.col("id").str.slice(seed % 5), pl.lit(f"{index}"))
        for index in range(12)
    }
    words = {
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ServiceName": "Amazon Elastic Compute Cloud",
        "SkuPriceDetails": '{"InstanceType": "p4de.24xlarge"}',
        "ConsumedUnit": "Hours",
        "BillingPeriodStart": f"2026-{seed % 12 + 1:02d}-01T00:00:00Z",
        "BillingAccountId": "123456789012",
    }
    machine = pl.concat_str(run, pl.col("id").str.slice(0, 1))
    resource = pl.when("tagged").then(machine).otherwise("id")
    rows.select(
        *(pl.col("cost").alias(name) for name in COSTS),
        *(pl.lit(word, pl.String).alias(name) for name, word in words.items()),
        pl.concat_str(pl.lit("arn:aws:ec2:us-east-1:123456789012:instance/i-"), resource).alias("ResourceId"),
        pl.lit(1.0).alias("ConsumedQuantity"),
        pl.concat_str(pl.lit('{"team": "vision", '), some_tag, pl.lit('"id": "'), "id", pl.lit('"}')).alias(
            "Tags"
        ),
        **unused,
    ).write_parquet(file, row_group_size=ROWS // 4)


def measure(folder: Path, files: list[Path]) -> tuple[float, float, float]:
    """Return seconds, MiB of memory at most, and bytes read of a command."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    command = [
        sys.executable,
        "-m",
        "trainfare",
        "reconcile",
        *map(str, files),
        "--ledger",
        str(folder / "none"),
    ]
    began_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return time.monotonic() - began_s, usage.ru_maxrss / 1024, usage.ru_inblock * 512.0


def main() -> None:
    """Print a line a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, nargs="+", default=[4, 20])
    with TemporaryDirectory() as name:
        files: list[Path] = []
        for parts in parser.parse_args().parts:
            while len(files) < parts:
                files.append(Path(name) / f"part-{len(files):05d}.parquet")
                # In a process of its own: what this one takes counts as memory of the command that it starts.
                writer = multiprocessing.get_context("spawn").Process(
                    target=write_part, args=(files[-1], len(files))
                )
                writer.start()
                writer.join()
            wall_s, memory_mib, read = measure(Path(name), files)
            size = sum(file.stat().st_size for file in files)
            print(
                f"{size / 1e9:.1f} GB: {memory_mib:,.0f} MiB, {read / size:.0%} of its bytes read, {wall_s:.0f} s"
            )


if __name__ == "__main__":
    main()
