"""Numbers, shares, times and lists as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_LEAST = 1e-3
"""Smaller numbers are written as powers of ten: their zeros are hard to count."""


_SIGNIFICANT: Final = 10
"""Digits kept: cents of ten million dollars; the last bits of exp() differ between processors."""


def round_figure(value: float) -> float:
    """Round to ten significant digits, so that every processor gives the same text."""
    return float(f"{value:.{_SIGNIFICANT}g}")


def figures(value: float, digits: int = 3) -> str:
    """
    Return a number with some significant digits; large ones in full with separators, never as a power of ten.

    Args:
        value: the number.
        digits: significant digits at least.

    >>> figures(0.0912, 2), figures(9.5), figures(1548.2)
    ('0.091', '9.5', '1,548')
    """
    if not math.isfinite(value) or abs(value) < _LEAST:
        return f"{value:.{digits}g}"
    rounded = float(f"{value:.{digits}g}") if abs(value) < 10**digits else value
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float, decimals: int | None = None, *, sign: bool = False) -> str:
    """
    Return a share of 1 as a percentage.

    Args:
        share: the share.
        decimals: after the point; None: whole percent, where only exactly 0 and 1 are shown as 0 % and 100 %.
        sign: whether a rise has a plus, too.

    >>> percent(0.8), percent(0.9993), percent(0.0834, 1), percent(0.67, 1, sign=True)
    ('80 %', '99.9 %', '8.3 %', '+67.0 %')
    """
    if decimals is None and 0 < share < 0.005:
        return "<1 %"
    if decimals is None and 0.995 <= share < 1:
        share, decimals = min(share, 0.999), 1
    return f"{100 * share:{'+' if sign else ''},.{decimals or 0}f} %"


def cents(amount: float, *, sign: bool = False) -> str:
    """
    Return an amount of money in cents, below ten of them with two significant digits.

    >>> cents(1234.5), cents(0.0234), cents(2.0, sign=True)
    ('1,234.50', '0.023', '+2.00')
    """
    # Chosen: below 0.095 two digits say more than cents.
    text = figures(amount, 2) if 0 < abs(amount) < 0.095 else f"{amount:,.2f}"
    return f"+{text}" if sign and amount >= 0 else text


TIME_UNITS: Final = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3}
"""Units of time, longest first, in seconds."""


def time_unit(seconds: float) -> tuple[str, float]:
    """
    Return the largest unit of which a time has at least one, and its seconds; seconds for 0.

    >>> time_unit(5400), time_unit(240), time_unit(0.02)
    (('h', 3600.0), ('min', 60.0), ('ms', 0.001))
    """
    fitting = (unit for unit in TIME_UNITS.items() if seconds >= unit[1])
    return next(fitting, ("ms", TIME_UNITS["ms"]) if seconds else ("s", 1.0))


def duration(seconds: float, digits: int = 3) -> str:
    """
    Return a time in the unit that suits it: minutes below an hour, seconds below a minute, then milliseconds.

    >>> duration(5400), duration(240), duration(0.0123)
    ('1.5 h', '4 min', '12.3 ms')
    """
    unit, unit_s = time_unit(seconds)
    return f"{figures(seconds / unit_s, digits)} {unit}"


def hours_text(hours: float, digits: int = 3) -> str:
    """Return hours as `duration` does."""
    return duration(3600.0 * hours, digits)


def hours_range(mid: float, low: float, high: float, brackets: str = "[]") -> str:
    """
    Return a median of hours and its interval, all in the unit of the median.

    >>> hours_range(0.5, 0.4, 0.62), hours_range(12.0, 10.0, 14.5, "()")
    ('30 min [24 to 37.2]', '12 h (10 to 14.5)')
    """
    unit, unit_s = time_unit(3600.0 * mid)
    low_text, mid_text, high_text = (figures(3600.0 * seconds / unit_s) for seconds in (low, mid, high))
    return f"{mid_text} {unit} {brackets[0]}{low_text} to {high_text}{brackets[1]}"


def quantify(value: float, noun: str) -> str:
    """
    Return a number with two significant digits and its noun.

    Args:
        value: the number.
        noun: in the singular, with a regular plural.

    >>> quantify(1.02, "interruption"), quantify(0.27, "interruption"), quantify(4.9e-07, "interruption")
    ('1 interruption', '0.27 interruptions', 'fewer than 1 in a million interruptions')
    """
    if 0 < value < _LEAST:
        return f"fewer than 1 in {'a million' if value < 1e-6 else 'a thousand'} {noun}s"
    number = figures(value, 2)
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"


def shorten_text(text: str, most_characters: int) -> str:
    """
    Return a text that ends with a whole sentence, or where none is long enough with a whole word, and " ..." beyond it.

    >>> shorten_text("It failed. The file data/train.csv is empty.", 40), shorten_text("It failed.", 40)
    ('It failed. The file data/train.csv ...', 'It failed.')
    """
    if len(text) <= most_characters:
        return text
    kept = text[: most_characters - len(" ...") + 1]
    sentence = kept.rfind(". ") + 1
    # Chosen: a sentence that ends in the first half leaves out more than it keeps.
    end = sentence if sentence > most_characters // 2 else kept.rfind(" ")
    return f"{kept[: end if end > 0 else len(kept) - 1]} ..."


def list_items(
    items: Sequence[str],
    most_characters: int,
    *,
    separator: str = ", ",
    most_items: int | None = None,
    more: str = "more",
) -> str:
    """
    Return items as one text: as many whole ones as there is room for, and how many are left out.

    >>> list_items(["a.py:1", "b.py:2", "c.py:3"], 20), list_items(["one", "two"], 100, most_items=1)
    ('a.py:1 and 2 more', 'one and 1 more')
    """
    for count in range(min(len(items), most_items or len(items)), 0, -1):
        left = len(items) - count
        rest = f"{separator.rstrip(', ')} and {left} {more}" if left else ""
        text = separator.join(items[:count]) + rest
        if len(text) <= most_characters:
            return text
        if count == 1:
            return shorten_text(items[0], most_characters - len(rest)) + rest
    return ""
