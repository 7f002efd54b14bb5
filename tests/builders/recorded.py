"""
Recorded answers: what the product answers to many drawn inputs, kept number by number in `tests/recorded/*.json`.

A recorded answer says that nothing has changed, not that it is right: that is what the tests beside each module say.
It fails for a number, a limit or a sentence that no other test names. A change that is meant is
recorded with `TRAINFARE_UPDATE_GOLDEN=1 pytest tests/recorded` and reviewed as a difference of the files.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from trainfare_core.errors import TrainfareError

FOLDER = Path(__file__).parents[1] / "recorded"
SAME = 1e-6
"""Part of a number up to which it is the same: numpy's sums differ in the last digits between processors."""
_ZERO = 1e-12
_LONGEST_ARRAY = 24
_LONGEST_TEXT = 60
_MOST_SHOWN = 12
_UPDATE = bool(os.environ.get("TRAINFARE_UPDATE_GOLDEN"))


def compare_with_recorded(name: str, answers: Mapping[str, Any]) -> None:
    """
    Compare answers with those recorded under a name, or record them where `TRAINFARE_UPDATE_GOLDEN` is set.

    Args:
        name: of the file, without its ending.
        answers: by the case that they answer.
    """
    file = FOLDER / f"{name}.json"
    texts: dict[str, str] = {}
    now = {case: _share_texts(simplify(answer), texts) for case, answer in answers.items()}
    now |= {"texts": dict(sorted(texts.items()))} if texts else {}
    if _UPDATE:
        lines = ",\n".join(
            f" {json.dumps(case)}: {json.dumps(answer, ensure_ascii=False, sort_keys=True)}"
            for case, answer in now.items()
        )
        file.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    before = json.loads(file.read_text(encoding="utf-8"))
    differences = list(list_differences(before, json.loads(json.dumps(now))))
    assert not differences, (
        f"{len(differences)} recorded answers are others now; if that is meant, record them "
        "(TRAINFARE_UPDATE_GOLDEN=1):\n" + "\n".join(differences[:_MOST_SHOWN])
    )


def answer_or_error(call: Callable[[], Any]) -> Any:
    """Return what a call answers, or the kind and text of its refusal."""
    try:
        return call()
    except (TrainfareError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def simplify(value: Any) -> Any:
    """Return a value as JSON has it: numbers with eight digits, long arrays by their sums and some of their entries."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return float(f"{number:.8g}") if math.isfinite(number) else str(number)
    if isinstance(value, np.generic):
        return simplify(value.item())
    if isinstance(value, np.ndarray):
        return _simplify_array(value)
    if isinstance(value, BaseModel):
        return simplify(value.model_dump(mode="python", exclude_none=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: simplify(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) is not None
        }
    if isinstance(value, Mapping):
        return {_name_key(key): simplify(entry) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((simplify(entry) for entry in value), key=str)
    if isinstance(value, enum.Enum):
        return simplify(value.value)
    if isinstance(value, (dt.date, dt.datetime)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [simplify(entry) for entry in value]
    return str(value) if isinstance(value, (Decimal, bytes, type)) else f"{type(value).__name__}"


def _name_key(key: Any) -> str:
    return key if isinstance(key, str) else " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _share_texts(value: Any, texts: dict[str, str]) -> Any:
    """Return a simple value with each long text replaced by a name, under which `texts` has it once."""
    if isinstance(value, dict):
        return {key: _share_texts(entry, texts) for key, entry in value.items()}
    if isinstance(value, list):
        return [_share_texts(entry, texts) for entry in value]
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        name = f"text {hashlib.sha256(value.encode()).hexdigest()[:6]}"
        texts[name] = value
        return name
    return value


def _simplify_array(values: np.ndarray[Any, Any]) -> Any:
    if values.size <= _LONGEST_ARRAY or values.dtype.kind not in "fiub":
        return simplify(values.tolist())
    numbers = values.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    places = np.linspace(0, numbers.size - 1, 5).astype(int)
    return {
        "shape": list(values.shape),
        "finite": int(finite.size),
        "sum": simplify(finite.sum()),
        "squares": simplify((finite**2).sum()),
        "some": simplify(numbers[places].tolist()),
    }


def list_differences(before: Any, now: Any, path: str = "") -> Iterable[str]:
    """Yield what differs between two simple values, each with its path."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from list_differences(before.get(key, "(none)"), now.get(key, "(none)"), f"{path}/{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from list_differences(old, new, f"{path}/{index}")
    elif not _is_same(before, now):
        yield f"{path}: {before!r} was recorded, now {now!r}"


def _is_same(before: Any, now: Any) -> bool:
    numbers = [isinstance(value, (int, float)) and not isinstance(value, bool) for value in (before, now)]
    if all(numbers):
        return math.isclose(before, now, rel_tol=SAME, abs_tol=_ZERO)
    return type(before) is type(now) and before == now


def fingerprint(values: np.ndarray[Any, Any]) -> list[Any]:
    """
    Return how many numbers there are, how many are finite, and one number that any change of one of them moves.

    Args:
        values: numbers or marks of any size; the number is the mean of their logarithms, each with its own weight, so
            that small ones count as large ones do and an exchange of two shows.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    finite = np.isfinite(numbers)
    weights = np.sin(1.0 + np.arange(numbers.size))
    logs = np.sign(numbers[finite]) * np.log1p(np.abs(numbers[finite]) * 1e9)
    return [int(numbers.size), int(finite.sum()), simplify(float((weights[finite] * logs).sum()))]
