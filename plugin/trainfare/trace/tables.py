"""The tables of operations of torch that lie beside the modules of this package."""

from __future__ import annotations

import csv
from pathlib import Path


def read_pairs(name: str) -> dict[str, str]:
    """Return the rows of a table of two columns, without its heads; the later of two rows for one key holds."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return dict(csv.reader(text.splitlines()[1:]))
