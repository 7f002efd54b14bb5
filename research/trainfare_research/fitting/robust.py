"""The solver of every fit: least squares, robust against outlying measurements, with normal priors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import least_squares

Array = NDArray[np.float64]

_TOLERANCE = 1e-8
"""Relative change of the loss at which a fit ends. At 1e-5 the coefficients of one device were up to 0.01 from those of
the smallest loss, and what was left out of the fit scored 0.1 points better or worse by where the fit had begun: twice
what a group of terms must be worth to stay."""


@dataclass(frozen=True)
class Prior:
    """Normal priors of n coefficients, arrays of shape (n,), and the range that each may take."""

    mean: Array
    sd: Array
    low: Array | None = None
    high: Array | None = None


def robust_fit(
    errors: Callable[[Array], Array],
    slopes: Callable[[Array], Array | sparse.csr_matrix],
    prior: Prior,
    weight: Array,
    *,
    bend: float,
    noise: float,
    evaluations: int,
    start: Array | None = None,
) -> Array:
    """
    Return the coefficients of the smallest loss.

    The loss is soft-L1 in the measurements, quadratic up to `bend` and then linear, and quadratic in the priors:

        sum of weight x 2 (bend / noise)^2 (sqrt(1 + (error / bend)^2) - 1) + sum of ((theta - mean) / sd)^2

    Args:
        errors: ln(predicted / measured) at coefficients, shape (rows,).
        slopes: its derivatives, shape (rows, coefficients).
        prior: of the coefficients.
        weight: of every row, shape (rows,); a row of weight 0 is not looked at.
        bend: error from which a row counts less than by its square.
        noise: standard deviation of ln(measured) of a row of weight 1.
        start: coefficients to begin at; the prior means where it is None.
        evaluations: of the errors, at most.
    """
    rows_used = np.flatnonzero(weight > 0)
    curvature = weight[rows_used] * (bend / noise) ** 2
    unit = sparse.identity(len(prior.mean), format="csr")

    def theta_of(scaled: Array) -> Array:
        return np.asarray(prior.mean + prior.sd * scaled)

    def residuals(scaled: Array) -> Array:
        return np.concatenate([errors(theta_of(scaled))[rows_used] / bend, scaled])

    def jacobian(scaled: Array) -> sparse.csr_matrix:
        by_row = sparse.csr_matrix(slopes(theta_of(scaled)))[rows_used]
        by_row.data *= (prior.sd / bend)[by_row.indices]
        return sparse.vstack([by_row, unit], format="csr")

    def loss(squares: Array) -> Array:
        """Return soft-L1 of the measurements and the squares of the priors, with two derivatives, shape (3, rows)."""
        derivatives = np.stack([squares, np.ones_like(squares), np.zeros_like(squares)])
        root = np.sqrt(1.0 + squares[: len(rows_used)])
        derivatives[:, : len(rows_used)] = curvature * np.stack(
            [2.0 * (root - 1.0), 1.0 / root, -0.5 / root**3]
        )
        return derivatives

    begin = np.zeros(len(prior.mean)) if start is None else (start - prior.mean) / prior.sd
    low = -np.inf if prior.low is None else (prior.low - prior.mean) / prior.sd
    high = np.inf if prior.high is None else (prior.high - prior.mean) / prior.sd
    solution = least_squares(
        residuals, begin, jacobian, bounds=(low, high), loss=loss, tr_solver="lsmr", ftol=_TOLERANCE,
        max_nfev=evaluations,
    )  # fmt: skip
    return theta_of(solution.x)
