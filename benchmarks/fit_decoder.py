"""
Fit what large language models sustain on many devices and write data/decoder_calibration.json.

    python benchmarks/fit_decoder.py --data DIR --cache DIR [--out FILE] --date 2026-01-31

DIR holds throughput_train.csv and microbench_achieved.csv. The single-device coefficients of fit_calibration.py are
left as they are. Scores are of rows left out of the fit: one accelerator family, source or model size at a time.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainfare_core.accelerators import accelerator
from trainfare_core.errors import UnknownNameError
from trainfare_core.prediction.calibration import Calibration, calibration
from trainfare_core.prediction.communication import link_of
from trainfare_core.prediction.decoder_fit import DecoderFit
from trainfare_core.prediction.decoder_ledger import DecoderLedger
from trainfare_core.prediction.decoder_step import DeviceRows, Spread, decoder_times

sys.path.insert(0, str(Path(__file__).resolve().parent))
from workloads.decoder_profile import DecoderTraces
from workloads.decoder_rows import DecoderRun, decoder_run, is_decoder_row

Array = NDArray[np.float64]
FILES = ("throughput_train.csv", "microbench_achieved.csv")
HUBER = 0.1
STACK_SD = 0.4
LEAST_ROWS = 10
LEAST_DEVICES_SIGMA = 0.03
LEAST_NETWORK_SIGMA = 0.05
"""What a network between machines adds at least to the doubt, however little is exchanged."""
LARGEST_SOURCE = "vtrain"
"""More than half of all rows, from one machine: scores are given without it too."""
Z80 = 1.2816
LEVELS = {50: 0.6745, 80: Z80, 90: 1.6449}
SIZES_B = (0.5, 1, 2, 4, 8, 16, 40, 80, 180)
KINDS = ("tpu", "trainium", "gaudi")

# name -> (prior mean, prior standard deviation, from theta to value)
LOGIT = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
PARAMETERS: dict[str, tuple[float, float, Callable[[float], float]]] = {
    "product_efficiency": (2.0, 0.7, LOGIT),
    "product8_efficiency": (1.0, 0.7, LOGIT),
    "grouped_efficiency": (0.5, 0.7, LOGIT),
    "attention_efficiency": (0.0, 0.5, LOGIT),
    "batched_efficiency": (-0.5, 0.5, LOGIT),
    "vector_efficiency": (1.0, 0.5, LOGIT),
    "fused_bytes_share": (0.2, 0.4, LOGIT),
    "host_launch_s": (np.log(20e-6), 0.4, np.exp),
    "plain_host_factor": (0.7, 0.7, np.exp),
    "narrow_slope": (0.15, 0.1, lambda x: max(x, 0.0)),
    "tpu": (0.0, 0.4, np.exp),
    "trainium": (0.0, 0.4, np.exp),
    "gaudi": (0.0, 0.4, np.exp),
    "bubble_factor": (0.0, 0.15, np.exp),
    "tensor_exposed": (0.0, 1.0, LOGIT),
    "expert_exposed": (0.0, 1.0, LOGIT),
    "data_exposed": (-1.0, 0.7, LOGIT),
    "network_efficiency": (0.0, 0.6, LOGIT),
}


@dataclass
class Rows:
    """Measured rows as arrays, ready for `decoder_times`."""

    runs: list[DecoderRun]
    lines: list[dict[str, str]]
    ledger: DecoderLedger
    devices: DeviceRows
    spread: Spread
    log_measured: Array
    weight: Array

    @classmethod
    def of(
        cls, runs: list[DecoderRun], lines: list[dict[str, str]], fit: DecoderFit, base: Calibration
    ) -> Rows:
        groups = Counter(
            (line["source"], run.device.name, run.experts) for run, line in zip(runs, lines, strict=True)
        )
        counts = [
            groups[line["source"], run.device.name, run.experts]
            for run, line in zip(runs, lines, strict=True)
        ]
        return cls(
            runs, lines, DecoderLedger.stack([DecoderLedger.of(run.profile) for run in runs]),
            DeviceRows.of(
                [run.device for run in runs], [link_of(run.device, base.communication) for run in runs], fit
            ),
            spread_of(runs), np.log([run.step_s for run in runs]), np.array(counts, dtype=float) ** -0.75,
        )  # fmt: skip

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return the chosen rows."""
        index = np.flatnonzero(chosen)
        ledger = DecoderLedger(*(getattr(self.ledger, name)[index] for name in DecoderLedger.__slots__))
        spread = Spread(*(getattr(self.spread, name)[index] for name in Spread.__slots__))
        return Rows(
            [self.runs[i] for i in index], [self.lines[i] for i in index], ledger, self.devices.take(index), spread,
            self.log_measured[index], self.weight[index],
        )  # fmt: skip


def spread_of(runs: Sequence[DecoderRun]) -> Spread:
    """Return the plans of runs as columns."""

    def column(name: str) -> Array:
        return np.array([float(getattr(run.plan, name)) for run in runs])

    machines, devices = column("machines"), column("devices")
    gbit = column("gbit_per_s")
    return Spread(
        ratio=np.array([run.micro_batch for run in runs]), passes=np.array([float(run.passes) for run in runs]),
        per_machine=devices / machines, machines=machines, network_per_s=np.where(gbit > 0, gbit, np.nan) * 1e9 / 8,
        tensor=column("tensor"), pipeline=column("pipeline"), virtual=column("virtual"), context=column("context"),
        expert=column("expert"), sharded=column("sharded") > 0, sharded_optimizer=column("sharded_optimizer") > 0,
        overlap=column("overlap") > 0,
    )  # fmt: skip


def coefficients(theta: Array, fit: DecoderFit) -> DecoderFit:
    """Return `fit` with the coefficients of theta."""
    values = {name: float(make(x)) for x, (name, (_, _, make)) in zip(theta, PARAMETERS.items(), strict=True)}
    kinds = {kind: values.pop(kind) for kind in KINDS}
    return fit.model_copy(update={**values, "kind_factor": kinds})


def solve(rows: Rows, fit: DecoderFit, start: Array | None = None, iterations: int = 30) -> Array:
    """
    Return theta of robust least squares with priors (Levenberg-Marquardt, forward differences).

    Every source also has an offset of its own, a random effect: software stacks differ by more than chips, and without
    it the coefficients would bend to explain that. Predictions use no offset; their intervals carry the doubt.
    """
    mean = np.array([p[0] for p in PARAMETERS.values()])
    sd = np.array([p[1] for p in PARAMETERS.values()])
    names = [f"{line['source']} {run.experts}" for run, line in zip(rows.runs, rows.lines, strict=True)]
    _, source = np.unique(names, return_inverse=True)
    count, sources = len(mean), int(source.max()) + 1
    mean = np.concatenate([mean, np.zeros(sources)])
    sd = np.concatenate([sd, np.full(sources, STACK_SD)])

    def residuals(theta: Array) -> Array:
        times = decoder_times(rows.ledger, rows.devices, rows.spread, coefficients(theta[:count], fit))
        raw = np.log(times.step_s) + theta[count:][source] - rows.log_measured
        robust = np.sign(raw) * np.sqrt(2 * HUBER**2 * (np.sqrt(1 + (raw / HUBER) ** 2) - 1))
        return np.concatenate([np.sqrt(rows.weight) * robust / 0.1, (theta - mean) / sd])

    theta = mean.copy()
    if start is not None:
        theta[:count] = start
    damping, current = 1e-2, residuals(theta)
    for _ in range(iterations):
        jacobian = np.empty((len(current), len(theta)))
        for i in range(len(theta)):
            step = theta.copy()
            step[i] += 1e-5
            jacobian[:, i] = (residuals(step) - current) / 1e-5
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ current
        for _ in range(8):
            proposal = theta - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
            after = residuals(proposal)
            if after @ after < current @ current:
                gain = current @ current - after @ after
                theta, current, damping = proposal, after, damping / 4
                break
            damping *= 4
        else:
            break
        if gain < 1e-3:
            break
    return theta[:count]


def family_of(run: DecoderRun) -> str:
    """Return the chip without its form and memory: variants of one chip are left out together."""
    return re.sub(r"(-(SXM\d?|PCIE|NVL))?-\d+GB$", "", run.device.name).replace("GB200", "B200")


def size_of(run: DecoderRun) -> str:
    """Return the model's size class, in 1e9 scalars."""
    return str(sum(run.parameters > limit * 1e9 for limit in SIZES_B))


GROUPS: dict[str, Callable[[DecoderRun, dict[str, str]], str]] = {
    "device": lambda run, _: family_of(run),
    "source": lambda _, line: line["source"],
    "size": lambda run, _: size_of(run),
}


def held_out(rows: Rows, name: str, fit: DecoderFit, start: Array) -> Array:
    """Return ln(predicted / measured) of every row from a fit that saw no row of its group."""
    of = GROUPS[name]
    group = np.array([of(run, line) for run, line in zip(rows.runs, rows.lines, strict=True)])
    errors = np.empty(len(group))
    for value in sorted(set(group)):
        theta = solve(rows.only(group != value), fit, start, 12)
        outside = rows.only(group == value)
        times = decoder_times(outside.ledger, outside.devices, outside.spread, coefficients(theta, fit))
        errors[group == value] = np.log(times.step_s) - outside.log_measured
    return errors


def score(errors: Array) -> dict[str, float]:
    """Return errors of predicted over measured as fractions."""
    ape = np.abs(np.exp(errors) - 1)
    return {
        "n": float(len(errors)), "mape": round(float(ape.mean()), 4), "median_ape": round(float(np.median(ape)), 4),
        "p90_ape": round(float(np.quantile(ape, 0.9)), 4), "worst_ape": round(float(ape.max()), 4),
        "bias": round(float((np.exp(errors) - 1).mean()), 4),
    }  # fmt: skip


def ceilings(data: Path) -> dict[str, dict[str, float]]:
    """Return the best matrix product over the dense peak, by type and accelerator, and the mean by generation."""
    found: dict[str, dict[str, float]] = {"bf16": {}, "fp8": {}}
    alike: dict[tuple[str, str], list[float]] = {}
    with (data / "microbench_achieved.csv").open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            dtype = {"bf16": "bf16", "fp8": "fp8", "fp16": "bf16"}.get(line["dtype"].split("_")[0])
            square = line["bench"] == "matmul_square_best"
            if dtype is None or not (line["bench"].startswith("matmul_best") or square):
                continue
            try:
                device = accelerator(line["device"])
            except UnknownNameError:
                continue
            peak = device.peak_flops_per_s(dtype) or device.peak_flops_per_s("fp16")
            if not peak or (square and device.name in found[dtype]):
                continue
            share = round(min(float(line["achieved_tflops"]) * 1e12 / peak, 1.0), 4)
            found[dtype][device.name] = max(share, found[dtype].get(device.name, 0.0))
            alike.setdefault((dtype, device.generation), []).append(share)
    for (dtype, generation), shares in alike.items():
        found[dtype][f"generation:{generation}"] = round(float(np.mean(shares)), 4)
    return {dtype: dict(sorted(shares.items())) for dtype, shares in found.items()}


def read_rows(truth: Path, traces: DecoderTraces, fit: DecoderFit) -> tuple[Rows, Counter[str]]:
    """Return every row of a decoder that can be described, and why the others cannot."""
    runs: list[DecoderRun] = []
    lines: list[dict[str, str]] = []
    skipped: Counter[str] = Counter()
    with truth.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            if not is_decoder_row(line):
                continue
            run = decoder_run(line, traces)
            if isinstance(run, str):
                skipped[run] += 1
            else:
                runs.append(run)
                lines.append(line)
    return Rows.of(runs, lines, fit, calibration()), skipped


def empty_fit(data: Path, date: str) -> DecoderFit:
    """Return a fit with measured ceilings and priors for the rest."""
    digest = hashlib.sha256()
    for name in FILES:
        digest.update((data / name).read_bytes())
    base: dict[str, Any] = {
        name: float(make(mean)) for name, (mean, _, make) in PARAMETERS.items() if name not in KINDS
    }
    return DecoderFit(
        fitted_at=date, data_sha256=digest.hexdigest(), fitted_on={}, generations=(), scores={},
        matmul_ceiling=ceilings(data), kind_factor=dict.fromkeys(KINDS, 1.0), sigma={}, **base,
    )  # fmt: skip


def sigmas(rows: Rows, errors: dict[str, Array]) -> dict[str, float]:
    """
    Return the standard deviations by what is known, so that 80 % of held-out errors lie inside.

    A generation with rows: the wider of source and size left out. One without: the device left out. Single devices have
    few rows: they are never narrower than all GPUs together.
    """
    kind = np.array([run.device.kind for run in rows.runs])
    labels = np.array([label_of(run) for run in rows.runs])

    def width(found: Array, inside: NDArray[np.bool_]) -> float:
        sizes, weight = np.abs(found[inside]), rows.weight[inside]
        order = np.argsort(sizes)
        share = np.cumsum(weight[order])
        return float(sizes[order][np.searchsorted(share, 0.8 * share[-1])] / Z80)

    result: dict[str, float] = {}
    for name in sorted(set(kind)):
        for label in ("dense", "moe", "plain"):
            inside = (kind == name) & (labels == label)
            if inside.sum() < LEAST_ROWS:
                inside = kind == name
            seen = max(width(errors["source"], inside), width(errors["size"], inside))
            result[f"{name} seen {label}"] = seen
            result[f"{name} unseen {label}"] = max(seen, width(errors["device"], inside))
    dense = (kind == "gpu") & (labels == "dense")
    several = np.array([run.plan.machines > 1 for run in rows.runs])
    result["several devices"] = LEAST_DEVICES_SIGMA
    near, far = (width(errors["size"], dense & chosen) for chosen in (~several, several))
    result["several machines"] = max(far**2 - near**2, LEAST_NETWORK_SIGMA**2) ** 0.5
    result["unseen"] = max(result.values())
    return {name: round(value, 3) for name, value in result.items()}


def coverage(rows: Rows, errors: dict[str, Array]) -> dict[str, float]:
    """
    Return how many held-out rows lie inside the central 50, 80 and 90 % of widths made from other groups' rows.

    Split-conformal: each source in turn is scored with widths from all others, so no row helps to set its own.
    """
    sources = np.array([line["source"] for line in rows.lines])
    ratio = np.empty(len(sources))
    for source in sorted(set(sources)):
        others = sources != source
        found = sigmas(rows.only(others), {name: value[others] for name, value in errors.items()})
        for i in np.flatnonzero(~others):
            run = rows.runs[i]
            name = f"{run.device.kind} seen {label_of(run)}"
            ratio[i] = abs(errors["source"][i]) / found.get(name, found["unseen"])
    by_row = {str(level): float((ratio <= z).mean()) for level, z in LEVELS.items()}
    share = rows.weight / rows.weight.sum()
    by_source = {f"{level} by source": float(((ratio <= z) * share).sum()) for level, z in LEVELS.items()}
    return {name: round(value, 4) for name, value in {**by_row, **by_source}.items()}


def label_of(run: DecoderRun) -> str:
    """Return what is known of a run beforehand: experts, or a trainer that exchanges gradients after backward."""
    return "moe" if run.experts else "dense" if run.plan.overlap else "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder of traces")
    parser.add_argument("--out", type=Path, default=Path("core/trainfare_core/data/decoder_calibration.json"))
    parser.add_argument("--date", required=True, help="written into the file; the fit itself reads no clock")
    arguments = parser.parse_args()
    fit = empty_fit(arguments.data, arguments.date)
    rows, skipped = read_rows(arguments.data / "throughput_train.csv", DecoderTraces(arguments.cache), fit)
    for reason, count in skipped.most_common():
        print(f"skipped {count:5d}  {reason}")
    theta = solve(rows, fit)
    errors = {name: held_out(rows, name, fit, theta) for name in GROUPS}
    times = decoder_times(rows.ledger, rows.devices, rows.spread, coefficients(theta, fit))
    scores = scores_of(rows, np.log(times.step_s) - rows.log_measured, errors)
    for name, values in scores.items():
        print(f"{name:44s}", values)
    final = coefficients(theta, fit).model_copy(
        update={
            "fitted_on": dict(sorted(Counter(line["source"] for line in rows.lines).items())),
            "generations": tuple(sorted({run.device.generation for run in rows.runs})),
            "scores": scores, "sigma": sigmas(rows, errors),
        }
    )  # fmt: skip
    text = json.dumps(rounded(final.model_dump()), indent=1, sort_keys=True)
    DecoderFit.model_validate_json(text)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")


def scores_of(rows: Rows, fitted: Array, errors: dict[str, Array]) -> dict[str, dict[str, float]]:
    """Return in-sample and held-out scores of the groups that the bars name, and the coverage of the intervals."""
    vtrain = np.array([line["source"] == LARGEST_SOURCE for line in rows.lines])
    many = np.array([run.plan.devices >= 8 for run in rows.runs])
    experts = np.array([run.experts for run in rows.runs])
    kind = np.array([run.device.kind for run in rows.runs])
    parts = {
        "": np.ones(len(vtrain), dtype=bool),
        " without the largest source, 8 or more devices": ~vtrain & many,
        " without the largest source, 8 or more devices, dense": ~vtrain & many & ~experts,
        " experts": experts,
        " TPU": kind == "tpu",
        " Trainium": kind == "trainium",
    }
    found = {"in sample": score(fitted)}
    for name, values in errors.items():
        for label, chosen in parts.items():
            if chosen.any():
                found[f"{name} left out{label}"] = score(values[chosen])
    found["coverage, source left out"] = coverage(rows, errors)
    return found


def rounded(value: Any) -> Any:
    """Return the document with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    main()
