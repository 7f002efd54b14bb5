"""
Score predictions of published runs of PyTorch code that splits a language model over devices.

    python -m benchmarks.split_plans --data ../shared/data/calibration --cache DIR

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
from pathlib import Path
from statistics import mean
from typing import Final

from benchmarks.fitting.language_models_held_out import predict_decoder
from benchmarks.fitting.launched_rows import step_rows
from benchmarks.workloads.decoder_profile import DecoderTraces
from benchmarks.workloads.decoder_rows import decoder_run, is_decoder_row
from trainfare_core.figures import percent
from trainfare_core.prediction.changed_jobs import SPLIT_STEP_SIGMA
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.uncertainty import Z80

__all__ = ["split_errors"]

_LIBRARIES: Final = re.compile(r"megatron|nemo|maxtext|jax|synapse", re.IGNORECASE)
"""Trainers with kernels or a compiler of their own."""


def split_errors(
    rows: list[dict[str, str]], traces: DecoderTraces
) -> Iterator[tuple[str, bool, float, bool]]:
    """
    Yield the source of each split run, whether it has context groups, ln(measured / predicted), and whether it is held.

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
        held = abs(error) <= Z80 * math.hypot(answer.log_sigma, SPLIT_STEP_SIGMA)
        yield row["source"], run.plan.context > 1, error, held


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the step tables")
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    arguments = parser.parse_args()
    errors = list(split_errors(step_rows(arguments.data), DecoderTraces(arguments.cache)))
    groups = {"all": errors, "with context groups": [each for each in errors if each[1]]}
    groups |= {name: [each for each in errors if each[0] == name] for name in sorted({e[0] for e in errors})}
    for name, found in groups.items():
        if found:
            slower = [math.expm1(error) for _, _, error, _ in found]
            held = sum(each[3] for each in found)
            sys.stdout.write(
                f"{name:<22}{len(found):>4} runs, measured over predicted {percent(mean(slower), sign=True)} in the "
                f"mean, {percent(min(slower), sign=True)} to {percent(max(slower), sign=True)}; {held} inside 80 %\n"
            )


if __name__ == "__main__":
    main()
