"""
The fit of the one-device model: robust least squares on ln(predicted / measured) with a prior for every coefficient.

A class, generation or device that a fit lacks stays at its prior, so no prediction explodes on what was never seen. The
runs of one workload from one source share an offset (their trainer, libraries and whatever their table does not say),
so that a hundred rows of one benchmark do not count as a hundred facts about kernels; predictions do not have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trainfare_core.prediction.roofline.coefficients import OverheadFit
from trainfare_core.prediction.roofline.features import BRIEF, release_years
from trainfare_core.prediction.roofline.host import host_bound, host_phase_s
from trainfare_core.prediction.roofline.times import BLEND, WINOGRAD_LEAST, blend_times, inverse_efficiency
from trainfare_research.fits import SubmissionOverhead
from trainfare_research.fitting.one_device_rows import Index, Indexed, Row
from trainfare_research.fitting.robust import Prior, robust_fit
from trainfare_research.fitting.table_lines import SUBMISSION

Array = NDArray[np.float64]

_BEND = 0.12
"""ln(predicted / measured) from which a row counts less than by its square. A chosen value, near the median error."""
_NOISE = 0.1
"""Standard deviation of a row of weight 1; sets how much measurements count beside the priors. A chosen value."""
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
    "fused_launches": (math.log(0.4), 0.15),
    "submission_bytes": (math.log(0.55), 0.3),
    "submission_reduction_bytes": (math.log(0.55), 0.3),
    "submission_launches": (math.log(0.4), 0.5),
}
"""
Prior mean and standard deviation; natural logarithms but for the slope and Winograd's logits. A launch of an eager host
was measured at 12 to 36 us (single kernels), 19 us (language models) and 45 to 77 us (hosts of 2018 to 2020). What a
compiler leaves of launches is held near the share that was assumed before there were rows: with a wider prior the
launches of the few compiled rows take up what hosts differ by (research/docs/prediction-choices.md). What it leaves of
bytes, profiles say. Kernels that a vendor wrote for a submission leave other shares, which no other prediction uses.
"""
_FUSED_BYTES = ("submission_bytes", "submission_reduction_bytes")
"""Coefficients of `Row.fused`, from 1 on."""
_OF_A_CACHE = (BRIEF, "memory|device:bandwidth")
"""Terms whose values follow the bandwidth: for bytes in a cache, that of the cache."""
_STACK_SD = 0.1
"""Prior standard deviation of the offset that the steps of one workload of one source share. A chosen value."""
_KINDS = {
    "matmul": (0.0, 1e-6),
    "attention": (-0.6, 0.5),
    "recurrent": (-1.0, 0.5),
    "convolution": (-0.2, 0.5),
}
_BRIEF = (0.5, 0.01)
"""
Held: with that of the bandwidth it must stay below ln 2, or a kernel that is brief on both of two devices would be
slower on the one of more bandwidth. Left free, rows take it above that bound.
"""
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
        # Never a large part of a measured step but of a language model's: it would absorb other errors there.
        return (0.5, 0.1) if feature.startswith("kind") else (0.0, 0.1)
    if name == BRIEF:
        return _BRIEF
    if part == "memory" and feature in _MEMORY:
        return _MEMORY[feature]
    if feature.startswith("kind:"):
        kind = feature.removeprefix("kind:")
        return (
            (_MEMORY_KINDS.get(kind, _POINTWISE), 0.5) if part == "memory" else _KINDS.get(kind, (0.0, 0.5))
        )
    for start, known in (
        ("1", (1.3, 0.7)), ("gen:", (0.0, 0.4 if part == "memory" else 0.5)), ("gen-convolution:", (0.0, 0.3)),
        ("silicon:", (0.0, 0.05)),
        ("device:", (0.0, 0.3)), ("waves", (0.3, 0.3)), ("nhwc", (0.0, 0.5)),
    ):  # fmt: skip
        if feature.startswith(start) and (start != "1" or feature == "1"):
            return known
    if part != "memory" and feature in ("conv:grouped", "conv:depthwise"):
        return (-1.0, 0.5) if feature == "conv:grouped" else (-2.0, 0.7)
    return (0.1, 0.15) if feature.endswith((":narrow", ":width", ":short")) else (0.0, 0.4)


def overhead_of(index: Index, theta: Array) -> OverheadFit:
    """Return the costs that do not depend on size, in the product's own terms."""
    return OverheadFit(**_overhead(index, theta, "fused_launches"))


def submission_overhead_of(index: Index, theta: Array) -> SubmissionOverhead:
    """Return the same of submissions, where fused operations are kernels of their vendor, and not of torch.compile."""
    return SubmissionOverhead(
        **_overhead(index, theta, "submission_launches"),
        fused_bytes_share=math.exp(theta[index.of["submission_bytes"]]),
        fused_reduction_bytes_share=math.exp(theta[index.of["submission_reduction_bytes"]]),
    )


def _overhead(index: Index, theta: Array, launches: str) -> dict[str, float]:
    def exp(name: str) -> float:
        return math.exp(theta[index.of[name]])

    return {
        "device_launch_s": exp("launch_device"),
        "host_launch_s": exp("launch_host"),
        "host_backward_share": exp("host_backward"),
        "old_host_factor": exp("old_host"),
        "old_host_year_slope": float(theta[index.of["old_host_year"]]),
        "winograd_flops_share": _winograd_share(theta[index.of["winograd"]]),
        "fused_launch_share": exp(launches),
    }


def _winograd_share(logit: float) -> float:
    return WINOGRAD_LEAST + (1 - WINOGRAD_LEAST) / (1 + math.exp(-logit))


@dataclass(frozen=True)
class _Times:
    """Seconds by operation, and by row."""

    ideal_s: Array
    """Of arithmetic at efficiency 1, Winograd's saving included."""
    compute_s: Array
    memory_s: Array
    """Of memory traffic, a compiler's and a cache's saving included."""
    falling_s: Array
    """Of that, what would be saved at efficiency 1."""
    cache_falling_s: Array
    """Of `falling_s`, of what a cache delivers."""
    limited: NDArray[np.bool_]
    """Whether arithmetic limits an operation."""
    launch_s: Array
    device_s: Array
    host_s: Array
    """By phase, shape (rows, 3)."""
    step_s: Array
    longer: Array
    """A trainer's loop over a bare step."""
    total_s: Array


class Problem:
    """All operations of all rows, flattened, so that one evaluation is a handful of array operations."""

    def __init__(self, rows: Sequence[Row], index: Index) -> None:
        self.rows, self.index = rows, index
        self.at = {name: index.add(name) for name in (*GLOBALS, *_OF_A_CACHE)}
        self.stack = self._stacks()
        self.log_measured = np.log([row.measured_s for row in rows])
        self.weight = np.array([row.weight for row in rows])
        sizes = [len(row.flop_s) for row in rows]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        self.flop_s = np.concatenate([row.flop_s for row in rows])
        self.byte_s = np.concatenate([row.byte_s for row in rows])
        self.winograd = np.concatenate([row.winograd for row in rows])
        self.fused = np.concatenate([row.fused for row in rows])
        self.held = np.concatenate([row.held for row in rows])
        self.brief_more = np.concatenate([row.brief_more for row in rows])
        self.cache_doublings = np.repeat([row.cache_doublings for row in rows], sizes)
        owner = self.owner = np.repeat(np.arange(len(rows)), sizes)
        self.compute = _Terms([row.compute for row in rows], owner, len(rows), len(index.mean))
        self.memory = _Terms([row.memory for row in rows], owner, len(rows), len(index.mean))
        self.host = np.array([row.host for row in rows])
        self.launches = np.array([row.launches for row in rows]) * self.host[:, None]
        self.fused_launches = np.array([row.fused_launches for row in rows]) * self.host[:, None]
        self.kernels = np.array([row.kernels for row in rows])
        self.fused_kernels = np.array([row.fused_kernels for row in rows])
        self.old = np.array([row.old_host for row in rows])
        self.years = np.array([release_years(row.device) for row in rows])
        self.submission = np.array([row.timed == SUBMISSION for row in rows])
        self.alone = np.array([not row.end_to_end for row in rows])
        self.extra_s = np.array([row.extra_s for row in rows])
        self.trainer = np.array([float(row.trainer) for row in rows])

    @property
    def priors(self) -> Prior:
        """Priors of all coefficients."""
        return Prior(np.array(self.index.mean), np.array(self.index.sd))

    def _stacks(self) -> sparse.csr_matrix:
        """Return which run of one source and workload each step belongs to, shape (rows, coefficients)."""
        at = [i for i, row in enumerate(self.rows) if row.end_to_end]
        names = [f"stack|{self.rows[i].source}|{self.rows[i].workload}" for i in at]
        columns = [self.index.add(name) for name in names]
        shape = (len(self.rows), len(self.index.mean))
        return sparse.csr_matrix((np.ones(len(at)), (at, columns)), shape=shape)

    def predict(self, theta: Array) -> Array:
        """Return ln of the predicted seconds of every row."""
        return np.asarray(np.log(self._times(theta).total_s))

    def fit_offsets(self, theta: Array) -> Array:
        """Return ln of the predicted seconds with the offset of a row's own software stack."""
        return np.asarray(self.predict(theta) + self.stack @ theta)

    def _times(self, theta: Array) -> _Times:
        at, overhead = self.at, overhead_of(self.index, theta)
        share = np.where(
            self.alone[self.owner],
            _winograd_share(theta[at["winograd_timed"]]),
            overhead.winograd_flops_share,
        )
        flop_s = self.flop_s * np.where(self.winograd, share, 1.0)
        compute_s = flop_s * inverse_efficiency(self.compute @ theta)
        left = np.exp([0.0, *(theta[at[name]] for name in _FUSED_BYTES)])
        byte_s = self.byte_s * left[self.fused]
        logit, (brief, bandwidth) = self.memory @ theta, theta[[at[name] for name in _OF_A_CACHE]]
        slowness = inverse_efficiency(logit)
        gain = 2.0**-self.cache_doublings
        from_cache = inverse_efficiency(logit + brief * self.brief_more + bandwidth * self.cache_doublings)
        by_cache = self.held * (gain * from_cache < slowness)
        memory_s = byte_s * (slowness - by_cache * (slowness - gain * from_cache))
        cache_falling_s = byte_s * by_cache * gain * (from_cache - 1.0)
        # A kernel timed alone carries its launch and the timer's events; inside a step they are hidden.
        each_s = np.where(self.alone, math.exp(theta[at["launch_timed"]]), overhead.device_launch_s)
        fused_share = self._compute_fused_launch_share(theta)
        launch_s = (self.kernels + fused_share * self.fused_kernels) * each_s
        device_s = np.add.reduceat(blend_times(compute_s, memory_s), self.starts) + launch_s
        host_s = host_phase_s(
            self.launches + fused_share[:, None] * self.fused_launches, self.old, self.years, overhead
        )
        step_s = host_bound(device_s, host_s.sum(axis=1))
        longer = np.exp(theta[at["trainer"]] * self.trainer)
        return _Times(
            flop_s, compute_s, memory_s, byte_s * (slowness - 1.0) * (1.0 - by_cache) + cache_falling_s,
            cache_falling_s, compute_s >= memory_s, launch_s, device_s, host_s, step_s, longer,
            step_s * longer + self.extra_s,
        )  # fmt: skip

    def _compute_fused_launch_share(self, theta: Array) -> Array:
        """Return the share of each row's fused launches that is left, shape (rows,)."""
        shares = [theta[self.at[name]] for name in ("fused_launches", "submission_launches")]
        return np.asarray(np.exp(np.where(self.submission, shares[1], shares[0])))

    def slopes(self, theta: Array) -> sparse.csr_matrix:
        """Return the derivatives of `fit_offsets`, shape (rows, coefficients); of a row, nearly all are 0."""
        at, times, overhead = self.at, self._times(theta), overhead_of(self.index, theta)
        host_s = times.host_s.sum(axis=1)
        by_device = (times.device_s / times.step_s) ** 3 * times.longer / times.total_s
        by_host = (host_s / times.step_s) ** 3 * times.longer / times.total_s
        # d(1 / efficiency) / d(logit) = 1 - 1 / efficiency; the shorter side counts by BLEND.
        bound = np.where(times.limited, 1.0, BLEND)
        fall_c = (times.compute_s - times.ideal_s) * bound
        fall_m = times.falling_s * (1 + BLEND - bound)
        launch = times.launch_s * by_device
        own_slopes = {
            "launch_device": np.where(self.alone, 0.0, launch),
            "launch_timed": np.where(self.alone, launch, 0.0),
            "trainer": self.trainer * times.step_s * times.longer / times.total_s,
            "launch_host": host_s * by_host,
            "host_backward": times.host_s[:, 1] * by_host,
            "old_host": host_s * self.old * by_host,
            "old_host_year": host_s * self.old * self.years * by_host,
        }
        direct_s = np.where(self.winograd, times.compute_s * bound, 0.0)
        moved_s = times.memory_s * (1 + BLEND - bound)
        fall_c_m = times.cache_falling_s * (1 + BLEND - bound)
        for name, more in zip(_OF_A_CACHE, (self.brief_more, self.cache_doublings), strict=True):
            own_slopes[name] = -np.add.reduceat(fall_c_m * more, self.starts) * by_device
        for which, name in enumerate(_FUSED_BYTES, start=1):
            of_rows = np.add.reduceat(np.where(self.fused == which, moved_s, 0.0), self.starts)
            own_slopes[name] = of_rows * by_device
        left = self._compute_fused_launch_share(theta)
        fused_host_s = host_phase_s(left[:, None] * self.fused_launches, self.old, self.years, overhead).sum(
            axis=1
        )
        fused_launch_s = left * self.fused_kernels * overhead.device_launch_s * ~self.alone
        by_share = fused_host_s * by_host + fused_launch_s * by_device
        own_slopes["fused_launches"] = np.where(self.submission, 0.0, by_share)
        own_slopes["submission_launches"] = np.where(self.submission, by_share, 0.0)
        for name, here in (("winograd", ~self.alone), ("winograd_timed", self.alone)):
            share = _winograd_share(theta[at[name]])
            rise = (share - WINOGRAD_LEAST) * (1 - share) / (1 - WINOGRAD_LEAST)
            own_slopes[name] = here * np.add.reduceat(direct_s / share * rise, self.starts) * by_device
        terms = self.compute.sum_by_row(fall_c, -by_device) + self.memory.sum_by_row(fall_m, -by_device)
        return terms + self._columns(own_slopes) + self.stack

    def _columns(self, of: dict[str, Array]) -> sparse.csr_matrix:
        """Return a matrix of shape (rows, coefficients) with the columns of these coefficients."""
        rows = len(self.rows)
        columns = np.repeat([self.at[name] for name in of], rows)
        cells = (np.tile(np.arange(rows), len(of)), columns)
        return sparse.coo_matrix((np.concatenate(list(of.values())), cells), shape=self.stack.shape).tocsr()


class _Terms:
    """(coefficient, value) pairs of all operations, flat: products with the coefficients, and sums by row."""

    def __init__(self, rows: list[list[Indexed]], owner: NDArray[np.int64], count: int, width: int) -> None:
        operations = [operation for row in rows for operation in row]
        sizes = np.array([len(operation) for operation in operations])
        flat = [pair for operation in operations for pair in operation]
        columns = np.array([column for column, _ in flat], dtype=np.int64)
        self.values = np.array([value for _, value in flat], dtype=np.float64)
        pointer = np.concatenate([[0], np.cumsum(sizes)])
        self.matrix = sparse.csr_matrix((self.values, columns, pointer), shape=(len(operations), width))
        self.operation = np.repeat(np.arange(len(operations)), sizes)
        cells, self.cell = np.unique(owner[self.operation] * width + columns, return_inverse=True)
        self.row, self.column = np.divmod(cells, width)
        self.pointer = np.searchsorted(self.row, np.arange(count + 1))
        self.shape = (count, width)

    def __matmul__(self, theta: Array) -> Array:
        return np.asarray(self.matrix @ theta)

    def sum_by_row(self, part: Array, factor: Array) -> sparse.csr_matrix:
        """
        Return the sum over each row's operations of `part` times their terms, shape (rows, coefficients).

        Args:
            part: of every operation.
            factor: of every row's sums.
        """
        sums = np.bincount(self.cell, self.values * part[self.operation], len(self.row))
        return sparse.csr_matrix((sums * factor[self.row], self.column, self.pointer), shape=self.shape)


def solve(
    problem: Problem,
    start: Array | None = None,
    evaluations: int = 100,
    without: NDArray[np.bool_] | None = None,
) -> Array:
    """
    Return the coefficients of the smallest loss.

    Args:
        problem: all measurements.
        start: coefficients to begin at; the priors where it is None.
        evaluations: of the loss, at most.
        without: rows that the fit must not see, shape (rows,).
    """
    weights = problem.weight if without is None else np.where(without, 0.0, problem.weight)
    return robust_fit(
        lambda theta: problem.fit_offsets(theta) - problem.log_measured, problem.slopes, problem.priors, weights,
        bend=_BEND, noise=_NOISE, start=start, evaluations=evaluations,
    )  # fmt: skip
