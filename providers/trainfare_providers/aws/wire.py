"""Reading answers that may lack or garble anything: what is not there, or not of its kind, is None."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Final, cast

__all__ = ["at", "day_of", "decimal_of", "entries", "named", "number", "text", "train_type"]

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_PRICE: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_TRAIN: Final = re.compile(r"(?:[A-Z0-9]{2,8}-)?Train:(ml\.[a-z0-9.-]{3,60})", re.ASCII)


def at(value: object, *path: str) -> object:
    """Return what stands at a path of names, or None."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, object]", value).get(name)
    return value


def text(value: object, *path: str) -> str:
    """Return the text at a path of names, or an empty one."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def number(value: object, *path: str) -> float | None:
    """Return the number at a path of names where it is finite and not below 0, or None."""
    found = at(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float | Decimal):
        return None
    inside = 0 <= found < 10**12 if not isinstance(found, Decimal) or found.is_finite() else False
    return float(found) if inside else None


def entries(value: object, *path: str) -> list[object]:
    """Return the list at a path of names, or an empty one."""
    found = at(value, *path)
    return cast("list[object]", found) if isinstance(found, list) else []


def named(value: object, *path: str) -> Iterator[tuple[str, object]]:
    """Yield the names and values of the object at a path of names."""
    found = at(value, *path)
    if isinstance(found, Mapping):
        yield from cast("Mapping[str, object]", found).items()


def day_of(value: object) -> str:
    """Return the UTC day of a date, a timestamp or an ISO 8601 text as YYYY-MM-DD; empty where it is none."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return f"{moment.astimezone(timezone.utc):%Y-%m-%d}" if 1900 < moment.year < 9000 else ""
    found = _DAY.match(value) if isinstance(value, str) else None
    return found.group() if found else ""


def decimal_of(value: object) -> Decimal | None:
    """Return a fee or price that is written as plain decimal text, or None."""
    return Decimal(value) if isinstance(value, str) and _PRICE.fullmatch(value) else None


def train_type(usage_type: str) -> str | None:
    """Return the ml.* type of a usage type like USW2-Train:ml.p5.48xlarge; None for hosting, notebooks and all else."""
    found = _TRAIN.fullmatch(usage_type)
    return found.group(1) if found else None
