"""
The fit of the per-operation model: ridge least squares on ln(predicted / measured), robust, in closed-form steps.

Every coefficient has a prior. A class, generation or device that a fold lacks stays at its prior, so nothing explodes
on what was never seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from calibration_rows import BLEND
from numpy.typing import NDArray
from scipy import sparse
from single_rows import Index, Row

from trainfare_core.prediction.step_time import host_bound

__all__ = ["GLOBALS", "Problem", "prior", "solve"]

Array = NDArray[np.float64]

_HUBER, _NOISE = 0.12, 0.1
GLOBALS = {
    "launch_device": (math.log(4e-6), 0.15),
    "launch_timed": (math.log(1e-5), 0.5),
    "launch_host": (math.log(14e-6), 0.06),
    "host_backward": (math.log(0.5), 0.5),
    "old_host": (math.log(2.5), 0.5),
    "old_host_year": (0.0, 0.5),
    "winograd": (0.0, 1.0),
}
"""Natural logarithms but for the slope and Winograd's logit: prior mean and standard deviation."""
_KINDS = {
    "matmul": (0.0, 1e-6),
    "attention": (-0.6, 0.5),
    "recurrent": (-1.0, 0.5),
    "convolution": (-0.2, 0.5),
}
_MEMORY_KINDS = {"normalization": 0.3, "softmax": 0.3, "optimizer": 0.3, "convolution": 0.0, "matmul": 0.0}


def prior(name: str) -> tuple[float, float]:
    """Return the prior mean and standard deviation of a coefficient, in logits."""
    part, _, feature = name.partition("|")
    if not feature:
        return GLOBALS[name]
    if feature in ("kind:loss", "backward:loss"):
        # Never a large part of a measured step but of a language model's: what it absorbs would be another's error.
        return (0.5, 0.1) if feature.startswith("kind") else (0.0, 0.1)
    if feature.startswith("kind:"):
        kind = feature.removeprefix("kind:")
        return (_MEMORY_KINDS.get(kind, 0.8), 0.5) if part == "memory" else _KINDS.get(kind, (0.0, 0.5))
    for start, known in (
        ("1", (1.0, 0.7)), ("gen:", (0.0, 0.25 if part == "memory" else 0.3)), ("dev:", (0.0, 0.05)),
        ("device:", (0.0, 0.3)), ("waves", (0.3, 0.3)), ("nhwc", (0.0, 0.5)),
    ):  # fmt: skip
        if feature.startswith(start) and (start != "1" or feature == "1"):
            return known
    if part != "memory" and feature in ("conv:grouped", "conv:depthwise"):
        return (-1.0, 0.5) if feature == "conv:grouped" else (-2.0, 0.7)
    return (0.1, 0.15) if feature.endswith((":narrow", ":depth", ":width", ":short")) else (0.0, 0.4)


class Problem:
    """All operations of all rows, flattened, so that one evaluation is a handful of array operations."""

    def __init__(self, rows: Sequence[Row], index: Index) -> None:
        self.rows, self.index = rows, index
        self.at = {name: index.add(name, prior) for name in GLOBALS}
        self.log_measured = np.log([row.measured_s for row in rows])
        self.weight = np.array([row.weight for row in rows])
        sizes = [len(row.flop_s) for row in rows]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        self.flop_s = np.concatenate([row.flop_s for row in rows])
        self.byte_s = np.concatenate([row.byte_s for row in rows])
        self.winograd = np.concatenate([row.winograd for row in rows])
        self.compute = _matrix([row.compute for row in rows], len(index.mean))
        self.memory = _matrix([row.memory for row in rows], len(index.mean))
        owner = np.repeat(np.arange(len(rows)), sizes)
        count = len(self.flop_s)
        self.sum = sparse.csr_matrix((np.ones(count), (owner, np.arange(count))), shape=(len(rows), count))
        self.launches = np.array([row.launches for row in rows])
        self.host = np.array([row.host for row in rows])
        self.old = np.array([row.old_host for row in rows])
        self.years = np.array([(row.device.release_year - 2020) / 5.0 for row in rows])
        self.alone = np.array([not row.end_to_end for row in rows])
        self.extra_s = np.array([row.extra_s for row in rows])

    def predict(self, theta: Array) -> Array:
        """Return ln of the predicted seconds of every row."""
        return self._evaluate(theta, slopes=False)[0]

    def _evaluate(self, theta: Array, *, slopes: bool) -> tuple[Array, Array]:
        at = self.at
        saved = 1 / (1 + math.exp(-theta[at["winograd"]]))
        flop_s = self.flop_s * np.where(self.winograd, 1 / 2.25 + (1 - 1 / 2.25) * saved, 1.0)
        falls_c = np.exp(-np.clip(self.compute @ theta, -20, 20))
        falls_m = np.exp(-np.clip(self.memory @ theta, -20, 20))
        compute, memory = flop_s * (1 + falls_c), self.byte_s * (1 + falls_m)
        bound = compute >= memory
        time = np.where(bound, compute + BLEND * memory, memory + BLEND * compute)
        # A kernel timed alone carries its launch and the timer's events; inside a step they are hidden.
        launch_s = self.launches.sum(1) * np.exp(
            np.where(self.alone, theta[at["launch_timed"]], theta[at["launch_device"]])
        )
        device_s = np.add.reduceat(time, self.starts) + launch_s
        host_s, host_slopes = self._host(theta)
        step_s = host_bound(device_s, host_s)
        total_s = step_s + self.extra_s
        log_total = np.log(total_s)
        if not slopes:
            return log_total, np.zeros(0)
        by_device = (device_s / step_s) ** 3 / total_s
        by_host = (host_s / step_s) ** 3 / total_s
        part_c = -flop_s * falls_c * np.where(bound, 1, BLEND)
        part_m = -self.byte_s * falls_m * np.where(bound, BLEND, 1)
        jacobian = (
            self.sum @ (sparse.diags(part_c) @ self.compute) + self.sum @ (sparse.diags(part_m) @ self.memory)
        ).toarray() * by_device[:, None]
        jacobian[:, at["launch_device"]] = np.where(self.alone, 0.0, launch_s * by_device)
        jacobian[:, at["launch_timed"]] = np.where(self.alone, launch_s * by_device, 0.0)
        for name, slope in host_slopes.items():
            jacobian[:, at[name]] = slope * by_host
        raw = np.add.reduceat(
            self.flop_s * self.winograd * (1 + falls_c) * np.where(bound, 1, BLEND), self.starts
        )
        jacobian[:, at["winograd"]] = raw * (1 - 1 / 2.25) * saved * (1 - saved) * by_device
        return log_total, jacobian

    def _host(self, theta: Array) -> tuple[Array, dict[str, Array]]:
        at = self.at
        each_s = (
            np.exp(
                theta[at["launch_host"]]
                + np.where(self.old, theta[at["old_host"]] + theta[at["old_host_year"]] * self.years, 0.0)
            )
            * self.host
        )
        backward_s = self.launches[:, 1] * each_s * math.exp(theta[at["host_backward"]])
        host_s = (self.launches[:, 0] + self.launches[:, 2]) * each_s + backward_s
        return host_s, {
            "launch_host": host_s,
            "host_backward": backward_s,
            "old_host": host_s * self.old,
            "old_host_year": host_s * self.old * self.years,
        }

    def loss(self, errors: Array, theta: Array, weight: Array) -> float:
        """Return the objective: robust squared log errors and squared distances from the priors."""
        robust = 2 * _HUBER**2 * (np.sqrt(1 + (errors / _HUBER) ** 2) - 1)
        mean, sd = np.array(self.index.mean), np.array(self.index.sd)
        return float((weight * robust).sum() / _NOISE**2 + (((theta - mean) / sd) ** 2).sum())

    def slopes(self, theta: Array) -> tuple[Array, Array]:
        """Return ln of the predicted seconds and its derivatives, shape (rows, coefficients)."""
        return self._evaluate(theta, slopes=True)


def _matrix(rows: list[list[list[tuple[int, float]]]], width: int) -> sparse.csr_matrix:
    operations = [operation for row in rows for operation in row]
    pointer = np.concatenate([[0], np.cumsum([len(operation) for operation in operations])])
    flat = [pair for operation in operations for pair in operation]
    columns = np.array([column for column, _ in flat], dtype=np.int64)
    values = np.array([value for _, value in flat], dtype=np.float64)
    return sparse.csr_matrix((values, columns, pointer), shape=(len(operations), width))


def solve(
    problem: Problem,
    start: Array | None = None,
    iterations: int = 25,
    without: NDArray[np.bool_] | None = None,
) -> Array:
    """
    Return the coefficients of the smallest loss (damped Gauss-Newton with exact derivatives).

    Args:
        problem: all measurements.
        start: coefficients to begin at; the priors where it is None.
        iterations: at most.
        without: rows that the fit must not see, shape (rows,).
    """
    kept = problem.weight if without is None else np.where(without, 0.0, problem.weight)
    mean, sd = np.array(problem.index.mean), np.array(problem.index.sd)
    theta = mean.copy() if start is None else start.copy()
    damping = 1e-2
    log_s, jacobian = problem.slopes(theta)
    errors = log_s - problem.log_measured
    current = problem.loss(errors, theta, kept)
    for _ in range(iterations):
        weight = kept / np.sqrt(1 + (errors / _HUBER) ** 2) / _NOISE**2
        normal = jacobian.T @ (weight[:, None] * jacobian) + np.diag(1 / sd**2)
        gradient = jacobian.T @ (weight * errors) + (theta - mean) / sd**2
        for _ in range(8):
            proposal = theta - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
            after = problem.loss(problem.predict(proposal) - problem.log_measured, proposal, kept)
            if after < current:
                break
            damping *= 4
        else:
            return theta
        gain, theta, current, damping = current - after, proposal, after, damping / 4
        if gain < 1e-4 * current:
            return theta
        log_s, jacobian = problem.slopes(theta)
        errors = log_s - problem.log_measured
    return theta
