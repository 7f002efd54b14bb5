"""Numbers in sentences."""

from __future__ import annotations

import math

__all__ = ["counted", "figures"]

_LEAST = 1e-3
"""Smaller numbers are written as powers of ten: their zeros are hard to count."""


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


def counted(value: float, noun: str) -> str:
    """
    Return a number with two significant digits and its noun.

    Args:
        value: the number.
        noun: in the singular, with a regular plural.

    >>> counted(1.02, "interruption"), counted(0.27, "interruption")
    ('1 interruption', '0.27 interruptions')
    """
    number = figures(value, 2)
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"
