"""Fetch the price lists of several clouds, for `trainfare prices update`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainfare_core._version import __version__
from trainfare_core.documents import Document, Record
from trainfare_core.errors import InputError, TrainfareError, UnknownNameError
from trainfare_providers.plugins import ProviderEntry, provider_entries

if TYPE_CHECKING:
    from trainfare_core.prices.book import Intake
    from trainfare_providers.disk.cache import BookCache
    from trainfare_providers.refresh import LiveSource

__all__ = ["CloudUpdate", "PricesUpdate", "Say", "ServiceUpdate", "live_sources", "update_clouds"]

Say = Callable[[str, str], None]


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


class PricesUpdate(Document):
    """The result of `prices update`, clouds by name."""

    schema_version: Literal[1] = 1
    tool_version: str
    clouds: tuple[CloudUpdate, ...]


def live_sources(
    wanted: Iterable[str] | None, entries: Iterable[ProviderEntry] | None = None
) -> list[tuple[str, LiveSource | str]]:
    """
    Return the plug-ins whose prices can be fetched, by name; for one that cannot be loaded, a sentence that says why.

    Args:
        wanted: names; None is all.
        entries: the plug-ins; None takes the installed ones.

    Raises:
        UnknownNameError: no plug-in of that name can be refreshed.
        InputError: none can.
    """
    from trainfare_providers.refresh import LiveSource

    found: list[tuple[str, LiveSource | str]] = []
    for entry in provider_entries(entries):
        made = _made(entry)
        if isinstance(made, str | LiveSource):
            found.append((entry.name, made))
    names = [name for name, _ in found]
    chosen = None if wanted is None else [name.casefold() for name in wanted]
    for name in chosen or ():
        if name not in names:
            raise UnknownNameError(
                f"--provider {name!r}: its prices cannot be fetched; those of {', '.join(names) or 'no plug-in'} can"
            )
    if not found:
        raise InputError("no installed price source can be refreshed: install trainfare[aws,azure,gcp]")
    return [(name, source) for name, source in found if chosen is None or name in chosen]


def _made(entry: ProviderEntry) -> object:
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
    say: Say = lambda _name, _what: None,
    clock: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc),
) -> PricesUpdate:
    """
    Refresh clouds in parallel; a slow or failing one does not affect the others.

    Args:
        sources: what `live_sources` returned.
        cache: where their last good prices are.
        say: called from several threads with the cloud and what is being done.
        clock: dates the stored prices.
    """
    stop = threading.Event()

    def one(name: str, source: LiveSource | str) -> CloudUpdate:
        if isinstance(source, str):
            return _failed(name, source)
        try:
            return _refreshed(name, source, cache, clock(), stop, lambda what: say(name, what))
        except TrainfareError as error:
            return _failed(name, str(error))
        except Exception as error:  # noqa: BLE001 - foreign code; its message may hold a URL with a key
            return _failed(name, f"the plug-in is broken ({type(error).__name__}): update or remove it")
        finally:
            say(name, "done")

    with ThreadPoolExecutor(max_workers=max(1, len(sources))) as threads:
        running = [threads.submit(one, name, source) for name, source in sources]
        try:
            clouds = tuple(each.result() for each in running)
        except KeyboardInterrupt:
            stop.set()
            raise
    return PricesUpdate(tool_version=__version__, clouds=clouds)


def _refreshed(
    name: str,
    source: LiveSource,
    cache: BookCache,
    now: datetime,
    stop: threading.Event,
    progress: Callable[[str], None],
) -> CloudUpdate:
    from trainfare_providers.http.client import HttpClient
    from trainfare_providers.refresh import refresh

    with HttpClient(source.name, budget_s=source.budget_s, cancelled=stop.is_set) as http:
        result = refresh(source, cache=cache, now=now, http=http, progress=progress)
    return CloudUpdate(
        provider=name,
        refreshed=result.refreshed,
        failed=result.problem is not None,
        rows=result.rows,
        fetched_at=result.fetched_at,
        services=tuple(_service(intake) for intake in result.intakes),
        notes=result.notes,
        problem=result.problem,
    )


def _service(intake: Intake) -> ServiceUpdate:
    return ServiceUpdate(
        service=intake.service,
        rows_read=intake.rows_read,
        accepted=intake.accepted,
        filtered=intake.filtered_rows,
        quarantined=intake.quarantined_rows,
        degraded=intake.degraded,
    )


def _failed(name: str, problem: str) -> CloudUpdate:
    return CloudUpdate(provider=name, refreshed=False, failed=True, rows=0, fetched_at=None, problem=problem)
