"""
Score predicted kernels against timed ones.

    python -m trainfare_research.runners.kernels --truth kernels.csv.gz [--json OUT] [--rows OUT.csv]

Each row is one operator called alone in fp32, with its launch and the timer's events. The coefficients are the shipped
ones: they were fitted on a sample of the kernels of every device in the file, so devices of calibration.json's
"kernels" are not held out; `fit_calibration.py` scores whole steps with their chip's kernels left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import OperationGroup
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import operation_seconds
from trainfare_research.fits import one_device_record
from trainfare_research.fitting.one_device_tables import kernel_group
from trainfare_research.scoring import Scored, print_table, reach, summary
from trainfare_research.truth_table import answer_columns, read_rows, truth_parser, write_json, write_rows


def seconds_of(groups: list[OperationGroup], name: str) -> NDArray[np.float64]:
    """Return the predicted seconds of kernels timed alone on one accelerator, shape (kernels,)."""
    operations = Operations.of_groups(tuple(groups))
    seconds = operation_seconds(operations, [Roofline.of(accelerator(name), operations)], 1.0, calibration())
    work_s = seconds.compute_s[0] + seconds.memory_s[0]
    return np.asarray(work_s + operations.launches * one_device_record().timed_launch_s)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = truth_parser(__doc__).parse_args(argv)
    lines = read_rows(arguments.truth)
    skipped: Counter[str] = Counter()
    by_device: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        line.update(predicted="", low_80="", high_80="", skip_reason=_explain_skip(line))
        if line["skip_reason"]:
            skipped[line["skip_reason"]] += 1
        else:
            by_device.setdefault(line["device"], []).append(i)
    sigma = calibration().sigma
    width = math.hypot(sigma.base, sigma.unseen_device)
    reaches = reach("kernels:unseen", width)
    scored: list[Scored] = []
    for name, rows in by_device.items():
        predicted = seconds_of([kernel_group(lines[i]) for i in rows], name)
        spread = math.exp(reaches[1])
        for i, seconds in zip(rows, predicted.tolist(), strict=True):
            line, ms = lines[i], seconds * 1e3
            line.update(answer_columns(ms, spread))
            error = math.log(ms / float(line["latency_ms"]))
            scored.append(Scored(error, width, name, line["op"], line["source_split"], "single", reaches))
    document = summary(scored, skipped)
    print_table(document, ("by_family", "by_source", "by_device"))
    write_json(arguments.json, document)
    write_rows(arguments.rows, lines)


def _explain_skip(line: dict[str, str]) -> str:
    """Return why a row is not scored; "" where it is."""
    if not float(line["bytes"] or 0):
        return "moves nothing"
    try:
        accelerator(line["device"])
    except UnknownNameError:
        return f"{line['device']} is not in the catalogue"
    return ""


if __name__ == "__main__":
    main()
