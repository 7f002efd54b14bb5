"""
Score the choice of the cheapest accelerator: the cost of the one predicted cheapest over that of the measured cheapest.

    python -m trainfare_research.runners.pick_cheapest --rows step_time.csv [--residuals residuals.csv] [--json OUT]

ROWS is the file that `step_time.py --rows` wrote. A workload is one source, model, precision, task, software and
number of devices that was measured on several accelerators; an accelerator's time is the geometric mean of its rows.
Its price is the lowest on-demand price of one device in the shipped snapshot. Accelerators without a price there are
left out, and so are readings that their own table marks as suspect (40 million samples in 3 ms). Regret is the measured
cost of the accelerator predicted cheapest over that of the measured cheapest, minus one.

With --residuals of `fit_calibration.py`, rows of one device are predicted by a fit without their chip and their model;
others keep the prediction in ROWS (of `step_time.py --leave-out device`, for language models). Two rules that ignore
the workload are scored for comparison: the lowest price per hour, and the lowest price per peak FLOP/s.

Runs on several devices are scored a second time without those that the same run on one device contradicts: slower than
if all gradients went over PCIe with nothing hidden, or faster than alone. The price buys a machine with working links.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_providers.snapshot import SnapshotProvider
from trainfare_research.truth_table import ROW_OF_RESIDUAL, read_held_out_errors, read_rows, write_json

_SAME = ("source", "model", "precision", "task", "framework")
_HELD_OUT = "chip_and_workload_left_out"
_RUN = (
    "source",
    "model",
    "precision",
    "task",
    "framework",
    "accelerator",
    "batch_per_device",
    "sequence_length",
)
_GRADIENT_BYTES = 4
"""Of a weight: fp32, the widest that any trainer sends."""
_DEVIATIONS = 2
"""Standard deviations of runs on several devices beside one: one healthy run in 20 is beyond."""


@dataclass(frozen=True)
class Choice:
    """One accelerator for one workload: device-seconds per unit of work, and USD per hour of one device."""

    device: Accelerator
    usd_per_hour: float
    measured_s: float
    predicted_s: float


def device_prices() -> dict[str, float]:
    """Return the lowest on-demand price of one device of every accelerator in the snapshot, USD per hour."""
    offers = (
        SnapshotProvider()
        .load()
        .frame.filter((pl.col("purchase_option") == "on_demand") & (pl.col("accelerator_count") >= 1))
    )
    each_price = offers.with_columns(each=pl.col("usd_per_hour") / pl.col("accelerator_count"))
    lowest = each_price.group_by("accelerator").agg(pl.col("each").min()).drop_nulls()
    return dict(zip(lowest["accelerator"].to_list(), lowest["each"].to_list(), strict=True))


def read_held_out(path: Path) -> dict[tuple[str, ...], float]:
    """Return ln(predicted / measured) of rows of one device, from fits without their chip and model."""
    return read_held_out_errors(read_rows(path), _HELD_OUT)


def consistent(lines: list[dict[str, str]]) -> list[dict[str, str]]:
    """
    Return rows without the runs on several devices of a machine that the same run on one device contradicts.

    A step on n devices takes at least what it takes on one. It takes at most that, and waiting for the others, and the
    exchange of fp32 gradients over PCIe with nothing hidden; both within two standard deviations. Rows without a run on
    one device, without a number of weights or on several machines are not judged.
    """
    alone: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for line in lines:
        if line["devices"] == "1" and line["measured_ms"]:
            alone[_run(line)].append(float(line["measured_ms"]) / 1e3)
    return [
        line
        for line in lines
        if not (times := alone.get(_run(line))) or _plausible(line, statistics.median(times))
    ]


def _run(line: dict[str, str]) -> tuple[str, ...]:
    """Return what tells one run on any number of devices from another; suites of one source are runs of their own."""
    suite = line["notes"].partition(";")[0] if line["notes"].startswith("suite") else ""
    return (*(line[name] for name in _RUN), suite)


def _plausible(line: dict[str, str], alone_s: float) -> bool:
    fit = link_calibration()
    count, pcie = int(line["devices"]), accelerator(line["accelerator"]).pcie_bytes_per_s
    if count == 1 or line["nodes"] not in ("", "1") or not (line["measured_ms"] and line["params"] and pcie):
        return True
    sent_bytes = 2 * (count - 1) / count * _GRADIENT_BYTES * float(line["params"])
    waiting = 1 + fit.communication.straggler_share * math.log2(count)
    longest_s = alone_s * waiting + sent_bytes / (pcie * fit.communication.link_efficiency["pcie"])
    slack = math.exp(_DEVIATIONS * fit.several_devices_log_sigma)
    return alone_s / slack <= float(line["measured_ms"]) / 1e3 <= longest_s * slack


def workloads(
    lines: list[dict[str, str]], prices: dict[str, float], errors: dict[tuple[str, ...], float]
) -> dict[str, list[Choice]]:
    """
    Return the choices of every workload that was measured on two or more accelerators with a price.

    Args:
        lines: rows of step_time.py.
        prices: of one device, USD per hour.
        errors: ln(predicted / measured) that replaces a row's own.
    """
    times: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        known = line["predicted"] and line["measured_ms"] and float(line["throughput"] or 0)
        if not known or "SUSPECT" in line["notes"]:
            continue
        try:
            name = accelerator(line["accelerator"]).name
        except UnknownNameError:
            continue
        if name not in prices:
            continue
        own_error = math.log(float(line["predicted"]) / float(line["measured_ms"]))
        error = (
            errors.get(tuple(line[key] for key in ROW_OF_RESIDUAL), own_error)
            if line["devices"] == "1"
            else own_error
        )
        unit_s = math.log(float(line["devices"]) / float(line["throughput"]))
        words = (*(line[key] for key in _SAME), f"{line['devices']} devices")
        times[", ".join(words)][name].append((unit_s, unit_s + error))
    return {
        what: [_build_choice(name, prices[name], pairs) for name, pairs in sorted(choices.items())]
        for what, choices in sorted(times.items())
        if len(choices) > 1
    }


def _build_choice(name: str, usd_per_hour: float, pairs: list[tuple[float, float]]) -> Choice:
    measured, predicted = (math.exp(statistics.fmean(values)) for values in zip(*pairs, strict=True))
    return Choice(accelerator(name), usd_per_hour, measured, predicted)


def regrets(
    choices_of: dict[str, list[Choice]], cost: Callable[[Choice], float]
) -> dict[str, tuple[float, str, str]]:
    """Return by workload the regret, the accelerator of lowest `cost`, and the measured cheapest."""
    answers = {}
    for what, choices in choices_of.items():
        picked = min(choices, key=cost)
        best = min(choices, key=_compute_measured_usd)
        answers[what] = (
            _compute_measured_usd(picked) / _compute_measured_usd(best) - 1,
            picked.device.name,
            best.device.name,
        )
    return answers


def _compute_measured_usd(choice: Choice) -> float:
    return choice.usd_per_hour * choice.measured_s


def _per_flop(choice: Choice) -> float:
    peak = choice.device.peak_flops_per_s("bf16") or choice.device.peak_flops_per_s("fp16")
    return choice.usd_per_hour / (peak or choice.device.peak_flops_per_s("fp32") or math.inf)


RULES: dict[str, Callable[[Choice], float]] = {
    "trainfare": lambda choice: choice.usd_per_hour * choice.predicted_s,
    "lowest price of an hour": lambda choice: choice.usd_per_hour,
    "lowest price of a peak FLOP": _per_flop,
}


def summary(
    choices_of: dict[str, list[Choice]], healthy: dict[str, list[Choice]] | None = None
) -> dict[str, Any]:
    """
    Return regret by rule and number of devices, as fractions, and the five workloads of our largest regret.

    Args:
        choices_of: choices by workload.
        healthy: the same of rows that `consistent` keeps, scored beside them for several devices.
    """
    single = {what: choices for what, choices in choices_of.items() if what.endswith(", 1 devices")}
    parts = {
        "all": choices_of,
        "one device": single,
        "several devices": _several(choices_of),
        "several devices, no run contradicted": _several(healthy or {}),
    }
    ours = regrets(choices_of, RULES["trainfare"])
    worst = sorted(ours.items(), key=lambda pair: -pair[1][0])[:5]
    return {
        "n": len(choices_of),
        "rules": {
            name: {
                part: _score([r for r, _, _ in regrets(some, cost).values()])
                for part, some in parts.items()
                if some
            }
            for name, cost in RULES.items()
        },
        "worst": [{"workload": what, "regret": r, "picked": p, "cheapest": b} for what, (r, p, b) in worst],
    }


def _several(choices_of: dict[str, list[Choice]]) -> dict[str, list[Choice]]:
    return {what: choices for what, choices in choices_of.items() if not what.endswith(", 1 devices")}


def _score(values: list[float]) -> dict[str, float]:
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "p90": sorted(values)[math.ceil(0.9 * len(values)) - 1],
        "worst": max(values),
        "picks_cheapest": sum(value == 0 for value in values) / len(values),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="file of `step_time.py --rows`")
    parser.add_argument("--residuals", type=Path, help="file of `fit_calibration.py --residuals`")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores there")
    arguments = parser.parse_args(argv)
    lines = read_rows(arguments.rows)
    errors = read_held_out(arguments.residuals) if arguments.residuals else {}
    choices_of = workloads(lines, device_prices(), errors)
    if not choices_of:
        raise SystemExit("no workload of these rows was measured on two accelerators with a price")
    healthy = consistent(lines)
    document = {
        **summary(choices_of, workloads(healthy, device_prices(), errors)),
        "contradicted_rows": len(lines) - len(healthy),
        "held_out": bool(errors),
    }
    print(f"{document['n']} workloads{', chip and model left out' if errors else ''}")
    print(f"{'rule':66s}{'n':>5s}{'mean':>8s}{'p90':>8s}{'worst':>8s}{'picks the cheapest':>20s}")
    for name, part, e in (
        (rule, part, e) for rule, parts in document["rules"].items() for part, e in parts.items()
    ):
        percentages = "".join(f"{e[key]:8.1%}" for key in ("mean", "p90", "worst"))
        print(f"{name + ', ' + part:66s}{e['n']:5d}{percentages}{e['picks_cheapest']:20.0%}")
    for line in document["worst"]:
        print(f"  {line['regret']:6.1%}  {line['workload']}: {line['picked']}, not {line['cheapest']}")
    write_json(arguments.json, document)


if __name__ == "__main__":
    main()
