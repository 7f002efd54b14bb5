"""
Score predicted optimizer steps against measured ones, through the product's own path.

    python benchmarks/step_time.py --truth throughput_train.csv [--cache DIR] [--json OUT] [--rows OUT.csv]

With --cache, rows of one device are traced by trainfare's own tracer (`benchmarks/workloads/`), once: a whole table
takes half an hour, a second run seconds. Language models of any number of devices are described by
`workloads/decoder_rows.py`; --leave-out predicts each of them from a fit that saw no row of its accelerator family,
source or model size.

Scores the shipped coefficients. `fitted_on` names the sources they were fitted on: rows of those are not held
out, the held-out scores stand in calibration.json (one chip, generation or workload left out at a time). A
row is skipped, with its reason, where no operation list exists for its model here. The network of several
machines is what the row's notes say, else unknown: those rows are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.accelerators import accelerator
from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.errors import UnknownNameError
from trainfare_core.job_profile import JobProfile
from trainfare_core.offers import MachineShapes
from trainfare_core.prediction import predict
from trainfare_core.prediction.calibration import calibration

sys.path.insert(0, str(Path(__file__).resolve().parent))
from calibration_rows import accumulation_of, job_of
from decoder_scores import Answer, decoder_answers
from workloads import ProfileCache, StepJob, profile_of, resolve

Z = {"50": 0.6745, "80": 1.2816, "90": 1.6449}


@dataclass
class Scored:
    """One row with an answer: ln(predicted / measured), sigma and the groups it is counted in."""

    log_error: float
    log_sigma: float
    device: str
    family: str
    source: str
    scope: str


@dataclass(frozen=True)
class Work:
    """What a row measured: a profile, its micro-batch over the profile's, and the seconds one step took."""

    job: JobProfile
    ratio: float
    measured_s: float


def work_of(line: dict[str, str], cache: ProfileCache | None) -> Work | str:
    """Return what a row measured, or why there is no operation list or no time of its own."""
    if line["devices"] == "1" and cache is not None:
        job = resolve(line)
        found = profile_of(job, cache)
        if isinstance(found, str) or isinstance(job, str):
            return str(found)
        measured_s = measured_step_s(line, job)
        return (
            "the row has no time of its own"
            if measured_s is None
            else Work(found.profile, found.ratio, measured_s)
        )
    made = job_of(line)
    if isinstance(made, str):
        return made
    return "the row has no time of its own" if made[1] is None else Work(made[0], 1.0, made[1])


def answer_of(line: dict[str, str], cache: ProfileCache | None) -> Answer | str:
    """Return the prediction of a row that is no language model, or why it has none."""
    work = work_of(line, cache)
    answer = work if isinstance(work, str) else predict_row(line, work.job, work.ratio)
    if isinstance(answer, str) or isinstance(work, str):
        return str(answer)
    return Answer(work.measured_s, *answer)


def measured_step_s(line: dict[str, str], job: StepJob) -> float | None:
    """Return the seconds of one step: as the row reports it, else from its throughput."""
    if line["step_time_origin"] == "reported" and line["step_time_ms"]:
        return float(line["step_time_ms"]) / 1e3
    return job.units / float(line["throughput"]) if line["throughput"] else None


def predict_row(line: dict[str, str], job: JobProfile, ratio: float) -> tuple[float, float] | str:
    """Return predicted seconds and sigma of one optimizer step on the row's own machines, or why not."""
    devices, nodes = int(line["devices"]), int(float(line["nodes"] or 1))
    try:
        name = accelerator(line["accelerator"]).name
    except UnknownNameError:
        return f"{line['accelerator']} is not in the catalogue"
    if devices % nodes:
        return "devices are no multiple of nodes"
    gbit = re.search(r"(\d+) Gbps", line["notes"])
    kind = "none" if devices == 1 else "fsdp" if "fsdp" in line["strategy"] else "ddp"
    machines = MachineShapes(
        accelerator=np.array([name]),
        accelerator_count=np.array([devices / nodes]),
        vcpus=np.array([math.nan]),
        memory_gib=np.array([math.nan]),
        network_gbit_per_s=np.array([float(gbit[1]) if gbit else math.nan]),
    )
    plans = CandidateTable(
        shape=np.zeros(1, dtype=np.int64),
        nodes=np.array([nodes]),
        sharding=np.array([SHARDINGS.index(kind)]),
        micro_batch=np.array([float(job.batch.micro_batch_size or math.nan) * ratio]),
        micro_ratio=np.array([ratio]),
        accumulate=np.array([accumulation_of(line)]),
    )
    table = predict(job, machines, plans)
    if table.unknown_because[0]:
        return str(table.unknown_because[0])
    return float(table.step_s[0]), float(table.log_sigma[0])


def score(rows: list[Scored]) -> dict[str, Any]:
    """Return errors as fractions and how many measurements lie inside the central 50, 80 and 90 %."""
    errors = np.array([row.log_error for row in rows])
    sigmas = np.array([row.log_sigma for row in rows])
    ape = np.abs(np.exp(errors) - 1)
    return {
        "n": len(rows),
        "mape": float(ape.mean()),
        "median_ape": float(np.median(ape)),
        "p90_ape": float(np.quantile(ape, 0.9)),
        "worst_ape": float(ape.max()),
        "bias": float((np.exp(errors) - 1).mean()),
        "coverage": {name: float((np.abs(errors) <= z * sigmas).mean()) for name, z in Z.items()},
    }


def grouped(rows: list[Scored], name: str) -> dict[str, Any]:
    """Return one score a distinct value of a field."""
    values = sorted({getattr(row, name) for row in rows})
    return {value: score([row for row in rows if getattr(row, name) == value]) for value in values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument(
        "--cache", type=Path, help="folder of traces; without it only the built-in lists are used"
    )
    parser.add_argument("--traced-only", action="store_true", help="trace nothing that the cache lacks")
    parser.add_argument(
        "--leave-out",
        choices=("device", "source", "size"),
        help="language models: predict each row without its group",
    )
    parser.add_argument("--data", type=Path, help="with --leave-out: folder of microbench_achieved.csv")
    arguments = parser.parse_args()
    with arguments.truth.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    cache = ProfileCache(arguments.cache, only_held=arguments.traced_only) if arguments.cache else None
    scored: list[Scored] = []
    skipped: Counter[str] = Counter()
    decoders = decoder_answers(lines, arguments.cache, arguments.leave_out, arguments.data)
    for index, line in enumerate(lines):
        line.update(predicted="", low_80="", high_80="", skip_reason="")
        answer = decoders[index] if index in decoders else answer_of(line, cache)
        if isinstance(answer, str):
            line["skip_reason"] = answer
            skipped[line["skip_reason"]] += 1
            continue
        step_s, sigma = answer.predicted_s, answer.log_sigma
        spread = math.exp(Z["80"] * sigma)
        for name, value in (("predicted", step_s), ("low_80", step_s / spread), ("high_80", step_s * spread)):
            line[name] = f"{value * 1e3:.6g}"
        scope = "single" if line["devices"] == "1" else "multi"
        scored.append(
            Scored(
                math.log(step_s / answer.measured_s),
                sigma,
                line["accelerator"],
                line["model_family"],
                line["source"],
                scope,
            )
        )
    report(scored, skipped, lines, arguments)


def report(
    scored: list[Scored], skipped: Counter[str], lines: list[dict[str, str]], arguments: argparse.Namespace
) -> None:
    """Print the table and write what was asked for."""
    document: dict[str, Any] = {
        "n": len(scored),
        "skipped": dict(sorted(skipped.items())),
        "fitted_on": sorted(calibration().fitted_on),
        "overall": score(scored),
        "by_device": grouped(scored, "device"),
        "by_family": grouped(scored, "family"),
        "by_source": grouped(scored, "source"),
        "by_scope": grouped(scored, "scope"),
    }
    print(
        f"{len(scored)} rows scored, {sum(skipped.values())} skipped; "
        f"coefficients of {calibration().fitted_at}"
    )
    print(f"{'':28s}{'n':>5s}{'mean':>8s}{'median':>8s}{'p90':>8s}{'worst':>8s}{'bias':>8s}{'in 80 %':>8s}")
    for group in ("by_scope", "by_source", "by_device"):
        for name, e in document[group].items():
            numbers = "".join(
                f"{e[key]:8.1%}" for key in ("mape", "median_ape", "p90_ape", "worst_ape", "bias")
            )
            print(f"{name:28s}{e['n']:5d}{numbers}{e['coverage']['80']:8.0%}")
    e = document["overall"]
    print(f"overall: mean {e['mape']:.1%}, median {e['median_ape']:.1%}, coverage {e['coverage']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.rows:
        with arguments.rows.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
