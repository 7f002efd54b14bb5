"""
The fit of the per-operation model: ridge least squares on ln(predicted / measured), robust, in closed-form steps.

Every coefficient has a prior. A class, generation or device that a fold lacks stays at its prior, so nothing explodes
on what was never seen. The runs of one workload from one source share an offset of their own (their trainer, libraries
and whatever their table does not say), so that a hundred rows of one benchmark do not pass for a hundred facts about
kernels; predictions do not have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.fitting.collective_rows import BLEND
from benchmarks.fitting.one_device_rows import WINOGRAD_LEAST, Index, Row
from trainfare_core.prediction.roofline.operations import host_bound

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
    "winograd_timed": (0.0, 1.0),
    "trainer": (0.1, 0.1),
}
"""Natural logarithms but for the slope and Winograd's logits: prior mean and standard deviation."""
_STACK_SD = 0.1
"""How far the steps of one workload of one source lie from what their operations say; no prediction has it."""
_KINDS = {
    "matmul": (0.0, 1e-6),
    "attention": (-0.6, 0.5),
    "recurrent": (-1.0, 0.5),
    "convolution": (-0.2, 0.5),
}
_POINTWISE = 1.8
"""A plain kernel over large tensors reaches 0.86 of the bandwidth."""
_MEMORY_KINDS = {
    "normalization": 1.2, "softmax": 1.2, "reduction": 1.2, "convolution": 0.8, "matmul": 0.8, "attention": 0.8,
    "unknown": 0.8, "other": 0.8, "embedding": 0.5, "indexing": 0.5, "recurrent": 0.0,
}  # fmt: skip
_MEMORY = {"half": (-0.3, 0.3), "backward:softmax": (-0.8, 0.4), "backward:normalization": (-0.8, 0.4)}


def prior(name: str) -> tuple[float, float]:
    """Return the prior mean and standard deviation of a coefficient, in logits."""
    part, _, feature = name.partition("|")
    if not feature:
        return GLOBALS[name]
    if part == "stack":
        return (0.0, _STACK_SD)
    if feature in ("kind:loss", "backward:loss"):
        # Never a large part of a measured step but of a language model's: what it absorbs would be another's error.
        return (0.5, 0.1) if feature.startswith("kind") else (0.0, 0.1)
    if part == "memory" and feature in _MEMORY:
        return _MEMORY[feature]
    if feature.startswith("kind:"):
        kind = feature.removeprefix("kind:")
        return (
            (_MEMORY_KINDS.get(kind, _POINTWISE), 0.5) if part == "memory" else _KINDS.get(kind, (0.0, 0.5))
        )
    for start, known in (
        ("1", (1.3, 0.7)), ("gen:", (0.0, 0.25 if part == "memory" else 0.3)), ("dev:", (0.0, 0.05)),
        ("device:", (0.0, 0.3)), ("waves", (0.3, 0.3)), ("nhwc", (0.0, 0.5)),
    ):  # fmt: skip
        if feature.startswith(start) and (start != "1" or feature == "1"):
            return known
    if part != "memory" and feature in ("conv:grouped", "conv:depthwise"):
        return (-1.0, 0.5) if feature == "conv:grouped" else (-2.0, 0.7)
    return (0.1, 0.15) if feature.endswith((":narrow", ":depth", ":width", ":short")) else (0.0, 0.4)


@dataclass(frozen=True)
class _Times:
    """Seconds by operation, and by row; `falls_*` is 1 / efficiency - 1."""

    flop_s: Array
    falls_c: Array
    falls_m: Array
    bound: Array
    """What of an operation's compute time counts: all where it is the longer part."""
    launch_s: Array
    device_s: Array
    saved: dict[str, float]


class Problem:
    """All operations of all rows, flattened, so that one evaluation is a handful of array operations."""

    def __init__(self, rows: Sequence[Row], index: Index) -> None:
        self.rows, self.index = rows, index
        self.at = {name: index.add(name, prior) for name in GLOBALS}
        self.stack = self._stacks()
        self.log_measured = np.log([row.measured_s for row in rows])
        self.weight = np.array([row.weight for row in rows])
        sizes = [len(row.flop_s) for row in rows]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        self.flop_s = np.concatenate([row.flop_s for row in rows])
        self.byte_s = np.concatenate([row.byte_s for row in rows])
        self.winograd = np.concatenate([row.winograd for row in rows])
        owner = self.owner = np.repeat(np.arange(len(rows)), sizes)
        self.compute = _Features([row.compute for row in rows], owner, len(rows), len(index.mean))
        self.memory = _Features([row.memory for row in rows], owner, len(rows), len(index.mean))
        self.launches = np.array([row.launches for row in rows])
        self.kernels = np.array([row.kernels for row in rows])
        self.host = np.array([row.host for row in rows])
        self.old = np.array([row.old_host for row in rows])
        self.years = np.array([(row.device.release_year - 2020) / 5.0 for row in rows])
        self.alone = np.array([not row.end_to_end for row in rows])
        self.extra_s = np.array([row.extra_s for row in rows])
        self.trainer = np.array([float(row.trainer) for row in rows])

    def _stacks(self) -> sparse.csr_matrix:
        """Return which run of one source and workload each step belongs to, shape (rows, coefficients)."""
        at = [i for i, row in enumerate(self.rows) if row.end_to_end]
        names = [f"stack|{self.rows[i].source}|{self.rows[i].workload}" for i in at]
        columns = [self.index.add(name, prior) for name in names]
        shape = (len(self.rows), len(self.index.mean))
        return sparse.csr_matrix((np.ones(len(at)), (at, columns)), shape=shape)

    def predict(self, theta: Array) -> Array:
        """Return ln of the predicted seconds of every row."""
        return self._evaluate(theta, slopes=False)[0]

    def host_share(self, theta: Array) -> Array:
        """Return how far each row is held up by its host, 0 to 1, as the source correction counts it."""
        device_s, host_s = self._times(theta).device_s, self._host(theta)[0]
        return np.asarray(host_s**4 / (host_s**4 + device_s**4))

    def fitted(self, theta: Array) -> Array:
        """Return ln of the predicted seconds with the part that a row's own software stack adds."""
        return self.predict(theta) + self.stack @ theta

    def _times(self, theta: Array) -> _Times:
        at = self.at
        saved = {name: 1 / (1 + math.exp(-theta[at[name]])) for name in ("winograd", "winograd_timed")}
        share = np.where(self.alone[self.owner], saved["winograd_timed"], saved["winograd"])
        flop_s = self.flop_s * np.where(self.winograd, WINOGRAD_LEAST + (1 - WINOGRAD_LEAST) * share, 1.0)
        falls_c = np.exp(-np.clip(self.compute @ theta, -20, 20))
        falls_m = np.exp(-np.clip(self.memory @ theta, -20, 20))
        compute, memory = flop_s * (1 + falls_c), self.byte_s * (1 + falls_m)
        bound = compute >= memory
        time = np.where(bound, compute + BLEND * memory, memory + BLEND * compute)
        # A kernel timed alone carries its launch and the timer's events; inside a step they are hidden.
        launch_s = self.kernels * np.exp(
            np.where(self.alone, theta[at["launch_timed"]], theta[at["launch_device"]])
        )
        device_s = np.add.reduceat(time, self.starts) + launch_s
        return _Times(flop_s, falls_c, falls_m, np.where(bound, 1.0, BLEND), launch_s, device_s, saved)

    def _evaluate(self, theta: Array, *, slopes: bool) -> tuple[Array, Array]:
        at, times = self.at, self._times(theta)
        host_s, host_slopes = self._host(theta)
        step_s = host_bound(times.device_s, host_s)
        longer = np.exp(theta[at["trainer"]] * self.trainer)
        total_s = step_s * longer + self.extra_s
        log_total = np.log(total_s)
        if not slopes:
            return log_total, np.zeros(0)
        by_device = (times.device_s / step_s) ** 3 * longer / total_s
        by_host = (host_s / step_s) ** 3 * longer / total_s
        part_c = -times.flop_s * times.falls_c * times.bound
        part_m = -self.byte_s * times.falls_m * (1 + BLEND - times.bound)
        jacobian = (self.compute.summed(part_c) + self.memory.summed(part_m)) * by_device[:, None]
        launch = times.launch_s * by_device
        jacobian[:, at["launch_device"]] = np.where(self.alone, 0.0, launch)
        jacobian[:, at["launch_timed"]] = np.where(self.alone, launch, 0.0)
        jacobian[:, at["trainer"]] = self.trainer * step_s * longer / total_s
        for name, slope in host_slopes.items():
            jacobian[:, at[name]] = slope * by_host
        direct_s = np.add.reduceat(
            self.flop_s * self.winograd * (1 + times.falls_c) * times.bound, self.starts
        )
        for name, here in (("winograd", ~self.alone), ("winograd_timed", self.alone)):
            rise = (1 - WINOGRAD_LEAST) * times.saved[name] * (1 - times.saved[name])
            jacobian[:, at[name]] = here * direct_s * rise * by_device
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
        log_s, jacobian = self._evaluate(theta, slopes=True)
        return log_s + self.stack @ theta, jacobian + self.stack.toarray()


class _Features:
    """(coefficient, value) pairs of all operations, flat: products with the coefficients, and sums by row."""

    def __init__(
        self, rows: list[list[list[tuple[int, float]]]], owner: NDArray[np.int64], count: int, width: int
    ) -> None:
        operations = [operation for row in rows for operation in row]
        sizes = np.array([len(operation) for operation in operations])
        flat = [pair for operation in operations for pair in operation]
        columns = np.array([column for column, _ in flat], dtype=np.int64)
        self.values = np.array([value for _, value in flat], dtype=np.float64)
        pointer = np.concatenate([[0], np.cumsum(sizes)])
        self.matrix = sparse.csr_matrix((self.values, columns, pointer), shape=(len(operations), width))
        self.operation = np.repeat(np.arange(len(operations)), sizes)
        self.cell = owner[self.operation] * width + columns
        self.shape = (count, width)

    def __matmul__(self, theta: Array) -> Array:
        return np.asarray(self.matrix @ theta)

    def summed(self, part: Array) -> Array:
        """Return the sum over each row's operations of `part` times their features, shape (rows, coefficients)."""
        count, width = self.shape
        weights = self.values * part[self.operation]
        return np.bincount(self.cell, weights, count * width).reshape(count, width)


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
            after = problem.loss(problem.fitted(proposal) - problem.log_measured, proposal, kept)
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
