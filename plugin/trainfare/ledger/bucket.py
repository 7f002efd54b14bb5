"""
A ledger in a bucket: `ADDRESS/2026-12/PROJECT/STARTED-RUN.json`, one object a run, by the month in which it began.

A metered run writes by processes of their own: the transport's threads stay out of the training, and whatever a cloud
does, a process can be ended. Readers keep a copy in the user's cache and ask for what is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from trainfare.ledger.place import BucketAddress, LedgerFolder
from trainfare.ledger.store import MAX_BYTES, forget_runs, list_names, name_folder, replace_run, write_run
from trainfare_core.documents import Record
from trainfare_core.errors import CannotTellError, TrainfareError
from trainfare_core.ledger.run_record import RunRecord
from trainfare_providers.buckets import Bucket, StoredObject
from trainfare_providers.disk.files import replace_file

DEVICES: Final = ".devices"
"""Folder of the measured devices of a ledger; that of a project never begins so."""
WRITING_LIMIT_S: Final = 5.0
"""For which the end of a run waits, twice where it was traced. Chosen: a busy machine takes one second."""
_LIFE_S: Final = 60.0
"""Seconds after which a writing process ends itself, where no other process is waiting for it."""
_LISTED: Final = ".listed"
"""File of a copy, as old as the last listing of all months."""
_LISTED_FOR: Final = timedelta(days=30)
"""For so long only the last two months are listed. Chosen: 100 requests a month at 100,000 runs."""
_AT_ONCE: Final = 32
"""Objects that are asked for at the same time. Chosen: more are no faster on one core."""
_KEY: Final = re.compile(
    r"(?:(\d{4}-\d{2})/)?([A-Za-z0-9_-]{1,100}/\d{8}T\d{6}Z-[0-9a-f]{12}\.json)|(\.devices/[A-Za-z0-9_-]{1,100}\.json)"
)
"""Without a month it is of a folder that something else copied into the bucket, as SageMaker does."""
_BOOT: Final = "import sys; sys.path[:] = sys.argv[1:]; from trainfare.ledger.bucket import main; main()"
"""The process imports from where this one does."""


class _Order(Record):
    address: str
    key: str
    content: str | None
    """None: the object is removed."""
    is_first: bool = False
    """Not over an object that is there: the end of a short run may be faster than its beginning."""


_BEGINNINGS: list[subprocess.Popen[bytes]] = []
"""Processes that write the beginning of a run of this process, which the next write ends."""


def write_record(record: RunRecord, folder: LedgerFolder, limit_s: float = WRITING_LIMIT_S) -> Path | None:
    """
    Write the record of a metered run; of a bucket's ledger without waiting where it begins.

    Args:
        record: of the run.
        folder: of the ledger.
        limit_s: seconds that its end may take in a bucket; then the process that writes is ended.

    Returns:
        Its path; None: it is in a bucket.

    Raises:
        OSError, CannotTellError: it cannot be written, or not in time.
    """
    if isinstance(folder, Path):
        return write_run(record, folder)
    is_first = record.state == "running"
    order = _Order(address=folder.address, key=_name_key(record), content=record.to_json(), is_first=is_first)
    if is_first:
        _BEGINNINGS.append(_start(order))
    else:
        _wait(_start(order), folder, limit_s)
    return None


def remove_record(record: RunRecord, folder: LedgerFolder) -> None:
    """Remove the record of a metered run that goes on unmeasured; waits for nothing, and does not fail."""
    if isinstance(folder, Path):
        with contextlib.suppress(OSError):
            (folder / name_folder(record.project) / record.file_name).unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):
        _end_beginnings()
        _BEGINNINGS.append(_start(_Order(address=folder.address, key=_name_key(record), content=None)))


def _start(order: _Order) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 - this interpreter, without a shell
        [sys.executable, "-c", _BOOT, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is the run's
    )
    assert process.stdin is not None  # noqa: S101 - a pipe, by the line above
    with contextlib.suppress(BrokenPipeError), process.stdin:  # it ended at once; a few KB fit into the pipe
        process.stdin.write(order.model_dump_json().encode())
    process.stdin = None
    return process


def _wait(process: subprocess.Popen[bytes], folder: BucketAddress, limit_s: float) -> None:
    try:
        problem, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise CannotTellError(f"{folder}: no answer within {limit_s:g} s") from None
    finally:
        _end(process)
        _end_beginnings()
    if problem or process.returncode:
        raise CannotTellError(problem.decode() or f"the process that writes to {folder} was ended")


def _end_beginnings() -> None:
    while _BEGINNINGS:
        _end(_BEGINNINGS.pop())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # nothing where it has ended
    process.communicate()


def main() -> None:
    """Write an object by an order from standard input; what is wrong goes to standard output."""
    life = threading.Timer(_LIFE_S, os._exit, (1,))
    life.daemon = True
    life.start()
    order = _Order.model_validate_json(sys.stdin.buffer.read())
    try:
        bucket = Bucket(order.address)
        if order.content is None:
            bucket.delete(order.key)
        else:
            bucket.write(order.key, order.content.encode(), only_new=order.is_first)
    except TrainfareError as error:
        sys.stdout.write(str(error))


def _name_key(record: RunRecord) -> str:
    return f"{record.started_at:%Y-%m}/{name_folder(record.project)}/{record.file_name}"


def replace_record(record: RunRecord, folder: LedgerFolder) -> str:
    """
    Write a run that ended some time ago, and return where it is.

    Raises:
        InputError, CannotTellError: it cannot be written.
    """
    if isinstance(folder, Path):
        return str(replace_run(record, folder))
    return write_object(_name_key(record), record.to_json(), folder)


def write_object(key: str, text: str, folder: BucketAddress) -> str:
    """
    Write an object of a ledger, and return its address.

    Raises:
        CannotTellError: it cannot be written.
    """
    Bucket(folder.address).write(key, text.encode())
    (_find_copy(folder) / _LISTED).unlink(missing_ok=True)  # it may be of an old month
    return f"{folder}/{key}"


def fetch_folder(
    folder: LedgerFolder, now: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc)
) -> Path:
    """
    Return the folder of a ledger; of one in a bucket a copy, with what is new there.

    All months are listed once in thirty days, which finds late changes of old runs, and else the last two.

    Args:
        folder: of the ledger.
        now: the time.

    Raises:
        InputError: the transport is not installed.
        CannotTellError: the bucket does not answer, or denies it; what has come is kept.
    """
    if isinstance(folder, Path):
        return folder
    copy, at, bucket = _find_copy(folder), now(), Bucket(folder.address)
    copy.mkdir(parents=True, exist_ok=True, mode=0o700)
    months = [f"{at:%Y-%m}", f"{at.replace(day=1) - timedelta(days=1):%Y-%m}"]
    whole = not _is_young(copy / _LISTED, at)
    objects: dict[str, StoredObject] = {}
    has_months = True
    for part in [""] if whole else [*months, DEVICES]:
        for stored in bucket.list_objects(part):
            match = _KEY.fullmatch(stored.key)
            if match is None or stored.size_bytes > MAX_BYTES:
                continue
            month, run, device = match.groups()
            has_months = has_months and bool(month or device)
            if month or device or run not in objects:  # an update of a run writes its month
                objects[run or device] = stored
    missing = {name for name in list_names(copy) if whole or _month_of(name) in months} - set(objects)
    new = {name: stored for name, stored in objects.items() if not _has(copy / name, stored)}
    forget_runs(copy, [*missing, *(name for name in new if (copy / name).exists())])
    for name in missing:
        (copy / name).unlink(missing_ok=True)
    _fetch(bucket, copy, new.items())
    if whole and has_months:
        (copy / _LISTED).touch()
        os.utime(copy / _LISTED, (at.timestamp(), at.timestamp()))
    return copy


def _find_copy(folder: BucketAddress) -> Path:
    import platformdirs

    digest = hashlib.sha256(folder.address.encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("trainfare", appauthor=False) / "ledgers" / digest


def _is_young(path: Path, at: datetime) -> bool:
    try:
        age_s = at.timestamp() - path.stat().st_mtime
    except OSError:
        return False
    return 0 <= age_s < _LISTED_FOR.total_seconds()


def _month_of(name: str) -> str:
    """Return the month of a record by its name, PROJECT/20261203T..."""
    started = name.rpartition("/")[2]
    return f"{started[:4]}-{started[4:6]}"


def _has(path: Path, stored: StoredObject) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    return (facts.st_size, int(facts.st_mtime)) == (stored.size_bytes, int(stored.written_at.timestamp()))


def _fetch(bucket: Bucket, copy: Path, objects: Iterable[tuple[str, StoredObject]]) -> None:
    def fetch(entry: tuple[str, StoredObject]) -> None:
        name, stored = entry
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            content = bucket.read(stored.key)
            path = copy / name
            path.parent.mkdir(exist_ok=True)
            replace_file(path, content, lambda _: None)
            written_s = stored.written_at.timestamp()
            os.utime(path, (written_s, written_s))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(fetch, objects):
            pass
