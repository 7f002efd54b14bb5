"""
Write by how much predictions missed on the software of vendors other than NVIDIA, by source and model.

    python -m trainfare_research.runners.vendor_errors --cache DIR [--data DIR]
        [--out core/trainfare_core/data/vendor_errors.csv]

Of the rows that the fits read, the misses are those of their source left out, as measured_groups.csv has them; of
`step_time_4`, which no fit reads, those of the coefficients that ship. A model is one line, whatever its batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, pstdev

import numpy as np

from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.prediction.distance import load_measured_groups
from trainfare_core.prediction.porting import describe_work
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prediction.vendor_errors import VendorError, expect_error
from trainfare_research.fitting.command_line import table_command
from trainfare_research.fitting.launched_rows import read_launched_rows
from trainfare_research.fitting.one_plan import Answer
from trainfare_research.fitting.step_answers import step_answers
from trainfare_research.fitting.step_work import Work, work_of
from trainfare_research.fitting.table_lines import Line
from trainfare_research.runners.measured_software import is_of_other_vendor
from trainfare_research.truth_table import or_reason
from trainfare_research.workloads.cache import ProfileCache

LATER_TABLE = Path("step_time_4/steps.csv")
"""Beside the folder of the measurements: rows that no fit reads."""


class _Shipped:
    """The coefficients that ship, compared with no measured groups: their misses would be taken off by themselves."""

    def of(self, _line: Line) -> Calibration:
        return calibration().model_copy()


@dataclass(frozen=True, slots=True)
class Miss:
    """ln(measured / predicted) of a row, and the standard deviation that the coefficients alone give it."""

    accelerator: str
    model: str
    log_error: float
    log_sigma: float


def list_lines(data: Path, cache: Path) -> Iterator[Line]:
    """Yield the lines of `data/vendor_errors.csv`, and print what of the later rows is held without their model."""
    fitted = list(_list_left_out())
    misses = read_misses(read_launched_rows(data.parent / LATER_TABLE), ProfileCache(cache))
    later = list(list_later(misses))
    yield from (*fitted, *later)
    inside, rows = score_left_out(
        [VendorError.model_validate(line, strict=False) for line in (*fitted, *later)], misses
    )
    print(f"of {rows} later rows {inside / rows:.0%} are inside, the errors of their model left out")


def _list_left_out() -> Iterator[Line]:
    """Yield the misses of sources that were left out of the fits, as the table of groups has them."""
    for group in load_measured_groups().groups:
        if group.vendor != "nvidia":
            yield {
                "vendor": group.vendor,
                "source": group.source,
                "model": f"{group.work}, {group.devices}",
                "language_model": str(group.language_model).lower(),
                "accelerators": group.accelerators,
                "rows": str(group.rows),
                "bias": f"{group.bias:.3f}",
                "scatter": f"{group.scatter:.3f}",
                "fitted": "true",
            }


def read_misses(lines: list[Line], cache: ProfileCache) -> dict[tuple[str, str], list[Miss]]:
    """
    Return the misses of rows that no fit has read, by source, and model with the kind of its products.

    Args:
        lines: of a table of steps.
        cache: of the traces of their models.
    """
    lines = [line for line in lines if is_of_other_vendor(line)]
    works = {
        i: line.get("skip_reason", "") or or_reason(work_of, line, cache) for i, line in enumerate(lines)
    }
    misses: dict[tuple[str, str], list[Miss]] = {}
    for i, answer in step_answers(lines, works, _Shipped()).items():
        work, line = works[i], lines[i]
        if isinstance(work, Work) and isinstance(answer, Answer):
            error = float(np.log(answer.measured_s / answer.predicted_s))
            miss = Miss(line["accelerator"], line["model"], error, answer.log_sigma)
            misses.setdefault((line["source"], f"{line['model']}: {describe_work(work.job)}"), []).append(
                miss
            )
    return dict(sorted(misses.items()))


def list_later(misses: Mapping[tuple[str, str], Sequence[Miss]]) -> Iterator[Line]:
    """Yield a line for each source and model of `read_misses`."""
    for (source, model), found in misses.items():
        names, errors = sorted({miss.accelerator for miss in found}), [miss.log_error for miss in found]
        yield {
            "vendor": _find_vendor(names[0]),
            "source": source,
            "model": model,
            "language_model": "false",
            "accelerators": ", ".join(names),
            "rows": str(len(errors)),
            "bias": f"{median(errors):.3f}",
            "scatter": f"{pstdev(errors):.3f}",
            "fitted": "false",
        }


def score_left_out(
    errors: Sequence[VendorError], misses: Mapping[tuple[str, str], Sequence[Miss]]
) -> tuple[int, int]:
    """Return how many rows lie inside 80 % intervals made without the lines of their model, and how many there are."""
    inside = rows = 0
    for found in misses.values():
        others = [error for error in errors if not error.model.startswith(f"{found[0].model}: ")]
        vendor = _find_vendor(found[0].accelerator)
        mean, deviation = expect_error(others, vendor, language_model=False, new_generation=False)
        for miss in found:
            inside += abs(miss.log_error - mean) <= Z80 * math.hypot(deviation, miss.log_sigma)
        rows += len(found)
    return inside, rows


def _find_vendor(accelerator: str) -> str:
    device = resolve_device(accelerator)
    assert device is not None
    return device.vendor


if __name__ == "__main__":
    table_command(__doc__ or "", list_lines)
