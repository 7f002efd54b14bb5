"""Groups of rows that are left out together when intervals are fitted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from trainfare_research.fitting.one_device_rows import Row
from trainfare_research.fitting.table_lines import SUBMISSION

_FOLDS = 10
"""Tenths of the model families: a fit without one still has nine tenths of the rows. A chosen value."""


def family_of(model: str) -> str:
    """Return the first word of a model's name: variants of one architecture are left out together."""
    bare = re.sub(r"^(gluon|legacy|ssl|swsl|tv|tf)_", "", model.lower())
    return re.split(r"[_\d\-\[]", bare)[0]


def fold_of(row: Row) -> str:
    """Return which tenth of the model families a row belongs to."""
    model = row.line.get("model") or row.workload
    return str(int(hashlib.sha256(family_of(model).encode()).hexdigest(), 16) % _FOLDS)


GROUPS: dict[str, Callable[[Row], str]] = {
    "chip": lambda row: row.chip,
    "generation": lambda row: row.device.generation,
    "source": lambda row: row.source,
    "workload": fold_of,
    "benchmark": lambda row: row.workload if row.timed == SUBMISSION else "",
}
"""The group of a row, by what is left out; rows of the group "" stay in every fit."""

FIT_GROUPS: dict[str, Callable[[Row], str]] = {
    **GROUPS,
    "vendor": lambda row: row.device.vendor,
    "work": lambda row: row.group if row.end_to_end else "",
}
"""The same with whole vendors and kinds of work, of which single kernels stay."""
