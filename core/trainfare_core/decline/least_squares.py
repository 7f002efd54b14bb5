"""Ordinary least squares for a handful of columns, with standard errors and R squared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import DeclineError, TooLittleDataError

__all__ = ["LeastSquares", "least_squares"]


@dataclass(frozen=True, slots=True)
class LeastSquares:
    """
    A fitted linear relation.

    Attributes:
        coefficients: one a column, in the order given.
        standard_errors: of the coefficients.
        residual_std: with n - p degrees of freedom.
        r_squared: share of the variance about the mean that is explained.
    """

    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    residual_std: float
    r_squared: float


def least_squares(columns: Sequence[Sequence[float]], target: Sequence[float]) -> LeastSquares:
    """
    Fit target = sum of coefficient times column, by the normal equations.

    Args:
        columns: p columns of n numbers; give one of ones for a constant.
        target: n numbers.

    Raises:
        TooLittleDataError: n is not above p.
        DeclineError: columns that depend on each other.
    """
    p, n = len(columns), len(target)
    if n <= p:
        msg = f"least squares: {n} points for {p} coefficients"
        raise TooLittleDataError(msg)
    # Scaled to length 1, so that the test for dependence below does not depend on units.
    scales = [math.sqrt(math.fsum(value * value for value in column)) or 1.0 for column in columns]
    unit = [[value / scale for value in column] for column, scale in zip(columns, scales, strict=True)]
    inverse = _inverse([[_dot(left, right) for right in unit] for left in unit])
    projected = [_dot(column, target) for column in unit]
    scaled = [_dot(row, projected) for row in inverse]
    fitted = [math.fsum(c * column[i] for c, column in zip(scaled, unit, strict=True)) for i in range(n)]
    left_over = math.fsum((value - guess) ** 2 for value, guess in zip(target, fitted, strict=True))
    mean = math.fsum(target) / n
    total = math.fsum((value - mean) ** 2 for value in target)
    variance = left_over / (n - p)
    return LeastSquares(
        tuple(c / scale for c, scale in zip(scaled, scales, strict=True)),
        tuple(math.sqrt(variance * inverse[i][i]) / scales[i] for i in range(p)),
        math.sqrt(variance),
        1 - left_over / total if total else 1.0,
    )


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Return the inverse by Gauss-Jordan with row exchange."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda row: abs(rows[row][i]))
        if abs(rows[pivot][i]) < 1e-12:
            msg = "least squares: the columns depend on each other, so no coefficient is theirs alone"
            raise DeclineError(msg)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(size):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[size:] for row in rows]
