"""Entry points of price providers."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any, Protocol

__all__ = ["PROVIDER_GROUP", "ProviderEntry", "provider_entries"]

PROVIDER_GROUP = "trainfare.providers"


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
    found = entry_points(group=PROVIDER_GROUP) if entries is None else entries
    return sorted(found, key=lambda entry: entry.name)
