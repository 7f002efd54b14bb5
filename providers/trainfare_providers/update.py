"""Fetch the price lists of several clouds, for `trainfare prices update`."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from trainfare_core.documents import Document, Record
from trainfare_core.errors import InputError, TrainfareError, UnknownNameError
from trainfare_core.installation import __version__, write_install_line
from trainfare_providers.http.progress import Step
from trainfare_providers.plugins import ProviderEntry, provider_entries

if TYPE_CHECKING:
    from trainfare_providers.disk.cache import BookCache
    from trainfare_providers.http.client import HttpClient
    from trainfare_providers.refresh import LiveSource

Say = Callable[[str, Step], None]

FIRST_ANSWER_S: Final = 15.0
"""Seconds in which some server of a cloud must have answered, whatever hangs: a lookup, a login, a plug-in.

With the start of the command it stays under the 20 s that `prices update` may take without a network."""

_POLL_S: Final = 0.25
"""How often the clouds are looked at, seconds."""

_GOODBYE_S: Final = 1.0
"""Seconds that a stopped download has to keep what it has: Ctrl-C ends the command within 2 s."""


class ServiceUpdate(Record):
    """Counts of the rows of one cloud service."""

    service: str
    rows_read: int
    accepted: int
    filtered: int
    quarantined: int
    degraded: bool = Field(description="more than 5 % of what looked like a price of ours is quarantined")


class CloudUpdate(Record):
    """The outcome of one cloud's refresh."""

    provider: str
    refreshed: bool = Field(description="new prices are kept now; else the last good ones stay")
    failed: bool
    rows: int = Field(description="prices kept now")
    fetched_at: datetime | None = Field(description="when they were fetched; None where there are none")
    services: tuple[ServiceUpdate, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None
    snapshot_of: str | None = Field(
        default=None, description="date of the shipped prices, which are used where no fetched ones are kept"
    )


class PricesUpdate(Document):
    """The result of `prices update`, clouds by name."""

    schema_version: Literal[1] = 1
    tool_version: str
    clouds: tuple[CloudUpdate, ...]


def live_sources(
    names_wanted: Iterable[str] | None, entries: Iterable[ProviderEntry] | None = None
) -> list[tuple[str, LiveSource | str]]:
    """
    Return the plug-ins whose prices can be fetched, by name; for one that cannot be loaded, a sentence that says why.

    Args:
        names_wanted: names; None is all.
        entries: the plug-ins; None takes the installed ones.

    Raises:
        UnknownNameError: no plug-in of that name can be refreshed.
        InputError: none can.
    """
    from trainfare_providers.refresh import LiveSource

    sources: list[tuple[str, LiveSource | str]] = []
    for entry in provider_entries(entries):
        provider = _make_provider(entry)
        if isinstance(provider, str | LiveSource):
            sources.append((entry.name, provider))
    names = [name for name, _ in sources]
    chosen = None if names_wanted is None else [name.casefold() for name in names_wanted]
    for name in chosen or ():
        if name not in names:
            raise UnknownNameError(
                f"--provider {name!r}: its prices cannot be fetched; those of {', '.join(names) or 'no plug-in'} can"
            )
    if not sources:
        line = write_install_line("all")
        raise InputError(f"no installed price source can be refreshed: {line}")
    return [(name, source) for name, source in sources if chosen is None or name in chosen]


def _make_provider(entry: ProviderEntry) -> object:
    """Return the provider that a plug-in makes, or a sentence that says why there is none."""
    try:
        return entry.load()()
    except TrainfareError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: a plug-in may fail in any way
        return f"the plug-in is broken ({type(error).__name__}): update or remove it"


def update_clouds(
    sources: list[tuple[str, LiveSource | str]],
    *,
    cache: BookCache,
    say: Say = lambda _name, _step: None,
    clock: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc),
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> PricesUpdate:
    """
    Refresh clouds in parallel; a slow or failing one does not affect the others.

    Args:
        sources: what `live_sources` returned.
        cache: where their last good prices are.
        say: called from several threads with the cloud, what is being done and how far it is.
        clock: dates the stored prices.
        monotonic: seconds, to give up a cloud from which nothing comes within `FIRST_ANSWER_S`.
        sleep: waits seconds before another attempt.

    Raises:
        KeyboardInterrupt: Ctrl-C; every download has been told to stop, and what is stored is as it was.
    """
    done: queue.Queue[tuple[int, CloudUpdate]] = queue.Queue()
    runs = [_Run(name, source, cache, monotonic(), sleep) for name, source in sources]
    updates: dict[int, CloudUpdate] = {}

    def work(index: int, run: _Run) -> None:
        outcome = run.outcome(clock(), lambda step: say(run.name, step))
        try:
            say(run.name, Step("done"))
        finally:
            done.put((index, outcome))

    # Daemon threads, because a call that hangs in foreign code must keep neither the command nor Ctrl-C waiting.
    threads = [
        threading.Thread(target=work, args=(index, run), name=f"trainfare-update-{run.name}", daemon=True)
        for index, run in enumerate(runs)
    ]
    try:
        for thread in threads:
            thread.start()
        while len(updates) < len(runs):
            with contextlib.suppress(queue.Empty):
                index, outcome = done.get(timeout=_POLL_S)
                updates.setdefault(index, outcome)
            for index, run in enumerate(runs):
                if index not in updates and run.is_silent(monotonic()):
                    run.stop.set()
                    updates[index] = run.report_failure(
                        f"nothing came within {FIRST_ANSWER_S:g} s; check the network"
                    )
    except BaseException:
        for run in runs:
            run.stop.set()
        until_s = time.monotonic() + _GOODBYE_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        raise
    return PricesUpdate(tool_version=__version__, clouds=tuple(updates[index] for index in range(len(runs))))


@dataclass(slots=True)
class _Run:
    """
    The refresh of one cloud.

    Attributes:
        began_s: on the monotonic clock.
        sleep: waits seconds.
        stop: tells it to end.
        http: its client, once it has one.
    """

    name: str
    source: LiveSource | str
    cache: BookCache
    began_s: float
    sleep: Callable[[float], None]
    stop: threading.Event = field(default_factory=threading.Event)
    http: HttpClient | None = None

    def is_silent(self, now_s: float) -> bool:
        """Return whether no server has answered in time."""
        return now_s - self.began_s >= FIRST_ANSWER_S and (self.http is None or not self.http.answered)

    def outcome(self, now: datetime, tell: Callable[[Step], None]) -> CloudUpdate:
        """Refresh the cloud; whatever fails is in the outcome."""
        if isinstance(self.source, str):
            return self.report_failure(self.source)
        try:
            return self._refresh(self.source, now, tell)
        except TrainfareError as error:
            return self.report_failure(str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code; its message may hold a URL with a key
            return self.report_failure(f"the plug-in is broken ({type(error).__name__}): update or remove it")

    def report_failure(self, problem: str) -> CloudUpdate:
        """Return the outcome of a cloud that keeps what it has."""
        from trainfare_providers.disk.cached_book import read_book

        last = None
        with contextlib.suppress(
            InputError
        ):  # a plug-in whose name cannot be that of a file has no prices on disk
            last = read_book(self.cache, self.name)
        return CloudUpdate(
            provider=self.name,
            refreshed=False,
            failed=True,
            rows=0 if last is None else len(last.book),
            fetched_at=None if last is None else last.facts.fetched_at,
            problem=problem,
            snapshot_of=_snapshot_dates().get(self.name),
        )

    def _refresh(self, source: LiveSource, now: datetime, tell: Callable[[Step], None]) -> CloudUpdate:
        from trainfare_providers.disk.part_files import part_file
        from trainfare_providers.http.client import HttpClient
        from trainfare_providers.refresh import refresh

        client = HttpClient(
            source.name,
            budget_s=source.budget_s,
            sleep=self.sleep,
            cancelled=self.stop.is_set,
            part_of=lambda url: part_file(self.cache.folder, url),
            tell=tell,
        )
        with client as http:
            self.http = http
            result = refresh(
                source, cache=self.cache, now=now, http=http, progress=lambda what: tell(Step(what))
            )
        return CloudUpdate(
            provider=self.name,
            refreshed=result.refreshed,
            failed=result.problem is not None,
            rows=result.rows,
            fetched_at=result.fetched_at,
            services=tuple(
                ServiceUpdate.model_validate({"service": intake.service, **intake.counts()})
                for intake in result.intakes
            ),
            notes=result.notes,
            problem=result.problem,
            snapshot_of=_snapshot_dates().get(self.name),
        )


@lru_cache(maxsize=1)
def _snapshot_dates() -> dict[str, str]:
    """Return the newest date of the shipped prices of each cloud; none where the snapshot cannot be read."""
    from trainfare_providers.snapshot import SnapshotProvider

    dates: dict[str, str] = {}
    with contextlib.suppress(TrainfareError):
        for facts in SnapshotProvider().load().facts():
            dates[facts.provider] = max(facts.newest, dates.get(facts.provider, ""))
    return dates
