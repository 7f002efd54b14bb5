"""The day on which tests ask for prices that grow too old, so that none depends on the day on which it runs."""

from __future__ import annotations

import functools

from trainfare_providers.snapshot import SnapshotProvider


@functools.cache
def snapshot_day() -> str:
    """Return the day of the newest price that trainfare ships, as YYYY-MM-DD."""
    return SnapshotProvider().load().newest_date
