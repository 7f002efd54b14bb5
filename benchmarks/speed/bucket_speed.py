"""
A ledger of 100,000 runs in a bucket on loopback: requests, seconds and CPU seconds of `ledger score`, first and again.

    PYTHONPATH=tests python -m benchmarks.speed.bucket_speed [RUNS]

The runs began in the last two years. The bucket is the tests' in a process of its own, so the seconds are without a
network, and of a server in Python.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from benchmarks.speed.ledger_speed import make_run

_YEARS_S = 2 * 365 * 86400.0


def _serve(runs: int, folder: Path, pipe: Connection) -> None:
    from builders.bucket_server import serve_bucket  # type: ignore[import-not-found]  # of tests/

    draws, now = Random(62), datetime.now(tz=timezone.utc)
    with serve_bucket() as bucket:
        for number in range(runs):
            began = now - timedelta(seconds=_YEARS_S * (runs - number) / runs)
            record = make_run(number, draws, began)
            key = f"{began:%Y-%m}/{record.project}/{record.file_name}"
            bucket.objects[f"/runs/team/{key}"] = (record.to_json().encode(), began.timestamp())
        pipe.send(bucket.name_environment(folder))
        while pipe.recv():
            pipe.send((bucket.count(listings=True), bucket.count(listings=False)))
            bucket.requests.clear()


def measure_bucket(runs: int, folder: Path) -> str:
    """Return the figures of two scores as lines of text."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(runs, folder, there))
    server.start()
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), **here.recv()}
    lines = ""
    for name in ("first", "second", "third"):
        took_s, cpu_s = _score(environment)
        here.send(True)
        listings, reads = here.recv()
        lines += (
            f"{name} score of {runs:,} runs: {listings:,} pages of listings, {reads:,} reads, {took_s:.1f} s, "
            f"{cpu_s:.2f} CPU-s\n"
        )
    here.send(False)
    server.join()
    return lines


def _score(environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the seconds and CPU seconds of a process that scores the ledger."""
    command = [sys.executable, "-m", "trainfare", "ledger", "score", "--ledger", "s3://runs/team"]
    began_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        sys.stdout.write(measure_bucket(int(sys.argv[1]) if sys.argv[1:] else 100_000, Path(directory)))
