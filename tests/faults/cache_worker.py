"""
What tests/faults/test_cache.py runs as processes of its own: `python cache_worker.py WHAT FOLDER [ROUNDS]`.

kill: children that write without pause are killed at random moments; prints how many reads were damaged.
stress: 4 writers and 4 readers; prints how many reads were torn.
limit: writes under a limit on the size of files, one byte count after another.
readonly: reads and writes in a folder that may not be written, as nobody.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

from builders.offers import book_of, offer_row
from trainfare_core.prices.book import PriceBook
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import read_book, write_book
from trainfare_providers.disk.checked_parquet import BookFacts, DamagedFileError, check_content, with_checksum
from trainfare_providers.disk.files import read_own_file, replace_file

NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)
MOMENTS = 200


def book(price: float, rows: int = 40) -> PriceBook:
    """A book whose rows all have one price, so that a mixture is seen."""
    return book_of(
        *[offer_row(region=f"r{index}", usd_per_hour=price) for index in range(rows)], origin="aws"
    )


def facts(prices: PriceBook) -> BookFacts:
    return BookFacts(fetched_at=NOW, intakes=prices.intakes)


def kill(folder: Path) -> dict[str, int]:
    """
    Bytes with a checksum only: a process that has started polars' threads may not fork.

    Each child says that it has begun; there are 200 kills, and more until one has hit a write, which leaves a scrap or damage.
    """
    path = folder / "aws.parquet"
    contents = [
        with_checksum(
            b"PAR1" + bytes([letter]) * size + (0).to_bytes(4, "little") + b"PAR1", BookFacts(fetched_at=NOW)
        )
        for letter, size in ((65, 300_000), (66, 900_000))
    ]
    replace_file(path, contents[0], os.fsync)
    chance = random.Random(14)
    damaged = kills = 0
    while kills < MOMENTS or not (damaged or list(folder.glob("*.tmp"))):
        kills += 1
        hears, says = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(says, b"!")
            while True:
                for content in reversed(contents):
                    replace_file(path, content, os.fsync)
        os.read(hears, 1)
        time.sleep(chance.uniform(0.0, 0.012))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(hears)
        os.close(says)
        try:
            check_content(read_own_file(path, 10**7))
        except (DamagedFileError, OSError):
            damaged += 1
    return {"kills": kills, "damaged": damaged, "left": len(list(folder.glob("*.tmp")))}


def stress(folder: Path, rounds: int) -> dict[str, int]:
    """Each writer writes both books `rounds` times; each reader reads as often, and on until the writers are done."""
    writes: list[bool] = []
    torn: list[bool] = []
    books = [book(1.0, 20), book(2.0, 2000)]

    def write() -> None:
        cache = BookCache(folder)
        for _ in range(rounds):
            for prices in books:
                writes.append(write_book(cache, "aws", prices.frame, facts(prices)))

    def read() -> None:
        cache, reads = BookCache(folder), 0
        while reads < 2 * rounds or any(writer.is_alive() for writer in writers):
            reads += 1
            book = read_book(cache, "aws")
            whole = ((1.0, 20), (2.0, 2000))
            torn.append(book is None or (book.book.frame["usd_per_hour"][0], len(book.book)) not in whole)

    writers = [threading.Thread(target=write) for _ in range(4)]
    workers = [worker for writer in writers for worker in (writer, threading.Thread(target=read))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"reads": len(torn), "torn": sum(torn), "writes": sum(writes)}


def limit(folder: Path) -> dict[str, list[int]]:
    cache = BookCache(folder)
    old, new = book(1.0), book(2.0)
    write_book(cache, "aws", new.frame, facts(new))
    size = (folder / "aws.parquet").stat().st_size
    write_book(cache, "aws", old.frame, facts(old))
    fields: dict[str, list[int]] = {"kept old": [], "took new": [], "else": []}
    for most in (*range(0, size + 200, 211), size - 1, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        took = write_book(cache, "aws", new.frame, facts(new))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        cached_book = read_book(cache, "aws")
        price = None if cached_book is None else cached_book.book.frame["usd_per_hour"][0]
        fits = most >= size
        what = {(False, 1.0, False): "kept old", (True, 2.0, True): "took new"}.get(
            (took, price, fits), "else"
        )
        fields[what].append(most)
        write_book(cache, "aws", old.frame, facts(old))
    return {**fields, "files": [len(list(folder.iterdir()))]}


def readonly(folder: Path) -> dict[str, object]:
    cache = BookCache(folder)
    old, new = book(1.0), book(2.0)
    write_book(cache, "aws", old.frame, facts(old))
    # Import lazily loaded modules now: the unprivileged account may not be able to read the packages.
    read_book(cache, "aws")
    with cache.lock("aws"):
        pass
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    took = write_book(cache, "aws", new.frame, facts(new))
    cached_book = read_book(cache, "aws")
    with cache.lock("aws"):
        pass
    return {"took": took, "price": None if cached_book is None else cached_book.book.frame["usd_per_hour"][0]}


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    work = {"kill": kill, "stress": stress, "limit": limit, "readonly": readonly}[what]
    print(json.dumps(work(Path(where), *map(int, more))))
