"""Read values from an answer that may lack or garble any part: a missing or malformed value is None or empty."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Final, cast

_MAX_TEXT: Final = 256
"""Characters; the longest id of the services that are asked is SageMaker's TrainingPlanOfferingId, 256."""

_MAX_AMOUNT: Final = 10**12
"""Far above any count, size in MiB, hours or seconds that a cloud lists."""

_MAX_EXPONENT: Final = 30
"""Of ten, in a price: far beyond any, and within what arithmetic of `Decimal` can add and divide."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])", re.ASCII)


def value_at(value: object, *path: str) -> object:
    """Return the value at a path of keys, or None."""
    for key in path:
        value = (object_of(value) or {}).get(key)
    return value


def object_of(value: object, *path: str) -> Mapping[str, object] | None:
    """Return the JSON object at a path of keys, or None where it is something else."""
    entry = value_at(value, *path) if path else value
    return cast("dict[str, object]", entry) if isinstance(entry, dict) else None


def items_of(value: object, *path: str) -> Sequence[object]:
    """Return the items of the JSON list at a path of keys; none where it is something else."""
    entries = value_at(value, *path)
    return cast("list[object]", entries) if isinstance(entries, list) else ()


def text_of(value: object) -> str | None:
    """Return text of 1 to 256 characters that can be written as UTF-8, without the space around it, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value.strip() or None


def text_at(value: object, *path: str) -> str:
    """Return the text at a path of keys, as `text_of` does, or an empty one."""
    return text_of(value_at(value, *path)) or ""


def name_of(value: object) -> str | None:
    """Return the name of a machine, region, zone or SKU (ASCII letters, digits and `._+-`), or None."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def number_of(value: object) -> Decimal | None:
    """Return a finite number with all its digits, of at most 10^30; None for another, a float, text, true and false."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    number = Decimal(value)
    if not number:
        return Decimal(0)
    return number if number.is_finite() and abs(number.adjusted()) <= _MAX_EXPONENT else None


def amount_at(value: object, *path: str) -> float | None:
    """Return the count or size at a path of keys, of at least 0 and below 1e12, or None."""
    amount = value_at(value, *path)
    if isinstance(amount, bool) or not isinstance(amount, int | float | Decimal):
        return None
    if isinstance(amount, Decimal) and not amount.is_finite():
        return None
    return float(amount) if 0 <= amount < _MAX_AMOUNT else None


def day_of(value: object) -> str | None:
    """Return the day, YYYY-MM-DD, of a text such as 2023-03-24T10:52:50.681Z, or the UTC day of a datetime."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        # At the ends of the calendar a change of zone overflows.
        return f"{moment.astimezone(timezone.utc):%Y-%m-%d}" if 1900 < moment.year < 9000 else None
    if not isinstance(value, str) or not _DAY.match(value):
        return None
    try:
        return date.fromisoformat(value[:10]).isoformat()
    except ValueError:
        return None
