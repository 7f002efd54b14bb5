"""Machines and accelerators that are known and have no price in the snapshot, with the reason (`data/unpriced.csv`)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache

from trainfare_core.documents import data_text


@cache
def read_unpriced() -> Mapping[str, str]:
    """Return why a machine or accelerator has no price in the snapshot, by name in lower case."""
    rows = csv.DictReader(data_text("unpriced.csv").splitlines())
    return {name.casefold(): row["reason"] for row in rows for name in row["names"].split()}
