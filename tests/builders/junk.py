"""Arbitrary JSON values, with which Hypothesis tries to break a parser."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

_NUMBERS = st.sampled_from(
    (
        *(0, -1, 1, 65910, 10**59, True, False),
        *map(Decimal, ("1e999999", "1e-999999", "NaN", "Infinity", "3.673", "-0.0", "1e400")),
    )
)
_TEXTS = st.sampled_from(
    (
        *("", " ", "nan", "1e400", "1_000", "\u0663", "\ud800", "a\x00b", "x" * 300, "<script>", "Windows"),
        *(" Spot", "1 Year", "3 Years", "Reservation", "Consumption", "OnDemand", "USD", "EUR", "1 Hour"),
        *("2023-06-01T00:00:00Z", "2023-06-31T00:00:00Z", "9999-99-99", "GiBy.mo", "us-central1"),
        "Standard_ND96isr_H100_v5",
    )
) | st.text(max_size=8)

junk: st.SearchStrategy[Any] = (
    st.none()
    | _NUMBERS
    | _TEXTS
    | st.lists(_NUMBERS | _TEXTS, max_size=2)
    | st.dictionaries(st.sampled_from(["term", "retailPrice", "unitPrice", "nanos"]), _NUMBERS, max_size=2)
)


@st.composite
def draw_damaged(draw: st.DrawFn, originals: Sequence[dict[str, Any]]) -> Any:
    """A real object with up to three of its values, at any depth, replaced or removed; sometimes no object."""
    if draw(st.integers(0, 19)) == 0:
        return draw(junk)
    made = deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = made
        while True:
            keys = list(range(len(place))) if isinstance(place, list) else list(place)
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            deeper = isinstance(place[key], (dict, list)) and bool(place[key])
            if deeper and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.integers(0, 4)) == 0:
                del place[key]
            else:
                place[key] = draw(junk)
            break
    return made
