"""
Time loading, querying and ranking price books of up to a million offers, and the same work in gpuhunt.

    python -m benchmarks.speed.recommend_speed [--offers 1000000] [--repeat 5] [--json OUT]

The book is the snapshot, repeated under new region names with slightly different prices, so it is the same on every
run. Ours is loaded from Parquet, and every row is checked; gpuhunt loads the same offers from its own zipped CSV
catalogue with `Catalog.load` and answers the same query with `Catalog.query`, which returns Python objects: `rows` is
our query with an object for each offer it finds. The search ranks the 7B job of docs/examples over the whole plan
space, the first time (cold: with all that is made once) and again, on books from a thousand offers upwards, each ten
times the last, each in a process of its own, with its highest resident memory. Times are wall-clock medians, seconds.
"""

from __future__ import annotations

import csv
import gc
import io
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.cases import Case, case_parser, in_a_fresh_process, peak_resident_bytes, write_cases
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.intake import BOOK_SCHEMA
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_providers.snapshot import SnapshotProvider

CLOUDS = ("aws", "azure", "gcp")
"""Clouds of the shipped snapshot."""
WANTED = ("A100-SXM-40GB", "A100-SXM-80GB", "H100-SXM-80GB")
"""Accelerators of the query."""
MAX_USD_PER_HOUR = 100.0
"""Price limit of the query."""
_FEWEST_OFFERS = 1_000
"""Of the sizes of the search: each is ten times the last, up to the size asked for."""
_JOB = Path(__file__).resolve().parents[2] / "docs" / "examples" / "llama-7b.json"
_PEER_QUERIES = 3
"""Repeats of gpuhunt's query, which takes seconds on a million offers."""


def big_book(offers: int) -> pl.DataFrame:
    """Return a table of so many distinct offers, made from the snapshot."""
    base = SnapshotProvider().load().rows.drop("origin")
    copies = -(-offers // base.height)
    tables = [
        base.with_columns(pl.col("region") + f"-{copy}", pl.col("usd_per_hour") * (1 + copy / 1000))
        for copy in range(copies)
    ]
    return pl.concat(tables).head(offers)


def median_s(work: Callable[[], object], repeat: int) -> float:
    """Return the median wall-clock time of a piece of work."""
    times: list[float] = []
    for _ in range(repeat):
        gc.collect()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def our_query(book: PriceBook) -> PriceBook:
    """Filter by cloud, accelerator, purchase option and price, and sort by price."""
    offers = book.filter(
        providers=["aws", "gcp"],
        accelerators=WANTED,
        purchase=["on_demand"],
        max_usd_per_hour=MAX_USD_PER_HOUR,
    )
    return offers.sort_by("price")


def time_ours(table: pl.DataFrame, folder: Path, repeat: int) -> tuple[dict[str, float], int]:
    """Return our times by case, and how many offers the query finds."""
    path = folder / "book.parquet"
    table.write_parquet(path, compression="zstd")
    book = PriceBook.read_parquet(path, origin="benchmark")
    if len(book) != table.height:
        message = f"{table.height - len(book)} of {table.height} offers were rejected: {book.intakes}"
        raise SystemExit(message)
    # As after `prices update`: a cloud's live list replaces its part of the snapshot.
    live = PriceBook.read_parquet(path, origin="aws")
    cases: dict[str, Callable[[], object]] = {
        "price_book_load": lambda: PriceBook.read_parquet(path, origin="benchmark"),
        "price_book_query": lambda: our_query(book),
        "price_book_rows": lambda: list(our_query(book).offers()),
        "price_book_shapes": book.shapes,
        "price_book_join": lambda: PriceBook.concat([SnapshotProvider().load(), live]),
    }
    return {name: median_s(work, repeat) for name, work in cases.items()}, len(our_query(book))


def write_gpuhunt_catalogue(table: pl.DataFrame, folder: Path) -> None:
    """Write the offers in gpuhunt's catalogue format; a share of a device counts as one, every vendor as NVIDIA."""
    size = ("cpu", "memory", "gpu_count", "gpu_name", "gpu_memory")
    fields = ("instance_name", "location", "price", *size, "spot", "disk_size", "gpu_vendor")
    for provider in CLOUDS:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(fields)
        # gpuhunt's query merges catalogues and takes them to be sorted by price.
        rows = table.filter(pl.col("provider") == provider).sort("usd_per_hour")
        for row in rows.iter_rows(named=True):
            cpu, memory = int(row["vcpus"] or 0), row["memory_gib"] or 0
            gpus = (
                max(1, round(row["accelerator_count"])),
                row["accelerator"],
                row["accelerator_memory_gib"],
            )
            spot = row["purchase_option"] != "on_demand"
            offer_key = (row["instance_type"], row["region"], row["usd_per_hour"])
            writer.writerow([*offer_key, cpu, memory, *gpus, spot, "", "nvidia"])
        (folder / provider / "1").mkdir(parents=True)
        (folder / provider / "version").write_text("1", encoding="ascii")
        with zipfile.ZipFile(folder / provider / "1" / "catalog.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(f"{provider}.csv", text.getvalue())


def time_gpuhunt(table: pl.DataFrame, folder: Path) -> tuple[dict[str, float], int] | None:
    """Return gpuhunt's times by case and what its query finds, or None where it is not installed."""
    try:
        import gpuhunt
        from gpuhunt._internal import catalog as internal
    except ImportError:
        return None
    write_gpuhunt_catalogue(table, folder)
    os.environ["GPUHUNT_CATALOG_URL"] = folder.as_uri()
    internal.OFFLINE_PROVIDERS[:] = list(CLOUDS)  # else it logs an error for each cloud without a catalogue

    def load() -> Any:
        catalog = gpuhunt.Catalog(auto_reload=False)
        catalog.load()
        return catalog

    start = time.perf_counter()
    catalog = load()
    load_s = time.perf_counter() - start

    def query() -> Any:
        return catalog.query(
            provider=["aws", "gcp"], gpu_name=list(WANTED), spot=False, max_price=MAX_USD_PER_HOUR
        )

    query_s = median_s(query, _PEER_QUERIES)
    times = {"price_book_load": load_s, "price_book_query": query_s, "price_book_rows": query_s}
    return times, len(query())


def time_search(offers: int) -> tuple[float, float, float, int]:
    """
    Return the seconds to load a book of so many offers and to rank a job on it at first and again, and the memory.

    Its process should do nothing else.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "book.parquet"
        in_a_fresh_process(_write_book, (offers, path))
        start = time.perf_counter()
        book = PriceBook.read_parquet(path, origin="benchmark")
        load_s = time.perf_counter() - start
    job, request = JobProfile.from_json(_JOB.read_bytes()), Request()
    cold_s = median_s(lambda: rank(job, book, request), 1)
    warm_s = median_s(lambda: rank(job, book, request), 3)
    return load_s, cold_s, warm_s, peak_resident_bytes()


def _write_book(work: tuple[int, Path]) -> None:
    offers, path = work
    big_book(offers).write_parquet(path, compression="zstd")


def run(offers: int, repeat: int) -> tuple[dict[str, Case], list[str]]:
    """Measure everything and return the cases, with notes on what was compared."""
    table = big_book(offers)
    notes = [
        f"{len(table):,} offers, {len(BOOK_SCHEMA)} columns; {os.cpu_count()} cores; polars {pl.__version__}"
    ]
    with tempfile.TemporaryDirectory() as name:
        ours, their_run = time_ours(table, Path(name), repeat)
        peer = time_gpuhunt(table, Path(name) / "gpuhunt")
    notes.append(f"query: {their_run:,} offers of ours")
    if peer is None:
        notes.append("gpuhunt is not installed: no peer figures (pip install gpuhunt)")
    else:
        notes.append(f"query: {peer[1]:,} offers of gpuhunt's, merged but not strictly sorted")
    theirs = peer[0] if peer else {}
    cases = {
        name: Case(seconds, theirs.get(name), theirs[name] / seconds if name in theirs else None, "s")
        for name, seconds in ours.items()
    }
    return cases, notes


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument("--offers", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    # First: a new process starts with the peak memory of the one that started it, which is small now.
    print(f"{'offers':>10}{'load':>10}{'search, cold':>14}{'again':>10}{'resident':>12}")
    searches: dict[str, Case] = {}
    sizes = [arguments.offers]
    while sizes[0] >= 10 * _FEWEST_OFFERS:
        sizes.insert(0, sizes[0] // 10)
    for size in sizes:
        load_s, cold_s, warm_s, resident_bytes = in_a_fresh_process(time_search, size)
        resident = f"{resident_bytes / 2**20:>8,.0f} MiB"
        print(f"{size:>10,}{load_s:>8.3f} s{cold_s:>12.3f} s{warm_s:>8.3f} s{resident}")
        searches[f"search_{size}_cold"] = Case(cold_s, None, None, "s")
        searches[f"search_{size}_again"] = Case(warm_s, None, None, "s")
    cases, notes = run(arguments.offers, arguments.repeat)
    print(f"\n{'case':<20}{'ours':>12}{'gpuhunt':>12}{'ratio':>9}")
    for name, case in cases.items():
        peer = "-" if case.peer is None else f"{case.peer:.4f} {case.unit}"
        ratio = "-" if case.ratio is None else f"{case.ratio:.1f}x"
        print(f"{name:<20}{case.ours:>10.4f} {case.unit}{peer:>12}{ratio:>9}")
    print("\n".join(notes))
    cases |= searches
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
