"""
Names of the arrays that the stages hand to each other, and what numpy has no function for: marks of rows, pairs of
equal rows and the least of each group. What their rows are is said where they are used.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
"""Floats of any shape, such as plans by machines."""
Column: TypeAlias = NDArray[np.float64]
"""A float for each row of a table, shape (rows,)."""
Rows: TypeAlias = NDArray[np.int64]
"""Numbers of rows of a table, shape (n,)."""
Flags: TypeAlias = NDArray[np.bool_]
"""True where something holds, of any shape."""


def mark_rows(count: int, rows: Rows) -> Flags:
    """Return a mask of shape (count,) that is True in the given rows."""
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask


def pair_rows(left: Rows, right: Rows) -> tuple[Rows, Rows]:
    """Return the rows of every pair of equal values of `left` and `right`, which is sorted, in the order of `left`."""
    start = np.searchsorted(right, left, side="left")
    count = np.searchsorted(right, left, side="right") - start
    row = np.repeat(np.arange(len(left)), count)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, np.repeat(start, count) + offset


def find_least(values: Column | Rows, group: Rows, groups: int) -> Column:
    """
    Return the least value of each group, inf of one without values, shape (groups,).

    >>> find_least(np.array([3.0, 2.0, 5.0]), np.array([0, 0, 2]), 3).tolist()
    [2.0, inf, 5.0]
    """
    least = np.full(groups, np.inf)
    np.minimum.at(least, group, values)
    return least
