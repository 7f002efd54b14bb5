"""
Fit the sustained efficiencies of the prediction on measured data and write data/calibration.json.

    python benchmarks/fit_calibration.py --data DIR [--out FILE] [--date 2026-01-31]

DIR holds kernels.csv.gz, microbench_achieved.csv, throughput_train.csv and collectives_allreduce.csv.gz.
Everything is
deterministic: the same data and date give the same bytes. The scores are of rows left out of the fit: one
chip, one generation or one workload at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainfare_core.prediction.calibration import Calibration, device_features
from trainfare_core.prediction.step_time import host_bound

sys.path.insert(0, str(Path(__file__).resolve().parent))
from calibration_document import calibration_document
from calibration_rows import BLEND, FILES, Row, collective_fit, read_rows, scaling_fit

Array = NDArray[np.float64]

KINDS = ("matmul", "convolution", "grouped_convolution", "attention", "recurrent")
MEMORY_KINDS = (
    "other", "matmul", "convolution", "grouped_convolution", "attention", "normalization", "softmax",
    "activation", "elementwise", "dropout", "copy", "reduction", "embedding", "indexing", "pooling",
    "loss", "optimizer",
)  # fmt: skip
PATHS = ("vector", "tensor")
HUBER = 0.15


@dataclass
class Parameters:
    """
    Names, prior means and prior standard deviations of everything that is fitted (logits, or ln of
    seconds).
    """

    index: dict[tuple[str, ...], int] = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    sd: list[float] = field(default_factory=list)

    def add(self, name: tuple[str, ...], mean: float, sd: float) -> None:
        self.index[name] = len(self.mean)
        self.mean.append(mean)
        self.sd.append(sd)


def parameters(generations: dict[str, list[str]]) -> Parameters:
    """Return the model's parameters; what no row speaks about stays at its prior."""
    found = Parameters()
    for path in PATHS:
        found.add(("c0", path), 1.0, 0.7)
        found.add(("slope", path, "watts"), 0.5, 0.5)
        found.add(("slope", path, "year"), 0.0, 0.3)
        for kind in KINDS:
            prior = {"matmul": 0.0, "convolution": -0.3, "grouped_convolution": -1.5, "attention": -0.6}.get(
                kind, -1.0
            )
            found.add(("ck", path, kind), prior, 1e-6 if kind == "matmul" else 0.5)
        for generation in generations[path]:
            found.add(("cg", path, generation), 0.0, 0.5)
    for kind in MEMORY_KINDS:
        prior = {"normalization": 0.3, "softmax": 0.3, "grouped_convolution": -0.5}.get(kind, 0.8)
        found.add(("mk", kind), prior, 0.5)
    for generation in generations["memory"]:
        found.add(("mg", generation), 0.0, 0.25)
    found.add(("launch_device",), np.log(4e-6), 0.3)
    found.add(("launch_timed",), np.log(10e-6), 0.5)
    found.add(("launch_host",), np.log(14e-6), 0.4)
    found.add(("winograd",), 0.0, 1.0)
    return found


class Problem:
    """All operations of all rows, flattened, so that one evaluation is a handful of array operations."""

    def __init__(self, rows: list[Row], names: Parameters) -> None:
        self.names, self.rows = names, rows
        self.log_measured = np.log([row.measured_s for row in rows])
        self.weight = np.sqrt([row.weight for row in rows])
        self.extra_s = np.array([row.extra_s for row in rows])
        self.launches = np.array([row.launches for row in rows])
        self.host_free = np.array([row.host_free for row in rows], dtype=bool)
        self.alone = np.array([row.source == "kernels" for row in rows], dtype=bool)
        sizes = [len(row.flop_s) for row in rows]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        self.flop_s = np.concatenate([row.flop_s for row in rows])
        self.byte_s = np.concatenate([row.byte_s for row in rows])
        self.winograd = np.concatenate([row.winograd for row in rows])
        index = names.index
        none = len(names.mean)
        columns: list[list[int]] = [[] for _ in range(6)]
        features: list[tuple[float, float]] = []
        for row in rows:
            for kind, path in zip(row.kinds, row.paths, strict=True):
                generation = row.device.generation
                columns[0].append(index["c0", path])
                columns[1].append(index["slope", path, "watts"])
                columns[2].append(index.get(("ck", path, kind), none))
                columns[3].append(index.get(("cg", path, generation), none))
                columns[4].append(index[("mk", kind if ("mk", kind) in index else "other")])
                columns[5].append(index.get(("mg", generation), none))
                features.append(device_features(row.device, path))
        self.columns = [np.array(column) for column in columns]
        self.features = np.array(features)

    def predict(self, theta: Array) -> Array:
        """Return ln of the predicted seconds of every row."""
        t = np.append(theta, 0.0)
        c0, slope, kind, generation, memory_kind, memory_generation = self.columns
        logit = (
            t[c0]
            + t[slope] * self.features[:, 0]
            + t[slope + 1] * self.features[:, 1]
            + t[kind]
            + t[generation]
        )
        share = 1.0 / 2.25 + (1 - 1.0 / 2.25) / (1 + np.exp(-t[self.names.index["winograd",]]))
        compute = self.flop_s * np.where(self.winograd, share, 1.0) * (1 + np.exp(-logit))
        memory = self.byte_s * (1 + np.exp(-(t[memory_kind] + t[memory_generation])))
        time = np.maximum(compute, memory) + BLEND * np.minimum(compute, memory)
        # A kernel timed alone carries its launch and the timer's events; inside a step they are hidden.
        launch = np.where(
            self.alone, t[self.names.index["launch_timed",]], t[self.names.index["launch_device",]]
        )
        device_s = np.add.reduceat(time, self.starts) + self.launches * np.exp(launch)
        host_s = np.where(self.host_free, 0.0, self.launches * np.exp(t[self.names.index["launch_host",]]))
        return np.asarray(np.log(host_bound(device_s, host_s) + self.extra_s))

    def residuals(self, theta: Array) -> Array:
        raw = self.predict(theta) - self.log_measured
        robust = np.sign(raw) * np.sqrt(2 * HUBER**2 * (np.sqrt(1 + (raw / HUBER) ** 2) - 1))
        prior = (theta - np.array(self.names.mean)) / np.array(self.names.sd)
        return np.concatenate([self.weight * robust / 0.1, prior])


def solve(problem: Problem, start: Array | None = None, iterations: int = 25) -> Array:
    """Return the parameters of least squares (Levenberg-Marquardt, forward differences)."""
    theta = np.array(problem.names.mean) if start is None else start.copy()
    damping, current = 1e-2, problem.residuals(theta)
    for _ in range(iterations):
        jacobian = np.empty((len(current), len(theta)))
        for i in range(len(theta)):
            step = theta.copy()
            step[i] += 1e-5
            jacobian[:, i] = (problem.residuals(step) - current) / 1e-5
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ current
        for _ in range(8):
            proposal = theta - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
            after = problem.residuals(proposal)
            if after @ after < current @ current:
                gain = current @ current - after @ after
                theta, current, damping = proposal, after, damping / 4
                break
            damping *= 4
        else:
            return theta
        if gain < 1e-4:
            return theta
    return theta


def generations(rows: list[Row]) -> dict[str, list[str]]:
    """Return which generations have rows, by arithmetic path and for memory."""
    found: dict[str, set[str]] = {"vector": set(), "tensor": set(), "memory": set()}
    for row in rows:
        found["memory"].add(row.device.generation)
        for kind, path in set(zip(row.kinds, row.paths, strict=True)):
            if kind in KINDS:
                found[path].add(row.device.generation)
    return {key: sorted(value) for key, value in found.items()}


def held_out(rows: list[Row], group: str, start: Array, names: Parameters) -> dict[int, float]:
    """Return ln(predicted / measured) of every end-to-end row, from a fit that saw no row of its group."""
    result: dict[int, float] = {}
    for value in sorted({getattr(row, group) for row in rows if row.end_to_end}):
        inside = [row for row in rows if getattr(row, group) != value]
        theta = solve(Problem(inside, names), start, 8)
        # Effects of a group that is absent from the fit fall back to their prior in `solve`.
        outside = [(i, row) for i, row in enumerate(rows) if getattr(row, group) == value and row.end_to_end]
        problem = Problem([row for _, row in outside], names)
        for (i, _), error in zip(outside, problem.predict(theta) - problem.log_measured, strict=True):
            result[i] = float(error)
    return result


def score(errors: list[float], weights: list[float] | None = None) -> dict[str, float]:
    """
    Return errors of predicted over measured as fractions, and the sigma that covers 80 % of them.

    Args:
        errors: ln(predicted / measured).
        weights: of each error in `sigma_80` alone, so that a source with many rows does not set it by itself.
    """
    logs = np.array(errors)
    order = np.argsort(np.abs(logs))
    share = np.cumsum((np.ones(len(logs)) if weights is None else np.array(weights))[order])
    covering = np.abs(logs)[order][np.searchsorted(share, 0.8 * share[-1])]
    ape = np.abs(np.exp(logs) - 1)
    return {
        "n": float(len(logs)),
        "mape": round(float(ape.mean()), 4),
        "median_ape": round(float(np.median(ape)), 4),
        "p90_ape": round(float(np.quantile(ape, 0.9)), 4),
        "worst_ape": round(float(ape.max()), 4),
        "bias": round(float((np.exp(logs) - 1).mean()), 4),
        "sigma_80": round(float(covering / 1.2816), 4),
    }


def corrected_errors(rows: list[Row], errors: dict[int, float], power: float = 0.6) -> list[float]:
    """Return errors on a chip never fitted when the same workload was measured on another chip."""
    result: list[float] = []
    for i, target in errors.items():
        sources = [
            error
            for j, error in errors.items()
            if rows[j].workload == rows[i].workload and rows[j].source == rows[i].source
            and rows[j].precision == rows[i].precision and rows[j].chip != rows[i].chip
        ]  # fmt: skip
        result += [target - power * error for error in sources]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("core/trainfare_core/data/calibration.json"))
    parser.add_argument("--date", required=True, help="written into the file; the fit itself reads no clock")
    arguments = parser.parse_args()
    scaling = scaling_fit(arguments.data)
    rows, counts, skipped = read_rows(arguments.data, scaling["straggler_share"])
    for reason, count in sorted(skipped.items()):
        print(f"skipped {count:6d}  {reason}")
    names = parameters(generations(rows))
    problem = Problem(rows, names)
    theta = solve(problem)
    end = [i for i, row in enumerate(rows) if row.end_to_end]
    fitted = (problem.predict(theta) - problem.log_measured)[end]
    scores = {"in_sample": score(list(fitted), [rows[i].weight for i in end])}
    errors = {group: held_out(rows, group, theta, names) for group in ("chip", "generation", "workload")}
    for group, found in errors.items():
        scores[f"{group}_left_out"] = score(list(found.values()), [rows[i].weight for i in found])
    scores["chip_left_out_one_measured_step"] = score(corrected_errors(rows, errors["chip"]))
    report(rows, errors["chip"], scores)
    link = collective_fit(arguments.data)
    text = calibration_document(
        names.index, theta, scores, counts, link, scaling, digest(arguments.data), arguments.date
    )
    Calibration.model_validate(text)
    arguments.out.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")


def report(rows: list[Row], errors: dict[int, float], scores: dict[str, dict[str, float]]) -> None:
    """Print the scores, and the chip-left-out errors by chip and workload."""
    for name, values in scores.items():
        print(f"{name:34s}", {key: round(value, 3) for key, value in values.items()})
    cells: dict[tuple[str, str], list[float]] = {}
    for i, error in errors.items():
        cells.setdefault((rows[i].chip, f"{rows[i].workload} {rows[i].precision}"), []).append(error)
    for (chip, what), values in sorted(cells.items()):
        print(f"  {chip:22s}{what:28s}{len(values):4d}  predicted/measured {np.exp(np.median(values)):.2f}")


def digest(data: Path) -> str:
    """Return one SHA-256 over the files the fit reads."""
    whole = hashlib.sha256()
    for name in FILES:
        whole.update((data / name).read_bytes())
    return whole.hexdigest()


if __name__ == "__main__":
    main()
