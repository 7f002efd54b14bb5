"""
Score the one-device fit without each group of its terms, every time with whole sources left out.

    python -m trainfare_research.runners.one_device_terms --data DIR --cache DIR [--out FILE]

A term that is taken away has a prior of zero width at zero, so the operations it belongs to fall back to what is left:
their kind, path and device. The table's first line is the whole model; a line whose errors are not larger is of terms
that the fit could do without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_research.fitting.command_line import table_command
from trainfare_research.fitting.held_out_groups import GROUPS
from trainfare_research.fitting.one_device_rows import Index
from trainfare_research.fitting.one_device_solver import Problem, solve
from trainfare_research.fitting.one_device_tables import read_measurements
from trainfare_research.fitting.table_lines import SUBMISSION, Line
from trainfare_research.runners.fit_calibration import measure_held_out
from trainfare_research.scoring import error_summary
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces

TERMS: Final = {
    "dies": r"(shared|memory)\|silicon:",
    "generations": r"(vector|tensor|memory)\|gen:",
    "convolutions by generation": r"\|gen-convolution:",
    "GeForce cards": r"\|device:consumer",
    "watts a FLOP/s": r"\|device:watts",
    "brief kernels": r"memory\|brief",
    "recurrent layers of graph compilers": r"\|recurrent:compiled",
    "bandwidth of a device": r"memory\|device:bandwidth",
    "unfilled waves": r"shared\|waves",
    "batched products": r"\|matmul:batched",
    "size of products": r"\|matmul:size",
    "channels that are no multiple of 8": r"\|conv:misaligned",
    "grouped and depthwise convolutions": r"\|conv:(grouped|depthwise)$",
    "width of groups": r"\|(grouped|depthwise):width",
    "kernels above 3 x 3 of grouped and depthwise ones": r"\|(nhwc:)?(grouped|depthwise)[:-]large",
    "1 x 1, 3 x 3 and larger kernels": r"\|conv:(1x1|3x3|large)",
    "narrow convolutions": r"\|conv:narrow",
    "1-D convolutions": r"\|conv:1d",
    "3-D convolutions": r"\|conv:3d",
    "gradients of weights and inputs": r"\|(weight|input):",
    "channels-last, arithmetic": r"shared\|nhwc:",
    "channels-last, memory": r"memory\|nhwc:",
    "backward, memory": r"memory\|backward:",
    "memory of convolutions": r"memory\|conv:",
    "batch norm": r"memory\|batchnorm",
    "short rows": r"memory\|(normalization|softmax):short",
    "16-bit elements": r"memory\|half",
    "slope of old hosts": r"^old_host_year$",
}
"""Groups of terms by a regular expression that finds their names."""
_NO_WIDTH: Final = 1e-6
"""Standard deviation of the prior of a term that is taken away."""
_EVALUATIONS: Final = 16
"""
Of each fit without a source, twice those of other scores: after 8, what is left of a fit's way to its end moves a score
by up to 0.1, as much as some groups of terms are worth.
"""


def without(problem: Problem, pattern: str) -> Problem:
    """Return the same measurements with the terms that a pattern finds held at zero."""
    index = Index(
        problem.index.prior, dict(problem.index.of), list(problem.index.mean), list(problem.index.sd)
    )
    for name, column in index.of.items():
        if re.search(pattern, name):
            index.mean[column], index.sd[column] = 0.0, _NO_WIDTH
    less = copy(problem)
    less.index = index
    return less


def scores_without(problem: Problem) -> Iterator[Line]:
    """Yield one line for the whole model and one for each group of terms: errors of steps, their source left out."""
    theta = solve(problem)
    for name, pattern in {"(none)": r"(?!)", **TERMS}.items():
        less = without(problem, pattern)
        start = np.where(np.array(less.index.sd) > _NO_WIDTH, theta, 0.0)
        yield {"terms left out": name} | _score(less, solve(less, start))


def _score(problem: Problem, theta: NDArray[np.float64]) -> Line:
    errors = measure_held_out(problem, theta, GROUPS["source"], steps_only=True, evaluations=_EVALUATIONS)
    steps = {i: error for i, error in errors.items() if problem.rows[i].timed != SUBMISSION}
    trainers = [error for i, error in steps.items() if problem.rows[i].trainer]
    scores: Line = {}
    for what, values in (("all", list(steps.values())), ("trainers", trainers)):
        score = error_summary(values)
        scores |= {f"{what}_{name}_pct": f"{score[name] * 100:.2f}" for name in ("mape", "median_ape")}
    return scores


def _read_lines(data: Path, cache: Path) -> Iterator[Line]:
    waiting = link_calibration().communication.straggler_share
    traces = ProfileCache(cache, only_held=True)
    yield from scores_without(read_measurements(data, traces, DecoderTraces(cache), waiting)[0])


if __name__ == "__main__":
    table_command(__doc__.strip().splitlines()[0], _read_lines)
