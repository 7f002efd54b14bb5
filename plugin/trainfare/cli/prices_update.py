"""`trainfare prices update`: ask the clouds for today's prices; a cloud that fails keeps its last good ones."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from trainfare import __version__
from trainfare.cli.price_options import JsonOrTable
from trainfare.price_sources import ProviderEntry, provider_entries
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError, PricesUnavailableError, TrainfareError, UnknownNameError

if TYPE_CHECKING:
    from trainfare_core.offers import Intake
    from trainfare_providers.cache import BookCache
    from trainfare_providers.refresh import LiveSource, RefreshResult

__all__ = ["CloudUpdate", "PricesUpdate", "live_sources", "update", "update_clouds", "update_table"]

FAILED_EXIT = PricesUnavailableError.exit_code
Say = Callable[[str, str], None]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServiceUpdate(_Model):
    """What became of the rows that one cloud service gave."""

    service: str
    rows_read: int
    accepted: int
    filtered: int
    quarantined: int
    degraded: bool = Field(description="more than 5 % of what looked like a price of ours is quarantined")


class CloudUpdate(_Model):
    """What became of one cloud."""

    provider: str
    refreshed: bool = Field(description="new prices are kept now; else the last good ones stay")
    failed: bool
    rows: int = Field(description="prices kept now")
    fetched_at: datetime | None = Field(description="when they were fetched; None where there are none")
    services: tuple[ServiceUpdate, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None


class PricesUpdate(_Model):
    """The answer of `prices update`, clouds by name."""

    schema_version: Literal[1] = 1
    tool_version: str
    clouds: tuple[CloudUpdate, ...]

    def to_json(self) -> str:
        """JSON text."""
        return self.model_dump_json(indent=1) + "\n"


def update(
    provider: Annotated[list[str] | None, typer.Option(help="cloud, e.g. aws; may be repeated")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="folder of the price files; default: TRAINFARE_PRICE_CACHE, or yours"
        ),
    ] = None,
    output: Annotated[JsonOrTable, typer.Option("--format", help="table or json")] = JsonOrTable.table,
) -> None:
    """Fetch today's prices; exit 3 if a cloud failed, whose last good prices then stay with their age."""
    from trainfare_providers.cache import BookCache

    sources = live_sources(provider)
    with _progress([name for name, _ in sources]) as say:
        answer = update_clouds(sources, cache=BookCache(cache), say=say)
    sys.stdout.write(answer.to_json() if output is JsonOrTable.json else update_table(answer))
    if any(cloud.failed for cloud in answer.clouds):
        raise typer.Exit(FAILED_EXIT)


def live_sources(
    wanted: Iterable[str] | None, entries: Iterable[ProviderEntry] | None = None
) -> list[tuple[str, LiveSource | str]]:
    """
    Return the plug-ins whose prices can be fetched, by name; one that cannot be loaded comes as what is wrong.

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
                f"--provider {name!r}: its prices cannot be fetched; those of {_list(names)} can"
            )
    if not found:
        raise InputError("no installed price source can be refreshed: install trainfare[aws,azure,gcp]")
    return [(name, source) for name, source in found if chosen is None or name in chosen]


def _made(entry: ProviderEntry) -> object:
    """Return what a plug-in makes, or a sentence on why it makes nothing."""
    try:
        return entry.load()()
    except TrainfareError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: a plug-in may fail in any way
        return f"the plug-in is broken ({type(error).__name__}): update or remove it"


def _list(names: list[str]) -> str:
    return ", ".join(names) or "no plug-in"


def update_clouds(
    sources: list[tuple[str, LiveSource | str]],
    *,
    cache: BookCache,
    say: Say = lambda _name, _what: None,
    clock: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc),
) -> PricesUpdate:
    """
    Refresh clouds side by side; none can hold up or harm another.

    Args:
        sources: what `live_sources` returned.
        cache: where their last good prices are.
        say: told the cloud and what is being done, from several threads.
        clock: dates what is kept.
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
    from trainfare_providers.http import Outlet
    from trainfare_providers.refresh import refresh

    with Outlet(source.name, budget_s=source.budget_s, cancelled=stop.is_set) as outlet:
        result = refresh(source, cache=cache, now=now, outlet=outlet, progress=progress)
    return _told(name, result)


def _told(name: str, result: RefreshResult) -> CloudUpdate:
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


def update_table(answer: PricesUpdate) -> str:
    """Return what became of each cloud as text."""
    lines: list[str] = []
    for cloud in answer.clouds:
        when = "" if cloud.fetched_at is None else f", fetched {cloud.fetched_at:%Y-%m-%d %H:%M} UTC"
        state = "updated" if cloud.refreshed else "kept as they were"
        kept = f"{state}: {cloud.rows:,} prices{when}" if cloud.rows else "no live prices"
        lines.append(f"{cloud.provider}: {kept}")
        lines += [
            f"  {one.service}: read {one.rows_read:,} = accepted {one.accepted:,} + filtered {one.filtered:,} + "
            f"quarantined {one.quarantined:,}{' (degraded)' if one.degraded else ''}"
            for one in cloud.services
        ]
        lines += [f"  note: {note}" for note in cloud.notes]
        lines += [f"  failed: {cloud.problem}"] if cloud.problem else []
    failed = [cloud.provider for cloud in answer.clouds if cloud.failed]
    if failed:
        lines.append(f"{', '.join(failed)} failed; `trainfare prices status` says what is used instead")
    return "\n".join(terminal_text(line) for line in lines) + "\n"


@contextmanager
def _progress(names: list[str]) -> Generator[Say]:
    """Show on standard error what each cloud is doing: live bars on a terminal, else a line a step."""
    if not sys.stderr.isatty():
        yield lambda name, what: print(terminal_text(f"{name}: {what}"), file=sys.stderr)  # noqa: T201
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {name: bars.add_task(f"{terminal_text(name)}: waiting", total=1) for name in names}

        def say(name: str, what: str) -> None:
            done = 1 if what == "done" else 0
            bars.update(tasks[name], description=terminal_text(f"{name}: {what}"), completed=done)

        yield say
