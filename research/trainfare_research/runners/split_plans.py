"""
Score predictions of published runs of PyTorch code that splits a language model over devices.

    python -m trainfare_research.runners.split_plans --cache DIR [--data DIR]

The rows are those of the step tables whose plan has tensor, pipeline or context groups and whose trainer is neither
Megatron nor one of its kin, since `--allow model-parallel` is for a user's own script. The shipped coefficients saw
these rows, so this shows how well they describe them. The interval has the width that a split plan adds
(`SPLIT_STEP_SIGMA`).
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Final

from trainfare_core.number_format import percent
from trainfare_core.prediction.engine import SPLIT_STEP_SIGMA
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.fitting.command_line import MEASUREMENTS
from trainfare_research.fitting.language_models_held_out import predict_decoder
from trainfare_research.fitting.launched_rows import step_rows
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import DecoderRun, decoder_run, is_decoder_row

_LIBRARIES: Final = re.compile(r"megatron|nemo|maxtext|jax|synapse", re.IGNORECASE)
"""Trainers with kernels or a compiler of their own."""


@dataclass(frozen=True)
class SplitRun:
    """
    One published run that splits its model.

    Attributes:
        source: of the row.
        context: devices that share a sequence.
        error: ln(measured / predicted).
        held: whether the measured step is inside the 80 % interval.
        exchange_share: of the measured step, keys and values travelling between the devices of a context group.
    """

    source: str
    context: int
    error: float
    held: bool
    exchange_share: float


def split_runs(rows: list[dict[str, str]], traces: DecoderTraces) -> Iterator[SplitRun]:
    """
    Yield the runs that split their model, with what the shipped coefficients predict.

    Args:
        rows: of the step tables.
        traces: of decoders.
    """
    for row in rows:
        if not is_decoder_row(row) or _LIBRARIES.search(row["framework"]):
            continue
        run = decoder_run(row, traces)
        if isinstance(run, str) or run.plan.tensor * run.plan.pipeline * run.plan.context == 1:
            continue
        answer = predict_decoder(run, decoder_calibration())
        if isinstance(answer, str):
            continue
        error = math.log(answer.measured_s / answer.predicted_s)
        is_inside = abs(error) <= Z80 * math.hypot(answer.log_sigma, SPLIT_STEP_SIGMA)
        share = context_exchange_s(run) / run.step_s
        yield SplitRun(row["source"], int(run.plan.context), error, is_inside, share)


def context_exchange_s(run: DecoderRun) -> float:
    """
    Return the seconds of a step in which keys and values travel between the devices of a context group.

    Each device receives the keys and values of the others in forward and again in backward, and sends as many
    gradients (Liu et al. 2023), at the stated rate of its links. Predictions do not count it.
    """
    plan = run.plan
    held_bytes = 0
    for operation in run.profile.operations:
        if operation.kind == "attention" and operation.phase == "forward":
            samples, _, heads, _, length, width, *_ = operation.shape
            held_bytes += 2 * 2 * samples * heads * length * width * operation.launches
    ratio = run.micro_batch / (run.profile.batch.micro_batch_size or 1)
    moved_bytes = 3 * held_bytes * ratio * (plan.context - 1) / plan.context * run.passes
    link_per_s = run.device.link_bytes_per_s or run.device.pcie_bytes_per_s or math.nan
    return moved_bytes / (plan.tensor * plan.pipeline) / link_per_s


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=MEASUREMENTS, help="folder with the step tables; else our own"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    arguments = parser.parse_args()
    runs = list(split_runs(step_rows(arguments.data), DecoderTraces(arguments.cache)))
    split = [run for run in runs if run.context > 1]
    groups = {"all": runs, "with context groups": split}
    groups |= {name: [run for run in runs if run.source == name] for name in sorted({e.source for e in runs})}
    for name, group in groups.items():
        if group:
            slower = [math.expm1(run.error) for run in group]
            inside = sum(run.held for run in group)
            sys.stdout.write(
                f"{name:<22}{len(group):>4} runs, measured over predicted {percent(mean(slower), sign=True)} in the "
                f"mean, {percent(min(slower), sign=True)} to {percent(max(slower), sign=True)}; {inside} inside 80 %\n"
            )
    if split:
        most = max(run.exchange_share for run in split)
        sys.stdout.write(f"keys and values of context groups: at most {most:.1%} of a measured step\n")


if __name__ == "__main__":
    main()
