"""
Score predicted minutes to a quality target against MLPerf's result logs, through the product's own path.

    python -m trainfare_research.runners.time_to_train --truth time_to_train.csv [--json OUT] [--rows OUT.csv]
        [--truth ...] --cache DIR
        [--leave-out benchmark --data DIR]

The number of samples until convergence is taken from the row; it is not predicted. Predicted minutes are the steps of
those samples times the predicted step time, divided by one minus the row's share of evaluation, and are compared with
the measured wall-clock time. Detectors evaluate in parallel with training, so nothing is added for them: their logged
training steps fill 97 to 99 % of the clock, whatever share evaluation takes. Any other row without that share gets the
median of its benchmark's rows, or none. Start-up is outside the measured clock and in no score; --rows adds it as
`billed_min`. Submissions of one machine are among the rows of the fit (fitting/submission_rows.py): --leave-out makes
fits without the row's benchmark from --data, and scores those. Intervals come from
trainfare_research.fitting.submissions, which uses the errors of other benchmarks only.

GPUs in excess of the samples of a step are taken to evaluate. Where images or volumes are split over devices, each
device is charged its share of a sample, and nothing for the exchange of the edges. Language models run in the plans of
`workloads/mlperf_decoders.py`. Rows are skipped, with the reason, where the samples are missing, the network of
several machines is not stated, or there is no prediction.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.roofline.coefficients import Calibration
from trainfare_research.fits import submission_calibration
from trainfare_research.fitting.language_models_held_out import predict_decoder
from trainfare_research.fitting.one_device_held_out import Fits, FitsWithout
from trainfare_research.fitting.one_plan import Plan, predict_plan
from trainfare_research.fitting.sampled_features import has_sampled_features, predict_sampled_graph
from trainfare_research.fitting.split_tables import has_split_tables, predict_split_tables
from trainfare_research.fitting.submission_steps import (
    as_submitted,
    build_submitted_step,
    evaluation_shares,
    machines_of,
    training_devices,
    training_share,
)
from trainfare_research.fitting.submissions import group_of
from trainfare_research.scoring import Scored, print_table, summary
from trainfare_research.scoring import reach as usual_reach
from trainfare_research.truth_table import (
    answer_columns,
    or_reason,
    read_rows,
    truth_parser,
    truths_of,
    write_json,
    write_rows,
)
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_plans import network_of
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.mlperf_decoders import (
    build_submitted_decoder,
    is_decoder_benchmark,
)

_SPLIT_IN_SPACE = ("resnet", "ssd300", "maskrcnn", "retinanet", "unet3d")
"""Benchmarks whose samples can be cut into parts in space, one for each device: their networks are convolutions."""
_ADAPTERS_GBIT = {"ConnectX-4": 100.0, "ConnectX-5": 100.0, "ConnectX-6": 200.0, "ConnectX-7": 400.0}
"""Highest rate of an adapter that is named without one (NVIDIA's product pages)."""
_SLOWEST_GBIT = 10.0
"""Slower adapters are for management: the 1 Gbit/s ports that system descriptions list beside the training network."""
_ADDED = ("predicted", "low_80", "high_80", "billed_min", "skip_reason")


def network_gbit_per_s(line: dict[str, str]) -> float | None:
    """
    Return the summed rate of a machine's fastest kind of network adapter, Gbit/s; None where the row names none.

    Adapters for storage or management, the bus to an adapter, and rates under 10 Gbit/s are left out. Where no adapter
    states its rate, the highest rate of the named product is taken.
    """
    stated, named_rates = [0.0], [0.0]
    for part in re.split(r"[,;+]|\band\b", _network_text(line)):
        if re.search(r"storage|management|gpu-pcie|pcie-nic", part, re.IGNORECASE):
            continue
        rate = re.search(r"(\d+)\s*Gb(?:it|ps|\s*/\s*s)?", part, re.IGNORECASE)
        name = re.search(r"ConnectX\s*-\s*\d", part)
        count = re.search(r"(\d+)\s*x", part)
        adapters = int(count[1]) if count else 1
        if rate and float(rate[1]) >= _SLOWEST_GBIT:
            stated.append(float(rate[1]) * adapters)
        elif name and not rate:
            named_rates.append(_ADAPTERS_GBIT.get(name[0].replace(" ", ""), 0.0) * adapters)
    return max(stated) or max(named_rates) or None


def _usual_gbit_per_s(line: dict[str, str], devices: int, nodes: int) -> float | None:
    """Return the usual network of such machines, Gbit/s; None where the row states a rate, or where none is usual."""
    if re.search(r"\d\s*Gb", _network_text(line)):
        return None
    try:
        machines, gbit = network_of({"notes": ""}, accelerator(line["accelerator"]), devices, nodes)
    except UnknownNameError:
        return None
    return gbit or None if machines == nodes else None


def _network_text(line: dict[str, str]) -> str:
    """Return how a row describes the network between its machines."""
    return line["interconnect" if _links_are_the_network(line["accelerator"]) else "host_networking"]


def _links_are_the_network(name: str) -> bool:
    """Return whether an accelerator's own Ethernet ports are the network between machines, as Gaudi's are."""
    try:
        return accelerator(name).link == "roce"
    except UnknownNameError:
        return False


def minutes_of(
    line: dict[str, str], cache: ProfileCache, shares: dict[str, float], fits: Fits | None = None
) -> tuple[float, float] | str:
    """
    Return predicted minutes of a row inside the measured clock and sigma of ln(measured / predicted), or why not.

    Args:
        line: of time_to_train.csv.
        cache: of traced steps.
        shares: share of the clock that evaluation takes, by benchmark, for rows that do not state theirs.
        fits: fits of one device without the row's benchmark; None: the shipped one.
    """
    if not line["samples_to_converge"]:
        return "the samples to converge are not stated"
    whole = float(line["global_batch_size"])
    devices, nodes = training_devices(line)
    if is_decoder_benchmark(line):
        devices = int(line["accelerators_total"])
        answer = _decoder_step(line, cache)
    else:
        answer = _step(
            line, cache, devices, nodes, submission_calibration() if fits is None else fits.of(line)
        )
    if isinstance(answer, str):
        return answer
    step_s, log_sigma = answer
    share = training_share(line, shares, devices)
    return float(line["samples_to_converge"]) / whole * step_s / 60 / share, log_sigma


def _step(
    line: dict[str, str], cache: ProfileCache, devices: int, nodes: int, fit: Calibration
) -> tuple[float, float] | str:
    """Return predicted seconds and sigma of one optimizer step of replicas that each fit one device, or why not."""
    passes = int(line["grad_accum_steps"] or 1)
    micro = float(line["global_batch_size"]) / devices / passes
    if micro < 1 and line["benchmark"] not in _SPLIT_IN_SPACE:
        return "one sample is split over several devices"
    work = build_submitted_step(line, cache, devices // nodes)
    if isinstance(work, str):
        return work
    hosts = int(line["nodes"] or 1) / machines_of(line)
    gbit = network_gbit_per_s(line) or _usual_gbit_per_s(line, devices, nodes) if nodes > 1 else None
    try:
        device = accelerator(line["accelerator"])
    except UnknownNameError:
        return f"{line['accelerator']} is not in the catalogue"
    run = prepare(as_submitted(work.profile, fit.overhead, device), fit, distance=False)
    plan = Plan(
        line["accelerator"], micro * work.ratio, devices=devices, nodes=nodes,
        gbit_per_s=gbit * hosts if gbit else None, accumulate=passes,
    )  # fmt: skip
    if has_split_tables(line["benchmark"], devices):
        return predict_split_tables(run, plan)
    if has_sampled_features(line["benchmark"]):
        return predict_sampled_graph(run, replace(plan, ratio=1.0), round(micro))
    return predict_plan(run, plan)


@lru_cache
def _decoder_traces(folder: Path) -> DecoderTraces:
    """Return the traces of decoders in a folder; kept, because assembling a whole model takes longer than a row."""
    return DecoderTraces(folder)


def _decoder_step(line: dict[str, str], cache: ProfileCache) -> tuple[float, float] | str:
    """Return predicted seconds and sigma of one optimizer step of a decoder in its submission's plan, or why not."""
    run = build_submitted_decoder(line, _decoder_traces(cache.folder), network_gbit_per_s(line))
    if isinstance(run, str):
        return run
    answer = predict_decoder(run, decoder_calibration())
    return answer if isinstance(answer, str) else (answer.predicted_s, answer.log_sigma)


def submission_reach(line: dict[str, str]) -> tuple[float, float, float] | None:
    """
    Return the half-widths, in ln, that cover 50, 80 and 90 % of the errors of similar submissions of other benchmarks.

    None where no other benchmark has such submissions.
    """
    own_reach = _spreads().get(", ".join(group_of(line)), {})
    reach = own_reach.get(f"without {line['benchmark']}", own_reach.get("all"))
    return None if reach is None else (reach[0], reach[1], reach[2])


@lru_cache(maxsize=1)
def _spreads() -> dict[str, dict[str, list[float]]]:
    text = Path(__file__).with_name("submission_spread.json").read_text(encoding="utf-8")
    reaches: dict[str, dict[str, list[float]]] = json.loads(text)["log_reach"]
    return reaches


def score_lines(
    lines: list[dict[str, str]], cache: ProfileCache, fits: Fits | None = None
) -> tuple[list[Scored], Counter[str]]:
    """Write a prediction into each line; return the scored rows and the number of skipped ones by reason."""
    scored: list[Scored] = []
    skipped: Counter[str] = Counter()
    shares = evaluation_shares(lines)
    for line in lines:
        line.update(dict.fromkeys(_ADDED, ""))
        score = or_reason(_score_line, line, cache, shares, fits)
        if isinstance(score, str):
            line["skip_reason"] = score
            skipped[score] += 1
        else:
            scored.append(score)
    return scored, skipped


def _score_line(
    line: dict[str, str], cache: ProfileCache, shares: dict[str, float], fits: Fits | None
) -> Scored | str:
    """Write the prediction into a line, and return its score; or why there is none."""
    answer = minutes_of(line, cache, shares, fits)
    if isinstance(answer, str):
        return answer
    predicted, sigma = answer
    error = math.log(predicted / float(line["time_to_train_min"]))
    reach = submission_reach(line)
    spread = math.exp(reach[1] if reach else usual_reach("trainer", sigma)[1])
    billed = predicted + float(line["init_min_before_clock"] or 0)
    line.update(answer_columns(predicted, spread), billed_min=f"{billed:.6g}")
    scope = "single" if line["accelerators_total"] == "1" else "multi"
    groups = (line["accelerator"], line["benchmark"], line["source"].partition(":")[0], scope)
    return Scored(error, sigma, *groups, reach=reach)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = truth_parser(__doc__, several=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--traced-only", action="store_true", help="trace nothing that the cache lacks")
    parser.add_argument("--data", type=Path, help="with --leave-out: folder of the measurements to fit on")
    parser.add_argument(
        "--leave-out", choices=("benchmark",), help="predict each row from a fit without its benchmark"
    )
    run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> None:
    """Score the tables, print the scores and write the files that were asked for."""
    cache, fits = ProfileCache(arguments.cache, only_held=arguments.traced_only), None
    if arguments.leave_out:
        fits = FitsWithout(arguments.data, cache, arguments.leave_out)
    for truth in truths_of(arguments):
        lines = read_rows(truth.path)
        scored, skipped = score_lines(lines, cache, fits)
        write_rows(truth.rows, lines)
        if not scored:
            raise SystemExit(f"no row has an answer: {dict(skipped)}")
        document = summary(scored, skipped)
        print_table(document, ("by_scope", "by_source", "by_family", "by_device"))
        write_json(truth.json, document)


if __name__ == "__main__":
    main()
