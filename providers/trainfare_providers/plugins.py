"""Entry points of price providers, and which of them can have prices without being asked to fetch some."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from trainfare_core.clouds import CLOUDS
from trainfare_providers.disk.folder import price_file

PROVIDER_GROUP: Final = "trainfare.providers"
BOOK_VARIABLE: Final = "TRAINFARE_PRICE_BOOK"
"""Environment variable with the address of a team's price book; see `trainfare_providers.shared_book`."""


class ProviderEntry(Protocol):
    """An entry point, as `importlib.metadata` gives it."""

    @property
    def name(self) -> str:
        """Name of the plug-in."""
        ...

    def load(self) -> Any:
        """Import what the entry point names: a class or function that makes a `PriceProvider`."""
        ...


def provider_entries(entries: Iterable[ProviderEntry] | None = None) -> list[ProviderEntry]:
    """Return the plug-ins by name; None takes the installed ones."""
    points = entry_points(group=PROVIDER_GROUP) if entries is None else entries
    return sorted(points, key=lambda entry: entry.name)


def entries_with_prices(entries: Iterable[ProviderEntry] | None = None) -> list[ProviderEntry]:
    """
    Return the plug-ins to load for prices, by name: all but those of ours that are known to have none.

    A live cloud of ours has none while no price file is on disk, the shared book while no address is set. They are
    left out unimported, which saves a `recommend` a third of its modules. Other plug-ins are always in.
    """
    return [entry for entry in provider_entries(entries) if not _is_empty(entry)]


def _is_empty(entry: ProviderEntry) -> bool:
    module: object = getattr(entry, "module", "")
    if module == "trainfare_providers.shared_book":
        return not os.environ.get(BOOK_VARIABLE, "").strip()
    # A damaged file or a broken link is loaded, so that it is warned of.
    return (
        entry.name in CLOUDS
        and module == f"trainfare_providers.{entry.name}"
        and not os.path.lexists(price_file(entry.name))
    )
