"""Machines and accelerators that are known and have no price in the snapshot, with the reason (`data/unpriced.csv`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from trainfare_core.documents import data_rows


@cache
def read_unpriced() -> Mapping[str, str]:
    """Return why a machine or accelerator has no price in the snapshot, by name in lower case."""
    return {
        name.casefold(): row["reason"] for row in data_rows("unpriced.csv") for name in row["names"].split()
    }
